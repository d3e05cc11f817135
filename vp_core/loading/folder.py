"""What is this name, or this folder?"""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from vp_core.ground.errors import VPError

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def check_hub_id(name: str) -> None:
    """VPError unless this could be the id of a model on the Hub."""
    if not _HUB_ID.fullmatch(name) or ".." in name:
        raise VPError(
            f"There is no model {name!r}: give 'demo', an existing folder written by save_pretrained, or a Hub id such as "
            "'textattack/bert-base-uncased-SST-2'."
        )


def check_folder(folder: Path) -> None:
    """VPError unless the folder has a configuration and safetensors weights."""
    if not (folder / "config.json").is_file():
        raise VPError(f"The folder {str(folder)!r} has no config.json: give a folder written by save_pretrained.")
    if not any(folder.glob("*.safetensors")):
        pickled = any(folder.glob("*.bin")) or any(folder.glob("*.pt"))
        raise VPError(
            f"The folder {str(folder)!r} has no safetensors weights"
            + (", only pickled ones, which could run code when loaded" if pickled else "")
            + ": save the model again with save_pretrained(..., safe_serialization=True)."
        )


@contextlib.contextmanager
def as_one_sentence(name: str, is_folder: bool) -> Iterator[None]:
    """Turn whatever the libraries raise on a bad checkpoint into one sentence."""
    try:
        yield
    except VPError:
        raise
    except Exception as error:  # safetensors, json, hub and transformers errors share no base class
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        hint = (
            "the folder is broken or incomplete, save the model again"
            if is_folder
            else "check the id and the network, or give a folder on this machine"
        )
        raise VPError(f"The model {name!r} could not be loaded ({reason.rstrip('.')}): {hint}.") from error
