"""How much each layer gives: losses in closed form, of which one or two in each layer are measured.

Measuring every loss at every level means hundreds of passes through many layers, and a head that may be wide. To second order a
layer's loss is known already: if its consumer W, solved again as W', errs by e = (W − W')h + b − b', then the outputs change by
about E eᵀΓe, squared (of words KL ≈ ½ of it), with Γ = E Σ_t g_t g_tᵀ the gradients' outer product where it writes
(`vp_core.measuring.gradients`) and errors of different tokens taken as uncorrelated. Units that no consumer reads, such as
query/key pairs, lose the sum of their own effects. What that leaves out differs from layer to layer more than from level to
level: each group's curve is brought to the loss that is measured where MIDDLE (or BEHIND) of its units are gone, of a model that
writes about a text also to that of all. The levels and the hull are those of `vp_core.ranking.allocation`.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from vp_core.ground.parallel import in_parallel
from vp_core.measuring.covariance import READ_AT
from vp_core.model.projections import Projection, bias_of, find_layers, weight_of
from vp_core.model.units import UnitGroup
from vp_core.ranking.allocation import Losses, counts
from vp_core.ranking.evidence import Evidence
from vp_core.ranking.plan import Ranking

MIDDLE, BEHIND = 0.5, 0.65
"""Share of a group's units at whose removal its loss is measured, of models that tell words and of others.

Of classifiers 0.65 did as well as all seven levels, 0.5 a little worse (docs/without_fine_tuning.md).
"""
Solve = Callable[[UnitGroup, int], Mapping[str, tuple[Tensor, Tensor]]]
"""From a group and a number of its first units: new weights of the consumer that reads them, by its name."""
Errors = Callable[[UnitGroup, Mapping[str, Tensor]], np.ndarray | None]
"""From a group and Γ by its consumer's name: E eᵀΓe (units + 1,) when 0, 1, … units are gone; None without a consumer."""
TEXTS = 64
"""Texts that Γ and effects are measured on, of models that tell no words: they rank layers as all texts do."""


def middle(units: int) -> list[int]:
    """The one level at which a group of so many units is measured.

    >>> middle(9), middle(1)
    ([4], [1])
    """
    return [max(round(MIDDLE * units), 1)]


def estimate_losses(
    ranking: Ranking, evidence: Evidence, effects: Mapping[str, Tensor], solve: Solve, errors: Errors | None = None
) -> dict[str, Losses]:
    """Group name → its losses in closed form, in the order of the ranking.

    `effects` are those of units by themselves, the scores of the criterion `fisher`: group name → (units,). Where consumers are
    solved by least squares `errors` knows those of every level at once.
    """
    outer = evidence.gradients().outer
    consumers = {p.name: p for layer in find_layers(evidence.model) for p in layer.projections.values()}

    def losses(group: UnitGroup) -> Losses:
        removed = [0, *counts(len(group))]
        if errors is not None and (at_once := errors(group, outer)) is not None:
            return Losses(np.array(removed), at_once[removed])
        alone = effects[group.name][torch.from_numpy(ranking.order(group.name).copy())]
        return Losses(np.array(removed), np.array([0.0, *(loss(group, n, alone) for n in removed[1:])]))

    def loss(group: UnitGroup, n: int, alone: Tensor) -> float:
        errors = [_error(evidence, consumers[name], outer[name], *new) for name, new in solve(group, n).items()]
        return sum(errors) if errors else float(alone[:n].sum())

    return dict(zip((g.name for g in ranking.groups), in_parallel(losses, ranking.groups), strict=True))


def behind(units: int) -> list[int]:
    """The one level at which a group of a model that tells no words is measured.

    >>> behind(10), behind(1)
    ([6], [1])
    """
    return [max(round(BEHIND * units), 1)]


def middle_and_all(units: int) -> list[int]:
    """The levels at which a group of a model with two halves is measured.

    Its cross attention is the only way from the text to what is written: half of a layer's pairs may go for nothing, and all of
    them cost everything, which no sum of single effects foresees.

    >>> middle_and_all(9), middle_and_all(1)
    ([4, 9], [1])
    """
    return sorted({*middle(units), units})


def brought_to(losses: Losses, measured: Losses) -> Losses:
    """The same curve, its rises multiplied so that it is what was measured at the levels of `measured`."""
    found, n, loss, before = losses.loss.copy(), 0, 0.0, 0.0
    for level, lost in zip(measured.removed[1:], measured.loss[1:].tolist(), strict=True):
        there = float(np.interp(level, losses.removed, losses.loss))
        factor = (lost - loss) / (there - before) if there > before else 1.0
        behind = losses.removed > n
        found[behind] = loss + (losses.loss[behind] - before) * factor
        n, loss, before = level, lost, there
    return Losses(losses.removed, found)


def _error(evidence: Evidence, consumer: Projection, outer: Tensor, weight: Tensor, bias: Tensor) -> float:
    """E eᵀΓe of a consumer with new weights (d, n) and bias (d,), Γ = `outer` (d, d)."""
    inputs = evidence.covariances()[f"{consumer.layer}.{READ_AT[consumer.type]}"]
    change = weight_of(evidence.model, consumer).detach().double() - weight
    shift = change @ inputs.mean + bias_of(evidence.model, consumer).double() - bias
    return float(((outer @ change @ inputs.matrix()) * change).sum() + shift @ outer @ shift)
