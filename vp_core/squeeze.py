"""`squeeze(pruned_model, plan) -> model`: what is pruned is gone. The smaller dense model has the same outputs.

`prune` leaves a model of the old shape whose removed rows put out constants. Here rows and columns leave both matrices they
touch (`vp_core.survivors` says which, and why that is exact), constants move into biases, and heads of unequal width are
padded with zeros to a common one, so that each layer runs transformers' own attention code (SDPA, masks, caches) on
narrower heads. Exact in evaluation; in training dropout on the attention weights does not touch the constants.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from vp_core.cost import Cost, cost
from vp_core.errors import VPError
from vp_core.plan import Plan
from vp_core.projections import Layer, Projection, as_rows, find_layers, linear_map, weight_of
from vp_core.prune import Model, check_plan, share
from vp_core.scatter import Shape, aligned, empty, filled
from vp_core.survivors import Survivors, survivors

ROTARY_NOTE = (
    "Query and key keep the full width of their heads: rotary positions turn coordinates in pairs, so a removed row saves "
    "its own product only, not its partner's."
)


@dataclass
class Squeezed:
    """How a squeezed model differs from a dense one: what it costs, shapes by module path, attributes by module path, and
    `notes`, what could not be squeezed. JSON-able; found on the model as `model.squeezed`."""

    cost: Cost
    modules: dict[str, Shape] = field(default_factory=dict)
    attributes: dict[str, dict[str, int]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {
            "cost": asdict(self.cost),
            "modules": {path: asdict(shape) for path, shape in self.modules.items()},
            "attributes": self.attributes,
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Squeezed":
        modules = {path: Shape(**shape) for path, shape in value["modules"].items()}
        return cls(Cost(**value["cost"]), modules, dict(value["attributes"]), tuple(value["notes"]))


def squeeze(pruned: Model, plan: Plan) -> Model:
    """A new, smaller model with the outputs of `pruned`, the result of `vp_core.prune.prune` with this plan.

    `pruned` is not changed; what is not cut is shared with it. The new model's `squeezed.notes` say what could not be
    squeezed. Raises VPError if the plan belongs to another model, if the model was not pruned by it, for a family that is
    not supported, and for a model that is squeezed already.
    """
    assert isinstance(pruned, PreTrainedModel)
    layers = find_layers(pruned)
    check_plan(plan, [p for layer in layers for p in layer.projections.values()])
    model = share(pruned)
    if model.config._attn_implementation != "sdpa":
        model.set_attn_implementation("sdpa")
    biases = [_bias(model, layer.projections["query"]) for layer in layers]
    result = Squeezed(cost(layers, plan, biases))
    for layer, bias in zip(layers, biases, strict=True):
        for projection in layer.projections.values():
            _check_removed(model, projection, plan)
        cut = _Cut(model, layer, survivors(layer, plan.keep, bias), result)
        cut.attention()
        cut.ffn()
    model.squeezed = result
    return model


def install(model: nn.Module, squeezed: Squeezed) -> None:
    """Give a dense model the shapes of a squeezed one; the weights of these modules are still to be assigned."""
    for path, shape in squeezed.modules.items():
        model.set_submodule(path, empty(shape))
    for path, attributes in squeezed.attributes.items():
        for name, value in attributes.items():
            setattr(model.get_submodule(path), name, value)
    model.squeezed = squeezed  # type: ignore[assignment]


def _check_removed(model: nn.Module, projection: Projection, plan: Plan) -> None:
    keep = plan.keep.get(projection.name)
    if keep is not None and bool(weight_of(model, projection)[~keep].any()):
        raise VPError("This model was not pruned by this plan: prune the model with it first, then squeeze the result.")


def _bias(model: nn.Module, projection: Projection) -> Tensor:
    """(d_out,) of zeros where the map has no bias."""
    module = linear_map(model, projection.path)
    if module.bias is None:
        return torch.zeros(projection.d_out, dtype=module.weight.dtype)
    return module.bias.detach()[projection.start : projection.start + projection.d_out]


class _Cut:
    """Cuts one layer of `model` to what is left of it and notes the new shapes in `result`."""

    def __init__(self, model: PreTrainedModel, layer: Layer, left: Survivors, result: Squeezed) -> None:
        self.model, self.layer, self.left, self.result = model, layer, left, result

    def weight(self, type_: str) -> Tensor:
        return weight_of(self.model, self.layer.projections[type_])

    def bias(self, type_: str) -> Tensor:
        return _bias(self.model, self.layer.projections[type_])

    def put(self, path: str, weight: Tensor, bias: Tensor, like: Tensor, **indices: Tensor | None) -> None:
        weight, bias = weight.detach().requires_grad_(like.requires_grad), bias.to(like.dtype)
        module, shape = filled(weight, bias, **indices)
        self.model.set_submodule(path, module)
        self.result.modules[path] = shape

    def keeps_all(self, type_: str) -> bool:
        return len(self.left.rows[type_]) == self.layer.projections[type_].d_out

    def attention(self) -> None:
        left = self.left
        if left.whole and self.keeps_all("attention_output"):
            return
        value_bias = self.bias("value").double()
        if self.layer.rotary:
            columns, repeats = self._rotary_columns()
            constant_columns = value_bias.view(-1, left.width).repeat_interleave(repeats, dim=0).flatten()
            in_index: Tensor | None = columns
            if not left.whole:
                self._rotary_parts()
        elif left.whole:
            columns = torch.arange(self.weight("value").shape[0])
            constant_columns, in_index = value_bias, None
        else:
            columns = torch.cat([torch.empty(0, dtype=torch.long), *(head.values for head in left.heads)])
            constant_columns, in_index = value_bias, None
        consumer = self.weight("attention_output"), self.bias("attention_output")
        if not self.layer.rotary and not left.whole:
            self._heads()
        self._reader("attention_output", *consumer, columns, constant_columns, in_index)

    def _heads(self) -> None:
        """Narrower query, key and value: rows of live heads, put into heads of one width, the rest of them zero."""
        left, heads = self.left, self.left.heads
        query, key, query_bias, key_bias = (f(t) for f in (self.weight, self.bias) for t in ("query", "key"))
        merged = []  # per head: Σ c_i W_K[i] and Σ c_i b_K[i], one row or none
        for head in heads:
            constants = query_bias[head.merged].double()
            weight = (constants @ key[head.merged].double()).to(key.dtype)[None][: len(constants)]
            bias = (constants @ key_bias[head.merged].double()).to(key.dtype)[None][: len(constants)]
            merged.append((weight, bias))
        base = torch.zeros(max(len(heads), 1), left.width, dtype=query.dtype)
        for number, head in enumerate(heads):
            base[number, len(head.scores) : head.score_width] = 1
        scores = torch.cat([torch.empty(0, dtype=torch.long), *(head.scores for head in heads)])
        values = torch.cat([torch.empty(0, dtype=torch.long), *(head.values for head in heads)])
        parts = {
            "query": (query[scores], query_bias[scores], base.flatten(), [len(h.scores) for h in heads]),
            "key": (
                torch.cat([key[:0], *(t for h, (w, _) in zip(heads, merged, strict=True) for t in (key[h.scores], w))]),
                torch.cat(
                    [key_bias[:0], *(t for h, (_, b) in zip(heads, merged, strict=True) for t in (key_bias[h.scores], b))]
                ),
                torch.zeros_like(base).flatten(),
                [h.score_width for h in heads],
            ),
            "value": (
                self.weight("value")[values],
                self.bias("value")[values],
                torch.zeros_like(base).flatten(),
                [len(h.values) for h in heads],
            ),
        }
        total = base.numel()
        attributes = {self.layer.head_size: left.width}
        paths = {type_: self.layer.projections[type_].path for type_ in parts}
        if self.layer.split_size:  # one module for all three
            weights, biases, bases, counts = zip(*parts.values(), strict=True)
            index = torch.cat([i * total + _positions(c, left.width) for i, c in enumerate(counts)])
            self.put(paths["query"], torch.cat(weights), torch.cat(biases), query, base=torch.cat(bases), out_index=index)
            attributes[self.layer.split_size] = total
        else:
            for type_, (weight, bias, one_base, counts) in parts.items():
                index = _positions(counts, left.width)
                self.put(paths[type_], weight, bias, query, base=one_base, out_index=index)
        attention = self.model.get_submodule(self.layer.attention)
        for name, value in attributes.items():
            setattr(attention, name, value)
        self.result.attributes[self.layer.attention] = attributes

    def _rotary_columns(self) -> tuple[Tensor, int]:
        """Columns of `attention_output` that vary: those of kept value rows, for every head that shares them."""
        width, repeats = self.left.width, self.layer.queries_per_key
        kept = torch.zeros(self.layer.projections["value"].d_out, dtype=torch.bool)
        kept[self.left.rows["value"]] = True
        return kept.view(-1, width).repeat_interleave(repeats, dim=0).flatten().nonzero().squeeze(1), repeats

    def _rotary_parts(self) -> None:
        """Query, key and value at full width, constants in place of removed rows; values' constants went on already."""
        if not (self.keeps_all("query") and self.keeps_all("key")) and ROTARY_NOTE not in self.result.notes:
            self.result.notes += (ROTARY_NOTE,)
        for type_ in ("query", "key", "value"):
            rows, weight, bias = self.left.rows[type_], self.weight(type_), self.bias(type_)
            base = torch.zeros_like(bias) if type_ == "value" else bias.clone()
            path = self.layer.projections[type_].path
            self.put(path, weight[rows], bias[rows], weight, base=base, out_index=rows)

    def ffn(self) -> None:
        if self.layer.projections.get("ffn_in") is None or (self.keeps_all("ffn_in") and self.keeps_all("ffn_out")):
            return
        projection, rows = self.layer.projections["ffn_in"], self.left.rows["ffn_in"]
        weight, bias = self.weight("ffn_in"), self.bias("ffn_in")
        if projection.gate:
            constants = torch.zeros(projection.d_out, dtype=torch.double)  # `prune` has moved them into the consumer's bias
        else:
            assert self.layer.activation
            constants = self.model.get_submodule(self.layer.activation)(bias.double())
        reader = self.weight("ffn_out"), self.bias("ffn_out")
        if not self.keeps_all("ffn_in"):
            # Zero units fill up to a fast size: their activation meets zero columns, now and in training.
            fill = aligned(len(rows)) - len(rows)
            # The activation needs something to act on, so an FFN that is gone keeps one coordinate that is never computed.
            base = None if len(rows) else torch.zeros(1, dtype=weight.dtype)
            self.put(projection.path, _pad_rows(weight[rows], fill), _pad_rows(bias[rows], fill), weight, base=base)
            if projection.gate:
                gate = linear_map(self.model, projection.gate)
                gate_bias = torch.zeros_like(bias) if gate.bias is None else gate.bias.detach()
                gate_weight = as_rows(gate, gate.weight)[rows]
                self.put(projection.gate, _pad_rows(gate_weight, fill), _pad_rows(gate_bias[rows], fill), weight, base=base)
        self._reader("ffn_out", *reader, rows, constants, None)

    def _reader(
        self, type_: str, weight: Tensor, bias: Tensor, columns: Tensor, constants: Tensor, in_index: Tensor | None
    ) -> None:
        """The matrix that reads what was cut: `columns` survive, what the others made of their `constants` joins the bias."""
        rows = self.left.rows[type_]
        gone = torch.ones(weight.shape[1], dtype=torch.bool)
        gone[columns] = False
        total = (bias.double() + weight[:, gone].double() @ constants[gone]).to(weight.dtype)
        path = self.layer.projections[type_].path
        if in_index is not None and self.layer.rotary and len(columns) == weight.shape[1]:
            in_index = None
        indices = {"base": total, "out_index": rows} if len(rows) < len(total) else {}
        matrix = weight[rows][:, columns]
        if type_ == "ffn_out":
            matrix = F.pad(matrix, (0, aligned(len(columns)) - len(columns)))
        elif not (self.layer.rotary or self.left.whole):  # the padding of heads meets zero columns
            where = _positions([len(head.values) for head in self.left.heads], self.left.width)
            matrix = matrix.new_zeros(len(rows), len(self.left.heads) * self.left.width).index_copy(1, where, matrix)
        self.put(path, matrix, total[rows], weight, in_index=in_index, **indices)


def _pad_rows(tensor: Tensor, rows: int) -> Tensor:
    """`tensor` (n, …) with zero rows at its end."""
    return torch.cat([tensor, tensor.new_zeros(rows, *tensor.shape[1:])])


def _positions(counts: list[int], width: int) -> Tensor:
    """Where the coordinates of heads with `counts` coordinates are when each head has room for `width`.

    >>> _positions([2, 1], 4)
    tensor([0, 1, 4])
    """
    return torch.cat([torch.empty(0, dtype=torch.long), *(i * width + torch.arange(c) for i, c in enumerate(counts))])
