"""Whatever the libraries raise on what they are given, as one sentence that names the model."""

import contextlib
from collections.abc import Iterator

from vp_core.ground.errors import VPError, one_line


@contextlib.contextmanager
def as_one_sentence(name: str, is_folder: bool, of_config: bool = False) -> Iterator[None]:
    """Turn whatever the libraries raise on a bad checkpoint into one sentence; `of_config`: only config.json is looked at."""
    try:
        yield
    except VPError:
        raise
    except Exception as error:  # safetensors, json, hub and transformers errors share no base class
        why = one_line(error)
        if of_config and is_folder:
            raise VPError(
                f"The config.json of {name!r} cannot be used ({why}): take the config.json that belongs to its weights."
            ) from error
        hint = (
            "the folder is broken or incomplete, save the model again"
            if is_folder
            else "check the id and the network, or give a folder on this machine"
        )
        raise VPError(f"The model {name!r} could not be loaded ({why}): {hint}.") from error
