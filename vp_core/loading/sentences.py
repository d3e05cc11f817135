"""Whatever the libraries raise on what they are given, as one sentence that names the model."""

import contextlib
import re
from collections.abc import Iterator

from vp_core.ground.errors import VPError

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f]")


def first_line(error: BaseException) -> str:
    """The first line with words of what an exception says, without terminal codes and full stop, at most 200 characters.

    >>> first_line(ValueError("\\x1b[1m\\nno such file.\\x1b[0m"))
    'no such file'
    """
    lines = [line.strip() for line in _ESCAPES.sub("", str(error)).splitlines()]
    return (next((line for line in lines if line), "") or type(error).__name__)[:200].rstrip(".: ")


@contextlib.contextmanager
def as_one_sentence(name: str, is_folder: bool) -> Iterator[None]:
    """Turn whatever the libraries raise on a bad checkpoint into one sentence."""
    try:
        yield
    except VPError:
        raise
    except Exception as error:  # safetensors, json, hub and transformers errors share no base class
        hint = (
            "the folder is broken or incomplete, save the model again"
            if is_folder
            else "check the id and the network, or give a folder on this machine"
        )
        raise VPError(f"The model {name!r} could not be loaded ({first_line(error)}): {hint}.") from error
