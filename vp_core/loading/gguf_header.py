"""The header of a GGUF file: what it says of itself, read in bounded time and memory, and held against the file's size."""

import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any

from vp_core.ground.bounded import Weight, check_file
from vp_core.ground.errors import VPError

MAGIC = b"GGUF"
_MOST_TENSORS, _MOST_KEYS, _MOST_ITEMS, _LONGEST, _DEEPEST = 65_536, 65_536, 4_000_000, 2**24, 2
"""Tensors, keys, items of a list (a vocabulary), bytes of a text (a chat template), lists within lists: more than any has."""
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _LIST = 8, 9
_PLACE = 32
"""Bytes that tensors begin at a multiple of, unless the file says otherwise."""


@dataclass(frozen=True, eq=False)
class Header:
    """What a file says of itself: `facts` by key (of lists only their length), its `tensors`, each with its type by name, and
    the `bytes` that these take."""

    facts: dict[str, Any]
    tensors: dict[str, Weight]
    bytes: int

    @property
    def elements(self) -> int:
        """Numbers in all tensors together."""
        return sum(weight.elements for weight in self.tensors.values())

    def of_architecture(self, key: str) -> Any:
        """A fact that is named after the architecture, such as `block_count`; None where there is none."""
        return self.facts.get(f"{self.facts.get('general.architecture')}.{key}")


def read_header(path: Path, types: dict[int, tuple[str, int, int]]) -> Header:
    """The header of a file; `types` has (name, numbers in a block, bytes of a block) of each type of tensor by its number.

    Raises VPError for what is no such file, for counts that cannot be, and unless the tensors fill the rest of the file
    without overlap.
    """
    size = check_file(path)
    with path.open("rb") as file:
        found = _Reader(file, path, size)
        if file.read(4) != MAGIC:
            raise _broken(path, "it does not begin as one")
        if (version := found.number("I")) not in (2, 3):
            raise _broken(path, f"version {version}, where 2 and 3 are known")
        count, keys = found.number("Q"), found.number("Q")
        if not 0 < count <= _MOST_TENSORS or keys > _MOST_KEYS or 24 * count + 12 * keys > size:
            raise _broken(path, f"its header speaks of {count:,} tensors and {keys:,} facts")
        facts = {found.text(): found.value(found.number("I")) for _ in range(keys)}
        told = [found.tensor(types) for _ in range(count)]
        place = facts.get("general.alignment", _PLACE)
        if not isinstance(place, int) or not 0 < place <= 2**16:
            raise _broken(path, "its tensors begin nowhere")
        room = size - -(-file.tell() // place) * place
    end = 0
    for start, stop, name, _ in sorted(told, key=lambda one: one[:2]):
        if start < end or start % place or stop > room:
            raise _broken(path, f"its header lies about {name[:80]!r}")
        end = stop
    tensors = {name: weight for _, _, name, weight in told}
    if len(tensors) != count:
        raise _broken(path, "two of its tensors have one name")
    return Header(facts, tensors, sum(stop - start for start, stop, _, _ in told))


class _Reader:
    """Reads one value after the other, none longer than the file."""

    def __init__(self, file: IO[bytes], path: Path, size: int) -> None:
        self.file, self.path, self.size = file, path, size

    def raw(self, length: int) -> bytes:
        if length > min(_LONGEST, self.size):
            raise _broken(self.path, f"a text of {length:,} bytes in its header")
        found = self.file.read(length)
        if len(found) < length:
            raise _broken(self.path, "it ends in its header")
        return found

    def number(self, form: str) -> Any:
        [found] = struct.unpack("<" + form, self.raw(struct.calcsize(form)))
        return found

    def text(self) -> str:
        return self.raw(self.number("Q")).decode("utf-8", errors="replace")

    def value(self, kind: int, depth: int = 0) -> Any:
        """A number, a text, or the length of a list, which is passed over."""
        if kind in _NUMBERS:
            return self.number(_NUMBERS[kind])
        if kind == _TEXT:
            return self.text()
        if kind != _LIST or depth == _DEEPEST:
            raise _broken(self.path, f"a fact of the unknown type {kind}")
        inner, length = self.number("I"), self.number("Q")
        if length > _MOST_ITEMS:
            raise _broken(self.path, f"a list of {length:,} items in its header")
        if inner in _NUMBERS:
            self.file.seek(length * struct.calcsize(_NUMBERS[inner]), 1)
            if self.file.tell() > self.size:
                raise _broken(self.path, "it ends in its header")
            return length
        for _ in range(length):
            self.value(inner, depth + 1)
        return length

    def tensor(self, types: dict[int, tuple[str, int, int]]) -> tuple[int, int, str, Weight]:
        """(first byte and end behind the header, name, type and shape, the last dimension first as torch has it)."""
        name, sides = self.text(), self.number("I")
        if sides > 4:
            raise _broken(self.path, f"a tensor of {sides} dimensions")
        shape = tuple(self.number("Q") for _ in range(sides))[::-1]
        kind, start = self.number("I"), self.number("Q")
        if kind not in types:
            raise VPError(
                f"The tensor {name[:80]!r} of {str(self.path)!r} is of the type {kind}, which the package gguf does not know "
                "here: take a file of a common type, such as Q4_K, Q8_0 or F16."
            )
        called, block, size = types[kind]
        if any(side >= 2**40 for side in shape) or (shape and shape[-1] % block):
            raise _broken(self.path, f"its header lies about {name[:80]!r}")
        return start, start + prod(shape) // block * size, name, Weight(called, shape)


def _broken(path: Path, reason: str) -> VPError:
    return VPError(f"The file {str(path)!r} is no GGUF file that could be read ({reason}): it is broken, get it again.")
