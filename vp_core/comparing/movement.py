"""How far weights move in the order of their magnitudes: Compressing BERT, section 5, table 2 and figures 4 (right) and 6.

A weight that was the 59th of 100 by |w| and is the 63rd afterwards has moved by 4 % of its matrix.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from torch import Tensor, nn

from vp_core.ground.errors import VPError
from vp_core.ground.parallel import in_parallel
from vp_core.ground.patterns import Pattern
from vp_core.weights.matrices import Matrix, view
from vp_core.weights.order import WeightRanking, sort_scores

BINS = 20
"""Parts of the starting order in figure 6, of equally many weights."""


@dataclass(frozen=True, eq=False)
class Movement:
    """By how much the n weights of a matrix moved, as shares of n: of all of them, and by the place where they started.

    `bin_mean` and `bin_std` (bins,) are those of weights that started in the same part of the order, lowest magnitudes first;
    `bin_size` (bins,) counts them, and is 0 where a matrix has fewer weights than there are bins.
    """

    mean: float
    std: float
    bin_mean: np.ndarray
    bin_std: np.ndarray
    bin_size: np.ndarray


def order_of(weights: Tensor) -> np.ndarray:
    """The flat positions of weights (any shape) from the lowest |w| to the highest, (n,) int32; equal ones by position.

    Numbers not below 0 have the order of their bits. With the position behind them these are sorted by value, which takes a
    fraction of the time of sorting positions by what they point at.
    """
    magnitudes = weights.detach().abs().float().contiguous().cpu().numpy().reshape(-1)
    keys = magnitudes.view(np.uint32).astype(np.uint64)
    keys <<= np.uint64(32)
    keys |= np.arange(len(keys), dtype=np.uint64)
    keys.sort()
    return keys.astype(np.uint32).view(np.int32)


def movement(before: Tensor, after: Tensor, bins: int = BINS) -> Movement:
    """How far each weight of a matrix moved in the order of |w|, from `before` to `after` (rows, columns) each; exact.

    Raises VPError for matrices of different shapes.
    """
    if before.shape != after.shape:
        raise VPError(
            f"The order of {tuple(before.shape)} and of {tuple(after.shape)} weights cannot be compared: take matrices of one "
            "shape."
        )
    n = before.numel()
    place = np.empty(n, np.int32)
    place[order_of(after)] = np.arange(n, dtype=np.int32)
    moved = np.abs(place[order_of(before)] - np.arange(n, dtype=np.int32))  # in the order in which they started
    edges = np.linspace(0, n, bins + 1).round().astype(int)
    parts = [moved[low:high] for low, high in pairwise(edges)]
    mean, std = (np.array([f(part) / n if len(part) else np.nan for part in parts]) for f in (np.mean, np.std))
    return Movement(float(moved.mean()) / n, float(moved.std()) / n, mean, std, np.diff(edges))


def movements(
    matrices: Sequence[Matrix], before: Mapping[str, Tensor], after: Mapping[str, Tensor], bins: int = BINS
) -> dict[str, Movement]:
    """`movement` of every matrix by name, one a core at a time; `before` and `after` are as `load_weights` returns them.

    Raises VPError for a matrix that one of them lacks or has in another shape.
    """
    check_fitting(matrices, before, after)
    found = in_parallel(lambda matrix: movement(before[matrix.name], after[matrix.name], bins), matrices)
    return {matrix.name: one for matrix, one in zip(matrices, found, strict=True)}


def check_fitting(matrices: Sequence[Matrix], *checkpoints: Mapping[str, Tensor]) -> None:
    """VPError unless each checkpoint (matrix name → (rows, columns)) has all of these matrices in their shapes."""
    for weights in checkpoints:
        for matrix in matrices:
            if matrix.name not in weights:
                raise VPError(
                    f"One of the two checkpoints has no matrix {matrix.name}: only two of one architecture can be compared."
                )
            if (shape := tuple(weights[matrix.name].shape)) != matrix.shape:
                raise VPError(
                    f"The matrix {matrix.name} is {matrix.shape[0]} × {matrix.shape[1]} in one checkpoint and "
                    f"{' × '.join(map(str, shape))} in the other: only two of one architecture can be compared."
                )


def by_magnitude(
    matrices: Sequence[Matrix], weights: Mapping[str, Tensor], pattern: Pattern | None = None, scope: str = "per matrix"
) -> WeightRanking:
    """The order in which weights alone go by magnitude, without a model: matrix name → (rows, columns) in `weights`.

    `pattern` is what goes as one, single weights unless it is given. Raises VPError for weights that do not fit the matrices.
    """
    check_fitting(matrices, weights)
    pattern = pattern or Pattern()

    def score(matrix: Matrix) -> Tensor:
        return weights[matrix.name].abs().float()

    ordered = sort_scores(matrices, pattern, score, scope == "per row", "magnitude")
    return WeightRanking(tuple(matrices), pattern, score, ordered, "magnitude", scope)


def views(model: nn.Module, matrices: Sequence[Matrix]) -> dict[str, Tensor]:
    """Matrix name → its weights in the model (rows, columns), views."""
    return {matrix.name: view(model, matrix) for matrix in matrices}
