"""The one exception that a user is meant to read."""


class VPError(ValueError):
    """Something the user can mend.

    The message is one sentence that says what is wrong and what to do. The app shows it as a message, the command
    line prints it and exits with code 2; neither shows a traceback.
    """


def one_of(name: str, value: str, choices: tuple[str, ...]) -> str:
    """`value` if it is among `choices`, else a VPError that lists them.

    >>> one_of("scope", "global", ("per type", "global"))
    'global'
    """
    if value not in choices:
        raise VPError(f"Unknown {name} {value!r}: choose one of {', '.join(choices)}.")
    return value


def number_or_nan(value: object) -> float:
    """`value` as a number, NaN if it is none: every comparison with NaN fails, so a check of bounds refuses it.

    >>> number_or_nan("0.3"), number_or_nan("three")
    (0.3, nan)
    """
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return float("nan")
