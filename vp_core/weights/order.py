"""The order in which weights go: each matrix's scores sorted once, and from then on an exact mask for any sparsity.

Of n units that compete round(s·n) go, ties by matrix, then row by row; masks of growing shares are nested. N:M is one point.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vp_core.ground.errors import VPError
from vp_core.ground.parallel import in_parallel
from vp_core.ground.patterns import Pattern
from vp_core.ranking.plan import check_sparsity, count_removed
from vp_core.weights.masks import Masks
from vp_core.weights.matrices import Matrix
from vp_core.weights.patterns import by_block, expanded, n_of_m

Score = Callable[[Matrix], Tensor]
"""From a matrix the scores (rows, columns) of its weights, 0 or more; the lowest go first."""


@dataclass(frozen=True, eq=False)
class WeightRanking:
    """The order of removal of the units of `matrices`, which `pattern` says the shape of.

    Units compete `per matrix` (Compressing BERT, section 2.1), `per type`, `global`, or `per row` (Wanda, section 3). `score`
    gives a matrix's scores whenever they are asked for, `ordered` are they sorted, once (`sort_scores`). With `like` as many
    of every matrix go as in that ranking.
    """

    matrices: tuple[Matrix, ...]
    pattern: Pattern
    score: Score
    ordered: Mapping[str, np.ndarray]
    criterion: str
    scope: str
    model: str = ""
    like: "WeightRanking | None" = None

    def units(self, matrix: Matrix) -> int:
        """How many units a matrix has."""
        rows, columns = self.pattern.grid(matrix.shape)
        return rows * columns

    def masks(self, share: float) -> Masks:
        """Which weights survive when this share of the units goes; VPError for a share outside 0..1, or not N:M's own."""
        gone = self.counts(share)
        kept = in_parallel(lambda matrix: self._keep(matrix, gone[matrix.name]), self.matrices)
        keep = {matrix.name: mask for matrix, mask in zip(self.matrices, kept, strict=True)}
        about = {"criterion": self.criterion, "scope": self.scope, "units": self.pattern.name, "model": self.model}
        return Masks.of(keep, sparsity=share, **about)

    def keep(self, name: str, share: float) -> Tensor:
        """The mask (rows, columns) of one matrix at a share of the units; raises as `masks` does."""
        matrix = next(one for one in self.matrices if one.name == name)
        return self._keep(matrix, self.counts(share)[name])

    def counts(self, share: float) -> dict[str, int]:
        """Matrix name → units that go at this share; of N:M their weights, of a matrix by row those of one row."""
        share = check_sparsity(share)
        if self.pattern.of:
            return {matrix.name: int(self._n_of_m(share)) for matrix in self.matrices}
        if self.like is not None:
            return self.like.counts(share)
        if self.scope == "per row":
            return {matrix.name: count_removed(share, matrix.columns) for matrix in self.matrices}
        gone: dict[str, int] = {}
        for pool in self._pools():
            gone |= self._counts_of(pool, count_removed(share, sum(self.units(matrix) for matrix in pool)))
        return gone

    def sparsity_by_group(self, shares: Sequence[float]) -> dict[str, np.ndarray]:
        """The part of every matrix's units that goes at each share of all: matrix name → (len(shares),), values 0..1."""
        if self.pattern.of:
            own = self.pattern.sparsity
            return {matrix.name: np.array([own if share else 0.0 for share in shares]) for matrix in self.matrices}
        counts = [self.counts(share) for share in shares]
        of = {m.name: m.columns if self.scope == "per row" else self.units(m) for m in self.matrices}
        return {name: np.array([gone[name] for gone in counts]) / n for name, n in of.items()}

    def _n_of_m(self, share: float) -> bool:
        """Whether the pattern is applied at this share; VPError where it is neither 0 nor its own."""
        own = self.pattern.sparsity
        assert own is not None
        if share and abs(share - own) > 0.005:
            raise VPError(
                f"{self.pattern.name} removes {own:.1%} of the weights, not {share:.1%}: set the sparsity to {own:g}."
            )
        return share > 0

    def _pools(self) -> Iterable[list[Matrix]]:
        """Matrices whose units compete, in the order in which ties go."""
        pools: dict[str, list[Matrix]] = {}
        for matrix in self.matrices:
            label = {"per matrix": matrix.name, "per type": matrix.type}.get(self.scope, "all")
            pools.setdefault(label, []).append(matrix)
        return pools.values()

    def _counts_of(self, pool: list[Matrix], gone: int) -> dict[str, int]:
        """How many units of each matrix are among the first `gone` of the pool."""
        if len(pool) == 1:
            return {pool[0].name: gone}
        ordered = {matrix.name: self.ordered[matrix.name] for matrix in pool}
        cut = _nth(list(ordered.values()), gone)
        found = {name: int(np.searchsorted(values, cut, "left")) for name, values in ordered.items()}
        left = gone - sum(found.values())
        for name, values in ordered.items():  # of those at the cut the first matrices' go
            more = min(left, int(np.searchsorted(values, cut, "right")) - found[name])
            found[name], left = found[name] + more, left - more
        return found

    def _keep(self, matrix: Matrix, gone: int) -> Tensor:
        if self.pattern.of:
            scores = self.score(matrix)
            return n_of_m(scores, self.pattern.keep, self.pattern.of) if gone else torch.ones(matrix.shape, dtype=torch.bool)
        if gone == 0:
            return torch.ones(matrix.shape, dtype=torch.bool)
        if self.scope == "per row":
            return _keep_by_row(self.score(matrix), self.ordered[matrix.name], gone)
        if gone == self.units(matrix):
            return torch.zeros(matrix.shape, dtype=torch.bool)
        return expanded(_keep(self.units_scores(matrix), self.ordered[matrix.name], gone), self.pattern, matrix.shape)

    def units_scores(self, matrix: Matrix) -> Tensor:
        """The scores of a matrix's units (rows of units, units of a row)."""
        return by_block(self.score(matrix), self.pattern)


def sort_scores(
    matrices: Sequence[Matrix], pattern: Pattern, score: Score, by_row: bool = False, criterion: str = ""
) -> dict[str, np.ndarray]:
    """Matrix name → its units' scores from low to high (units,) float32, or (rows, columns) each row by itself.

    Nothing for N:M, whose weights compete with their neighbours only. VPError for scores that are NaN or infinite.
    """

    def ordered(matrix: Matrix) -> np.ndarray:
        found = by_block(score(matrix), pattern).float().contiguous().numpy().copy()
        if not by_row:
            found = found.reshape(-1)
        found.sort(axis=-1)
        if not np.isfinite(found[..., -1]).all():
            raise VPError(f"The scores of {matrix.name} by {criterion} are not finite: choose another criterion.")
        return found

    return {} if pattern.of else dict(zip((m.name for m in matrices), in_parallel(ordered, matrices), strict=True))


def _nth(ordered: Sequence[np.ndarray], n: int) -> np.float32:
    """The n-th lowest of several sorted arrays of numbers not below 0: whose bits as whole numbers have the same order."""
    low, high = -1, int(np.float32(np.inf).view(np.int32))  # fewer than n are ≤ low, at least n are ≤ high
    while high - low > 1:
        middle = (low + high) // 2
        cut = np.int32(middle).view(np.float32)
        if sum(int(np.searchsorted(values, cut, "right")) for values in ordered) < n:
            low = middle
        else:
            high = middle
    return np.int32(high).view(np.float32)


def _keep(scores: Tensor, ordered: np.ndarray, gone: int) -> Tensor:
    """All but the `gone` lowest scores, the first of equal ones gone first."""
    cut = ordered[gone]  # the lowest that stays
    keep = scores >= float(cut)
    ties = gone - int(np.searchsorted(ordered, cut, "left"))
    if ties:
        equal = (scores.flatten() == float(cut)).nonzero().squeeze(1)[:ties]
        keep.view(-1)[equal] = False
    return keep


def _keep_by_row(scores: Tensor, ordered: np.ndarray, gone: int) -> Tensor:
    """The same within each row: `gone` of every row."""
    if gone == scores.shape[1]:
        return torch.zeros_like(scores, dtype=torch.bool)
    cut = torch.from_numpy(ordered[:, gone])[:, None]
    keep = scores >= cut
    ties = gone - (~keep).sum(dim=1)
    for row in ties.nonzero().squeeze(1).tolist():
        keep[row, (scores[row] == cut[row]).nonzero().squeeze(1)[: int(ties[row])]] = False
    return keep
