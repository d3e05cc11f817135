"""Pictures as a model is given them: pixel values, through its own image processor, made when a batch is asked for."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers.image_processing_utils import BaseImageProcessor

from vp_core.asking.batches import Batch, Inputs
from vp_core.asking.pictures.stored import Stored
from vp_core.ground.errors import VPError, one_line

KEPT_BYTES = 2**30
"""Of pixel values: 1,783 pictures of 224 × 224. Those beyond are read and processed anew each time that they are asked for."""

MOST_LONG = 100
"""Times as long as it is wide: a processor that brings the shorter side to a size makes as much longer an array."""


class Shown(Batch):
    """A batch of pictures, whose pixel values are made each time that they are asked for: all of a data set would fill the
    memory."""

    def __init__(self, images: "Images", members: Sequence[int]) -> None:
        """Pictures at these places."""
        object.__setattr__(self, "images", images)
        object.__setattr__(self, "examples", np.array(members))
        object.__setattr__(self, "texts", [(images.stored.name(int(i)),) for i in members])

    @property
    def inputs(self) -> dict[str, Tensor]:
        """`pixel_values` (pictures, channels, height, width)."""
        images: Images = self.images  # type: ignore[attr-defined]
        return {"pixel_values": torch.stack(images.pixels([int(i) for i in self.examples]))}

    @property
    def seen(self) -> bool:
        """True: its rows are pictures."""
        return True

    def real_tokens(self, decoder: bool = False) -> Tensor | None:
        """None: of a picture every token counts."""
        return None


@dataclass(frozen=True, eq=False)
class Images(Inputs):
    """Pictures and the image processor they go through; each is `max_length` tokens in the model, its patches and what stands
    before them. `contents` is a digest of their bytes.

    Pixel values are kept up to KEPT_BYTES, first come, first kept.
    """

    stored: Stored
    processor: BaseImageProcessor
    max_length: int
    contents: str
    truncated: int = 0
    texts: Sequence[tuple[str, ...]] | None = None
    _kept: dict[int, Tensor] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.stored)

    def length(self, i: int) -> int:
        """Tokens of a picture: all have as many."""
        return self.max_length

    @property
    def tokens(self) -> int:
        """Tokens of all pictures."""
        return len(self) * self.max_length

    @property
    def longest(self) -> int:
        """Tokens of a picture."""
        return self.max_length

    def facts(self) -> tuple[object, ...]:
        """What the pictures are, and what the processor makes of them."""
        return self.contents, sorted((name, str(value)) for name, value in self.processor.to_dict().items())

    def together(self, members: Sequence[int]) -> Batch:
        """A batch that is processed when its `inputs` are asked for."""
        return Shown(self, members)

    def pixels(self, places: Sequence[int]) -> list[Tensor]:
        """Pictures at these places as pixel values (channels, height, width), float32; VPError for one that is broken."""
        found = {i: self._kept[i] for i in places if i in self._kept}
        fresh = [i for i in dict.fromkeys(places) if i not in found]
        for i, made in zip(fresh, processed(self.processor, self.stored, fresh), strict=True):
            found[i] = made
            if len(self._kept) < KEPT_BYTES // max(made.nbytes, 1):
                self._kept[i] = made
        return [found[i] for i in places]


def processed(processor: BaseImageProcessor, stored: Stored, places: Sequence[int]) -> list[Tensor]:
    """Pixel values (channels, height, width) of pictures: in one call, which is quicker, and makes of each what it makes of it
    alone, since processors that fill pictures up to the largest of them are not taken."""
    if not places:
        return []
    pictures = [_picture(stored, i) for i in places]
    try:
        return list(_made(processor, pictures))
    except Exception as together:  # processors raise many kinds
        for i, picture in zip(places, pictures, strict=True):
            try:
                _made(processor, [picture])
            except Exception as error:
                raise _failed(stored.name(i), picture, error) from error
        raise _failed(stored.name(places[0]), pictures[0], together) from together


def _picture(stored: Stored, i: int) -> Image.Image:
    picture = stored.picture(i)
    short, long = sorted(picture.size)
    if long > MOST_LONG * short:
        raise VPError(
            f"The image {stored.name(i)!r} of {picture.width} × {picture.height} pixels is more than {MOST_LONG} times as long "
            "as it is wide, of which a crop shows nothing: take it out of the data."
        )
    return picture


def _made(processor: BaseImageProcessor, pictures: Sequence[Image.Image]) -> Tensor:
    found: Tensor = processor(images=list(pictures), return_tensors="pt")["pixel_values"]
    return found.float()


def _failed(name: str, picture: Image.Image, error: Exception) -> VPError:
    return VPError(
        f"The image processor failed on {name!r} of {picture.width} × {picture.height} pixels ({one_line(error)}): mend the "
        "image, or take it out of the data."
    )
