"""What masks of single weights leave wholly zero: rows, heads and input columns that can leave the matrices for good.

| gone | what goes with it |
|---|---|
| all weights of a row | the row: its output is a constant, as that of any pruned row |
| the column of `attention_output` that reads a value, in all its copies under grouped queries | that row of `value` |
| the column of `ffn_out` that reads a hidden neuron | that row of `ffn_in`, of the gate as well |
| all values of a head | its rows of query and key |
| the column of query, key, value or `ffn_in` in all rows that are left | the column: that input is not read |

Under a gate a neuron is the product of two rows, so that it is constant for certain only where both are gone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from vp_core.model.projections import Layer, Projection, as_rows, bias_of, linear_map, weight_of
from vp_core.model.sharing import Model, share
from vp_core.model.units import context_columns
from vp_core.ranking.plan import Plan
from vp_core.replacing.prune import prune
from vp_core.weights.masks import Masks

_FROM_STREAM = ("query", "key", "value", "ffn_in")
"""Types whose inputs come from the residual stream, and may be picked from it."""
OTHERS_NOTE = (
    "Query, key and value are one matrix in this model, so an input column leaves it only where all three have lost it; those "
    "that one or two have lost are still multiplied."
)


def dead_rows(layers: Sequence[Layer], masks: Mapping[str, Tensor] | Masks) -> Plan:
    """The rows that these masks leave without any effect but a constant, and the input columns that no other row reads.

    Matrices that the masks do not name are taken as whole. What the plan removes need not be zero yet: `silenced` sees to it.
    """
    masks = masks if isinstance(masks, Masks) else Masks.of(masks)
    keep: dict[str, Tensor] = {}
    columns: dict[str, Tensor] = {}
    for layer in layers:
        live = _live_rows(layer, masks)
        read = _read_columns(layer, masks, live)
        for type_, p in layer.projections.items():
            keep[p.name] = live[type_]
            together = [t for t, other in layer.projections.items() if other.path == p.path]  # one matrix, one choice
            if all(t in read for t in together):
                columns[p.name] = torch.stack([read[t] for t in together]).any(dim=0)
    columns = {name: one for name, one in columns.items() if one.any() and not one.all()}
    return Plan(keep, masks.criterion, masks.scope, masks.sparsity, masks.model, columns=columns)


def weights_left(layers: Sequence[Layer], masks: Masks, plan: Plan) -> int:
    """Weights of the projections that the masks keep, in rows that the plan keeps and columns that are read from such rows."""
    total = 0
    for layer in layers:
        read = {"ffn_out": plan.keep[layer.projections["ffn_in"].name]} if "ffn_in" in layer.projections else {}
        values = plan.keep[layer.projections["value"].name]
        reader = layer.projections["attention_output"]
        read["attention_output"] = torch.zeros(reader.d_in, dtype=torch.bool)
        read["attention_output"][context_columns(layer)[values].flatten()] = True
        for type_, p in layer.projections.items():
            rows, columns = plan.keep[p.name], read.get(type_, torch.ones(p.d_in, dtype=torch.bool))
            for name in _names(p):
                if name in masks.bits:
                    bits = _bits(name, masks)[rows.numpy()] & np.packbits(columns.numpy())
                    total += int(np.bitwise_count(bits).sum(dtype=np.int64))
                else:
                    total += int(rows.sum()) * int(columns.sum())
    return total


def wanted_by_others(layers: Sequence[Layer], masks: Masks, plan: Plan) -> str | None:
    """A sentence if columns of one of query, key and value have to stay for another one in the same matrix."""
    for layer in layers:
        paths = [p.path for t, p in layer.projections.items() if t in _FROM_STREAM]
        if len(set(paths)) == len(paths):
            continue
        read = _read_columns(layer, masks, {t: plan.keep[p.name] for t, p in layer.projections.items()})
        for type_ in read.keys() - {"ffn_in"}:
            all_read = plan.columns.get(layer.projections[type_].name, torch.ones_like(read[type_]))
            if read[type_].any() and not torch.equal(all_read, read[type_]):
                return OTHERS_NOTE
    return None


def silenced(masked: Model, layers: Sequence[Layer], plan: Plan) -> Model:
    """A new model with the outputs of `masked` in which all rows that `plan` removes are zero, also those that nobody reads.

    Each keeps its bias, which is its constant; under a gate that of the product joins the bias of the matrix that reads it.
    """
    assert isinstance(masked, PreTrainedModel)
    constants: dict[str, Tensor] = {}
    for layer in layers:
        for p in layer.projections.values():
            if not plan.keep[p.name].all():
                constants[p.name] = _gated_constants(masked, p, plan) if p.gate else bias_of(masked, p)
    return prune(masked, replace(plan, columns={}), constants)


def _live_rows(layer: Layer, masks: Masks) -> dict[str, Tensor]:
    """By type, the rows (d_out,) that are neither empty nor without a reader."""
    live = {t: _any_row(p, masks) for t, p in layer.projections.items()}
    value, reader = layer.projections["value"], layer.projections["attention_output"]
    live["value"] &= _columns(reader, masks, live["attention_output"])[context_columns(layer)].any(dim=1)
    if "ffn_in" in live:
        live["ffn_in"] &= _columns(layer.projections["ffn_out"], masks, live["ffn_out"])
    assert value.head_width
    heads = live["value"].view(-1, value.head_width).any(dim=1)
    for type_ in ("query", "key"):
        live[type_] &= heads.repeat_interleave(layer.projections[type_].d_out // len(heads))
    return live


def _read_columns(layer: Layer, masks: Masks, live: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """By type, the inputs (d_in,) that its live rows read; types that the masks do not name are not there."""
    found = {}
    for type_ in _FROM_STREAM:
        p = layer.projections.get(type_)
        if p is not None and any(name in masks.bits for name in _names(p)):
            found[type_] = _columns(p, masks, live[type_])
    return found


def _names(p: Projection) -> tuple[str, ...]:
    """The matrices of a projection: its own and its gate's."""
    return (p.name, f"{p.name}.gate") if p.gate else (p.name,)


def _any_row(p: Projection, masks: Masks) -> Tensor:
    """Rows (d_out,) that keep a weight, in the gate or outside."""
    found = torch.zeros(p.d_out, dtype=torch.bool)
    for name in _names(p):
        found |= torch.from_numpy(_bits(name, masks).any(axis=1)) if name in masks.bits else torch.ones_like(found)
    return found


def _columns(p: Projection, masks: Masks, rows: Tensor) -> Tensor:
    """Columns (d_in,) in which one of these rows keeps a weight, in the gate or outside."""
    found = torch.zeros(p.d_in, dtype=torch.bool)
    for name in _names(p):
        if name not in masks.bits:
            return torch.ones_like(found) if rows.any() else found
        either = np.bitwise_or.reduce(_bits(name, masks)[rows.numpy()], axis=0)
        found |= torch.from_numpy(np.unpackbits(either, count=p.d_in).view(np.bool_))
    return found


def _bits(name: str, masks: Masks) -> np.ndarray:
    """The bits of a mask, each row from a byte of its own on: (rows, ⌈columns / 8⌉) uint8."""
    rows, columns = masks.shapes[name]
    if columns % 8 == 0:
        return masks.bits[name].numpy().reshape(rows, -1)
    return np.packbits(masks.keep(name).numpy(), axis=1)


def _gated_constants(model: PreTrainedModel, p: Projection, plan: Plan) -> Tensor:
    """(d_out,) what the neurons of a gated network put out where both of their rows are empty; 0 for those nobody reads."""
    bias, nothing = bias_of(model, p), torch.zeros(p.d_out, dtype=model.dtype)
    gone = ~plan.keep[p.name]
    empty = gone & ~weight_of(model, p).detach().any(dim=1)
    if not bool(bias[empty].any()):  # a factor of 0
        return nothing
    assert p.consumer
    reader = linear_map(model, p.consumer)
    read = as_rows(reader, reader.weight).detach().any(dim=0)
    network, name = share(model).get_submodule(p.path.rpartition(".")[0]), p.consumer.rpartition(".")[2]
    plain = nn.Linear(p.d_out, p.d_out, bias=False, dtype=model.dtype)  # shows what comes to it
    plain.weight = nn.Parameter(torch.eye(p.d_out, dtype=model.dtype))
    network.set_submodule(name, plain)
    with torch.no_grad():
        found = network.eval()(torch.zeros(1, 1, p.d_in, dtype=model.dtype)).flatten()
    return torch.where(empty & read, found, nothing)
