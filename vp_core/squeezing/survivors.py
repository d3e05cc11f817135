"""What is left of a layer when rows are removed and their outputs are constants: the table of docs/method.md#squeezing.

Pure index arithmetic on keep masks; `squeeze` cuts matrices by it and `cost` counts by it, so the two agree.

| removed row of | what follows exactly |
|---|---|
| value | the weights of a query sum to 1: its context coordinate is the constant, the column of `attention_output` goes |
| key | adds the same to every score of a query, softmax does not see it: the query's row goes too |
| query | its share of the scores is c·k_i: all of a head's become one key coordinate, whose query is 1 |
| ffn_in | the column of `ffn_out` goes, its constant passes the activation and joins the bias |
| attention_output, ffn_out | constants of the residual stream; where all are, what feeds them goes (paper section 6.1) |

Rotary positions turn constants of query and key too. There a pair of coordinates goes, in a head of the key and all heads of
the query that share it, where these queries put out nothing in both; rows that go by themselves keep their places, as
constants.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vp_core.model.attending.grouped import Groups
from vp_core.model.projections import Layer, Projection

ALIGNMENT = 8
"""Heads are padded to a multiple of this many coordinates: attention kernels want it, on processors and accelerators."""

GROUP_COST = 12
"""What one more group of heads costs, a call of attention, in coordinates of padding. The two cost as much in a batch of about
200 tokens (measured on a processor with AVX-512): in larger ones padding costs more, in single texts the call."""


@dataclass(frozen=True)
class Head:
    """Rows that a head keeps, as indices (rows,): `scores` of query and key (both survive), `values`; `merged` are the key rows
    whose query row is constant, which become one coordinate."""

    scores: Tensor
    merged: Tensor
    values: Tensor

    @property
    def score_width(self) -> int:
        """Coordinates of query and key."""
        return len(self.scores) + bool(len(self.merged))

    @property
    def width(self) -> int:
        """Coordinates that the head needs, before padding."""
        return max(self.score_width, len(self.values))


@dataclass(frozen=True)
class TurningHead:
    """What is left of a live head of the key under rotary positions, and of the heads of the query that share it.

    `number` is its own among the heads of the key; `pairs` are places in the table of frequencies, `still` coordinates of the
    head that do not turn, `values` rows of value that it keeps.
    """

    number: int
    pairs: Tensor
    still: Tensor
    values: Tensor

    @property
    def score_width(self) -> int:
        """Coordinates of query and key."""
        return 2 * len(self.pairs) + len(self.still)

    @property
    def width(self) -> int:
        """Coordinates that the head needs, before padding."""
        return max(self.score_width, len(self.values))


@dataclass(frozen=True)
class Survivors:
    """What is left of a layer: its live heads in `groups` of one padded width each, and rows (rows,) by type for the rest.

    `groups` are (how many heads, their width) in the order of `heads`; `width` is that of the widest. `whole` says that query,
    key and value keep everything. Where heads keep their width (DeBERTa's keys meet positions) `heads` is empty and `query`,
    `key` and `value` are rows by themselves. So they are under rotary positions, where the heads are `turning` ones, and only
    rows of these are left.
    """

    heads: tuple[Head, ...]
    width: int
    whole: bool
    rows: Mapping[str, Tensor]
    turning: tuple[TurningHead, ...] = ()
    groups: Groups = ()

    @property
    def widths(self) -> list[int]:
        """The padded width of each head."""
        return [width for count, width in self.groups for _ in range(count)]


def survivors(layer: Layer, keep: Mapping[str, Tensor], query_bias: Tensor | None = None) -> Survivors:
    """What `keep` (projection name → mask (d_out,) bool, absent: everything) leaves of a layer.

    `query_bias` (d_out,) are the constants of removed query rows: a constant of 0 adds nothing to the scores and needs no
    merged coordinate. None means that no constant is 0.
    """
    masks = {type_: _mask(p, keep) for type_, p in layer.projections.items()}
    if "ffn_in" in masks and not masks["ffn_out"].any():
        masks["ffn_in"] = torch.zeros_like(masks["ffn_in"])
    dead = not masks["attention_output"].any()
    if dead:
        for type_ in ("query", "key", "value"):
            masks[type_] = torch.zeros_like(masks[type_])
    rows = {type_: mask.nonzero().squeeze(1) for type_, mask in masks.items()}
    full = layer.projections["query"].head_width
    assert full
    whole = all(bool(masks[type_].all()) for type_ in ("query", "key", "value"))
    if layer.rotary:
        return _turning(layer, masks, rows, whole, query_bias)
    if layer.full_heads:
        return Survivors((), full, whole, _of_live_groups(layer, masks, rows, full))
    constant = torch.ones_like(masks["query"]) if query_bias is None else query_bias != 0
    both = masks["query"] & masks["key"]
    merged = ~masks["query"] & masks["key"] & constant
    heads = []
    for start in range(0, len(both), full):
        part = slice(start, start + full)
        live = bool(masks["value"][part].any())
        if live or layer.fixed_heads:  # one that is dead and cannot leave keeps its place, without coordinates
            heads.append(Head(*(start + (mask[part] & live).nonzero().squeeze(1) for mask in (both, merged, masks["value"]))))
    if layer.one_width:
        width = _padded(heads, full)
        return Survivors(tuple(heads), width, whole, rows, groups=((max(len(heads), 1), width),))
    by_width = sorted(heads, key=lambda head: head.width)
    groups = grouped([_padded([head], full) for head in by_width]) or ((1, _padded([], full)),)
    heads = by_width if len(groups) > 1 else heads
    return Survivors(tuple(heads), groups[-1][1], whole, rows, groups=groups)


def _mask(projection: Projection, keep: Mapping[str, Tensor]) -> Tensor:
    found = keep.get(projection.name)
    return torch.ones(projection.d_out, dtype=torch.bool) if found is None else found


def _turning(
    layer: Layer, masks: Mapping[str, Tensor], rows: Mapping[str, Tensor], whole: bool, query_bias: Tensor | None
) -> Survivors:
    """`survivors` under rotary positions; where query and key have norms of their own no coordinate leaves by itself."""
    full, turning = layer.projections["key"].head_width or 1, layer.turned
    query, key, value = masks["query"].view(-1, layer.queries_per_key, full), masks["key"].view(-1, full), masks["value"]
    value = value.view(-1, full)
    live = value.any(dim=1)
    nothing = torch.zeros_like(masks["query"]) if query_bias is None else query_bias == 0
    gone = (~query & nothing.view(query.shape)).all(dim=1)  # (heads, full): no query meets it
    if layer.full_heads:
        gone = torch.zeros_like(gone)
    else:
        gone[:, turning:] |= ~key[:, turning:]  # a constant key that does not turn: softmax does not see it
    pairs = gone[:, :turning].view(len(gone), 2, -1).all(dim=1)
    left = ~torch.cat([pairs, pairs, gone[:, turning:]], dim=1) & live[:, None]
    heads = tuple(
        TurningHead(
            number,
            left[number, : turning // 2].nonzero().squeeze(1),
            turning + left[number, turning:].nonzero().squeeze(1),
            number * full + value[number].nonzero().squeeze(1),
        )
        for number in range(len(live))
        if live[number] or layer.fixed_heads  # one that is dead and cannot leave keeps its place, without coordinates
    )
    kept = {"query": query & left[:, None], "key": key & left}
    width = full if layer.full_heads else _padded(heads, full)
    found = {t: mask.flatten().nonzero().squeeze(1) for t, mask in kept.items()}
    return Survivors((), width, whole, {**rows, **found}, heads)


def _padded(heads: Sequence[Head] | Sequence[TurningHead], full: int) -> int:
    """The common width of the heads: at least 1, a multiple of ALIGNMENT unless that is wider than a head was."""
    widest = max([head.width for head in heads], default=1) or 1
    return min(-(-widest // ALIGNMENT) * ALIGNMENT, max(full, widest))


def grouped(widths: Sequence[int]) -> Groups:
    """Heads of these widths (heads,), in ascending order, in as many groups as pay: each as wide as its last head.

    >>> grouped([8, 8, 8, 32, 32]), grouped([8, 16])
    (((3, 8), (2, 32)), ((2, 16),))
    """
    best: list[tuple[int, int, Groups]] = [(0, 0, ())]  # (cost, groups: of two that cost as much the fewer, these)
    for end, width in enumerate(widths, 1):
        best.append(
            min(
                (cost + (end - start) * width + GROUP_COST, number + 1, (*groups, (end - start, width)))
                for start, (cost, number, groups) in enumerate(best)
            )
        )
    return best[-1][2]


def _of_live_groups(layer: Layer, masks: Mapping[str, Tensor], rows: dict[str, Tensor], full: int) -> dict[str, Tensor]:
    """Query and key rows of heads whose values are all constant go, under rotary positions too."""
    live = masks["value"].view(-1, full).any(dim=1).repeat_interleave(full)
    live_queries = live.view(-1, 1, full).expand(-1, layer.queries_per_key, -1).flatten()
    return rows | {
        "query": (masks["query"] & live_queries).nonzero().squeeze(1),
        "key": (masks["key"] & live).nonzero().squeeze(1),
    }
