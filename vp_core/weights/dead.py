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

import numpy as np
import torch
from torch import Tensor

from vp_core.model.projections import Layer, Projection
from vp_core.model.units import context_columns
from vp_core.ranking.plan import Plan
from vp_core.weights.masks import Masks

_FROM_STREAM = ("query", "key", "value", "ffn_in")
"""Types whose inputs come from the residual stream, and may be picked from it."""
OTHERS_NOTE = (
    "Query, key and value are one matrix in this model, so an input column leaves it only where all three have lost it; those "
    "that one or two have lost are still multiplied."
)


def dead_rows(layers: Sequence[Layer], masks: Mapping[str, Tensor] | Masks) -> Plan:
    """The rows that these masks leave without any effect but a constant, and the input columns that no other row reads.

    Matrices that the masks do not name are taken as whole. What the plan removes need not be zero yet:
    `vp_core.weights.prune.silenced` sees to it.
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


def kept_weights(p: Projection, masks: Masks, rows: Tensor, columns: Tensor | None = None) -> int:
    """Weights of a projection, and of its gate, that the masks keep in these rows and columns (indices each, None: all)."""
    read = torch.ones(p.d_in, dtype=torch.bool) if columns is None else _places(columns, p.d_in)
    total = 0
    for name in _names(p):
        if name in masks.bits:
            bits = _bits(name, masks)[rows.numpy()] & np.packbits(read.numpy())
            total += int(np.bitwise_count(bits).sum(dtype=np.int64))
        else:
            total += len(rows) * int(read.sum())
    return total


def reads(p: Projection, masks: Masks, rows: Tensor) -> Tensor:
    """The inputs (d_in,) bool that these rows (indices) read."""
    return _columns(p, masks, _places(rows, p.d_out))


def _places(indices: Tensor, size: int) -> Tensor:
    return torch.zeros(size, dtype=torch.bool).index_fill(0, indices, True)


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
