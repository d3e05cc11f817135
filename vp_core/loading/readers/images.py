"""The image processor of a model that sees: what of a picture it cuts, scales and normalises before the model is given it."""

from pathlib import Path

from transformers import AutoImageProcessor, PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor

from vp_core.ground.bounded import read_json
from vp_core.ground.errors import VPError, one_line

PROCESSOR = ("preprocessor_config.json", "processor_config.json")


def read_processor(name: str, folder: Path, is_folder: bool) -> BaseImageProcessor:
    """The image processor of a folder or an id; VPError for one that is missing, broken, or brings code of its own."""
    found = next((folder / file for file in PROCESSOR if (folder / file).is_file()), None)
    if found is None:
        raise VPError(
            f"The model {name!r} has no image processor ({PROCESSOR[0]}): save its processor beside it "
            "(AutoImageProcessor.from_pretrained(...).save_pretrained(FOLDER))."
        )
    if read_json(found).get("auto_map"):
        raise VPError(
            f"The image processor of {name!r} brings code of its own (auto_map in {found.name}), which is never run here: give "
            "a model whose processor transformers has a class for."
        )
    try:
        return AutoImageProcessor.from_pretrained(name, local_files_only=is_folder, trust_remote_code=False, use_fast=False)
    except Exception as error:  # transformers raises many kinds
        raise VPError(
            f"The image processor of {name!r} could not be read ({one_line(error)}): save it again with save_pretrained."
        ) from error


def image_size(model: PreTrainedModel) -> int:
    """The height and width of the pictures that a model is given, in pixels."""
    size = getattr(model.config, "image_size", None) or model.config.vision_config.image_size
    return int(size[0] if isinstance(size, list | tuple) else size)
