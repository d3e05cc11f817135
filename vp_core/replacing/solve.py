"""Ridge solutions in float64: what stays of a matrix takes over what went (docs/without_fine_tuning.md#the-ladder).

For inputs x with mean μ and covariance C, kept columns K and removed columns P of a matrix W with bias b:

    W'_K = W_K + W_P C_PK (C_KK + λI)⁻¹        b' = b + W_P μ_P + (W_K − W'_K) μ_K
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

RIDGES = (1e-4, 1e-3, 1e-2, 1e-1)
"""Candidates for λ as a share of the mean variance of the inputs."""
DEFAULT_RIDGE = 1e-2
"""Where no sentences can be held out to choose it."""
HELD_OUT_DENSITY = 0.5
"""Share of columns that is kept when λ is chosen."""


@dataclass(frozen=True, eq=False)
class Factor:
    """The Cholesky factor L, `lower` (n, n), of C + λI with its columns in `order` (n,), those that stay longest first.

    Whatever number k of columns stays, C_KK = L_KK L_KKᵀ is the leading k × k block: a new sparsity costs one triangular solve.
    `mean` (n,) is that of the inputs, in their own order.
    """

    order: Tensor
    lower: Tensor
    mean: Tensor
    ridge: float

    def solve(self, weight: Tensor, bias: Tensor, kept: int) -> tuple[Tensor, Tensor]:
        """(W' (d, n) with zero columns for what went, b' (d,)), float64, when the first `kept` columns of `order` stay.

        `weight` (d, n) and `bias` (d,) are those of the matrix as it is.
        """
        w = weight.detach().double()
        ordered = w[:, self.order]
        # C_PK (C_KK)⁻¹ = L_PK L_KKᵀ (L_KK L_KKᵀ)⁻¹ = L_PK L_KK⁻¹
        moved = ordered[:, kept:] @ self.lower[kept:, :kept]
        if kept:
            moved = torch.linalg.solve_triangular(self.lower[:kept, :kept], moved, upper=False, left=False)
        new = torch.zeros_like(w).index_copy_(1, self.order[:kept], moved.add_(ordered[:, :kept]))
        return new, bias.detach().double() + (w - new) @ self.mean

    def errors(self, weight: Tensor, outer: Tensor) -> Tensor:
        """(n + 1,) E eᵀΓe when 0, 1, … n columns stay, e the change of what W puts out, `weight` (d, n), Γ = `outer` (d, d).

        Of what goes, what stays cannot say cov(x_P | x_K) = L_PP L_PPᵀ. So e has the covariance W_P L_PP L_PPᵀ W_Pᵀ, and each
        column of W L counts by itself, whatever the number that stays. λ counts as variance.
        """
        moved = weight.detach().double()[:, self.order] @ self.lower
        alone = ((outer @ moved) * moved).sum(dim=0)
        return torch.cat([alone.flip(0).cumsum(0).flip(0), alone.new_zeros(1)])


def factorise(covariance: Tensor, mean: Tensor, order: Tensor, ridge: float) -> Factor:
    """The factor of C (n, n) for this `order` (n,), `mean` (n,) beside it; `ridge` is λ as a share of the mean variance."""
    scale = covariance.diagonal().mean().clamp(min=1e-300)
    sorted_ = covariance[order][:, order]
    sorted_.diagonal().add_(ridge * scale)
    return Factor(order, cholesky(sorted_), mean, ridge)


def cholesky(matrix: Tensor) -> Tensor:
    """Lower factor (n, n) of a symmetric `matrix` (n, n), positive up to rounding: the diagonal is raised until it succeeds."""
    lower, failed = torch.linalg.cholesky_ex(matrix)
    jitter = 1e-12
    while failed and jitter < 1:
        raised = matrix + jitter * matrix.diagonal().mean() * torch.eye(len(matrix), dtype=matrix.dtype)
        lower, failed = torch.linalg.cholesky_ex(raised)
        jitter *= 100
    return lower


def output_error(covariance: Tensor, mean: Tensor, weight: Tensor, bias: Tensor, new: Tensor, new_bias: Tensor) -> float:
    """E‖Wx + b − W'x − b'‖² over inputs x of this `mean` (n,) and `covariance` (n, n).

    W, `weight`, and W', `new`, are (d, n); b, `bias`, and b', `new_bias`, are (d,).
    """
    difference = weight.detach().double() - new
    shift = difference @ mean + (bias.detach().double() - new_bias)
    return float(((difference @ covariance) * difference).sum() + shift.square().sum())


def held_out_error(
    seen: tuple[Tensor, Tensor], unseen: tuple[Tensor, Tensor], weight: Tensor, order: Tensor
) -> Callable[[float], float]:
    """From λ, as a share of the mean variance, to `output_error` on held-out inputs of the matrix (d, n) solved on the others.

    `seen` and `unseen` are (covariance (n, n), mean (n,)) of both; HELD_OUT_DENSITY of the columns stay, the first in `order`.
    What λ does not change is computed once: the products with all columns, which are most of the work.
    """
    (covariance, mean), (other, other_mean) = seen, unseen
    k = round(HELD_OUT_DENSITY * len(order))
    kept, gone = order[:k], order[k:]
    lost = weight.detach().double()[:, gone]
    scale = covariance.diagonal().mean().clamp(min=1e-300)
    within, pull = covariance[kept][:, kept], lost @ covariance[gone][:, kept]
    there, across = other[kept][:, kept], lost @ other[gone][:, kept]
    alone = float(((lost @ other[gone][:, gone]) * lost).sum())
    away = other_mean - mean

    def error(ridge: float) -> float:
        raised = within.clone()
        raised.diagonal().add_(ridge * scale)
        moved = torch.cholesky_solve(pull.T, cholesky(raised)).T if k else pull  # W_P C_PK (C_KK + λI)⁻¹
        shift = lost @ away[gone] - moved @ away[kept]
        return alone + float((((moved @ there) - 2 * across) * moved).sum() + shift.square().sum())

    return error


def best_ridge(candidates: Sequence[float], error: Callable[[float], float]) -> float:
    """The candidate with the smallest error; the larger one (more cautious) where two are equal."""
    return min(sorted(candidates, reverse=True), key=error)
