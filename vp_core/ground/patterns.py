"""What goes as one of a weight matrix: single weights, blocks, whole columns, or all but N of M neighbours, by name."""

import re
from dataclasses import dataclass

from vp_core.ground.errors import VPError

BLOCK = (32, 32)
"""Rows and columns of a block unless asked otherwise (block movement pruning's hybrid recipe)."""
_BLOCK = re.compile(r"blocks(?: (\d+|all)x(\d+|all))?")
_N_OF_M = re.compile(r"(\d+):(\d+)")
_MOST = 1 << 20


@dataclass(frozen=True)
class Pattern:
    """The units of a matrix: blocks of `rows` × `columns` weights (None: all there are), or N:M groups.

    With `of` = M > 0 every M neighbours along the input keep `keep` = N of their weights, and there is one sparsity only.
    """

    rows: int | None = 1
    columns: int | None = 1
    keep: int = 0
    of: int = 0

    @property
    def single(self) -> bool:
        """Whether each weight is a unit by itself."""
        return (self.rows, self.columns) == (1, 1)

    @property
    def sparsity(self) -> float | None:
        """The one share that an N:M pattern removes, None for the others.

        >>> find_pattern("2:4").sparsity, find_pattern("weights").sparsity
        (0.5, None)
        """
        return 1 - self.keep / self.of if self.of else None

    @property
    def name(self) -> str:
        """The one spelling of its name.

        >>> find_pattern("blocks").name, find_pattern("blocks allx1").name
        ('blocks 32x32', 'columns')
        """
        if self.of:
            return f"{self.keep}:{self.of}"
        if self.single:
            return "weights"
        if (self.rows, self.columns) == (None, 1):
            return "columns"
        return "blocks {}x{}".format(*(side or "all" for side in (self.rows, self.columns)))

    def block(self, shape: tuple[int, int]) -> tuple[int, int]:
        """(rows, columns) of a block in a matrix of this `shape`.

        >>> find_pattern("blocks 16xall").block((64, 48))
        (16, 48)
        """
        return min(self.rows or shape[0], shape[0]), min(self.columns or shape[1], shape[1])

    def grid(self, shape: tuple[int, int]) -> tuple[int, int]:
        """(rows, columns) of blocks in a matrix of this `shape`; blocks at its end may be cut short.

        >>> find_pattern("blocks").grid((100, 64))
        (4, 2)
        """
        height, width = self.block(shape)
        return -(-shape[0] // height), -(-shape[1] // width)


def find_pattern(name: str) -> Pattern | None:
    """The pattern of that name, None if no unit of weights is called so; VPError for one that cannot be.

    >>> find_pattern("blocks 16x8"), find_pattern("rows")
    (Pattern(rows=16, columns=8, keep=0, of=0), None)
    """
    if name == "weights":
        return Pattern()
    if name == "columns":
        return Pattern(None, 1)
    if found := _BLOCK.fullmatch(name):
        sides = [_side(name, side) for side in found.groups()] if found[1] else list(BLOCK)
        return Pattern(*sides)
    if found := _N_OF_M.fullmatch(name):
        keep, of = (min(int(number), _MOST) for number in found.groups())
        if not 0 < keep < of:
            raise VPError(f"{name} keeps {keep} of every {of} weights: write N:M with 0 < N < M, such as 2:4.")
        return Pattern(1, 1, keep, of)
    return None


def _side(name: str, text: str) -> int | None:
    if text == "all":
        return None
    side = min(int(text), _MOST)
    if side < 1:
        raise VPError(f"The unit {name!r} has blocks without weights: write rows x columns, such as 32x32, or all for a side.")
    return side
