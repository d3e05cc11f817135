"""The image processor of a model that sees: what of a picture it cuts, scales and normalises before the model is given it."""

from pathlib import Path

import numpy as np
from PIL import Image
from transformers import AutoImageProcessor, PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor

from vp_core.ground.bounded import read_json
from vp_core.ground.errors import VPError, one_line
from vp_core.model.family.vision import picture_of, tokens_of

PROCESSOR = ("preprocessor_config.json", "processor_config.json")
_ODD = ((53, 37), (37, 53))
"""Widths and heights of the pictures that a processor is tried with."""


def read_processor(name: str, folder: Path, is_folder: bool) -> BaseImageProcessor:
    """The image processor of a folder or an id, which needs no torchvision.

    Raises VPError for one that is missing, broken, or brings code of its own.
    """
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
        return AutoImageProcessor.from_pretrained(name, local_files_only=is_folder, trust_remote_code=False, backend="pil")
    except Exception as error:  # transformers raises many kinds
        raise VPError(
            f"The image processor of {name!r} could not be read ({one_line(error)}): save it again with save_pretrained."
        ) from error


def check_processor(name: str, model: PreTrainedModel, processor: BaseImageProcessor) -> None:
    """VPError unless every picture becomes numbers of one shape, and of the model's own where it has only that."""
    shapes = {shape_of(processor, *size, name) for size in _ODD}
    if len(shapes) > 1:
        (_, *one), (_, *other) = sorted(shapes)
        raise VPError(
            f"The image processor of {name!r} makes pictures of several sizes ({one[0]} × {one[1]}, {other[0]} × {other[1]}): "
            "let it crop or resize them to one (do_center_crop, or size with height and width)."
        )
    (made,), own = shapes, picture_of(model.config)
    if made[0] != own[0]:
        raise VPError(
            f"The image processor of {name!r} makes {made[0]} channels, the model takes {own[0]}: take the processor that the "
            "model was trained with."
        )
    if made != own and model.config.model_type not in _ANY_SIZE:
        raise VPError(
            f"The image processor of {name!r} makes pictures of {made[1]} × {made[2]}, the model takes {own[1]} × {own[2]}: "
            "take the processor that the model was trained with."
        )


_ANY_SIZE = ("dinov2",)
"""Families that stretch their positions to pictures of other sizes than they were made for."""


def shape_of(processor: BaseImageProcessor, width: int, height: int, name: str = "") -> tuple[int, int, int]:
    """(channels, height, width) of what a processor makes of a picture of this size; VPError if it fails."""
    picture = Image.fromarray(np.zeros((height, width, 3), dtype=np.uint8))
    try:
        channels, high, wide = processor(images=picture, return_tensors="pt")["pixel_values"][0].shape
    except Exception as error:  # processors raise many kinds
        raise VPError(
            f"The image processor of {name!r} fails on a black picture ({one_line(error)}): save it again with save_pretrained."
        ) from error
    return int(channels), int(high), int(wide)


def tokens_with(model: PreTrainedModel, processor: BaseImageProcessor) -> int:
    """How many tokens a picture is in the model, as its processor makes it."""
    return tokens_of(model.config, *shape_of(processor, *_ODD[0])[1:])
