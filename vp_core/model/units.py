"""What is removed: single rows as in the paper, or units, rows that go together with the columns that read them.

| unit | its rows | the columns that read it |
|---|---|---|
| `rows` | one row of any of the six matrices | none that goes for certain |
| `ffn neurons` | a row of `ffn_in` | its column of `ffn_out` |
| `values` | a row of `value` | its column of `attention_output` |
| `pairs` | the same row of `query` and `key` | none: they meet in a product |
| `pairs` under rotary positions | both rows of a frequency, in a head of `key` and all of `query` that share it | none |
| `heads` | all rows of a head of query, key and value | its columns of `attention_output` |
| `attention` | all rows of an attention block | – |
| `feed-forward` | all rows of a feed-forward network | – |
| `sublayers` | both of these, each a unit | – |
| `layers` | all rows of a layer | – |

Every kind is a set of rows in the end, so one `Plan` and one `squeeze` serve all of them.

Where only the first coordinates of a head turn (Phi, GPT-NeoX), the others are taken in twos as well, as if by an angle of 0.
What turns is no constant any more, so the rows of a pair put out nothing when they go, whatever takes the place of others.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vp_core.ground.chosen import check_units
from vp_core.ground.errors import VPError
from vp_core.model.family.stack import NORM_NOTE
from vp_core.model.projections import Layer, Projection

_ATTENTION = ("query", "key", "value", "attention_output")
_FFN = ("ffn_in", "ffn_out")


@dataclass(frozen=True, eq=False)
class UnitGroup:
    """The units of one kind in one layer, in the order of their indices.

    `rows` are (projection, (units, rows of a unit)); `columns` (units, columns of a unit) are what goes of `consumer`.
    """

    name: str
    layer: int
    kind: str
    rows: tuple[tuple[Projection, Tensor], ...]
    consumer: Projection | None = None
    columns: Tensor | None = None

    def __len__(self) -> int:
        return len(self.rows[0][1])

    @property
    def projection(self) -> Projection:
        """The projection whose output (or whose place in the layer) stands for the group: the first one with rows."""
        return self.rows[0][0]

    @property
    def weights_of_a_unit(self) -> int:
        """Weights that go with one unit, columns of the consumer included."""
        own = sum(rows.shape[1] * p.weights_of_a_row for p, rows in self.rows)
        return own + (self.columns.shape[1] * self.consumer.d_out if self.consumer and self.columns is not None else 0)


def unit_groups(layers: Sequence[Layer], kinds: Sequence[str], types: Sequence[str] = ()) -> tuple[UnitGroup, ...]:
    """All units of these kinds, layer by layer; `types` says which projections' `rows` count (default: all).

    Raises VPError for pairs under rotary positions where a head has an odd number of coordinates that turn, or that do not.
    """
    groups: list[UnitGroup] = []
    for layer in layers:
        for kind in check_units(kinds):
            groups += _MAKERS[kind](layer) if kind != "rows" else _rows(layer, types)
    return tuple(groups)


def units_that_go(layers: Sequence[Layer], kinds: Sequence[str]) -> tuple[str, ...]:
    """Those of the kinds that can go from these layers: of several, pairs stay where they cannot leave their heads.

    That is where `unit_groups` refuses them, and where a norm reads all coordinates of a head, so that nothing is saved. Asked
    for by themselves they are among them: it is for `unit_groups` to say why they cannot go.
    """
    chosen = check_units(kinds)
    if "pairs" not in chosen or len(chosen) == 1:
        return chosen
    try:
        unit_groups(layers, ("pairs",))
        stay = any(layer.full_heads == NORM_NOTE for layer in layers)
    except VPError:
        stay = True
    return tuple(kind for kind in chosen if kind != "pairs" or not stay)


def row_group(projection: Projection) -> UnitGroup:
    """The rows of one projection, each a unit by itself."""
    return UnitGroup(
        projection.name, projection.layer, projection.type, ((projection, torch.arange(projection.d_out)[:, None]),)
    )


def _rows(layer: Layer, types: Sequence[str]) -> list[UnitGroup]:
    return [row_group(p) for p in layer.projections.values() if not types or p.type in types]


def _ffn_neurons(layer: Layer) -> list[UnitGroup]:
    if "ffn_in" not in layer.projections:
        return []
    first, second = (layer.projections[t] for t in _FFN)
    index = torch.arange(first.d_out)[:, None]
    return [UnitGroup(f"{first.layer}.ffn neurons", first.layer, "ffn neurons", ((first, index),), second, index)]


def context_columns(layer: Layer) -> Tensor:
    """(value rows, columns of attention_output that read each): several under grouped queries."""
    value = layer.projections["value"]
    assert value.head_width
    rows = torch.arange(value.d_out)
    head, within = rows // value.head_width, rows % value.head_width
    copies = torch.arange(layer.queries_per_key)
    return (head[:, None] * layer.queries_per_key + copies) * value.head_width + within[:, None]


def _values(layer: Layer) -> list[UnitGroup]:
    value, consumer = layer.projections["value"], layer.projections["attention_output"]
    rows = torch.arange(value.d_out)[:, None]
    return [UnitGroup(f"{value.layer}.values", value.layer, "values", ((value, rows),), consumer, context_columns(layer))]


def _pairs(layer: Layer) -> list[UnitGroup]:
    if layer.rotary:
        return _turning_pairs(layer)
    query, key = layer.projections["query"], layer.projections["key"]
    rows = torch.arange(query.d_out)[:, None]
    return [UnitGroup(f"{query.layer}.pairs", query.layer, "pairs", ((query, rows), (key, rows)))]


def _turning_pairs(layer: Layer) -> list[UnitGroup]:
    """By head of the key its frequencies, then what does not turn, in twos."""
    query, key = layer.projections["query"], layer.projections["key"]
    width, shared = key.head_width or 0, layer.queries_per_key
    if layer.turned % 2 or width % 2:
        raise VPError(
            f"Query/key pairs cannot go where {layer.turned} of {width} coordinates turn: choose other units, such as ffn "
            "neurons and values."
        )
    halves = [torch.arange(start, stop).view(2, -1).T for start, stop in ((0, layer.turned), (layer.turned, width))]
    within = torch.cat(halves)  # (pairs of a head, 2)
    heads = torch.arange(key.d_out // width)[:, None, None]
    keys = heads * width + within
    copies = torch.arange(shared)[:, None]
    queries = (heads[..., None] * shared + copies) * width + within[:, None]  # (heads, pairs, shared, 2)
    rows = ((query, queries.flatten(2).flatten(0, 1)), (key, keys.flatten(0, 1)))
    return [UnitGroup(f"{query.layer}.pairs", query.layer, "pairs", rows)]


def _heads(layer: Layer) -> list[UnitGroup]:
    query, key, value, consumer = (layer.projections[t] for t in _ATTENTION)
    assert value.head_width
    own = torch.arange(value.d_out).view(-1, value.head_width)
    queries = torch.arange(query.d_out).view(len(own), -1)
    rows = ((query, queries), (key, own), (value, own))
    columns = context_columns(layer).view(len(own), -1)
    return [UnitGroup(f"{value.layer}.heads", value.layer, "heads", rows, consumer, columns)]


def _whole(layer: Layer, name: str, kind: str, types: Sequence[str]) -> list[UnitGroup]:
    """One unit: all rows of these types."""
    there = [layer.projections[t] for t in types if t in layer.projections]
    rows = tuple((p, torch.arange(p.d_out)[None]) for p in there)
    return [UnitGroup(f"{there[0].layer}.{name}", there[0].layer, kind, rows)] if rows else []


def _attention(layer: Layer) -> list[UnitGroup]:
    return _whole(layer, "attention", "attention", _ATTENTION)


def _feed_forward(layer: Layer) -> list[UnitGroup]:
    return _whole(layer, "feed-forward", "feed-forward", _FFN)


def _sublayers(layer: Layer) -> list[UnitGroup]:
    return [replace(group, kind="sublayers") for group in _attention(layer) + _feed_forward(layer)]


def _layers(layer: Layer) -> list[UnitGroup]:
    return _whole(layer, "layer", "layers", (*_ATTENTION, *_FFN))


_MAKERS = {
    "ffn neurons": _ffn_neurons,
    "values": _values,
    "pairs": _pairs,
    "heads": _heads,
    "attention": _attention,
    "feed-forward": _feed_forward,
    "sublayers": _sublayers,
    "layers": _layers,
}
