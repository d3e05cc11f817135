"""What goes at a step, by the scores: a share of the weights, or what is below a threshold; and the penalty on scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf, log
from typing import Protocol

import torch
from torch import Tensor

from vp_core.ground.errors import VPError
from vp_core.movement.lowest import lowest
from vp_core.movement.scores import Units
from vp_core.movement.shapes import PARTS

SCOPES = ("global", "per part")
_CALLED = {"attention": "attention", "ffn": "the feed-forward networks"}


def logit(share: float) -> float:
    """The S at which σ(S) is this share, −∞ for 0.

    >>> logit(0.5), logit(0.0)
    (0.0, -inf)
    """
    return log(share / (1 - share)) if share > 0 else -inf


class Rule(Protocol):
    """Says which units go when a share `done` (0..1) of the ramp is over, and what to do where that is too much."""

    def gone(self, units: Sequence[Units], done: float) -> list[Tensor]:
        """(n,) bool for each group, True = goes."""

    def advice(self, done: float) -> str:
        """The end of a sentence on a cut that leaves nothing."""


@dataclass(frozen=True)
class ByThreshold:
    """σ(S) > τ·done stays: soft movement (Sanh et al. 2020)."""

    threshold: float
    strength: float

    def gone(self, units: Sequence[Units], done: float) -> list[Tensor]:
        """(n,) bool for each group, True = goes."""
        cut = logit(self.threshold * done)
        return [_free(one) <= cut for one in units]

    def advice(self, done: float) -> str:
        """The end of a sentence on a cut that leaves nothing."""
        return (
            f"by the threshold {self.threshold * done:.3g}: choose a lower threshold (now {self.threshold:g}) or a smaller "
            f"strength λ (now {self.strength:g})."
        )


@dataclass(frozen=True)
class ByShare:
    """The lowest scores go, `until`·done of the encoder's `weights`, exact to one unit, all together or part by part.

    VPError if these units have not as many weights, or too many of them are protected.
    """

    until: float
    scope: str
    weights: int
    units: Sequence[Units]

    def __post_init__(self) -> None:
        """Check that there is as much to take."""
        scored = sum(int(one.group.sizes.sum()) for one in self.units)
        if self.until * self.weights >= scored:
            raise VPError(
                f"{self.until:.1%} of the encoder's linear parameters cannot go, only {scored / self.weights:.1%} of them have "
                "scores: prune less (until), or give scores to more."
            )
        for pool in self._pools:
            sizes = [(self.units[i].group.sizes, self.units[i].protected) for i in pool]
            free = sum(int(size.sum() if held is None else size[~held.cpu()].sum()) for size, held in sizes)
            if self._budget(pool, 1.0) >= free:
                raise VPError(
                    f"{self.until:.1%} of the encoder's linear parameters cannot go while the heads of the earlier run are "
                    "protected: prune less (until)."
                )

    def gone(self, units: Sequence[Units], done: float) -> list[Tensor]:
        """(n,) bool for each group, True = goes."""
        found: dict[int, Tensor] = {}
        for pool in self._pools:
            gone = lowest([_free(units[i]) for i in pool], [self._sizes[i] for i in pool], self._budget(pool, done))
            found |= dict(zip(pool, gone, strict=True))
        return [found[i] for i in range(len(units))]

    def advice(self, done: float) -> str:
        """The end of a sentence on a cut that leaves nothing."""
        per_part = "" if self.scope == "per part" else ", or let both parts give alike (scope per part)"
        now = f"at a share of {self.until * done:.3g}, its scores are the lowest"
        return f"{now}: prune less (until, now {self.until:g}){per_part}."

    @cached_property
    def _pools(self) -> list[list[int]]:
        """Numbers of groups whose units compete."""
        if self.scope == "global":
            return [list(range(len(self.units)))]
        found = [[i for i, one in enumerate(self.units) if one.group.part == part] for part in PARTS]
        return [pool for pool in found if pool]

    @cached_property
    def _sizes(self) -> list[Tensor]:
        """(n,) of each group, where its scores are; equal ones as one number, expanded."""
        found = []
        for one in self.units:
            size, device = one.group.sizes, one.score.device
            alike = bool((size == size[0]).all())
            found.append(size[:1].to(device).expand(len(size)) if alike else size.to(device))
        return found

    def _budget(self, pool: Sequence[int], done: float) -> int:
        scored = [int(one.group.sizes.sum()) for one in self.units]
        return round(done * self.until * self.weights * sum(scored[i] for i in pool) / sum(scored))


def _free(units: Units) -> Tensor:
    """Scores (n,) with those of units that must not go above all others."""
    score = units.score.detach()
    return score if units.protected is None else score.masked_fill(units.protected, inf)


def nothing_left(units: Sequence[Units], gone: Sequence[Tensor], step: int, rule: Rule, done: float) -> str:
    """A sentence if nothing would be left of attention, or of the feed-forward networks, in all layers; else empty."""
    for part in PARTS:
        mine = [one for unit, one in zip(units, gone, strict=True) if unit.group.part == part]
        if mine and all(bool(one.all()) for one in mine):
            return f"At step {step:,} nothing would be left of {_CALLED[part]} {rule.advice(done)}"
    return ""


def penalty_factors(units: Sequence[Units], strength: float, ratio: float | None, decoder: float) -> list[float]:
    """What each group's Σ σ(S) is multiplied by so that the sum is λ_att·mean σ(S_att) + λ_ffn·mean σ(S_ffn).

    λ_ffn is `strength`, λ_att is `ratio` of it (None: as the sizes of both parts are); a decoder's units count `decoder` times.
    """
    count, size = dict.fromkeys(PARTS, 0), dict.fromkeys(PARTS, 0)
    for one in units:
        count[one.group.part] += one.group.units
        size[one.group.part] += int(one.group.sizes.sum())
    by_size = size["attention"] / size["ffn"] if all(size.values()) else 1.0
    share = {"attention": by_size if ratio is None else ratio, "ffn": 1.0}
    return [strength * share[one.group.part] * (decoder if one.group.decoder else 1.0) / count[one.group.part] for one in units]


def penalty(units: Sequence[Units], factors: Sequence[float]) -> Tensor:
    """Σ factor·σ(S) over all units, () with a gradient."""
    return torch.stack([torch.sigmoid(one.score).sum() * factor for one, factor in zip(units, factors, strict=True)]).sum()
