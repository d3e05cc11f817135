"""How much each layer gives: by what it really costs when units go there, measured on the model's own outputs.

For every group of units (one kind in one layer) the model is pruned in that group alone, at a few sparsities, and the change
of its outputs on held-out calibration sentences is measured, without labels: E‖z − z_dense‖² over the variance of z_dense, of
language models KL(dense ‖ pruned) at some positions of each window. The
lower convex hull of these losses against parameters has rising slopes; a unit's score is the slope at its place. Removing
the lowest slopes first spends any budget where the measured loss is least (the losses taken as additive), and the masks of
rising sparsities are nested. ZipLM (Kurtic et al. 2023) and SPDY (Frantar and Alistarh 2022) search over such measurements.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from vp_core.asking.kinds.answered import apart, chosen, divergence, spans_of
from vp_core.asking.kinds.heads import head_of, tells_words
from vp_core.ground.parallel import in_parallel
from vp_core.measuring.layerwise import MEASURED, Walk, check_once, layer_modules
from vp_core.model.units import UnitGroup
from vp_core.ranking.plan import Ranking

SHARES = (0.3, 0.5, 0.65, 0.8, 0.9, 0.95, 1.0)
"""Shares of a group's units whose removal is measured."""
SENTENCES = 64
"""Calibration sentences that losses are measured on."""
TOKENS, LEAST, PLACES = 1024, 4, 64
"""Of language models: about so many tokens, in so many windows at least, and so many positions of each."""
MARKED = 8192
"""Of models that mark spans or tag words: about so many tokens, in SENTENCES at most."""


@dataclass(frozen=True, eq=False)
class Losses:
    """The loss of a group: `removed` (points,) units, rising from 0, and `loss` (points,) at each, 0 at 0."""

    removed: np.ndarray
    loss: np.ndarray


def counts(units: int) -> list[int]:
    """The numbers of removed units at which the loss of a group of so many is measured.

    >>> counts(3), counts(1)
    ([1, 2, 3], [1])
    """
    return sorted({round(share * units) for share in SHARES} - {0})


def texts_for(model: PreTrainedModel, longest: int) -> int:
    """How many calibration texts, the longest of so many tokens, the losses of a model are measured on."""
    if head_of(model) == "classes":
        return SENTENCES
    return max(LEAST, TOKENS // longest) if tells_words(model) else min(SENTENCES, max(LEAST, MARKED // longest))


def measure_losses(
    walk: Walk,
    groups: Sequence[UnitGroup],
    pruned: Callable[[UnitGroup, int], PreTrainedModel],
    levels: Callable[[int], list[int]] = counts,
) -> Iterator[tuple[str, Losses]]:
    """(group name, losses) of every group, as they are found; `pruned(group, n)` is the model without its first n units.

    They are measured at the `levels` of a group of so many units.
    Raises VPError for a model that runs a layer several times (ALBERT).
    """
    check_once(walk.model, MEASURED)
    away = _distance(walk)
    for path, numbers in layer_modules(walk.model).items():
        while walk.paths[walk.position] != path:
            walk.step()
        for group in (g for g in groups if g.layer in numbers):
            removed, losses = [0], [0.0]
            for n in levels(len(group)):
                removed.append(n)
                losses.append(away(pruned(group, n)))
            yield group.name, Losses(np.array(removed), np.array(losses))


def _distance(walk: Walk) -> Callable[[PreTrainedModel], float]:
    """How far the outputs of a model, equal to the dense one up to where the walk is, are from the dense one's."""
    if head_of(walk.model) == "classes":
        return _of_logits(walk)
    if head_of(walk.model) == "spans":
        return _of_spans(walk)
    places = [chosen(walk.model, batch, PLACES) for batch in walk.batches]
    dense = list(walk.states(places))
    positions = sum(map(len, dense))

    def away(model: PreTrainedModel) -> float:
        pairs = zip(dense, walk.states(places, model), strict=True)
        return sum(in_parallel(lambda pair: divergence(walk.model, *pair), pairs)) / positions

    return away


def _of_spans(walk: Walk) -> Callable[[PreTrainedModel], float]:
    """The KL of where a span begins and ends, the mean over windows."""
    dense = list(walk.answers(spans_of))
    windows = sum(map(len, dense))

    def away(model: PreTrainedModel) -> float:
        return sum(apart(*pair) for pair in zip(dense, walk.answers(spans_of, model), strict=True)) / windows

    return away


def _of_logits(walk: Walk) -> Callable[[PreTrainedModel], float]:
    """The squared distance of logits, over the variance of the dense ones."""
    dense = torch.cat(list(walk.logits())).double()
    scale = float(dense.var(dim=0, unbiased=False).sum().clamp(min=1e-12))

    def away(model: PreTrainedModel) -> float:
        changed = torch.cat(list(walk.logits(model))).double() - dense
        return float(changed.square().sum(dim=1).mean()) / scale

    return away


def as_tensors(losses: Mapping[str, Losses]) -> dict[str, Tensor]:
    """Losses as tensors by name, to be kept; `from_tensors` reads them."""
    parts = {"removed": lambda one: one.removed, "loss": lambda one: one.loss}
    return {f"{name}|{part}": torch.from_numpy(of(one)) for name, one in losses.items() for part, of in parts.items()}


def from_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Losses]:
    """Group name → losses, as they were given to `as_tensors`."""
    names = dict.fromkeys(name.rpartition("|")[0] for name in tensors)
    return {name: Losses(tensors[f"{name}|removed"].numpy(), tensors[f"{name}|loss"].numpy()) for name in names}


def scores(ranking: Ranking, losses: Mapping[str, Losses]) -> dict[str, Tensor]:
    """Loss per parameter at each unit's place in its group's own order: group name → (units,)."""
    found = {}
    for group in ranking.groups:
        slopes = marginal(losses[group.name], len(group)) / group.weights_of_a_unit
        by_unit = np.empty(len(group))
        rising = slopes + np.arange(len(group)) * 1e-12 * max(slopes.max(), 1e-30)  # no ties: the group keeps its own order
        by_unit[ranking.order(group.name)] = rising
        found[group.name] = torch.from_numpy(by_unit)
    return found


def marginal(losses: Losses, units: int) -> np.ndarray:
    """Loss that the first, second, … removed unit adds (units,), rising: the slope of the lower convex hull, made smooth.

    >>> marginal(Losses(np.array([0, 2, 4]), np.array([0.0, 2.0, 8.0])), 4).tolist()     # slopes 1 and 3, at 1 and 3 units
    [0.5, 1.5, 2.5, 3.5]
    """
    hull = _hull(losses.removed, losses.loss)
    x, y = losses.removed[hull].astype(float), losses.loss[hull]
    slopes = np.diff(y) / np.diff(x)
    middle = (x[1:] + x[:-1]) / 2
    places = np.arange(units) + 0.5
    if len(slopes) == 1:
        return slopes[0] * 2 * places / units if units > 1 else slopes
    # straight on from the last middle to the end, and from the first one back to the beginning
    rise = np.diff(slopes) / np.diff(middle)
    inner = np.interp(places, middle, slopes)
    before, after = places < middle[0], places > middle[-1]
    inner[before] = np.maximum(slopes[0] - rise[0] * (middle[0] - places[before]), slopes[0] * places[before] / middle[0])
    inner[after] = slopes[-1] + rise[-1] * (places[after] - middle[-1])
    return np.maximum.accumulate(inner)


def _hull(x: np.ndarray, y: np.ndarray) -> list[int]:
    """Positions on the lower convex hull of points with rising x (Andrew's monotone chain)."""
    chain: list[int] = []
    for i in range(len(x)):
        while len(chain) > 1 and (y[chain[-1]] - y[chain[-2]]) * (x[i] - x[chain[-2]]) >= (y[i] - y[chain[-2]]) * (
            x[chain[-1]] - x[chain[-2]]
        ):
            chain.pop()
        chain.append(i)
    return chain
