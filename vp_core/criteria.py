"""What makes a neuron worth keeping: pure functions from a model and its statistics to a score per neuron.

The lowest scores go first. A score is {projection name: (d_out,) float64}. To add a criterion, write the function and
put it into CRITERIA.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from vp_core.errors import one_of
from vp_core.projections import Projection, weight_of
from vp_core.statistics import Statistics

Scores = Mapping[str, Tensor]
Criterion = Callable[[PreTrainedModel, Statistics, Sequence[Projection], int], dict[str, Tensor]]


def variance(model: PreTrainedModel, statistics: Statistics, projections: Sequence[Projection], seed: int) -> dict[str, Tensor]:
    """Variance of the neuron's output over tokens (Variance Pruning, eq. 2–6)."""
    return {p.name: statistics.variance(p.name) for p in projections}


def random(model: PreTrainedModel, statistics: Statistics, projections: Sequence[Projection], seed: int) -> dict[str, Tensor]:
    """Random rows, as many in each layer as `variance` removes there (the paper's baseline, section 3.4).

    The variances of each projection are dealt out to its neurons at random. Any ranking of these scores then takes the
    same number from every projection as the variances themselves would, at every sparsity and in every scope.
    """
    rng = np.random.default_rng(seed)
    by_variance = variance(model, statistics, projections, seed)
    return {name: scores[torch.from_numpy(rng.permutation(len(scores)))] for name, scores in by_variance.items()}


def magnitude(
    model: PreTrainedModel, statistics: Statistics, projections: Sequence[Projection], seed: int
) -> dict[str, Tensor]:
    """L2 norm of the weight row ‖W_i‖₂ (the row form of magnitude pruning, Han et al. 2015); of both rows under a gate."""
    scores = {}
    for p in projections:
        gate = [model.get_submodule(p.gate).weight] if p.gate else []
        scores[p.name] = torch.cat([weight_of(model, p), *gate], dim=1).detach().double().norm(dim=1)
    return scores


CRITERIA: Mapping[str, Criterion] = {"variance": variance, "random": random, "magnitude": magnitude}


def score_neurons(
    criterion: str, model: PreTrainedModel, statistics: Statistics, projections: Sequence[Projection], seed: int = 0
) -> dict[str, Tensor]:
    """The scores of one criterion by name; VPError if there is no such criterion."""
    return CRITERIA[one_of("criterion", criterion, tuple(CRITERIA))](model, statistics, projections, seed)
