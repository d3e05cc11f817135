"""The one exception that a user is meant to read."""

import re

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[@-_])")
"""Codes by which a terminal is told colours and the like."""


class VPError(ValueError):
    """Something the user can mend.

    The message is one sentence that says what is wrong and what to do. The app shows it as a message, the command
    line prints it and exits with code 2; neither shows a traceback. Names from files and configurations may stand in it, so it
    holds nothing that a terminal would obey.
    """

    def __init__(self, sentence: str = "") -> None:
        super().__init__(harmless(sentence))


def harmless(text: str) -> str:
    """The same with a space for each character that does not print but moves or colours what does.

    >>> harmless("a \x1b[31mred\\nname")
    'a  [31mred name'
    """
    return "".join(c if c.isprintable() else " " for c in text)


def one_of(name: str, value: str, choices: tuple[str, ...]) -> str:
    """`value` if it is among `choices`, else a VPError that lists them.

    >>> one_of("scope", "global", ("per type", "global"))
    'global'
    """
    if value not in choices:
        raise VPError(f"Unknown {name} {value!r}: choose one of {', '.join(choices)}.")
    return value


def one_line(error: BaseException, longest: int = 200) -> str:
    """What an exception says, as a part of a sentence: its first line without terminal escape codes or a full stop.

    A KeyError says nothing but the key that there is not.

    >>> one_line(ValueError("\x1b[31mNo such node.\x1b[0m\\nMore of it."))
    'No such node'
    """
    lines = [line.strip() for line in _ESCAPES.sub("", str(error)).splitlines() if line.strip()]
    found = "".join(c for c in lines[0] if c.isprintable())[:longest].rstrip(" .:") if lines else ""
    return f"no {found}" if found and isinstance(error, KeyError) else found or type(error).__name__


def number_or_nan(value: object) -> float:
    """`value` as a number, NaN if it is none: every comparison with NaN fails, so a check of bounds refuses it.

    >>> number_or_nan("0.3"), number_or_nan("three")
    (0.3, nan)
    """
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return float("nan")
