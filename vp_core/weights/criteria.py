"""What makes a single weight worth keeping: functions from a model, and what texts say of it, to a score a weight.

The lowest go first; scores are 0 or more. A unit of several weights has their mean (`vp_core.weights.patterns`).
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from vp_core.ground.errors import one_of
from vp_core.ground.names import WEIGHT_CRITERIA
from vp_core.ranking.evidence import Evidence
from vp_core.weights.coreset import priorities
from vp_core.weights.matrices import Matrix, view

Criterion = Callable[[Evidence, Matrix], Tensor]


def magnitude(evidence: Evidence, matrix: Matrix) -> Tensor:
    """|W| (Han et al. 2015; Compressing BERT, section 2.1): (rows, columns)."""
    return view(evidence.model, matrix).abs().float()


def random(evidence: Evidence, matrix: Matrix) -> Tensor:
    """Random numbers, the same for a matrix and a seed whatever other matrices there are: (rows, columns).

    A recipe takes as many of every matrix as `magnitude` does.
    """
    rng = np.random.default_rng([evidence.seed, *matrix.name.encode()])
    return torch.from_numpy(rng.random(matrix.shape, dtype=np.float32))


def coreset(evidence: Evidence, matrix: Matrix) -> Tensor:
    """How early a column is drawn (`vp_core.weights.coreset`), the same for all weights of it: (rows, columns)."""
    return priorities(view(evidence.model, matrix), matrix.name, evidence.seed).float().expand(matrix.shape)


_SCORERS: Mapping[str, Criterion] = {
    "magnitude": magnitude,
    "random": random,
    "coreset": coreset,
}


_NEEDS: Mapping[str, Callable[[Evidence], object]] = {}
"""What a criterion reads off texts, by its name."""


def prepare(criterion: str, evidence: Evidence) -> None:
    """Measure what a criterion needs, all cores at it, before matrices are scored one a core; VPError if it cannot be."""
    _NEEDS.get(criterion, lambda _: None)(evidence)


def score_weights(criterion: str, evidence: Evidence, matrix: Matrix) -> Tensor:
    """The scores (rows, columns) float32 of a matrix's weights by one criterion; VPError if there is no such criterion."""
    return _SCORERS[one_of("criterion", criterion, WEIGHT_CRITERIA)](evidence, matrix)
