"""One picture from its bytes: every mode becomes the red, green and blue that it means, or is refused by name."""

import io
import struct
import zlib

import numpy as np
import pictures
import pytest
from PIL import Image

from vp_core.asking.pictures import rgb
from vp_core.asking.pictures.rgb import as_rgb, check_header, notes_of
from vp_core.ground.errors import VPError

COLOURS = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[10, 20, 30], [255, 255, 255], [0, 0, 0]]], dtype=np.uint8)
GREY = np.array([[0, 100, 255], [7, 8, 9]], dtype=np.uint8)


def seen(data):
    return np.asarray(as_rgb(data, "x"))


def bytes_of(array, kind="PNG", mode=None, **options):
    return pictures.encoded(Image.fromarray(array) if mode is None else Image.fromarray(array).convert(mode), kind, **options)


def test_rgb_is_as_it_is():
    data = bytes_of(COLOURS)
    assert np.array_equal(seen(data), COLOURS) and check_header(data, "x") == frozenset()


def test_grey_is_three_times_the_same():
    assert np.array_equal(seen(bytes_of(GREY)), np.repeat(GREY[..., None], 3, axis=2))
    assert check_header(bytes_of(GREY), "x") == {"grey"}
    black_and_white = bytes_of(np.array([[0, 255]], dtype=np.uint8), mode="1")
    assert seen(black_and_white).tolist() == [[[0, 0, 0], [255, 255, 255]]]
    assert check_header(black_and_white, "x") == {"grey"}


def test_a_palette_stands_for_its_colours():
    data = pictures.encoded(Image.fromarray(COLOURS).quantize(8))
    assert np.array_equal(seen(data), COLOURS) and check_header(data, "x") == {"palette"}


def test_what_is_transparent_is_seen_on_white():
    """By hand: a·c + (1 − a)·255."""
    clear = np.dstack([COLOURS, np.array([[255, 0, 51], [128, 255, 0]], dtype=np.uint8)])
    data = pictures.encoded(Image.fromarray(clear))
    a = clear[..., 3:].astype(float) / 255
    expected = a * COLOURS + (1 - a) * 255
    assert np.abs(seen(data) - expected).max() <= 1 and check_header(data, "x") == {"transparent"}
    opaque = np.dstack([COLOURS, np.full((2, 3), 255, dtype=np.uint8)])
    assert np.array_equal(seen(pictures.encoded(Image.fromarray(opaque))), COLOURS)
    one_colour = pictures.encoded(Image.fromarray(COLOURS), transparency=(255, 0, 0))
    assert seen(one_colour)[0].tolist() == [[255, 255, 255], [0, 255, 0], [0, 0, 255]]
    grey = pictures.encoded(Image.fromarray(GREY).convert("LA"))
    assert check_header(grey, "x") == {"grey", "transparent"} and np.array_equal(seen(grey)[..., 0], GREY)


def test_16_bits_keep_the_upper_eight():
    deep = np.array([[0, 255, 256], [65535, 40000, 300]], dtype=np.uint16)
    data = pictures.encoded(Image.fromarray(deep))
    assert np.array_equal(seen(data)[..., 1], deep >> 8) and check_header(data, "x") == {"grey", "16 bits"}


def test_16_bits_of_each_colour():
    """A PNG of one pixel written by hand: Pillow writes none."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    row = b"\0" + struct.pack(">3H", 0x1234, 0xFFFF, 0x00FF)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">2I5B", 1, 1, 16, 2, 0, 0, 0))
    data += chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
    assert seen(data).tolist() == [[[0x12, 0xFF, 0x00]]] and check_header(data, "x") == {"16 bits"}


def test_cmyk_by_the_plain_formula():
    ink = np.array([[[0, 255, 255, 0], [0, 0, 0, 255], [0, 0, 0, 0]]], dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(ink, mode="CMYK").save(out, "TIFF")
    assert seen(out.getvalue()).tolist() == [[[255, 0, 0], [0, 0, 0], [255, 255, 255]]]
    assert check_header(out.getvalue(), "x") == {"cmyk"}


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "CMYK"])
@pytest.mark.parametrize(
    ("orientation", "undo"), [(3, lambda a: a[::-1, ::-1]), (6, lambda a: np.rot90(a, -1)), (2, lambda a: a[:, ::-1])]
)
def test_it_stands_upright(mode, orientation, undo):
    image = Image.fromarray(COLOURS).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = pictures.encoded(image, "TIFF" if mode == "CMYK" else "PNG", exif=exif)
    assert np.array_equal(seen(data), undo(np.asarray(image.convert("RGB")))) and "turned" in check_header(data, "x")


def test_the_first_frame():
    first, second = (Image.fromarray(np.full((4, 4, 3), value, dtype=np.uint8)) for value in (10, 200))
    data = pictures.encoded(first, "TIFF", save_all=True, append_images=[second])
    assert (seen(data) == 10).all() and check_header(data, "x") == {"frames"}


def refused(data, say):
    for ask in (check_header, as_rgb):
        with pytest.raises(VPError, match=say) as caught:
            ask(data, "pets/rex.png")
        assert "pets/rex.png" in str(caught.value) and str(caught.value).endswith(".") and "\n" not in str(caught.value)


def test_what_is_no_picture(monkeypatch):
    refused(b"", "is empty")
    refused(b"a text", "is no image that is read here")
    refused(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is no image that is read here")
    float_grey = pictures.encoded(Image.fromarray(np.zeros((2, 2), dtype=np.float32)), "TIFF")
    refused(float_grey, "mode F")
    monkeypatch.setattr(rgb, "MOST_PIXELS", 5)
    refused(bytes_of(COLOURS), "more than 5 pixels")


def test_a_bomb_is_never_unpacked():
    """A header that says 60,000 × 60,000 pixels."""
    whole = bytearray(bytes_of(COLOURS))
    whole[16:24] = struct.pack(">2I", 60000, 60000)
    whole[29:33] = struct.pack(">I", zlib.crc32(bytes(whole[12:29])))
    refused(bytes(whole), "more than 100,000,000 pixels")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP"])
def test_a_broken_one_is_named(kind):
    data = pictures.encoded(pictures.drawn(1, size=(64, 64))[0], kind)
    with pytest.raises(VPError, match=r"pets/rex\.png.* broken|pets/rex\.png.* no image") as caught:
        as_rgb(data[: len(data) // 2], "pets/rex.png")
    assert str(caught.value).endswith(".")


def test_notes_count():
    odd = [frozenset({"grey", "turned"}), frozenset({"grey"}), frozenset()]
    grey, turned = notes_of(odd)
    assert notes_of(odd[:2])[0].startswith("All 2 images are grey")
    assert grey.startswith("2 of 3 images are grey") and turned.startswith("1 of 3 images say how they were held")
