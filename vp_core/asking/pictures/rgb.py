"""One picture from its bytes, as 8 bits of red, green and blue, upright: by rules that say what is meant, or refused."""

import io
import warnings
from collections import Counter
from collections.abc import Iterable

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from vp_core.ground.errors import VPError, one_line

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
"""What is read; others are programs in disguise (EPS), or nobody's pictures."""
MOST_PIXELS = 100_000_000
"""Of one picture: 300 MB of red, green and blue."""
_ORIENTATION = 0x0112
_DEEP = ("I;16", "I;16B", "I;16L", "I;16N")
_GREY = ("1", "L", *_DEEP)
_CLEAR = ("RGBA", "LA", "PA", "La", "RGBa")
_TOLD = {
    "grey": "{} images are grey: each is given to the model as red, green and blue alike.",
    "palette": "{} images have a palette: its colours stand in place of its numbers.",
    "transparent": "{} images have transparency: they are seen on white.",
    "cmyk": "{} images are CMYK: they become red, green and blue by the plain formula, without their colour profile.",
    "16 bits": "{} images have 16 bits a colour: the upper eight are kept.",
    "turned": "{} images say how they were held (EXIF): they are turned upright.",
    "frames": "{} images have several frames or pages: the first is taken.",
}


def check_header(data: bytes, name: str) -> frozenset[str]:
    """What is odd about a picture, of the keys of `notes_of`, from its header alone, nothing decoded.

    Raises VPError, which calls it `name`, for what is no picture, for one of too many pixels, and for a mode whose colours
    have no place among red, green and blue.
    """
    with _opened(data, name) as image:
        return _odd(image, name)


def as_rgb(data: bytes, name: str) -> Image.Image:
    """The picture (height × width, RGB, 8 bits), upright; raises as `check_header` does, and if it is broken."""
    with _opened(data, name) as image:
        _odd(image, name)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                image.load()
                return _upright_rgb(image)
        except Exception as error:  # decoders raise many kinds
            raise VPError(f"The image {name!r} is broken ({one_line(error)}): mend it, or take it out of the data.") from error


def notes_of(odd: Iterable[frozenset[str]]) -> tuple[str, ...]:
    """Notes, with counts, on what was odd about each of these pictures.

    >>> notes_of([frozenset({"grey"}), frozenset()])
    ('1 of 2 images are grey: each is given to the model as red, green and blue alike.',)
    """
    each = list(odd)
    counts = Counter(one for found in each for one in found)
    return tuple(
        told.format(f"All {len(each):,}" if counts[one] == len(each) else f"{counts[one]:,} of {len(each):,}")
        for one, told in _TOLD.items()
        if counts[one]
    )


def _opened(data: bytes, name: str) -> Image.Image:
    if not data:
        raise VPError(f"The image {name!r} is empty: mend it, or take it out of the data.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of too many pixels, which are counted here
            return Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError:
        raise _too_large(name) from None
    except UnidentifiedImageError:
        raise VPError(
            f"{name!r} is no image that is read here ({', '.join(FORMATS)}): save it as one of these, or take it out of "
            "the data."
        ) from None
    except Exception as error:  # a header that cannot be
        raise VPError(f"The image {name!r} is broken ({one_line(error)}): mend it, or take it out of the data.") from error


def _too_large(name: str, size: str = "") -> VPError:
    return VPError(
        f"The image {name!r} has {size or 'far '}more than {MOST_PIXELS:,} pixels: make it smaller, or take it out of the data."
    )


def _odd(image: Image.Image, name: str) -> frozenset[str]:
    if image.width * image.height > MOST_PIXELS:
        raise _too_large(name, f"{image.width:,} × {image.height:,} pixels, ")
    mode, odd = image.mode, set[str]()
    clear = mode in _CLEAR or "transparency" in image.info
    if mode in _GREY or mode in ("LA", "La"):
        odd.add("grey")
    if mode in ("P", "PA"):
        odd.add("palette")
    if clear:
        odd.add("transparent")
    if mode == "CMYK":
        odd.add("cmyk")
    if mode in _DEEP or any("16" in str(tile[3]) for tile in getattr(image, "tile", ()) if mode != "1"):
        odd.add("16 bits")
    if _orientation(image) not in (1, None):
        odd.add("turned")
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":  # a camera's preview is no second picture
        odd.add("frames")
    if mode not in ("RGB", "P", "YCbCr", "CMYK", *_GREY, *_CLEAR):
        raise VPError(
            f"The image {name!r} has colours of the mode {mode}, whose red, green and blue are not known: save it as RGB, or "
            "take it out of the data."
        )
    return frozenset(odd)


def _orientation(image: Image.Image) -> int | None:
    try:
        found = image.getexif().get(_ORIENTATION)
    except Exception:  # notes that nobody can read say nothing
        return None
    return found if found in range(1, 9) else None


def _upright_rgb(image: Image.Image) -> Image.Image:
    turned = _orientation(image) not in (1, None)
    if image.mode in _DEEP:
        plain = Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)).convert("RGB")
        plain.getexif().update(image.getexif() if turned else {})
    elif image.mode in _CLEAR or "transparency" in image.info:
        clear = image.convert("RGBA")
        plain = Image.alpha_composite(Image.new("RGBA", clear.size, (255, 255, 255, 255)), clear).convert("RGB")
        plain.getexif().update(image.getexif() if turned else {})
    else:
        plain = image.convert("RGB")
    return ImageOps.exif_transpose(plain) if turned else plain
