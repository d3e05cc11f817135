"""A histogram of any number of values in fixed memory, with exact count, sum, minimum and maximum.

Each octave [2^e, 2^(e+1)) is cut into 32 bins of equal width, so a bin is at most 1/32 of its value wide and its edges are
exact in float32: the bin of a value is the top bits of its floating-point number.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_BITS = 5
_SHIFT = 23 - _BITS  # float32 has 23 bits of mantissa
_LOWEST, _HIGHEST = -24, 24
BINS = (_HIGHEST - _LOWEST) << _BITS
_FIRST = (_LOWEST + 127) << _BITS
"""Values below 2^-24 are counted in the first bin, those above 2^24 in the last one."""


def edges() -> Tensor:
    """The edges of the bins (BINS + 1,), float64; the first is 0 and the last infinite."""
    index = torch.arange(BINS + 1, dtype=torch.float64)
    octave = torch.div(index, 1 << _BITS, rounding_mode="floor")
    found = (1 + (index - octave * (1 << _BITS)) / (1 << _BITS)) * torch.exp2(octave + _LOWEST)
    found[0], found[-1] = 0, torch.inf
    return found


def bins_of(values: Tensor) -> Tensor:
    """The bin of each of `values` ≥ 0 (any shape), as edges()[i] ≤ value < edges()[i + 1].

    >>> b = bins_of(torch.tensor([0.0, 1.0, 1.04]))
    >>> b.tolist() == [0, 24 * 32, 24 * 32 + 1]      # 1.04 is in [1 + 1/32, 1 + 2/32)
    True
    """
    bits = values.to(torch.float32).contiguous().view(torch.int32)
    return ((bits >> _SHIFT) - _FIRST).clamp_(0, BINS - 1).long()


@dataclass
class Histogram:
    """Histograms of n variables: `counts` (n, BINS) int64; `total` (n,) float64, `low` and `high` (n,) float32."""

    counts: Tensor
    total: Tensor
    low: Tensor
    high: Tensor

    @classmethod
    def empty(cls, n: int) -> "Histogram":
        """Histograms of n variables of which nothing was seen."""
        counts = torch.zeros(n, BINS, dtype=torch.long)
        return cls(counts, torch.zeros(n, dtype=torch.float64), torch.full((n,), torch.inf), torch.zeros(n))

    def add(self, which: Sequence[int], values: Tensor) -> None:
        """Add `values` (len(which), tokens), all ≥ 0 and finite, to the variables at these positions."""
        if values.shape[1] == 0:
            return
        rows, index = len(which), torch.tensor(which)
        places = bins_of(values) + torch.arange(rows)[:, None] * BINS
        self.counts[index] += torch.bincount(places.flatten(), minlength=rows * BINS).view(rows, BINS)
        self.total[index] += values.sum(dim=1, dtype=torch.float64)
        self.low[index] = torch.minimum(self.low[index], values.amin(dim=1))
        self.high[index] = torch.maximum(self.high[index], values.amax(dim=1))

    def merge(self, other: "Histogram") -> None:
        """Add what another one has seen of the same n variables."""
        self.counts, self.total = self.counts + other.counts, self.total + other.total
        self.low, self.high = torch.minimum(self.low, other.low), torch.maximum(self.high, other.high)

    @property
    def count(self) -> Tensor:
        """Values seen (n,)."""
        return self.counts.sum(dim=1)

    def mean(self) -> Tensor:
        """Mean of the values seen (n,), float64, exact; 0 where nothing was seen."""
        return self.total / self.count.clamp_min(1)

    def quantile(self, q: float) -> Tensor:
        """(n,): the value that a share `q` of all values stays below, to within a bin; never outside the exact range.

        0 where nothing was seen.
        """
        below = torch.cumsum(self.counts, dim=1)
        wanted = (q * self.count.double()).ceil().clamp_min(1).long()
        place = torch.searchsorted(below, wanted[:, None])[:, 0].clamp_max(BINS - 1)
        grid = edges()
        upper = grid[place + 1].minimum(self.high.double())
        return torch.where(self.count > 0, torch.maximum(upper, self.low.double()), 0.0)

    def share_below(self, threshold: float) -> Tensor:
        """(n,): the share of values below a threshold, exact at edges and interpolated within a bin."""
        grid = edges()
        grid[-1] = 2 * grid[-2]
        place = int(bins_of(torch.tensor(threshold)))
        part = (threshold - grid[place]) / (grid[place + 1] - grid[place])
        inside = self.counts[:, place] * part.clamp(0, 1)
        share = (self.counts[:, :place].sum(dim=1) + inside) / self.count.clamp_min(1)
        share = torch.where(threshold > self.high, 1.0, torch.where(threshold <= self.low, 0.0, share))
        return torch.where(self.count > 0, share, 0.0)
