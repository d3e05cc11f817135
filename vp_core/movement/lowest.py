"""Which units go so that a share of the weights does: those of the lowest scores, exact to one unit."""

from collections.abc import Sequence

import torch
from torch import Tensor

_SORTED = 1 << 18
"""Up to so many units all are sorted; of more, a sample says between which scores the cut must lie."""
_SAMPLE = 1 << 16
_SLACK = 6.0
"""Standard errors of the sample's share, on both sides of the cut."""


def lowest(scores: Sequence[Tensor], sizes: Sequence[Tensor], budget: int) -> list[Tensor]:
    """Which units go, (n,) bool for each group: in the order of their scores, as long as no more than `budget` weights go.

    `scores` are (n,) float32 and `sizes` (n,) int64 the weights of each unit, by group. Of equal scores the earlier group's
    goes first, then the earlier unit. The next unit would not fit, so that what is missing is less than its size.

    >>> [gone.tolist() for gone in lowest([torch.tensor([3.0, 1.0]), torch.tensor([2.0])], [torch.tensor([4, 4]),
    ...     torch.tensor([6])], 11)]
    [[False, True], [True]]
    """
    if budget <= 0:
        return [torch.zeros_like(one, dtype=torch.bool) for one in scores]
    units = sum(len(one) for one in scores)
    if units > _SORTED:
        found = _between(scores, sizes, budget, *_bracket(scores, sizes, budget, units))
        if found is not None:
            return found
    everything = _between(scores, sizes, budget, -torch.inf, torch.inf)
    assert everything is not None
    return everything


def _between(scores: Sequence[Tensor], sizes: Sequence[Tensor], budget: int, low: float, high: float) -> list[Tensor] | None:
    """`lowest`, if the cut lies between these scores: what is below goes and what is above stays unseen. None if not."""
    gone, inside = [], []
    freed = 0
    for one, size in zip(scores, sizes, strict=True):
        below = one < low
        freed += _weights(below, size)
        gone.append(below)
        inside.append(torch.logical_and(one >= low, one <= high).nonzero().squeeze(1))
    if freed > budget:
        return None
    values = torch.cat([one[where] for one, where in zip(scores, inside, strict=True)])
    weights = torch.cat([size[where] for size, where in zip(sizes, inside, strict=True)])
    going = _first(values, weights, budget - freed)
    if high < torch.inf and bool(going.all()):
        return None
    for below, where, part in zip(gone, inside, going.split([len(where) for where in inside]), strict=True):
        below[where[part]] = True
    return gone


def _first(values: Tensor, weights: Tensor, budget: int) -> Tensor:
    """(n,) bool: the lowest values, of equal ones the first, whose weights fit into the budget."""
    if len(weights) and bool((weights == weights[0]).all()):  # so many of them; to find the last is less than to sort all
        count = min(budget // int(weights[0]), len(values))
        if count in (0, len(values)):
            return torch.full_like(values, count > 0, dtype=torch.bool)
        last = values.kthvalue(count).values
        going = values < last
        going[(values == last).nonzero().squeeze(1)[: count - int(going.sum())]] = True
        return going
    order = values.argsort(stable=True)
    count = int(torch.searchsorted(weights[order].cumsum(0), budget, right=True))
    return torch.zeros_like(values, dtype=torch.bool).index_fill(0, order[:count], True)


def _weights(which: Tensor, size: Tensor) -> int:
    """The weights of these units; a `size` that is expanded from one number is not looked through."""
    if size.stride(0) == 0:
        return int(which.sum()) * int(size[0])
    return int(size[which].sum())


def _bracket(scores: Sequence[Tensor], sizes: Sequence[Tensor], budget: int, units: int) -> tuple[float, float]:
    """Scores between which the cut almost surely lies, from every k-th unit of each group."""
    step = max(1, units // _SAMPLE)
    values, weights = (torch.cat([one[::step] for one in of]) for of in (scores, sizes))
    values, order = values.sort()
    share = weights[order].cumsum(0).double()
    share /= share[-1].clone()
    wanted = budget / sum(int(size.sum()) if size.stride(0) else int(size[0]) * len(size) for size in sizes)
    slack = _SLACK * (max(wanted * (1 - wanted), 1 / len(values)) / len(values)) ** 0.5
    places = torch.searchsorted(share, share.new_tensor([wanted - slack, wanted + slack])).tolist()
    low = -torch.inf if places[0] <= 0 else float(values[places[0] - 1])
    high = torch.inf if places[1] >= len(values) else float(values[places[1]])
    return low, high
