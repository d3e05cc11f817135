"""What makes a single weight worth keeping: functions from a model, and what texts say of it, to a score a weight.

The lowest go first; scores are 0 or more. A unit of several weights has their mean (`vp_core.weights.patterns`).
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from vp_core.ground.errors import VPError, one_of
from vp_core.ground.names import WEIGHT_CRITERIA
from vp_core.measuring.covariance import CoMoments
from vp_core.ranking.evidence import Evidence
from vp_core.replacing.by_mask import damped, inverse_diagonal
from vp_core.weights.coreset import priorities
from vp_core.weights.matrices import Matrix, view

Criterion = Callable[[Evidence, Matrix], Tensor]


def magnitude(evidence: Evidence, matrix: Matrix) -> Tensor:
    """|W| (Han et al. 2015; Compressing BERT, section 2.1): (rows, columns)."""
    return view(evidence.model, matrix).cpu().abs().float()


def random(evidence: Evidence, matrix: Matrix) -> Tensor:
    """Random numbers, the same for a matrix and a seed whatever other matrices there are: (rows, columns).

    A recipe takes as many of every matrix as `magnitude` does.
    """
    rng = np.random.default_rng([evidence.seed, *matrix.name.encode()])
    return torch.from_numpy(rng.random(matrix.shape, dtype=np.float32))


def coreset(evidence: Evidence, matrix: Matrix) -> Tensor:
    """How early a column is drawn (`vp_core.weights.coreset`), the same for all weights of it: (rows, columns)."""
    return priorities(view(evidence.model, matrix).cpu(), matrix.name, evidence.seed).float().expand(matrix.shape)


def wanda(evidence: Evidence, matrix: Matrix) -> Tensor:
    """|W_ij|·√E[x_j²] over all tokens (Wanda, Sun et al. 2023, equation 1): (rows, columns).

    The paper has ‖x_j‖₂, which is larger by the root of the number of tokens, the same for all of a matrix, and compares within
    an output row: the scope `per row`.
    """
    moments = inputs_of(evidence, matrix)
    norms = (moments.variance() + moments.mean.square()).sqrt()
    return view(evidence.model, matrix).cpu().abs().float() * norms.float()


def fisher(evidence: Evidence, matrix: Matrix) -> Tensor:
    """W²·E[Σ_z (∂z/∂W)²]: what taking the weight out does to the outputs, squared, to first order: (rows, columns).

    The optimal brain damage of LeCun et al. (1989) with an empirical Fisher information in place of the Hessian's diagonal,
    and the outputs in place of the loss, so that no label is needed (`vp_core.measuring.gradients`).
    """
    return view(evidence.model, matrix).cpu().float().square() * evidence.weight_effects()[matrix.name]


def brain_surgeon(evidence: Evidence, matrix: Matrix) -> Tensor:
    """W_ij²/[H⁻¹]_jj: the error of the output when the weight goes and its row is solved again (Hassibi and Stork 1993).

    H is the covariance of the inputs, since a bias takes up their mean, with λ on its diagonal as in `replacing.by_mask`.
    (rows, columns); SparseGPT (Frantar and Alistarh 2023, section 3.3) chooses by the same.
    """
    diagonal = inverse_diagonal(damped(inputs_of(evidence, matrix)))
    return (view(evidence.model, matrix).cpu().double().square() / diagonal).float()


def inputs_of(evidence: Evidence, matrix: Matrix) -> CoMoments:
    """The moments of what a matrix reads; VPError for word embeddings, which read no coordinates."""
    p = matrix.projection
    if p is None:
        raise VPError(f"{matrix.name} read no coordinates that could be measured: take magnitude, or leave them out.")
    return evidence.inputs()[p.name]


_SCORERS: Mapping[str, Criterion] = {
    "magnitude": magnitude,
    "random": random,
    "coreset": coreset,
    "wanda": wanda,
    "fisher": fisher,
    "surgeon": brain_surgeon,
}


_NEEDS: Mapping[str, Callable[[Evidence], object]] = {
    "wanda": lambda evidence: evidence.inputs(),
    "fisher": lambda evidence: evidence.weight_effects(),
    "surgeon": lambda evidence: evidence.inputs(),
}
"""What a criterion reads off texts, by its name."""


def prepare(criterion: str, evidence: Evidence) -> None:
    """Measure what a criterion needs, all cores at it, before matrices are scored one a core; VPError if it cannot be."""
    _NEEDS.get(criterion, lambda _: None)(evidence)


def score_weights(criterion: str, evidence: Evidence, matrix: Matrix) -> Tensor:
    """The scores (rows, columns) float32 of a matrix's weights by one criterion; VPError if there is no such criterion."""
    return _SCORERS[one_of("criterion", criterion, WEIGHT_CRITERIA)](evidence, matrix)
