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
Linear = tuple[Tensor, Tensor]
"""The weight (d, n) and the bias (d,) of a linear map."""


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


def solved(covariance: Tensor, mean: Tensor, weight: Tensor, bias: Tensor, order: Tensor, kept: int, ridge: float) -> Linear:
    """What `Factor.solve` gives, where one number of columns is wanted only: no more than C_KK is factorised."""
    k, p = order[:kept], order[kept:]
    w, new = weight.detach().double(), torch.zeros_like(weight, dtype=torch.float64)
    if kept:
        inner = covariance[k][:, k]
        inner.diagonal().add_(ridge * covariance.diagonal().mean().clamp(min=1e-300))
        moved = torch.cholesky_solve(covariance[k][:, p] @ w[:, p].T, cholesky(inner)).T
        new.index_copy_(1, k, w[:, k] + moved)
    return new, bias.detach().double() + (w - new) @ mean


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


def best_ridge(candidates: Sequence[float], error: Callable[[float], float]) -> float:
    """The candidate with the smallest error; the larger one (more cautious) where two are equal."""
    return min(sorted(candidates, reverse=True), key=error)
