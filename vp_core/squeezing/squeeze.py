"""`squeeze(pruned_model, plan) -> model`: what is pruned is gone. The smaller dense model has the same outputs.

`prune` leaves a model of the old shape whose removed rows put out constants. Here rows and columns leave both matrices they
touch (`squeezing.survivors` says which, and why that is exact), constants move into biases, and heads of unequal width are
padded with zeros to a common one, so that each layer runs transformers' own attention code (SDPA, masks, caches) on
narrower heads. Exact in evaluation; in training dropout on the attention weights does not touch the constants.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from vp_core.ground.errors import VPError
from vp_core.model.attention import set_lean
from vp_core.model.families import family_of
from vp_core.model.family.stack import ROTARY_NOTE, Part
from vp_core.model.projections import (
    Layer,
    Projection,
    as_rows,
    bias_of,
    find_layers,
    gate_weight_of,
    layer_paths,
    linear_map,
    weight_of,
)
from vp_core.model.scatter import Shape, aligned, empty, filled, gather_pays, turn_by_own
from vp_core.model.sharing import Model, share
from vp_core.model.units import context_columns
from vp_core.ranking.plan import Plan
from vp_core.replacing.prune import check_plan
from vp_core.squeezing.cost import Cost, cost, query_biases, sparse_cost
from vp_core.squeezing.survivors import Head, Survivors, TurningHead, survivors
from vp_core.weights.dead import dead_rows, wanted_by_others
from vp_core.weights.masks import Masks
from vp_core.weights.prune import silenced

_HEADED = ("query", "key", "value")
_NO_ROWS = torch.empty(0, dtype=torch.long)


@dataclass
class Squeezed:
    """How a squeezed model differs from a dense one: what it costs, shapes by module path, attributes by module path, and
    `notes`, what could not be squeezed; `turning`, by the path of attention whose heads kept frequencies of their own, how many
    heads of the key there are and how many pairs of coordinates each has; `sparse` says that single weights of what is left are
    zero. JSON-able; found on the model as `model.squeezed`."""

    cost: Cost
    modules: dict[str, Shape] = field(default_factory=dict)
    attributes: dict[str, dict[str, int]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    sparse: bool = False
    turning: dict[str, tuple[int, int]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """What `pruned.json` keeps of it: plain numbers, texts, lists and dicts."""
        return {
            "cost": asdict(self.cost),
            "modules": {path: asdict(shape) for path, shape in self.modules.items()},
            "attributes": self.attributes,
            "notes": list(self.notes),
            # what was written before single weights, or frequencies, could go stays as it was
            **({"sparse": True} if self.sparse else {}),
            **({"turning": {path: list(sizes) for path, sizes in self.turning.items()}} if self.turning else {}),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Squeezed":
        """Read back what `as_json` gave."""
        modules = {path: Shape(**shape) for path, shape in value["modules"].items()}
        if not {type(number) for number in value["cost"].values()} <= {int}:
            raise ValueError("its cost is not in numbers")
        turning = {path: (int(heads), int(pairs)) for path, (heads, pairs) in value.get("turning", {}).items()}
        sparse = value.get("sparse", False) is True
        return cls(Cost(**value["cost"]), modules, dict(value["attributes"]), tuple(value["notes"]), sparse, turning)


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
    set_lean(model)
    biases = query_biases(model, layers)
    result = Squeezed(cost(layers, plan, biases))
    bare = _bare(model)
    for layer, bias in zip(layers, biases, strict=True):
        for projection in layer.projections.values():
            _check_removed(model, projection, plan)
        cut = _Cut(model, layer, survivors(layer, plan.keep, bias), result, plan.columns)
        cut.attention()
        cut.ffn()
        cut.inputs()
        cut.new_biases(bare)
    model.squeezed = result
    return model


def squeeze_masked(masked: Model, masks: Masks) -> Model:
    """A new model with the outputs of `masked`, whose weights are zero where `masks` say: what is wholly zero has left it.

    Rows, heads and the columns that read them (`vp_core.weights.dead`), and input columns of query, key, value and ffn_in that
    no row reads any more, where leaving them out is faster. Single zeros stay in the matrices; `save_pruned` writes them small.
    Raises VPError as `squeeze` does.
    """
    assert isinstance(masked, PreTrainedModel)
    layers = find_layers(masked)
    plan = dead_rows(layers, masks)
    model = squeeze(silenced(masked, layers, plan), plan)
    note = wanted_by_others(layers, masks, plan)
    found: Squeezed = model.squeezed
    notes, left = (*found.notes, note) if note else found.notes, sparse_cost(layers, masks, plan, query_biases(masked, layers))
    model.squeezed = replace(found, cost=left, notes=notes, sparse=True)
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
    for path, sizes in squeezed.turning.items():
        _turn_by_own(model, path, torch.empty(sizes, dtype=torch.long, device="meta"))
    if isinstance(model, PreTrainedModel):
        set_lean(model)
    model.squeezed = squeezed  # type: ignore[assignment]


def _turn_by_own(model: nn.Module, attention: str, own_frequencies: Tensor) -> None:
    """Give the heads of the attention module at this path frequencies of their own; ValueError if there is none."""
    assert isinstance(model, PreTrainedModel)
    stack = next((stack for stack, path in layer_paths(model) if f"{path}.{stack.attention}" == attention), None)
    if stack is None:
        raise ValueError(f"{attention} is no attention of this model")
    query, key, _ = (stack.modules[type_].removeprefix(f"{stack.attention}.") for type_ in _HEADED)
    module = model.get_submodule(attention)
    shared = getattr(module, "num_key_value_groups", 1)
    maps: dict[str, tuple[tuple[int, int], ...]] = {query: ((shared, shared),), key: ((1, 1),)}
    if query == key:
        maps = {query: ((3, 2),) if stack.interleaved else ((shared, shared), (1, 1), (1, 0))}
    turn_by_own(module, maps, own_frequencies)


def _bare(model: PreTrainedModel) -> set[str]:
    """The paths of linear maps that have no bias by the model's configuration."""
    family = family_of(model.config.model_type)
    if not family.bare and not family.bias_flags:
        return set()
    with torch.device("meta"):
        plain = type(model)(model.config)
    return {path for path, module in plain.named_modules() if isinstance(module, nn.Linear) and module.bias is None}


def _check_removed(model: nn.Module, projection: Projection, plan: Plan) -> None:
    keep, read = plan.keep.get(projection.name), plan.columns.get(projection.name)
    weight = weight_of(model, projection)
    wrong = keep is not None and bool(weight[~keep].any())
    if read is not None and not wrong:
        parts = [weight, gate_weight_of(model, projection)] if projection.gate else [weight]
        wrong = any(bool(part[:, ~read].any()) for part in parts)
    if wrong:
        raise VPError("This model was not pruned by this plan: prune the model with it first, then squeeze the result.")


def _gate_bias(model: nn.Module, projection: Projection) -> Tensor:
    """(d_out,) the gate's own bias, zeros where it has none."""
    return bias_of(model, replace(projection, path=projection.gate or "", start=projection.gate_start))


class _Cut:
    """Cuts one layer of `model` to what is left of it and notes the new shapes in `result`."""

    def __init__(
        self, model: PreTrainedModel, layer: Layer, left: Survivors, result: Squeezed, columns: Mapping[str, Tensor]
    ) -> None:
        self.model, self.layer, self.left, self.result, self.columns = model, layer, left, result, columns

    def weight(self, type_: str) -> Tensor:
        return weight_of(self.model, self.layer.projections[type_])

    def bias(self, type_: str) -> Tensor:
        return bias_of(self.model, self.layer.projections[type_])

    def put(self, path: str, weight: Tensor, bias: Tensor, like: Tensor, **indices: Tensor | None) -> None:
        weight, bias = weight.detach().requires_grad_(like.requires_grad), bias.to(like.dtype)
        module, shape = filled(weight, bias, **indices)
        self.model.set_submodule(path, module)
        self.result.modules[path] = shape

    def put_reading(
        self, types: Collection[str], path: str, weight: Tensor, bias: Tensor, like: Tensor, **indices: Tensor | None
    ) -> None:
        """`put` for a module that holds these types: it picks the inputs that they still read, where that is faster."""
        read = self.read_by(types)
        if read is not None and gather_pays(weight, len(read)):
            weight, indices = weight[:, read], indices | {"in_index": read}
        self.put(path, weight, bias, like, **indices)

    def read_by(self, types: Collection[str]) -> Tensor | None:
        """The input columns (n,) that any of these types reads; None if all of them are."""
        names = [self.layer.projections[type_].name for type_ in types]
        if not all(name in self.columns for name in names):
            return None
        return torch.stack([self.columns[name] for name in names]).any(dim=0).nonzero().squeeze(1)

    def inputs(self) -> None:
        """The modules that keep all their rows: they read fewer columns, where that is faster. Last: others look at them."""
        if self.left.whole:
            self._narrow(_HEADED)
        if "ffn_in" in self.layer.projections and self.keeps_all("ffn_in"):
            self._narrow(["ffn_in"])

    def _narrow(self, types: Collection[str]) -> None:
        for path, held in self.by_path(types).items():
            module = linear_map(self.model, path)
            weight = as_rows(module, module.weight).detach()
            read = self.read_by(held)
            if read is not None and gather_pays(weight, len(read)):
                bias = weight.new_zeros(len(weight)) if module.bias is None else module.bias.detach()
                self.put(path, weight[:, read], bias, module.weight, in_index=read)

    def by_path(self, types: Collection[str]) -> dict[str, list[str]]:
        """Which of these types each module holds, gates included: several in one module, or each in its own."""
        found: dict[str, list[str]] = {}
        for type_ in types:
            p = self.layer.projections[type_]
            for path in dict.fromkeys((p.path, p.gate or p.path)):
                found.setdefault(path, []).append(type_)
        return found

    def note(self, reason: str | None) -> None:
        """What could not be squeezed, once a model."""
        if reason and reason not in self.result.notes:
            self.result.notes += (reason,)

    def keeps_all(self, type_: str) -> bool:
        return len(self.left.rows[type_]) == self.layer.projections[type_].d_out

    def attention(self) -> None:
        left, constants = self.left, self.bias("value").cpu().double()
        if left.whole and self.keeps_all("attention_output"):
            return
        if self.layer.rotary:
            if not left.whole:
                self._turning_heads()
            self._reader("attention_output", *self._read_by_heads(constants))
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
        zeros, ones = (query.new_zeros(max(len(heads), 1), width) for _ in range(2))
        for number, head in enumerate(heads):
            ones[number, len(head.scores) : head.score_width] = 1  # the query of a merged coordinate
        constants = query[:, -1]
        if layer.scales_by_width:  # scores are divided by the root of the narrower width, which queries make up for
            query, ones = (part * (width / (layer.projections["query"].head_width or width)) ** 0.5 for part in (query, ones))
        parts: dict[tuple[str, ...], tuple[list[Tensor], Tensor]] = {
            ("query",): ([query[head.scores] for head in heads], ones),
            ("key",): ([_with_merged(key, head, constants) for head in heads], zeros),
            ("value",): ([value[head.values] for head in heads], zeros),
        }
        attributes = {layer.head_size: width}
        if layer.split_size:  # one module for all three
            parts = {_HEADED: ([rows for part, _ in parts.values() for rows in part], torch.cat([ones, zeros, zeros]))}
            attributes[layer.split_size] = zeros.numel()
        if layer.total_size:
            attributes[layer.total_size] = zeros.numel()
        if layer.head_count:
            attributes[layer.head_count] = len(zeros)
        for types, (rows, base) in parts.items():
            both, places = torch.cat([query[:0], *rows]), _positions([len(r) for r in rows], width)
            path, like = layer.projections[types[0]].path, self.weight(types[0])
            self.put_reading(types, path, both[:, :-1], both[:, -1], like, base=base.flatten(), out_index=places)
        for name, number in attributes.items():
            setattr(self.model.get_submodule(layer.attention), name, number)
        self.result.attributes[layer.attention] = attributes

    def _turning_heads(self) -> None:
        """Query, key and value of live heads under rotary positions, in heads of one width.

        Rows that went by themselves are constants at their places. Heads that are narrower than they were turn by frequencies
        of their own; in others all places are as they were, so that what transformers does with them is right.
        """
        layer, left, full = self.layer, self.left, self.layer.projections["key"].head_width or 1
        self._note_places()
        if not all(len(head.values) for head in left.turning):
            self.note(layer.fixed_heads)
        heads = left.turning
        scale = (left.width / full) ** 0.5 if layer.scales_by_width else 1.0  # what scores are divided by, on the query's side
        copies = {"query": layer.queries_per_key, "key": 1, "value": 1}
        made = {}
        for type_, many in copies.items():
            factor = scale if type_ == "query" else 1.0
            weight, bias = factor * self.weight(type_).detach(), factor * self.bias(type_)
            old, new = _moved(layer, heads, type_, left.width)
            stays = torch.isin(old, left.rows[type_])
            base = bias.new_zeros(max(len(heads), 1) * many * left.width)
            if type_ != "value":
                base[new[~stays]] = bias[old[~stays]]
            made[type_] = (weight[old[stays]], bias[old[stays]], base, new[stays])
        for path, types in self.by_path(_HEADED).items():
            weights, biases, bases, places = zip(*(made[type_] for type_ in types), strict=True)
            base, at = torch.cat(bases), []
            for number, (own, place) in enumerate(zip(bases, places, strict=True)):
                start, step = sum(len(one) for one in bases[:number]), 0
                if layer.projections[types[0]].step:  # heads of query, key and value take turns
                    start, step = number * left.width, len(types) * left.width
                part = Part(start, len(own), left.width if step else 0, step)
                part.give(base, own)
                at.append(part.at(place))
            where, order = torch.cat(at).sort()
            weight, bias, like = torch.cat(weights)[order], torch.cat(biases)[order], self.weight(types[0])
            self.put_reading(types, path, weight, bias, like, base=base, out_index=where)
        if left.width < full:
            self._own_frequencies()

    def _note_places(self) -> None:
        """Tell of rows of query and key that went, but whose partners did not."""
        layer, left = self.layer, self.left
        shared = {"query": layer.queries_per_key, "key": 1}
        alone = any(len(left.rows[t]) < many * sum(head.score_width for head in left.turning) for t, many in shared.items())
        if alone:
            self.note(layer.full_heads or ROTARY_NOTE)

    def _own_frequencies(self) -> None:
        path, heads = self.layer.attention, self.left.turning
        index = torch.full((max(len(heads), 1), self.left.width // 2), self.layer.turned // 2)
        for own, head in zip(index, heads, strict=False):
            own[: len(head.pairs)] = head.pairs
        self.result.attributes[path] = {self.layer.head_size: self.left.width}
        setattr(self.model.get_submodule(path), self.layer.head_size, self.left.width)
        _turn_by_own(self.model, path, index)
        self.result.turning[path] = (index.shape[0], index.shape[1])

    def _read_by_heads(self, constants: Tensor) -> tuple[Tensor, Tensor, Tensor | None, int, Tensor | None]:
        """What `_reader` is told of the heads under rotary positions: `constants` (value rows,) are those of removed values."""
        left, shared = self.left, self.layer.queries_per_key
        full = self.layer.projections["key"].head_width or 1
        columns = context_columns(self.layer)[left.rows["value"]].flatten().sort().values
        counts = [len(head.values) for head in left.turning for _ in range(shared)]
        places, room = _positions(counts, left.width), len(counts) * left.width
        constants = constants.view(-1, 1, full).expand(-1, shared, -1).flatten()
        picks = gather_pays(self.weight("attention_output")[self.left.rows["attention_output"], :room], len(columns))
        return (columns, constants, places, room, None) if not picks else (columns, constants, None, 0, places)

    def _full_columns(self, constants: Tensor) -> tuple[Tensor, Tensor]:
        """Columns of `attention_output` that vary, those of kept value rows, and all its constants."""
        return self.left.rows["value"], constants

    def _full_parts(self) -> None:
        """Query, key and value at full width, constants in place of removed rows; values' constants join the reader's bias."""
        if not (self.keeps_all("query") and self.keeps_all("key")):
            self.note(self.layer.full_heads)
        for path, types in self.by_path(_HEADED).items():
            parts = [(self.left.rows[t], self.weight(t), self.bias(t)) for t in types]
            bases = [torch.zeros_like(b) if t == "value" else b.clone() for t, (_, _, b) in zip(types, parts, strict=True)]
            base = torch.cat(bases)
            for type_, own in zip(types, bases, strict=True):
                self.layer.projections[type_].part.give(base, own)
            at = [self.layer.projections[t].part.at(rows) for t, (rows, _, _) in zip(types, parts, strict=True)]
            places, order = torch.cat(at).sort()
            weight, bias = torch.cat([w[rows] for rows, w, _ in parts]), torch.cat([b[rows] for rows, _, b in parts])
            self.put_reading(types, path, weight[order], bias[order], parts[0][1], base=base, out_index=places)

    def ffn(self) -> None:
        projection = self.layer.projections.get("ffn_in")
        if projection is None:
            return
        if self.keeps_all("ffn_in") and self.keeps_all("ffn_out"):
            return
        rows, weight, bias = self.left.rows["ffn_in"], self.weight("ffn_in"), self.bias("ffn_in")
        constants = torch.zeros(projection.d_out, dtype=torch.double)  # under a gate `prune` has moved them to the reader
        if self.layer.activation:
            constants = self.model.get_submodule(self.layer.activation)(bias.cpu().double())
        room = aligned(len(rows))  # zero units fill up to a fast size: they meet zero columns, now and in training
        if not self.keeps_all("ffn_in"):
            # The activation needs something to act on, so an FFN that is gone keeps one coordinate that is never computed.
            base = None if len(rows) else weight.new_zeros(1)
            parts = {projection.path: [(_pad_rows(weight[rows], room), _pad_rows(bias[rows], room))]}
            if projection.gate:
                gate, gate_bias = gate_weight_of(self.model, projection)[rows], _gate_bias(self.model, projection)[rows]
                parts.setdefault(projection.gate, []).insert(0, (_pad_rows(gate, room), _pad_rows(gate_bias, room)))
            for path, made in parts.items():
                own = None if base is None else base.repeat(len(made))
                both, biases = torch.cat([w for w, _ in made]), torch.cat([b for _, b in made])
                self.put_reading(["ffn_in"], path, both, biases, weight, base=own)
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
        total = (bias.cpu().double() + weight[:, gone].cpu().double() @ constants[gone]).to(weight)
        matrix = weight[rows][:, columns]
        if places is not None:
            matrix = matrix.new_zeros(len(rows), room).index_copy(1, places.to(matrix.device), matrix)
        put_in_place = {"base": total, "out_index": rows} if len(rows) < len(total) else {}
        self.put(self.layer.projections[type_].path, matrix, total[rows], weight, in_index=in_index, **put_in_place)


def _moved(layer: Layer, heads: Sequence[TurningHead], type_: str, width: int) -> tuple[Tensor, Tensor]:
    """(rows of live heads as they were, their places now), (rows,) each, under rotary positions.

    Places in narrower heads of `width` are those that a Turning attention wants: pairs first in both halves, then what does not
    turn. In others they are as before, but for the heads that left. Values come first in their heads.
    """
    full, copies = layer.projections[type_].head_width or 1, layer.queries_per_key if type_ == "query" else 1
    old, new = [_NO_ROWS], [_NO_ROWS]
    for position, head in enumerate(heads):
        if type_ == "value":
            within = head.values - head.number * full
            places = torch.arange(len(within))
        else:
            within = torch.cat([head.pairs, layer.turned // 2 + head.pairs, head.still])
            (first, rest), half = torch.arange(width // 2).tensor_split([len(head.pairs)]), width // 2
            narrow = torch.cat([first, half + first, torch.cat([rest, half + rest])[: len(head.still)]])
            places = within if width == full else narrow
        for copy in range(copies):
            old.append((head.number * copies + copy) * full + within)
            new.append((position * copies + copy) * width + places)
    return torch.cat(old), torch.cat(new)


def _with_merged(key: Tensor, head: Head, constants: Tensor) -> Tensor:
    """Rows of `key` that a head keeps, and Σ c_i·key_i over those whose query is a constant c_i, as one row more."""
    if not len(head.merged):
        return key[head.scores]
    merged = constants[head.merged].cpu().double() @ key[head.merged].cpu().double()
    return torch.cat([key[head.scores], merged.to(key)[None]])


def _pad_rows(tensor: Tensor, rows: int) -> Tensor:
    """`tensor` (n, …) with zero rows at its end: (rows, …)."""
    return torch.cat([tensor, tensor.new_zeros(rows - len(tensor), *tensor.shape[1:])])


def _positions(counts: list[int], width: int) -> Tensor:
    """Where the coordinates of heads with `counts` coordinates are when each head has room for `width`.

    >>> _positions([2, 1], 4)
    tensor([0, 1, 4])
    """
    return torch.cat([_NO_ROWS, *(i * width + torch.arange(c) for i, c in enumerate(counts))])
