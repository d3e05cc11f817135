"""How a trained model is written: a squeezed one in its own form, another as `save_pretrained` does."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from vp_core.asking.batches import Reader
from vp_core.ground.store import new_folder
from vp_core.squeezing.folder import keep_labels, save_pruned


def save_trained(model: PreTrainedModel, folder: str | Path, tokenizer: Reader, about: Mapping[str, Any]) -> Path:
    """Write a model so that `load_model` opens it; `about` stands in a squeezed folder. Raises VPError as `new_folder` does."""
    if hasattr(model, "squeezed"):
        return save_pruned(model, folder, tokenizer, about)
    with new_folder(folder) as place:
        write_plain(model, place, tokenizer)
    return Path(folder)


def write_plain(model: PreTrainedModel, place: Path, tokenizer: Reader) -> None:
    """Put a model that is not squeezed into an open folder."""
    model.save_pretrained(place)
    keep_labels(model, place)
    tokenizer.save_pretrained(place)
