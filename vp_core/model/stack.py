"""The names by which a model family calls its parts: what `vp_core.model.families` fills in for each of them."""

from collections.abc import Mapping
from dataclasses import dataclass

FIXED_NOTE = (
    "Heads that go keep their places, filled with zeros: each head has a position bias of its own, so their share of the "
    "products of attention and of its output matrix is still computed."
)


@dataclass(frozen=True)
class Stack:
    """One run of layers: `layers` is its path in the base model, with a * for each number; the rest are names in a layer.

    See `model.projections.Layer` for what they are. `groups` is the setting that says among how many groups of weights the
    layers are shared (None: every layer has its own). `decoder` are the types that see the tokens of a decoder. `pre_norm`
    says that a sub-layer reads the residual stream through its layer norm, not the stream itself; `stream` are then the modules
    whose first input is that stream, of attention and of the feed-forward network (None: the layer, and its first sum).

    Where `gate` is also the name of `ffn_in` one module holds both, the gate's rows first. `full_heads` says why heads keep
    their width when they are squeezed (None: they become narrower); `fixed_heads` why none can leave the others
    (None: it can); `scales_by_width` that scores are divided by √(a head's width as it is, not as it was).
    `positions_too` says that query and key are also multiplied with embeddings of relative positions.
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


@dataclass(frozen=True)
class Family:
    """One model family.

    `attention_norm` is the layer norm right after the residual sum of the attention block where the classification head
    reads the first token only, which `asking.evaluate` makes use of (None: it reads another), `first_position` the number
    of the first token's position; with `positions_from_pad` it is pad_token_id + 1, whatever that is (RoBERTa's is 1).
    `bias_flags` are the switches of the configuration that give the projections their biases, where a family may have none;
    `bare` says that one has none and no switch for them. `gated` are the stacks of a model whose feed-forward network has a
    gate by its configuration (T5). `reads_end` says that the classifier reads the last token that ends a text, `reads_last`
    that it reads the last token that is no padding. `classifies_text` says whether `vp_core.loading` takes its sequence
    classifiers, `writes_text` that of its decoder language models (...ForCausalLM), `fills_masks` that of its masked
    ones (...ForMaskedLM); a family with none of them is for those who bring their own batches.
    """

    stacks: tuple[Stack, ...]
    attention_norm: str | None = None
    first_position: int = 0
    positions_from_pad: bool = False
    rotary: bool = False
    bias_flags: tuple[str, ...] = ()
    bare: bool = False
    gated: tuple[Stack, ...] = ()
    reads_end: bool = False
    reads_last: bool = False
    classifies_text: bool = True
    writes_text: bool = False
    fills_masks: bool = False
