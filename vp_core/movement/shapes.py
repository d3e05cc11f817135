"""What has one score: single weights, blocks, whole heads, or neurons of a feed-forward network with all that is theirs.

| shape | of | a score stands for |
|---|---|---|
| `weights` | any matrix | one weight: movement pruning (Sanh et al. 2020) |
| `blocks RxC` | any matrix | R rows × C columns, at its ends fewer; `blocks` are 32 × 32, a side may be `all` |
| `heads` | attention | a head: its rows of query, key and value and the columns of attention_output that read it |
| `dim` | feed-forward | a neuron: its row of ffn_in (and of the gate) and its column of ffn_out |
| `none` | either | nothing: this part is not pruned |

Under grouped queries a head is one of key and value, with all heads of the query that share it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import torch
from torch import Tensor

from vp_core.ground.errors import VPError, one_of
from vp_core.ground.patterns import Pattern, find_pattern
from vp_core.model.projections import Layer
from vp_core.weights.matrices import Matrix

NONE, HEADS, DIM = "none", "heads", "dim"
PARTS = ("attention", "ffn")
_OWN = {"attention": HEADS, "ffn": DIM}
_ATTENTION = ("query", "key", "value", "attention_output")


@dataclass(frozen=True)
class Shapes:
    """What has one score in the matrices of attention and in those of the feed-forward networks; VPError for what cannot.

    >>> Shapes("blocks 16x16", "dim").attention
    'blocks 16x16'
    """

    attention: str = "blocks"
    ffn: str = DIM

    def __post_init__(self) -> None:
        """Check both."""
        for part in PARTS:
            name = getattr(self, part)
            if name in (NONE, _OWN[part]):
                continue
            pattern = find_pattern(name)
            if pattern is None or pattern.of:
                raise VPError(
                    f"A score of the {_CALLED[part]} cannot stand for {name!r}: choose weights, blocks, blocks RxC such as "
                    f"blocks 16x16, {_OWN[part]} or none."
                )
        if (self.attention, self.ffn) == (NONE, NONE):
            raise VPError("With no scores for attention and none for the feed-forward networks nothing is pruned: choose one.")

    @property
    def name(self) -> str:
        """Both in a few words.

        >>> Shapes().name
        'attention: blocks 32x32, ffn: dim'
        """
        return ", ".join(f"{part}: {_spelt(getattr(self, part))}" for part in PARTS)


_CALLED = {"attention": "attention matrices", "ffn": "feed-forward matrices"}


def _spelt(name: str) -> str:
    found = find_pattern(name)
    return found.name if found else name


@dataclass(frozen=True)
class Preset:
    """One row of the paper's table 1: its shapes, which `teacher` it has (`base`, `large`, None), whether what is empty in
    surviving heads is `filled`, and `ratio`, λ_att : λ_ffn (None: by the sizes of both parts)."""

    shapes: Shapes
    teacher: str | None = "base"
    filled: bool = False
    ratio: float | None = None


STRUCT_RATIO = 1 / 32
"""λ_att : λ_ffn where attention goes by heads (block pruning, section 5)."""
_HYBRID = Shapes("blocks", DIM)
PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "movement": Preset(Shapes("weights", "weights")),
        "block": Preset(Shapes("blocks", "blocks")),
        "hybrid": Preset(_HYBRID),
        "hybrid nt": Preset(_HYBRID, teacher=None),
        "struct": Preset(Shapes(HEADS, DIM), ratio=STRUCT_RATIO),
        "hybrid filled": Preset(_HYBRID, filled=True),
        "hybrid filled lt": Preset(_HYBRID, teacher="large", filled=True),
    }
)
"""The methods of block pruning's table 1, and movement pruning, which it compares with.

The table prints heads for the attention of Hybrid NT and Hybrid Filled. The text has square blocks there: Hybrid NT is Hybrid
without its teacher, and where whole heads go nothing is left to be filled. This is the text's reading.
"""


def find_preset(name: str) -> Preset:
    """The preset of that name; VPError that lists them if there is none."""
    one_of("preset", name, tuple(PRESETS))
    return PRESETS[name]


@dataclass(frozen=True, eq=False)
class Group:
    """Units (n,) that are scored alike in one layer: the blocks of one matrix, the heads of one attention, or dimensions.

    `members` are (matrix, pattern): pattern by pattern unit i is the i-th block, row by row. Several matrices share the units
    of heads and dimensions. `part` is `attention` or `ffn`; `decoder` says that it belongs to a decoder.
    """

    name: str
    part: str
    decoder: bool
    members: tuple[tuple[Matrix, Pattern], ...]

    @property
    def units(self) -> int:
        """How many there are."""
        matrix, pattern = self.members[0]
        up, across = pattern.grid(matrix.shape)
        return up * across

    @cached_property
    def sizes(self) -> Tensor:
        """(n,) int64: the weights that go with each unit, of all matrices it is in."""
        return torch.stack([unit_sizes(*member) for member in self.members]).sum(dim=0)


def unit_sizes(matrix: Matrix, pattern: Pattern) -> Tensor:
    """(units,) int64: how many weights each block of a matrix has, row by row."""
    height, width = pattern.block(matrix.shape)
    sides = [_sides(*one) for one in ((matrix.rows, height), (matrix.columns, width))]
    return torch.outer(*sides).flatten()


def _sides(length: int, side: int) -> Tensor:
    return (length - torch.arange(0, length, side)).clamp(max=side)


def find_groups(layers: Sequence[Layer], matrices: Sequence[Matrix], shapes: Shapes) -> tuple[Group, ...]:
    """Everything that has scores, layer by layer; `matrices` are those of all six types (`vp_core.weights.matrices`).

    Raises VPError if there is nothing to score (no feed-forward networks, and no scores for attention).
    """
    found: list[Group] = []
    for layer in layers:
        decoder = layer.projections["query"].decoder
        number = layer.projections["query"].layer
        for part in PARTS:
            of = [m for m in matrices if m.layer == number and (m.type in _ATTENTION) == (part == "attention")]
            name = getattr(shapes, part)
            if name == NONE or not of:
                continue
            if name == _OWN[part]:
                heads = layer.projections["value"].d_out // (layer.projections["value"].head_width or 1)
                found.append(Group(f"{number}.{name}", part, decoder, tuple((m, _paired(m, heads)) for m in of)))
            else:
                pattern = find_pattern(name)
                assert pattern is not None
                found += [Group(m.name, part, decoder, ((m, pattern),)) for m in of]
    if not found:
        raise VPError(f"This model has nothing to score by {shapes.name}: choose scores for attention.")
    return tuple(found)


def _paired(matrix: Matrix, heads: int) -> Pattern:
    """The rows of a matrix that are one head's or neuron's; of those that read them, the columns."""
    if matrix.type == "attention_output":
        return Pattern(None, matrix.columns // heads)
    if matrix.type == "ffn_out":
        return Pattern(None, 1)
    return Pattern(1 if matrix.type == "ffn_in" else matrix.rows // heads, None)
