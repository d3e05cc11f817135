"""What takes the place of what was removed, a ladder, each rung better informed: zero, mean, least squares, refit.

| rung | single rows | units with columns in a consumer |
|---|---|---|
| `zero` | nothing, bias and all | their columns go |
| `mean` | the row's mean output (paper, section 3.1) | the mean of what the consumer read: b' = b + W_P μ_P |
| `least squares` | as mean; consumers of value and ffn_in are solved again | the consumer is solved again (`replacing.solve`) |
| `refit` | every projection is solved again, in forward order (`vp_core.replacing.refit`) | the same |
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from vp_core.ground.errors import one_of
from vp_core.ground.kept import NOWHERE, Shelf
from vp_core.ground.names import REPLACEMENTS
from vp_core.ground.parallel import in_parallel
from vp_core.ground.work import say
from vp_core.measuring.covariance import LARGE, READ_AT, Covariances, pack, unpack
from vp_core.measuring.statistics import Statistics
from vp_core.model.projections import CONSUMERS, Layer, Projection, linear_map, weight_of
from vp_core.model.units import UnitGroup, context_columns
from vp_core.ranking.plan import Ranking
from vp_core.replacing.solve import DEFAULT_RIDGE, RIDGES, Factor, best_ridge, factorise, held_out_error


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

    The first solution of a consumer chooses λ and keeps a factor (`replacing.solve.Factor`), on the `shelf` under `key` too;
    the next ones cost milliseconds. `covariances()` are asked for when something is solved that is not there.
    """

    def __init__(
        self, model: PreTrainedModel, layers: Sequence[Layer], ranking: Ranking, covariances: Callable[[], Covariances],
        shelf: Shelf = NOWHERE, key: Sequence[object] = (),
    ) -> None:  # fmt: skip
        self._model, self._covariances, self._shelf, self._key = model, covariances, shelf, key
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
        new = replacement == "least squares" and self._fetch([(c, order.flatten()) for c, order, _ in wanted])
        if new or replacement == "mean":
            self._covariances()  # measured here, and not in a thread that the measuring would wait for
        solutions = in_parallel(lambda one: self._solution(replacement, *one), wanted)
        new = new and len(wanted) > 1  # the first time takes seconds, the next ones milliseconds
        found: dict[str, tuple[Tensor, Tensor]] = {}
        if new:
            say("solving what stays: matrix", 0, len(wanted))
        for (consumer, _, _), solution in zip(wanted, solutions, strict=True):
            found[consumer.name] = solution
            if new:
                say("solving what stays: matrix", len(found), len(wanted))
        return found

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
            return new, bias if replacement == "zero" else bias + (weight - new) @ self._covariances()[_site(consumer)].mean
        new, new_bias = self._factor_of(consumer, flat).solve(weight, bias, kept)
        # those of all layers are there together until the model is made of them: as it keeps them, where they are many
        return new.to(weight_of(self._model, consumer).dtype) if self._large else new, new_bias

    def _factor_of(self, consumer: Projection, order: Tensor) -> Factor:
        if consumer.name not in self._factors:
            factor = self._factor(consumer, order)
            triangle = pack(factor.lower.T) if self._large else factor.lower[_lower(len(order))]
            ridge = torch.tensor(factor.ridge, dtype=torch.float64)
            self._shelf.put(self._place(consumer, order), {"triangle": triangle, "mean": factor.mean, "ridge": ridge})
            self._factors[consumer.name] = _PackedFactor(order, triangle, factor.mean, factor.ridge) if self._large else factor
        kept = self._factors[consumer.name]
        return kept if isinstance(kept, Factor) else kept.unpacked()

    def _fetch(self, wanted: Sequence[tuple[Projection, Tensor]]) -> bool:
        """Take those from the shelf that are there and not in memory; whether some are to be solved yet."""
        for consumer, order in wanted:
            if consumer.name in self._factors or (found := self._shelf.get(self._place(consumer, order))) is None:
                continue
            triangle, mean, ridge = found["triangle"], found["mean"], float(found["ridge"])
            if self._large:
                self._factors[consumer.name] = _PackedFactor(order, triangle, mean, ridge)
            else:
                lower = torch.zeros(len(order), len(order), dtype=torch.float64)
                lower[_lower(len(order))] = triangle
                self._factors[consumer.name] = Factor(order, lower, mean, ridge)
        return any(consumer.name not in self._factors for consumer, _ in wanted)

    def _place(self, consumer: Projection, order: Tensor) -> tuple[object, ...]:
        """The key of a factor: it depends on the inputs, on the order and on nothing else."""
        return "solutions", *self._key, consumer.name, self._large, order.tolist()

    def _factor(self, consumer: Projection, order: Tensor) -> Factor:
        site, covariances = _site(consumer), self._covariances()
        ridge = DEFAULT_RIDGE
        if site in covariances.held_out and covariances.held_out[site].count:
            seen, unseen = covariances.fitted(site), covariances.held_out[site]
            pair = (seen.matrix(), seen.mean), (unseen.matrix(), unseen.mean)
            ridge = best_ridge(RIDGES, held_out_error(*pair, weight_and_bias(self._model, consumer)[0], order))
        moments = covariances[site]
        return factorise(moments.matrix(), moments.mean, order, ridge)


@dataclass(frozen=True, eq=False)
class _PackedFactor:
    """A Factor in a quarter of the memory: its triangle (n(n + 1)/2,) in float32."""

    order: Tensor
    upper: Tensor
    mean: Tensor
    ridge: float

    def unpacked(self) -> Factor:
        """The factor again, rounded to float32."""
        return Factor(self.order, unpack(self.upper, len(self.order)).T, self.mean, self.ridge)


def _lower(n: int) -> Tensor:
    return torch.ones(n, n, dtype=torch.bool).tril()


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
