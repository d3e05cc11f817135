"""The lines of a text file in bounded time and memory, packed by gzip or not; what is no such file is one clear sentence."""

import gzip
import io
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from vp_core.ground.errors import VPError

MOST_BYTES = 2**30
"""Of a file, unpacked."""
MOST_CHARACTERS = 2**23
"""Of a line or a cell."""
MOST_LINES = 5_000_000
MOST_TIMES, CROWDED = 200, 2**26
"""A file of more than `CROWDED` bytes that unpacks to more than `MOST_TIMES` its size is made to fill the memory."""
_ENCODINGS = {
    b"\xff\xfe\x00\x00": "UTF-32", b"\x00\x00\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16",
}  # fmt: skip
_PACKED = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"BZh91AY": "bzip2", b"\x28\xb5\x2f\xfd": "zstd"}


def read_lines(path: Path, longest: int | None = None) -> Iterator[str]:
    """The lines with their ends, of at most `longest` characters; a BOM is no part of the first.

    A name that ends in .gz says that the file is packed. Raises VPError for what is no regular file, for text that is not
    UTF-8 or holds NUL bytes, and for what is too large.
    """
    check_file(path)
    try:
        with path.open("rb") as file:
            packed = path.suffix.lower() == ".gz"
            content = io.BufferedReader(_Bounded(gzip.GzipFile(fileobj=file) if packed else file, path, packed))
            _check_start(content.peek(8), path)
            yield from _lines(io.TextIOWrapper(content, encoding="utf-8-sig", newline=""), path, longest or MOST_CHARACTERS)
    except UnicodeDecodeError as error:
        raise VPError(f"{str(path)!r} is not UTF-8 text ({error.reason}): convert it first.") from None
    except (OSError, EOFError, zlib.error) as error:
        raise VPError(f"{str(path)!r} cannot be read ({error}): mend the file.") from None


def check_file(path: Path) -> None:
    """VPError for what is not there, a folder, a device or a pipe, and for a file of more than `MOST_BYTES`."""
    try:
        about = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise VPError(f"There is no file {str(path)!r}: check the path.") from None
    except (OSError, ValueError) as error:
        raise VPError(f"{str(path)!r} cannot be read ({error}): check the path.") from None
    if not stat.S_ISREG(about.st_mode):
        what = "a folder" if stat.S_ISDIR(about.st_mode) else "a device or a pipe"
        raise VPError(f"{str(path)!r} cannot be read (it is {what}): give a file.")
    if about.st_size > MOST_BYTES:
        raise VPError(f"{str(path)!r} has {about.st_size:,} bytes, more than {MOST_BYTES:,}: take a part of it.")


class _Bounded(io.RawIOBase):
    """A file that ends in a sentence when more comes out of it than may."""

    def __init__(self, file: IO[bytes] | gzip.GzipFile, path: Path, packed: bool) -> None:
        self._file, self._path, self._read = file, path, 0
        # What is not packed is as large as it says, unless it grows while it is read.
        self._crowd = max(CROWDED, MOST_TIMES * path.stat().st_size) if packed else MOST_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        read = self._file.readinto(buffer)  # type: ignore[union-attr]
        self._read += read
        if self._read > min(self._crowd, MOST_BYTES):
            raise VPError(f"{str(self._path)!r} unpacks to more than {self._read:,} bytes: take a part of it.")
        return read


def _check_start(start: bytes, path: Path) -> None:
    for mark, encoding in _ENCODINGS.items():
        if start.startswith(mark):
            raise VPError(f"{str(path)!r} is {encoding} text, not UTF-8: convert it first.")
    for mark, packer in _PACKED.items():
        if start.startswith(mark):
            raise VPError(f"{str(path)!r} is packed by {packer}, which its name does not say: unpack it (or name it .gz).")


def _lines(text: io.TextIOWrapper, path: Path, longest: int) -> Iterator[str]:
    number = 0
    while line := text.readline(longest + 1):
        number += 1
        if len(line) > longest:
            raise VPError(f"Line {number} of {str(path)!r} has more than {longest:,} characters: break it up.")
        if "\0" in line:
            raise VPError(f"Line {number} of {str(path)!r} holds a NUL byte, which no text does: mend the file.")
        if number > MOST_LINES:
            raise VPError(f"{str(path)!r} has more than {MOST_LINES:,} lines: take a part of it.")
        yield line
