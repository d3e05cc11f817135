"""When how much goes: at which optimiser steps a gradual pruning cuts, and what share is gone after each."""

from dataclasses import dataclass

from vp_core.ground.errors import VPError, one_of

RAMPS = ("linear", "cubic")


@dataclass(frozen=True)
class Cuts:
    """Cuts at the steps `first`, `first + every`, … until a share `until` of the units is gone.

    `linear` (Variance Pruning, section 4): `share` more at each cut; the defaults are the paper's, 10 % at steps 500, 1,000,
    1,500, 2,000 and 2,500. `cubic` (Zhu and Gupta 2017, equation 1): s_t = until·(1 − (1 − t/n)³) after cut t of the n
    that `until / share` gives: most goes early. `first` 0 cuts before the first step. VPError for what cannot be.
    """

    first: int = 500
    every: int = 500
    share: float = 0.1
    until: float = 0.5
    ramp: str = "linear"

    def __post_init__(self) -> None:
        """Check every field."""
        one_of("ramp", self.ramp, RAMPS)
        if self.first < 0 or self.every < 1:
            raise VPError(f"Cuts begin at step 0 or later and come every 1 step or more, not {self.first} and {self.every}.")
        if not 0 < self.until < 1:
            raise VPError(f"The share {self.until!r} to prune until must lie between 0 and 1: all units would leave no model.")
        if not 0 < self.share <= 1:
            raise VPError(f"The share {self.share!r} of one cut must be above 0 and at most 1: the paper cuts 0.1.")

    @property
    def number(self) -> int:
        """How many cuts there are."""
        return max(1, -(-round(self.until * 1e9) // round(self.share * 1e9)))

    @property
    def last(self) -> int:
        """The step after which the last cut is made."""
        return self.first + (self.number - 1) * self.every

    def at(self, step: int) -> float | None:
        """The share of all units that is gone after the cut at a step; None if none is made there.

        >>> [Cuts().at(step) for step in (500, 750, 1000, 2500, 3000)]
        [0.1, None, 0.2, 0.5, None]
        """
        number, rest = divmod(step - self.first, self.every)
        if rest or not 0 <= number < self.number:
            return None
        done = (number + 1) / self.number
        if self.ramp == "cubic":
            return self.until * (1 - (1 - done) ** 3)
        return min(self.until, round((number + 1) * self.share, 12))

    def check(self, steps: int) -> None:
        """VPError unless the last cut comes before the end of a training of so many steps."""
        if self.last >= steps:
            raise VPError(
                f"The last cut would be made at step {self.last:,}, but the training ends after {steps:,} steps: cut "
                "earlier or more often, or train longer."
            )
