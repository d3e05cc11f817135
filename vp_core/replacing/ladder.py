"""What takes the place of what was removed, a ladder, each rung better informed: zero, mean, least squares, refit.

| rung | single rows | units with columns in a consumer |
|---|---|---|
| `zero` | nothing, bias and all | their columns go |
| `mean` | the row's mean output (paper, section 3.1) | the mean of what the consumer read: b' = b + W_P μ_P |
| `least squares` | as mean; consumers of value and ffn_in are solved again | the consumer is solved again (`replacing.solve`) |
| `refit` | every projection is solved again, in forward order (`vp_core.replacing.refit`) | the same |
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from vp_core.ground.errors import one_of
from vp_core.ground.names import REPLACEMENTS
from vp_core.ground.parallel import in_parallel
from vp_core.measuring.covariance import LARGE, READ_AT, Covariances, pack, unpack
from vp_core.measuring.statistics import Statistics
from vp_core.model.projections import CONSUMERS, Layer, Projection, linear_map, weight_of
from vp_core.model.units import UnitGroup, context_columns
from vp_core.ranking.plan import Ranking
from vp_core.replacing.solve import DEFAULT_RIDGE, HELD_OUT_DENSITY, RIDGES, Factor, best_ridge, factorise, output_error, solved


def constants(replacement: str, statistics: Statistics, units: Sequence[UnitGroup] = ()) -> Mapping[str, Tensor]:
    """Projection name → (d_out,) constants that removed rows put out.

    Rows put out their mean, or zero. Of `units` with columns the consumer takes care, and pairs leave nothing; where a whole
    sub-layer goes its output is a constant like a row's. Raises VPError for an unknown replacement.
    """
    one_of("replacement", replacement, REPLACEMENTS)
    nothing = {p.name for group in units for p, _ in group.rows if group.kind != p.type and p.type not in READ_AT}
    return {
        name: torch.zeros_like(moments.mean) if replacement == "zero" or name in nothing else moments.mean
        for name, moments in statistics.moments.items()
    }


class Consumers:
    """Every matrix that reads columns which a ranking removes, ready to be solved for any number of them.

    The first solution of a consumer chooses λ and keeps a factor (`replacing.solve.Factor`); the next ones cost milliseconds.
    """

    def __init__(self, model: PreTrainedModel, layers: Sequence[Layer], ranking: Ranking, covariances: Covariances) -> None:
        self._model, self._covariances = model, covariances
        self._orders = _orders(layers, ranking)
        self._large = sum(8 * order.numel() ** 2 for *_, order in self._orders) > LARGE
        self._factors: dict[str, Factor | _PackedFactor] = {}

    def solve(self, replacement: str, gone: Mapping[str, int]) -> dict[str, tuple[Tensor, Tensor]]:
        """Weights of the consumers when so many units of each group are gone, float64.

        Projection name → (W' (d_out, d_in), b' (d_out,)).

        `replacement` is `zero`, `mean` or `least squares`; `gone` is group name → units, the first in the group's order (0 of
        a group that is not there). Consumers that lose nothing are left out.
        """
        wanted = []
        for consumer, group, order in self._orders:
            if gone.get(group):
                wanted.append((consumer, order, order.numel() - gone[group] * order.shape[1]))
        found = in_parallel(lambda one: self._solution(replacement, *one), wanted)
        return {consumer.name: solution for (consumer, _, _), solution in zip(wanted, found, strict=True)}

    def errors(self, group: str, outer: Mapping[str, Tensor]) -> np.ndarray | None:
        """(units + 1,) E eᵀΓe of the consumer when 0, 1, … all units of a group are gone, by least squares; None without one.

        Γ = `outer` (d_out, d_out) by the consumer's name (`vp_core.replacing.solve.Factor.errors`).
        """
        for consumer, name, order in self._orders:
            if name == group:
                weight, _ = weight_and_bias(self._model, consumer)
                by_columns = self._factor_of(consumer, order.flatten()).errors(weight, outer[consumer.name])
                return by_columns[:: order.shape[1]].flip(0).numpy()
        return None

    def _solution(self, replacement: str, consumer: Projection, order: Tensor, kept: int) -> tuple[Tensor, Tensor]:
        weight, bias = weight_and_bias(self._model, consumer)
        flat = order.flatten()
        if replacement in ("zero", "mean"):
            new = weight.index_fill(1, flat[kept:], 0)
            mean = self._covariances[_site(consumer)].mean
            return new, bias if replacement == "zero" else bias + (weight - new) @ mean
        new, new_bias = self._factor_of(consumer, flat).solve(weight, bias, kept)
        # those of all layers are there together until the model is made of them: as it keeps them, where they are many
        return new.to(weight_of(self._model, consumer).dtype) if self._large else new, new_bias

    def _factor_of(self, consumer: Projection, order: Tensor) -> Factor:
        if consumer.name not in self._factors:
            factor = self._factor(consumer, order)
            self._factors[consumer.name] = _PackedFactor.of(factor) if self._large else factor
        kept = self._factors[consumer.name]
        return kept if isinstance(kept, Factor) else kept.unpacked()

    def _factor(self, consumer: Projection, order: Tensor) -> Factor:
        site, (weight, bias) = _site(consumer), weight_and_bias(self._model, consumer)
        ridge = DEFAULT_RIDGE
        if site in self._covariances.held_out and self._covariances.held_out[site].count:
            seen, unseen = self._covariances.fitted(site), self._covariances.held_out[site]
            kept, fitted = round(HELD_OUT_DENSITY * len(order)), seen.matrix()

            def error(candidate: float) -> float:
                new = solved(fitted, seen.mean, weight, bias, order, kept, candidate)
                return output_error(unseen.matrix(), unseen.mean, weight, bias, *new)

            ridge = best_ridge(RIDGES, error)
        moments = self._covariances[site]
        return factorise(moments.matrix(), moments.mean, order, ridge)


@dataclass(frozen=True, eq=False)
class _PackedFactor:
    """A Factor in a quarter of the memory: its triangle (n(n + 1)/2,) in float32."""

    order: Tensor
    upper: Tensor
    mean: Tensor
    ridge: float

    @classmethod
    def of(cls, factor: Factor) -> "_PackedFactor":
        return cls(factor.order, pack(factor.lower.T), factor.mean, factor.ridge)

    def unpacked(self) -> Factor:
        """The factor again, rounded to float32."""
        return Factor(self.order, unpack(self.upper, len(self.order)).T, self.mean, self.ridge)


def _orders(layers: Sequence[Layer], ranking: Ranking) -> list[tuple[Projection, str, Tensor]]:
    """(consumer, group whose units it reads, columns (units, columns of a unit), those that stay longest first)."""
    found = []
    for group in ranking.groups:
        consumer, columns = group.consumer, group.columns
        if group.kind in CONSUMERS:  # single rows that one matrix reads
            layer = layers[group.layer]
            consumer = layer.projections[CONSUMERS[group.kind]]
            columns = context_columns(layer) if group.kind == "value" else torch.arange(len(group))[:, None]
        if consumer is not None and columns is not None:
            last_first = torch.from_numpy(ranking.order(group.name)[::-1].copy())
            found.append((consumer, group.name, columns[last_first]))
    return found


def _site(consumer: Projection) -> str:
    return f"{consumer.layer}.{READ_AT[consumer.type]}"


def weight_and_bias(model: PreTrainedModel, p: Projection) -> tuple[Tensor, Tensor]:
    """(weight (d_out, d_in), bias (d_out,)) of a projection, float64 on the processor; zeros where it has no bias."""
    weight = weight_of(model, p).detach().cpu().double()
    bias = linear_map(model, p.path).bias
    return weight, weight.new_zeros(p.d_out) if bias is None else bias.detach().cpu().double()[p.part.index]
