"""How far pruning by learned scores has come: nothing in a warm-up, a cubic ramp, everything in a cool-down."""

from dataclasses import dataclass

from vp_core.ground.errors import VPError


@dataclass(frozen=True)
class Ramp:
    """Shares of a training: in the first `warm_up` nothing goes, in the last `cool_down` masks are fixed, the rest trains on.

    Between them the share done is 1 − (1 − x)³ with x from 0 to 1 (Zhu and Gupta 2017; Sanh et al. 2020). VPError for shares
    that cannot be, or leave nothing between them.
    """

    warm_up: float = 0.1
    cool_down: float = 0.3

    def __post_init__(self) -> None:
        """Check both."""
        if not (0 <= self.warm_up < 1 and 0 <= self.cool_down < 1 and self.warm_up + self.cool_down < 1):
            raise VPError(
                f"A warm-up of {self.warm_up!r} and a cool-down of {self.cool_down!r} of the training leave no time to prune "
                "between them: together they must be below 1."
            )

    def first(self, steps: int) -> int:
        """The step from which on something goes."""
        return round(self.warm_up * steps)

    def last(self, steps: int) -> int:
        """The step from which on masks are fixed."""
        return steps - round(self.cool_down * steps)

    def check(self, steps: int) -> None:
        """VPError unless a training of so many steps has a step between warm-up and cool-down."""
        if self.last(steps) <= self.first(steps):
            raise VPError(
                f"Pruning would begin at step {self.first(steps):,} and end at step {self.last(steps):,} of {steps:,}: train "
                "longer, or with a shorter warm-up and cool-down."
            )

    def at(self, step: int, steps: int) -> float:
        """How much is done after `step` of `steps`, 0 to 1.

        >>> [round(Ramp(0.2, 0.2).at(step, 10), 3) for step in (1, 2, 5, 8, 10)]
        [0.0, 0.0, 0.875, 1.0, 1.0]
        """
        first, last = self.first(steps), self.last(steps)
        x = min(1.0, max(0.0, (step - first) / (last - first)))
        return float(1 - (1 - x) ** 3)
