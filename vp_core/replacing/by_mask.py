"""What stays of a matrix under a mask takes over what went: every row is solved again for its own mask.

For inputs x with mean μ and covariance C, H = C + λI, and a mask M (1 = stays), over all W' that are 0 where M is:

    W' = argmin tr((W − W') H (W − W')ᵀ)        b' = b + (W − W') μ

that is the least E‖Wx + b − W'x − b'‖² + λ‖W − W'‖². The optimal brain surgeon (Hassibi and Stork 1993) and SparseGPT (Frantar
and Alistarh 2023, equation 3) come to the same rows when they remove weights one after another and move all that stay. Here
all rows are found at once by conjugate gradients on (W − W')H ⊙ M = 0, whose steps are one matrix product each.
"""

import torch
from torch import Tensor

from vp_core.ground.errors import one_of
from vp_core.measuring.covariance import CoMoments
from vp_core.replacing.solve import DEFAULT_RIDGE, RIDGES, best_ridge, cholesky, output_error

_RUNGS = ("zero", "mean", "least squares")
_SAMPLE = 64
"""Rows of a matrix that λ is chosen on."""
_SMALL = 128
"""Up to so many inputs rows are solved in float64, to the end; beyond in float32, to 0.02 % of the least error (measured)."""
_SMALL_ENOUGH = {torch.float64: 1e-13, torch.float32: 1e-3}
"""Residual of a row, as a share of its first one, at which it is solved."""
_MOST_STEPS = 400


def damped(moments: CoMoments, ridge: float = DEFAULT_RIDGE) -> Tensor:
    """H = C + λI (n, n) float64 of inputs; `ridge` is λ as a share of their mean variance."""
    h = moments.matrix().clone()
    h.diagonal().add_(ridge * h.diagonal().mean().clamp(min=1e-300))
    return h


def inverse_diagonal(h: Tensor) -> Tensor:
    """The diagonal (n,) of H⁻¹, for a symmetric positive `h` (n, n)."""
    return torch.cholesky_inverse(cholesky(h)).diagonal()


def solve_rows(h: Tensor, weight: Tensor, keep: Tensor) -> Tensor:
    """argmin tr((W − W')H(W − W')ᵀ) over W' that are 0 where `keep` is False: (d, n) float64.

    `h` (n, n) is symmetric positive, `weight` (d, n), `keep` (d, n) bool.
    """
    dtype = torch.float64 if len(h) <= _SMALL else torch.float32
    h, weight, mask = h.to(dtype), weight.to(dtype), keep.to(dtype)
    least = 1e-300 if dtype == torch.float64 else 1e-30  # a row that is solved already divides by no zero
    scale = mask / h.diagonal()  # the preconditioner, which also keeps every step within the mask
    new = weight * mask
    residual = ((weight - new) @ h) * mask
    towards = scaled = residual * scale
    length = (residual * scaled).sum(dim=1)
    enough = length * _SMALL_ENOUGH[dtype] ** 2
    for _ in range(_MOST_STEPS):
        if (length <= enough).all():
            break
        turned = (towards @ h) * mask
        step = (length / (towards * turned).sum(dim=1).clamp(min=least))[:, None]
        new, residual = new + step * towards, residual - step * turned
        scaled = residual * scale
        before, length = length, (residual * scaled).sum(dim=1)
        towards = scaled + (length / before.clamp(min=least))[:, None] * towards
    return new.double()


HeldOut = tuple[CoMoments, CoMoments]
"""Moments over the texts that λ is fitted on, and over those that choose it."""


def replaced(
    replacement: str, weight: Tensor, bias: Tensor, keep: Tensor, moments: CoMoments, held_out: HeldOut | None
) -> tuple[Tensor, Tensor]:
    """(W' (d, n), b' (d,)) of a matrix whose weights stay where `keep` (d, n), by one rung of the ladder.

    `weight` (d, n) and `bias` (d,) are float64; `moments` are those of the inputs over all texts, `held_out` chooses λ (None:
    DEFAULT_RIDGE). Raises VPError for an unknown replacement.
    """
    one_of("replacement", replacement, _RUNGS)
    new = weight * keep
    if replacement == "zero":
        return new, bias
    if replacement == "least squares":
        new = solve_rows(damped(moments, ridge_of(weight, bias, keep, held_out)), weight, keep)
    return new, bias + (weight - new) @ moments.mean


def ridge_of(weight: Tensor, bias: Tensor, keep: Tensor, held_out: HeldOut | None) -> float:
    """λ, of RIDGES, with which a sample of the rows is solved best for texts it was not fitted on; shapes as in `replaced`."""
    if held_out is None or not held_out[1].count:
        return DEFAULT_RIDGE
    rows = torch.linspace(0, len(weight) - 1, min(_SAMPLE, len(weight))).long().unique()
    (seen, unseen), w, b, mask = held_out, weight[rows], bias[rows], keep[rows]

    def error(candidate: float) -> float:
        new = solve_rows(damped(seen, candidate), w, mask)
        return output_error(unseen.matrix(), unseen.mean, w, b, new, b + (w - new) @ seen.mean)

    return best_ridge(RIDGES, error)
