"""Orders in which units go when what counts is not a unit alone but what the others can say in its place.

Input: a covariance C (n, n) of coordinates and, where they are read by a matrix W (d, n), that matrix. Both functions give
every unit a score, lowest first to go, so that any number of them can be cut from one run.
"""

import numpy as np
import torch
from scipy.linalg.lapack import dpstrf
from torch import Tensor

RIDGE = 1e-4
"""Share of the mean variance that is added to the diagonal, against coordinates that determine each other exactly."""
_ROUNDS = 64


def conditional_variance(covariance: Tensor) -> Tensor:
    """Variance (n,) of each coordinate that those kept before it cannot predict: pivoted Cholesky of the covariance (n, n).

    The pivot is always the coordinate whose remaining variance is largest; its square root is the pivot of LAPACK's dpstrf
    (Higham 2009, "Cholesky factorization", pivoting). Coordinates beyond the rank have what is left of theirs, about 0.
    """
    n = len(covariance)
    factor, pivots, rank, _ = dpstrf(covariance.numpy(), lower=1)
    scores = np.zeros(n)
    order = pivots - 1
    scores[order[:rank]] = np.diagonal(factor)[:rank] ** 2
    if rank < n:  # the rest is determined by the others: by variance, below every pivot
        rest = order[rank:]
        variance = covariance.diagonal().numpy()[rest]
        floor = scores[order[:rank]].min(initial=np.inf)
        scores[rest] = variance / max(variance.max(initial=0), 1e-300) * min(floor, 1.0) * 1e-6
    return torch.from_numpy(scores)


def surgeon(covariance: Tensor, weight: Tensor, columns: Tensor) -> Tensor:
    """Output error that each unit adds when it goes and all that stay are re-solved: optimal brain surgeon for units.

    Backward elimination (Hassibi and Stork 1993, with the inverse covariance for the inverse Hessian, as in OBC, Frantar
    and Alistarh 2022): removing unit u with its `columns` (units, c) costs tr(W_u [(C⁻¹)_uu]⁻¹ W_uᵀ), after which W and C⁻¹ are
    updated; C, `covariance`, is (n, n), W, `weight`, (d, n). About 1/64 of the units go at a time. Scores (units,), float64,
    rise in the order of removal.
    """
    units, per_unit = columns.shape
    n = len(covariance)
    ridge = RIDGE * covariance.diagonal().mean().clamp(min=1e-300)
    inverse = _inverse(covariance + ridge * torch.eye(n, dtype=torch.float64))
    weight = weight.detach().double().clone()
    alive = torch.arange(units)
    place = columns.clone()  # of the alive units, in the shrinking matrices
    scores = torch.empty(units, dtype=torch.float64)
    total = 0.0
    while len(alive):
        errors = _errors(inverse, weight, place)
        count = min(max(units // _ROUNDS, 1), len(alive))
        go = errors.argsort(stable=True)[:count]
        # What went earlier cost less: scores rise along the order, whatever re-solving did to the errors of the rest.
        scores[alive[go]] = total + errors[go].cumsum(0)
        total = float(scores[alive[go[-1]]])
        gone = place[go].flatten()
        solved = torch.linalg.solve(inverse[gone][:, gone], inverse[gone])
        weight.addmm_(weight[:, gone], solved, alpha=-1)
        inverse.addmm_(inverse[:, gone], solved, alpha=-1)
        stays = torch.ones(len(alive), dtype=torch.bool).index_fill(0, go, False)
        alive, place = alive[stays], place[stays]
        if len(alive) and len(alive) * per_unit < 0.8 * len(inverse):
            left = place.flatten()
            inverse, weight = inverse[left][:, left].contiguous(), weight[:, left].contiguous()
            place = torch.arange(len(left)).view(place.shape)
    return scores


def _inverse(matrix: Tensor) -> Tensor:
    """Of a symmetric matrix (n, n), positive but for rounding."""
    lower, failed = torch.linalg.cholesky_ex(matrix)
    return torch.linalg.inv(matrix) if failed else torch.cholesky_inverse(lower)


def _errors(inverse: Tensor, weight: Tensor, place: Tensor) -> Tensor:
    """What each unit with columns at `place` (alive, c) would cost now: tr(W_u [(C⁻¹)_uu]⁻¹ W_uᵀ), (alive,)."""
    if place.shape[1] == 1:  # a number each
        at = place[:, 0]
        return weight.square().sum(dim=0)[at] / inverse.diagonal()[at]
    blocks = inverse[place[:, :, None], place[:, None, :]]  # (alive, c, c)
    read = weight[:, place].permute(1, 0, 2)  # (alive, d, c)
    return ((read @ torch.linalg.inv(blocks)) * read).sum(dim=(1, 2))
