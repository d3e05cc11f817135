"""The Hugging Face Hub: the only place a user can send this tool to the network, and only by asking for what is there."""

import contextlib
import logging
from collections.abc import Iterator

from huggingface_hub import constants, get_session
from transformers.utils import logging as transformers_logging

from vp_core.ground.errors import VPError

_TIMEOUT = 5.0


def require_hub(what: str) -> None:
    """Check at once that the Hub can be reached; the libraries would try for half a minute.

    With HF_HUB_OFFLINE=1 nothing is checked: what was downloaded before is used. Raises VPError.
    """
    if constants.HF_HUB_OFFLINE:
        return
    try:
        get_session().head(constants.ENDPOINT, timeout=_TIMEOUT)
    except Exception as error:  # whatever the HTTP library raises means the same here
        raise VPError(
            f"{what} is not on this machine and the Hugging Face Hub cannot be reached ({type(error).__name__}): give a "
            "folder, check the network, or set HF_HUB_OFFLINE=1 to use what was downloaded before."
        ) from error


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bars and no log lines: what they could say is checked here."""
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.CRITICAL)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
