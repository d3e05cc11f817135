"""The image processor of a model that sees: what of a picture it cuts, scales and normalises before the model is given it."""

from pathlib import Path

import numpy as np
from PIL import Image
from transformers import AutoImageProcessor, PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor

from vp_core.ground.bounded import read_json
from vp_core.ground.errors import VPError, one_line

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
    (channels, *size), (height, width) = *shapes, image_size(model)
    config = getattr(model.config, "vision_config", model.config)
    if channels != config.num_channels:
        raise VPError(
            f"The image processor of {name!r} makes {channels} channels, the model takes {config.num_channels}: take the "
            "processor that the model was trained with."
        )
    if size != [height, width] and config.model_type not in _ANY_SIZE:
        raise VPError(
            f"The image processor of {name!r} makes pictures of {size[0]} × {size[1]}, the model takes {height} × {width}: "
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


def image_size(model: PreTrainedModel) -> tuple[int, int]:
    """The height and width of the pictures that a model was made for, in pixels."""
    return _pair(getattr(model.config, "vision_config", model.config).image_size)


def tokens_of(model: PreTrainedModel, processor: BaseImageProcessor | None = None) -> int:
    """How many tokens a picture is in the model: its patches, and what stands before them.

    Of the size that its `processor` makes, without one of that it was made for.
    """
    config = getattr(model.config, "vision_config", model.config)
    height, width = image_size(model) if processor is None else shape_of(processor, *_ODD[0])[1:]
    high, wide = _pair(config.patch_size)
    return (height // high) * (width // wide) + 1 + (config.model_type == "deit")


def _pair(size: int | list[int] | tuple[int, int]) -> tuple[int, int]:
    return (int(size[0]), int(size[1])) if isinstance(size, list | tuple) else (int(size), int(size))
