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
