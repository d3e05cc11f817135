"""Blocks: the residual mappings F of H(x) = F(x) + x that SNIP looks at (section 3.2), as a whole each.

A block is one attention head's contribution head_h·W_O_h, a whole attention block, or a feed-forward network. Where several
query heads share a key/value head (Llama) they count as one head, since they can only go together.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn
from transformers import PreTrainedModel

from vp_core.ground.errors import one_of
from vp_core.ground.names import KINDS
from vp_core.model.family.stack import Stack
from vp_core.model.projections import Layer, find_layers, layer_paths

SUBLAYER = {"attention_output": "attention", "ffn_out": "ffn"}
"""The block that ends with a projection of this type."""


@dataclass(frozen=True, order=True)
class Block:
    """One block; `head` is None unless it is one.

    Its `name` is `3.head.5`, `3.attention` or `3.ffn`, with layer and head index from 0.
    """

    layer: int
    kind: str
    head: int | None = None

    @property
    def name(self) -> str:
        """Layer index, kind and, of a head, its index: `3.head.5`."""
        return f"{self.layer}.{self.kind}" + ("" if self.head is None else f".{self.head}")

    @classmethod
    def named(cls, name: str) -> "Block":
        """The block of a name such as `3.ffn`; VPError for an unknown kind.

        >>> Block.named("3.head.5")
        Block(layer=3, kind='head', head=5)
        """
        layer, kind, *head = name.split(".")
        return cls(int(layer), one_of("kind of block", kind, KINDS), int(head[0]) if head else None)


@dataclass(frozen=True)
class Sublayers:
    """The blocks of one layer and where they are: `heads` are the numbers of the live ones, each with `width` input
    coordinates of the module at `attention` (None: gone), in order; `ffn` is the module that ends the feed-forward network.
    `decoder` says that the layer's outputs are a decoder's tokens. `places` counts the heads that the module at `attention` has
    room for where none can leave the others (each has its own position bias); None: as many as are live.
    The scales are the paths of the numbers by which what a block puts out is scaled, which is a part of it (`scale_of`).
    """

    layer: int
    attention: str | None
    heads: tuple[int, ...]
    width: int
    ffn: str | None
    decoder: bool = False
    places: int | None = None
    attention_scale: str | None = None
    ffn_scale: str | None = None

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The blocks that are there: heads, the attention block, the feed-forward network."""
        found = [Block(self.layer, "head", head) for head in self.heads]
        found += [Block(self.layer, "attention")] if self.attention else []
        return (*found, *([Block(self.layer, "ffn")] if self.ffn else []))

    def without(self, gone: Collection[Block]) -> "Sublayers":
        """The blocks of the layer that are left when those in `gone` leave."""
        attention = None if Block(self.layer, "attention") in gone else self.attention
        heads = tuple(h for h in self.heads if attention and Block(self.layer, "head", h) not in gone)
        ffn = None if Block(self.layer, "ffn") in gone else self.ffn
        return replace(self, attention=attention, heads=heads, ffn=ffn)


def find_sublayers(model: PreTrainedModel) -> tuple[Sublayers, ...]:
    """The blocks of a dense model, layer by layer; VPError for a family that is not supported or a squeezed model."""
    paths = layer_paths(model)
    return tuple(_sublayers(layer, *path) for layer, path in zip(find_layers(model), paths, strict=True))


def scale_of(model: nn.Module, path: str | None) -> Tensor | None:
    """The numbers (d,) at a path by which what a block puts out is scaled; None where it is not."""
    if path is None:
        return None
    module, _, name = path.rpartition(".")
    found = getattr(model.get_submodule(module), name)
    return found if isinstance(found, Tensor) else None  # BEiT has 1.0 where it does not scale


def find_blocks(model: PreTrainedModel, kinds: Sequence[str] = KINDS) -> tuple[Block, ...]:
    """All blocks of these kinds, layer by layer; raises as `find_sublayers` does."""
    return tuple(b for one in find_sublayers(model) for b in one.blocks if b.kind in kinds)


def _sublayers(layer: Layer, stack: Stack, path: str) -> Sublayers:
    value, output, ffn = layer.projections["value"], layer.projections["attention_output"], layer.projections.get("ffn_out")
    assert value.head_width
    heads = value.d_out // value.head_width
    scales = tuple(f"{path}.{name}" for name in stack.scales) if stack.scales else (None, None)
    return Sublayers(
        value.layer,
        output.path,
        tuple(range(heads)),
        output.d_in // heads,
        ffn.path if ffn else None,
        output.decoder,
        heads if layer.fixed_heads else None,
        *scales,
    )
