"""`squeeze(pruned_model, plan) -> model`: what is pruned is gone. The smaller dense model has the same outputs.

`prune` leaves a model of the old shape whose removed rows put out constants. Here rows and columns leave both matrices they
touch (`squeezing.survivors` says which, and why that is exact), constants move into biases, and heads of unequal width are
padded with zeros to a common one, so that each layer runs transformers' own attention code (SDPA, masks, caches) on
narrower heads. Exact in evaluation; in training dropout on the attention weights does not touch the constants.
"""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from vp_core.ground.errors import VPError
from vp_core.model.families import family_of
from vp_core.model.projections import Layer, Projection, find_layers, gate_weight_of, linear_map, weight_of
from vp_core.model.scatter import Shape, aligned, empty, filled
from vp_core.model.sharing import Model, share
from vp_core.ranking.plan import Plan
from vp_core.replacing.prune import check_plan
from vp_core.squeezing.cost import Cost, cost
from vp_core.squeezing.survivors import Head, Survivors, survivors

_HEADED = ("query", "key", "value")
_NO_ROWS = torch.empty(0, dtype=torch.long)


@dataclass
class Squeezed:
    """How a squeezed model differs from a dense one: what it costs, shapes by module path, attributes by module path, and
    `notes`, what could not be squeezed. JSON-able; found on the model as `model.squeezed`."""

    cost: Cost
    modules: dict[str, Shape] = field(default_factory=dict)
    attributes: dict[str, dict[str, int]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """What `pruned.json` keeps of it: plain numbers, texts, lists and dicts."""
        return {
            "cost": asdict(self.cost),
            "modules": {path: asdict(shape) for path, shape in self.modules.items()},
            "attributes": self.attributes,
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Squeezed":
        """Read back what `as_json` gave."""
        modules = {path: Shape(**shape) for path, shape in value["modules"].items()}
        if not {type(number) for number in value["cost"].values()} <= {int}:
            raise ValueError("its cost is not in numbers")
        return cls(Cost(**value["cost"]), modules, dict(value["attributes"]), tuple(value["notes"]))


def squeeze(pruned: Model, plan: Plan) -> Model:
    """A new, smaller model with the outputs of `pruned`, the result of `vp_core.replacing.prune.prune` with this plan.

    `pruned` is not changed; what is not cut is shared with it. The new model's `squeezed.notes` say what could not be
    squeezed. Raises VPError if the plan belongs to another model, if the model was not pruned by it, for a family that is
    not supported, and for a model that is squeezed already.
    """
    assert isinstance(pruned, PreTrainedModel)
    layers = find_layers(pruned)
    check_plan(plan, [p for layer in layers for p in layer.projections.values()])
    model = share(pruned)
    if model.config._attn_implementation != "sdpa" and model._supports_sdpa:
        model.set_attn_implementation("sdpa")
    biases = [_bias(model, layer.projections["query"]) for layer in layers]
    result = Squeezed(cost(layers, plan, biases))
    bare = _bare(model)
    for layer, bias in zip(layers, biases, strict=True):
        for projection in layer.projections.values():
            _check_removed(model, projection, plan)
        cut = _Cut(model, layer, survivors(layer, plan.keep, bias), result)
        cut.attention()
        cut.ffn()
        cut.new_biases(bare)
    model.squeezed = result
    return model


def install(model: nn.Module, squeezed: Squeezed) -> None:
    """Give a dense model the shapes of a squeezed one; the weights of these modules are still to be assigned.

    Raises ValueError or AttributeError for shapes of modules, or sizes, that the model does not have.
    """
    for path, shape in squeezed.modules.items():
        model.get_submodule(path)
        model.set_submodule(path, empty(shape))
    for path, attributes in squeezed.attributes.items():
        module = model.get_submodule(path)
        for name, value in attributes.items():
            if {type(value), type(getattr(module, name, None))} != {int} or value < 0:
                raise ValueError(f"{path}.{name} = {str(value)[:20]} is no size of this model")
            setattr(module, name, value)
    model.squeezed = squeezed  # type: ignore[assignment]


def _bare(model: PreTrainedModel) -> set[str]:
    """The paths of linear maps that have no bias by the model's configuration."""
    family = family_of(model.config.model_type)
    if not family.bare and not family.bias_flags:
        return set()
    with torch.device("meta"):
        plain = type(model)(model.config)
    return {path for path, module in plain.named_modules() if isinstance(module, nn.Linear) and module.bias is None}


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


def _gate_bias(model: nn.Module, projection: Projection) -> Tensor:
    """(d_out,) the gate's own bias, zeros where it has none."""
    return _bias(model, replace(projection, path=projection.gate or "", start=projection.gate_start))


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

    def note(self, reason: str | None) -> None:
        """What could not be squeezed, once a model."""
        if reason and reason not in self.result.notes:
            self.result.notes += (reason,)

    def keeps_all(self, type_: str) -> bool:
        return len(self.left.rows[type_]) == self.layer.projections[type_].d_out

    def attention(self) -> None:
        left, constants = self.left, self.bias("value").double()
        if left.whole and self.keeps_all("attention_output"):
            return
        if self.layer.full_heads:
            if not left.whole:
                self._full_parts()
            columns, constants = self._full_columns(constants)
            self._reader("attention_output", columns, constants, in_index=columns if len(columns) < len(constants) else None)
            return
        if not left.whole:
            self._heads()
        columns = torch.cat([_NO_ROWS, *(head.values for head in left.heads)])
        places = _positions([len(head.values) for head in left.heads], left.width)
        self._reader("attention_output", columns, constants, places, len(left.heads) * left.width)

    def _heads(self) -> None:
        """Narrower query, key and value: rows of live heads, put into heads of one width, the rest of them zero."""
        heads, width, layer = self.left.heads, self.left.width, self.layer
        if not all(len(head.values) for head in heads):
            self.note(layer.fixed_heads)
        # (neurons, inputs + 1): a row and its bias go the same way
        query, key, value = (torch.cat([self.weight(t), self.bias(t)[:, None]], dim=1).detach() for t in _HEADED)
        zeros, ones = (torch.zeros(max(len(heads), 1), width, dtype=query.dtype) for _ in range(2))
        for number, head in enumerate(heads):
            ones[number, len(head.scores) : head.score_width] = 1  # the query of a merged coordinate
        constants = query[:, -1]
        if layer.scales_by_width:  # scores are divided by the root of the narrower width, which queries make up for
            query, ones = (part * (width / (layer.projections["query"].head_width or width)) ** 0.5 for part in (query, ones))
        parts = {
            "query": ([query[head.scores] for head in heads], ones),
            "key": ([_with_merged(key, head, constants) for head in heads], zeros),
            "value": ([value[head.values] for head in heads], zeros),
        }
        attributes = {layer.head_size: width}
        if layer.split_size:  # one module for all three
            parts = {"query": ([rows for part, _ in parts.values() for rows in part], torch.cat([ones, zeros, zeros]))}
            attributes[layer.split_size] = zeros.numel()
        if layer.total_size:
            attributes[layer.total_size] = zeros.numel()
        for type_, (rows, base) in parts.items():
            both, places = torch.cat([query[:0], *rows]), _positions([len(r) for r in rows], width)
            like = self.weight(type_)
            self.put(layer.projections[type_].path, both[:, :-1], both[:, -1], like, base=base.flatten(), out_index=places)
        for name, number in attributes.items():
            setattr(self.model.get_submodule(layer.attention), name, number)
        self.result.attributes[layer.attention] = attributes

    def _full_columns(self, constants: Tensor) -> tuple[Tensor, Tensor]:
        """Columns of `attention_output` that vary, those of kept value rows, and all its constants: once for every head of
        the query that shares them."""
        values = torch.stack([torch.zeros_like(constants).index_fill(0, self.left.rows["value"], 1), constants])
        kept, constants = values.view(2, -1, self.left.width).repeat_interleave(self.layer.queries_per_key, dim=1).flatten(1)
        return kept.nonzero().squeeze(1), constants

    def _full_parts(self) -> None:
        """Query, key and value at full width, constants in place of removed rows; values' constants join the reader's bias."""
        if not (self.keeps_all("query") and self.keeps_all("key")):
            self.note(self.layer.full_heads)
        by_path: dict[str, list[str]] = {}
        for type_ in _HEADED:
            by_path.setdefault(self.layer.projections[type_].path, []).append(type_)
        for path, types in by_path.items():  # several in one module (ModernBERT), or each in its own
            parts = [(self.left.rows[t], self.weight(t), self.bias(t)) for t in types]
            bases = [torch.zeros_like(b) if t == "value" else b.clone() for t, (_, _, b) in zip(types, parts, strict=True)]
            places = [self.layer.projections[t].start + rows for t, (rows, _, _) in zip(types, parts, strict=True)]
            weight, bias = torch.cat([w[rows] for rows, w, _ in parts]), torch.cat([b[rows] for rows, _, b in parts])
            self.put(path, weight, bias, parts[0][1], base=torch.cat(bases), out_index=torch.cat(places))

    def ffn(self) -> None:
        projection = self.layer.projections.get("ffn_in")
        if projection is None or (self.keeps_all("ffn_in") and self.keeps_all("ffn_out")):
            return
        rows, weight, bias = self.left.rows["ffn_in"], self.weight("ffn_in"), self.bias("ffn_in")
        constants = torch.zeros(projection.d_out, dtype=torch.double)  # under a gate `prune` has moved them to the reader
        if self.layer.activation:
            constants = self.model.get_submodule(self.layer.activation)(bias.double())
        room = aligned(len(rows))  # zero units fill up to a fast size: they meet zero columns, now and in training
        if not self.keeps_all("ffn_in"):
            # The activation needs something to act on, so an FFN that is gone keeps one coordinate that is never computed.
            base = None if len(rows) else torch.zeros(1, dtype=weight.dtype)
            parts = {projection.path: [(_pad_rows(weight[rows], room), _pad_rows(bias[rows], room))]}
            if projection.gate:
                gate, gate_bias = gate_weight_of(self.model, projection)[rows], _gate_bias(self.model, projection)[rows]
                parts.setdefault(projection.gate, []).insert(0, (_pad_rows(gate, room), _pad_rows(gate_bias, room)))
            for path, made in parts.items():
                own = None if base is None else base.repeat(len(made))
                self.put(path, torch.cat([w for w, _ in made]), torch.cat([b for _, b in made]), weight, base=own)
        self._reader("ffn_out", rows, constants, torch.arange(len(rows)), room)

    def new_biases(self, bare: Collection[str]) -> None:
        """Note maps that have a bias now and are `bare` by the configuration though nothing was cut: new weights bring one."""
        for path in dict.fromkeys(path for p in self.layer.projections.values() for path in (p.path, p.gate) if path):
            module = self.model.get_submodule(path)
            if path in bare and path not in self.result.modules and isinstance(module, nn.Linear) and module.bias is not None:
                self.put(path, module.weight, module.bias.detach(), module.weight)

    def _reader(
        self,
        type_: str,
        columns: Tensor,
        constants: Tensor,
        places: Tensor | None = None,
        room: int = 0,
        in_index: Tensor | None = None,
    ) -> None:
        """The matrix that reads what was cut: `columns` survive, what the others made of their `constants` joins the bias.

        The columns go to `places` among `room` columns, the rest of them zero, or read their input by `in_index`.
        """
        rows, weight, bias = self.left.rows[type_], self.weight(type_), self.bias(type_)
        gone = torch.ones(weight.shape[1], dtype=torch.bool).index_fill(0, columns, False)
        total = (bias.double() + weight[:, gone].double() @ constants[gone]).to(weight.dtype)
        matrix = weight[rows][:, columns]
        if places is not None:
            matrix = matrix.new_zeros(len(rows), room).index_copy(1, places, matrix)
        put_in_place = {"base": total, "out_index": rows} if len(rows) < len(total) else {}
        self.put(self.layer.projections[type_].path, matrix, total[rows], weight, in_index=in_index, **put_in_place)


def _with_merged(key: Tensor, head: Head, constants: Tensor) -> Tensor:
    """Rows of `key` that a head keeps, and Σ c_i·key_i over those whose query is a constant c_i, as one row more."""
    if not len(head.merged):
        return key[head.scores]
    merged = constants[head.merged].double() @ key[head.merged].double()
    return torch.cat([key[head.scores], merged.to(key.dtype)[None]])


def _pad_rows(tensor: Tensor, rows: int) -> Tensor:
    """`tensor` (n, …) with zero rows at its end: (rows, …)."""
    return torch.cat([tensor, tensor.new_zeros(rows - len(tensor), *tensor.shape[1:])])


def _positions(counts: list[int], width: int) -> Tensor:
    """Where the coordinates of heads with `counts` coordinates are when each head has room for `width`.

    >>> _positions([2, 1], 4)
    tensor([0, 1, 4])
    """
    return torch.cat([_NO_ROWS, *(i * width + torch.arange(c) for i, c in enumerate(counts))])
