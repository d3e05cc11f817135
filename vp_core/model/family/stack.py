"""The names by which a model family calls its parts: what `vp_core.model.families` fills in for each of them.

And `Part`, where the rows of one projection are in a module that holds several.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

FIXED_NOTE = (
    "Heads that go keep their places, filled with zeros: each head has a position bias of its own, so their share of the "
    "products of attention and of its output matrix is still computed."
)
COUNTED_NOTE = (
    "Heads that go keep their places, filled with zeros: this family counts the heads of every layer by its configuration, so "
    "their share of the products of attention and of its output matrix is still computed."
)
NORM_NOTE = (
    "Query and key keep the full width of their heads: a norm brings each head to one length by all its coordinates, so "
    "a removed row saves its own product only, not its partner's."
)
ROTARY_NOTE = (
    "Rows of query and key that go by themselves save their own products only: rotary positions turn coordinates in pairs, so "
    "the other rows of their pair stay, in every head that shares the key."
)


@dataclass(frozen=True)
class Stack:
    """One run of layers: `layers` is its path in the base model, with a * for each number; the rest are names in a layer.

    See `model.projections.Layer` for what they are. `groups` is the setting that says among how many groups of weights the
    layers are shared (None: every layer has its own). `decoder` are the types that see the tokens of a decoder. `pre_norm`
    says that a sub-layer reads the residual stream through its layer norm, not the stream itself; `stream` are then the modules
    whose first input is that stream, of attention and of the feed-forward network (None: the layer, and its first sum).

    Where `gate` is also the name of `ffn_in` one module holds both, the gate's rows first. `interleaved` says that the rows of
    a module that holds query, key and value take turns, a head of each after another. `full_heads` says why heads keep
    their width when they are squeezed (None: they become narrower); `fixed_heads` why none can leave the others
    (None: it can); `scales_by_width` that scores are divided by √(a head's width as it is, not as it was).
    `positions_too` says that query and key are also multiplied with embeddings of relative positions. `head_norm` is the name
    of the norm over each head of the query, where there may be one; `head_count` that of the number of heads, where attention
    goes by it. `normed_writes` says that what a sub-layer writes goes through a norm, or is scaled, before it joins the
    residual stream; `scales` are the numbers, one a coordinate, by which what attention and the feed-forward network write is
    scaled (None: it is not). Under rotary positions `frequencies` is the buffer with the angle by which each pair of
    coordinates turns from one position to the next, in the base model ({} stands for the layer's type, where each has its own).
    """

    layers: str
    modules: Mapping[str, str]
    attention: str
    head_size: str
    activation: str | None = None
    gate: str | None = None
    split_size: str | None = None
    total_size: str | None = None
    groups: str | None = None
    decoder: tuple[str, ...] = ()
    pre_norm: bool = False
    stream: tuple[str, str] | None = None
    full_heads: str | None = None
    fixed_heads: str | None = None
    scales_by_width: bool = False
    positions_too: bool = False
    interleaved: bool = False
    head_norm: str | None = None
    head_count: str | None = None
    normed_writes: bool = False
    scales: tuple[str, str] | None = None
    frequencies: str = "rotary_emb.inv_freq"


@dataclass(frozen=True)
class Family:
    """One model family.

    `attention_norm` is the layer norm right after the residual sum of the attention block where the classification head reads
    the first token only, which `asking.evaluate` makes use of (None: it reads another), `first_position` the number of the
    first token's position; with `positions_from_pad` it is pad_token_id + 1, whatever that is (RoBERTa's is 1). `bias_flags`
    are the switches of the configuration that give the projections their biases, where a family may have none; `bare` says
    that one has none and no switch for them. `switch` is the setting with which a model has the stacks `switched` instead (T5:
    a gate in the feed-forward network). `reads_end` says that the classifier reads the last token that ends a text,
    `reads_last` that it reads the last token that is no padding. `classifies_text` says whether `vp_core.loading` takes its
    sequence classifiers, `writes_text` that of its decoder language models (...ForCausalLM), `fills_masks` that of its masked
    ones (...ForMaskedLM), `sees` that of its image classifiers; a family with none of them is for those who bring their own
    batches.
    """

    stacks: tuple[Stack, ...]
    attention_norm: str | None = None
    first_position: int = 0
    positions_from_pad: bool = False
    rotary: bool = False
    bias_flags: tuple[str, ...] = ()
    bare: bool = False
    switch: str | None = None
    switched: tuple[Stack, ...] = ()
    reads_end: bool = False
    reads_last: bool = False
    classifies_text: bool = True
    writes_text: bool = False
    fills_masks: bool = False
    sees: bool = False


@dataclass(frozen=True)
class Part:
    """`count` rows of a module from `start` on: one after another, or with `step` in runs of `run`, one run every `step` rows.

    GPT-NeoX has query, key and value of the first head, then those of the second, …: a part of each head.
    """

    start: int
    count: int
    run: int = 0
    step: int = 0

    @property
    def index(self) -> slice | Tensor:
        """What picks them from the module's rows: a slice, which gives a view, or their numbers (count,), which give a copy.

        >>> Part(2, 3).index
        slice(2, 5, None)
        >>> Part(2, 4, run=2, step=6).index
        tensor([2, 3, 8, 9])
        """
        return self.at(torch.arange(self.count)) if self.step else slice(self.start, self.start + self.count)

    def at(self, rows: Tensor) -> Tensor:
        """The module's rows, of the shape of `rows`, where these ones (0 to count − 1) are.

        >>> Part(2, 4).at(torch.tensor([0, 3])), Part(2, 4, run=2, step=6).at(torch.tensor([0, 3]))
        (tensor([2, 5]), tensor([2, 9]))
        """
        return self.start + (rows // self.run * self.step + rows % self.run if self.step else rows)

    def give(self, values: Tensor, new: Tensor) -> None:
        """Write `new` (count, …) into the module's `values` (rows, …), in place; nothing to do where it is a view of them."""
        index = self.index
        if not (isinstance(index, slice) and new.data_ptr() == values[index].data_ptr()):
            values[index] = new
