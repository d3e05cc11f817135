"""Where the six linear projections of every Transformer layer are in a model, by the names in `vp_core.model.families`.

A projection computes y = x Wᵀ + b with W of shape (d_out, d_in). A *neuron* is one coordinate of y, that is one row of W.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import cast

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from vp_core.ground.errors import VPError
from vp_core.model.families import family_of, stacks_of
from vp_core.model.family.stack import NORM_NOTE, Part, Stack

HEADED = ("query", "key", "value")
CONSUMERS = {"value": "attention_output", "ffn_in": "ffn_out"}
"""Whose matrix reads a type's output (value: mixed over tokens by attention; ffn_in: after the activation)."""


@dataclass(frozen=True)
class Projection:
    """One linear map of one layer.

    `path` is the module's name in the model; where one module holds several projections (GPT-2's fused `c_attn`) this one is
    its rows from `start` on, with `step` (GPT-NeoX) those of one head every `step` rows: its `part`. `consumer` is the path of
    the projection that reads its output (None where the output meets another one in a dot product, query and key, or goes to
    the residual stream), `head_width` the number of coordinates of a head (None outside query, key and value). `gate` is the
    path of the matrix that is multiplied onto it (Llama's gated FFN) and `gate_start` where its rows begin there; its neuron
    is then one input coordinate of the consumer, and both matrices lose the row. `decoder` says that it sees the tokens of an
    encoder-decoder's decoder. `tokens_of` is the path of the module whose first input are the tokens, where the projection is
    used on something else too (DeBERTa: on positions).
    """

    layer: int
    type: str
    path: str
    d_in: int
    d_out: int
    consumer: str | None
    head_width: int | None
    start: int = 0
    gate: str | None = None
    decoder: bool = False
    gate_start: int = 0
    tokens_of: str | None = None
    step: int = 0

    @property
    def part(self) -> Part:
        """Where its rows are in the module."""
        return Part(self.start, self.d_out, self.head_width or 0 if self.step else 0, self.step)

    @property
    def gate_part(self) -> Part:
        """Where the gate's rows are in theirs."""
        return Part(self.gate_start, self.d_out)

    @property
    def name(self) -> str:
        """Layer index, from 0, and type: `3.ffn_in`."""
        return f"{self.layer}.{self.type}"

    @property
    def weights_of_a_row(self) -> int:
        """How many weights go with one neuron of this projection itself."""
        return self.d_in * (2 if self.gate else 1)


@dataclass(frozen=True)
class Layer:
    """What belongs together in one attention block and its feed-forward network, as `vp_core.squeezing.squeeze` needs it.

    `attention` is the path of the module that cuts its three projections into heads, `head_size` the name of its attribute with
    the width of a head, `total_size` that of all heads, `head_count` that of their number, `split_size` that of a fused
    projection's parts. `queries_per_key` heads of the query share a head of key and value; `rotary` positions turn pairs of
    query and key coordinates, the first `turned` of each head: i and i + turned/2 together, by the angles in the buffer
    `frequencies`. The layer runs `uses` times in a forward pass (ALBERT shares it). `full_heads`, `fixed_heads` and
    `scales_by_width` are as in `vp_core.model.family.stack.Stack`. `turns` says that scores stay the same when query and key
    get another basis: not where positions turn them, or have matrices of their own. `normed` says that each head of query and
    key is brought to one length by a norm, which reads all its coordinates.
    """

    projections: Mapping[str, Projection]
    attention: str
    head_size: str
    split_size: str | None
    activation: str | None
    queries_per_key: int
    rotary: bool
    uses: int = 1
    full_heads: str | None = None
    fixed_heads: str | None = None
    scales_by_width: bool = False
    total_size: str | None = None
    turns: bool = True
    turned: int = 0
    head_count: str | None = None
    normed: bool = False
    frequencies: str | None = None

    @property
    def one_width(self) -> bool:
        """Whether all heads need one width: their code goes by more sizes than that, or a cache keeps them head by head."""
        cached = any(self.projections[type_].decoder for type_ in HEADED)
        return bool(self.fixed_heads or self.split_size or self.total_size or self.head_count or cached)


def find_layers(model: PreTrainedModel) -> tuple[Layer, ...]:
    """Every attention block with its feed-forward network, in forward order (BART: encoder, decoder, cross attention).

    Layers that share their weights (ALBERT) are one layer. Raises VPError for a family that is not supported and for a
    model that is squeezed already.
    """
    turned = _turned(model) if family_of(model.config.model_type).rotary else None
    return tuple(_layer(model, stack, path, i, turned) for i, (stack, path) in enumerate(layer_paths(model)))


def layer_paths(model: PreTrainedModel) -> list[tuple[Stack, str]]:
    """(the names in it, its path) of every layer, of a squeezed model too; VPError for a family that is not supported."""
    base = base_of(model)
    found = [stack for stack in stacks_of(model.config) if not stack.decoder or _has(model, base + stack.layers)]
    return [(stack, path) for stack in found for path in _numbered(model, base + stack.layers)]


def _has(model: nn.Module, pattern: str) -> bool:
    """Whether there are layers at all: a T5 that tags words is the encoder alone."""
    head, _, _ = pattern.partition(".*")
    try:
        model.get_submodule(head)
    except AttributeError:
        return False
    return True


def base_of(model: PreTrainedModel) -> str:
    """The path of the base model inside of `model`, with a dot behind it; nothing where it is the model itself."""
    return f"{model.base_model_prefix}." if hasattr(model, model.base_model_prefix) else ""


def find_projections(model: PreTrainedModel) -> tuple[Projection, ...]:
    """Every projection of a Hugging Face model, layer by layer in the order of TYPES; raises as `find_layers` does."""
    return tuple(p for layer in find_layers(model) for p in layer.projections.values())


def _numbered(model: nn.Module, pattern: str) -> list[str]:
    """The paths that a pattern such as `encoder.layer.*` stands for."""
    head, star, tail = pattern.partition(".*")
    if not star:
        return [pattern]
    numbers = [name for name, _ in model.get_submodule(head).named_children()]
    return [path for number in numbers for path in _numbered(model, f"{head}.{number}{tail}")]


def _turned(model: nn.Module) -> int:
    """How many coordinates of a head rotary positions turn: two for each of their frequencies."""
    return max(2 * len(one) for name, one in model.named_buffers() if name.endswith("inv_freq"))


def _layer(model: PreTrainedModel, stack: Stack, path: str, number: int, turned: int | None) -> Layer:
    attention = model.get_submodule(f"{path}.{stack.attention}")
    width = getattr(attention, stack.head_size)
    normed = stack.head_norm is not None and hasattr(attention, stack.head_norm)
    projections: dict[str, Projection] = {}
    used: dict[str, int] = {}
    for type_, name in stack.modules.items():
        rows, d_in = _rows(model, stack, path, type_)
        consumer, interleaved = CONSUMERS.get(type_), stack.interleaved and type_ in HEADED
        projections[type_] = Projection(
            layer=number,
            type=type_,
            path=f"{path}.{name}",
            d_in=d_in,
            d_out=rows,
            consumer=f"{path}.{stack.modules[consumer]}" if consumer else None,
            head_width=width if type_ in HEADED else None,
            start=used.get(name, rows if name == stack.gate else 0),
            step=3 * width if interleaved else 0,
            gate=f"{path}.{stack.gate}" if stack.gate and type_ == "ffn_in" else None,
            decoder=type_ in stack.decoder,
            tokens_of=f"{path}.{stack.attention}" if stack.positions_too and type_ in ("query", "key") else None,
        )
        used[name] = used.get(name, 0) + (width if interleaved else rows)
    return Layer(
        projections=MappingProxyType(projections),
        attention=f"{path}.{stack.attention}",
        head_size=stack.head_size,
        split_size=stack.split_size,
        activation=f"{path}.{stack.activation}" if stack.activation and "ffn_in" in projections else None,
        queries_per_key=projections["query"].d_out // projections["key"].d_out,
        rotary=turned is not None,
        turned=turned or 0,
        uses=uses_of(model, stack),
        full_heads=NORM_NOTE if normed else stack.full_heads,
        fixed_heads=stack.fixed_heads,
        scales_by_width=stack.scales_by_width,
        total_size=stack.total_size,
        head_count=stack.head_count,
        normed=normed,
        turns=turned is None and (not stack.positions_too or bool(getattr(attention, "share_att_key", False))),
        frequencies=None if turned is None else _frequencies(model, stack, number),
    )


def _frequencies(model: PreTrainedModel, stack: Stack, number: int) -> str:
    """The path of the buffer with the angles that layer `number` turns by."""
    types = getattr(model.config, "layer_types", None)
    return base_of(model) + stack.frequencies.format(types[number] if types else "")


def _rows(model: PreTrainedModel, stack: Stack, path: str, type_: str) -> tuple[int, int]:
    """(rows of a projection, its columns): of a module that holds several those that are its own."""
    name, names = stack.modules[type_], list(stack.modules.values())
    rows, columns = _shape(model.get_submodule(f"{path}.{name}"))
    if names.count(name) == 1:
        return (rows // 2 if name == stack.gate else rows), columns
    _, queries = _shape(model.get_submodule(f"{path}.{stack.modules['attention_output']}"))  # one coordinate for each of query
    return (queries if type_ == "query" else (rows - queries) // 2), columns


def uses_of(model: PreTrainedModel, stack: Stack) -> int:
    """How often each layer of a stack runs in a forward pass."""
    return model.config.num_hidden_layers // getattr(model.config, stack.groups) if stack.groups else 1


def _shape(module: nn.Module) -> tuple[int, int]:
    """(rows, columns) of a linear map; VPError if it is none any more."""
    if not isinstance(module, nn.Linear | Conv1D):
        raise VPError("This model is squeezed already: prune the model that it was made from.")
    rows, columns = as_rows(module, module.weight).shape
    return rows, columns


def linear_map(model: nn.Module, path: str) -> nn.Linear | Conv1D:
    """The module of a projection, with its `weight` and `bias`."""
    return cast(nn.Linear, model.get_submodule(path))


def as_rows(module: nn.Module, weight: Tensor) -> Tensor:
    """A view of a module's weight with one neuron a row (d_out, d_in): GPT-2's `Conv1D` keeps it transposed."""
    return weight.T if isinstance(module, Conv1D) else weight


def weight_of(model: nn.Module, projection: Projection) -> Tensor:
    """A projection's weight (d_out, d_in): a view, but a copy where its rows are not side by side."""
    module = linear_map(model, projection.path)
    return as_rows(module, module.weight)[projection.part.index]


def bias_of(model: nn.Module, projection: Projection) -> Tensor:
    """A projection's bias (d_out,) without gradient, a view as `weight_of`'s; zeros where the map has none."""
    module = linear_map(model, projection.path)
    if module.bias is None:
        return module.weight.detach().new_zeros(projection.d_out)
    return module.bias.detach()[projection.part.index]


def gate_weight_of(model: nn.Module, projection: Projection) -> Tensor:
    """The weight (d_out, d_in) of the gate of a projection that has one, a view."""
    assert projection.gate
    module = linear_map(model, projection.gate)
    return as_rows(module, module.weight)[projection.gate_part.index]


def last_attention_norm(model: PreTrainedModel) -> str | None:
    """The path of the layer norm after the last layer's attention, if from there on only the first token matters to the
    classifier; None elsewhere. Raises VPError for a family that is not supported."""
    norm = family_of(model.config.model_type).attention_norm
    return None if norm is None else f"{layer_paths(model)[-1][1]}.{norm}"
