"""Where pictures are: files, a column of a table, rows of a data set. Each is read when it is wanted, and not kept."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from vp_core.asking.pictures.rgb import as_rgb, check_header
from vp_core.ground.bounded import check_file
from vp_core.ground.errors import VPError

MOST_BYTES = 2**28
"""Of one picture's file."""


class Stored(ABC):
    """Pictures in an order: `len()` of them, each with a name for sentences about it."""

    @abstractmethod
    def __len__(self) -> int:
        """How many there are."""

    @abstractmethod
    def name(self, i: int) -> str:
        """What picture i is called."""

    @abstractmethod
    def data(self, i: int) -> bytes:
        """Picture i as it is kept; VPError if it cannot be read."""

    def picture(self, i: int) -> Image.Image:
        """Picture i as RGB; VPError as `vp_core.asking.pictures.rgb.as_rgb` raises."""
        return as_rgb(self.data(i), self.name(i))

    def looked_at(self) -> tuple[list[frozenset[str]], str]:
        """(what is odd about each picture, a digest of all their bytes); VPError for the first whose header is not read."""
        sha, odd = hashlib.sha256(), []
        for i in range(len(self)):
            data = self.data(i)
            odd.append(check_header(data, self.name(i)))
            sha.update(len(data).to_bytes(8, "little"))
            sha.update(data)
        return odd, sha.hexdigest()[:16]


@dataclass(frozen=True)
class Files(Stored):
    """A file each."""

    paths: Sequence[Path]

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, i: int) -> str:
        """Its path."""
        return str(self.paths[i])

    def data(self, i: int) -> bytes:
        """The file."""
        try:
            check_file(self.paths[i], MOST_BYTES)
            return self.paths[i].read_bytes()
        except OSError as error:
            raise VPError(f"The image {self.name(i)!r} cannot be read ({error.strerror}): check the file.") from error


@dataclass(frozen=True, eq=False)
class Rows(Stored):
    """Rows of a table or data set: `cell(i)` gives a row's picture, bytes or a dict with them under "bytes"; `source` names
    the table."""

    cell: Callable[[int], Any]
    length: int
    source: str

    def __len__(self) -> int:
        return self.length

    def name(self, i: int) -> str:
        """The table and the row, counted from 1."""
        return f"row {i + 1} of {self.source}"

    def data(self, i: int) -> bytes:
        """The bytes in the row."""
        found = self.cell(i)
        found = found.get("bytes") if isinstance(found, dict) else found
        if not isinstance(found, bytes):
            raise VPError(
                f"There is no image in {self.name(i)} (a path to one, or nothing): write the images' bytes into the file, or "
                "leave such rows out."
            )
        return found


@dataclass(frozen=True, eq=False)
class Picked(Stored):
    """Some pictures of others, at these places."""

    others: Stored
    places: Sequence[int]

    def __len__(self) -> int:
        return len(self.places)

    def name(self, i: int) -> str:
        """What it is called there."""
        return self.others.name(self.places[i])

    def data(self, i: int) -> bytes:
        """As it is kept there."""
        return self.others.data(self.places[i])


@dataclass(frozen=True, eq=False)
class InMemory(Stored):
    """Pictures that are there already, as somebody dropped them on a page or made them: RGB, upright."""

    pictures: Sequence[Image.Image]

    def __len__(self) -> int:
        return len(self.pictures)

    def name(self, i: int) -> str:
        """Its place."""
        return f"image {i + 1}"

    def data(self, i: int) -> bytes:
        """Its pixels."""
        return self.pictures[i].tobytes()

    def picture(self, i: int) -> Image.Image:
        """The picture; VPError for one that is not RGB, which `vp_core.asking.pictures.rgb.as_rgb` makes of bytes."""
        if self.pictures[i].mode != "RGB":
            raise VPError(f"The {self.name(i)} is {self.pictures[i].mode}: make it RGB first (image.convert('RGB')).")
        return self.pictures[i]
