"""Data-independent coresets: columns of a matrix drawn with a probability by their norm, and weighed by its inverse.

y = Σ_j W_:,j x_j is estimated from a few of its terms (Qamar, Data Independent Pruning of Language Models, whose importance of
a column is its norm). The sample is drawn by priorities (Duffield, Lund and Thorup 2007): with u_j uniform in (0, 1], those
with the largest ‖W_:,j‖/u_j stay. So it has exactly k columns, none twice; with one seed a larger sample holds the smaller
ones; and the estimate is unbiased for any x, whatever k. No text is looked at.
"""

import numpy as np
import torch
from torch import Tensor

from vp_core.ground.errors import VPError


def priorities(weight: Tensor, name: str, seed: int) -> Tensor:
    """‖W_:,j‖/u_j of every column (columns,) float64; `name` and `seed` say the draw, whatever other matrices there are."""
    drawn = np.random.default_rng([seed, *name.encode()]).random(weight.shape[1])
    return weight.detach().double().norm(dim=0) / torch.from_numpy(1 - drawn)


def weighted(weight: Tensor, keep: Tensor, priority: Tensor, name: str = "this matrix") -> Tensor:
    """W' (rows, columns): the columns where `keep` (columns,) is True, each divided by its probability, the others zero.

    With τ the largest `priority` (columns,) of those that went, column j was drawn with the probability min(1, ‖W_:,j‖/τ).
    Raises VPError where no column is kept.

    >>> w = torch.tensor([[3.0, 4.0, 0.5]])               # norms 3, 4, 0.5 and, say, u = 0.5, 1, 0.1
    >>> weighted(w, torch.tensor([True, False, True]), torch.tensor([6.0, 4.0, 5.0])).tolist()
    [[4.0, 0.0, 4.0]]
    """
    if not keep.any():
        raise VPError(f"No column of {name} would be left: a coreset wants a density of {1 / len(keep):.2g} or more.")
    threshold = priority[~keep].max() if not keep.all() else priority.new_zeros(())
    norms = weight.detach().double().norm(dim=0)
    factors = (threshold / norms).clamp(min=1).masked_fill(~keep | (norms == 0), 0)
    return weight * factors.to(weight.dtype)
