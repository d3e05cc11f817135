"""From scores to exact masks.

Scores are ranked once into `Ranking`: for every neuron its place in the order of removal of its group. A mask for any
sparsity is then one comparison, masks are nested, and counts are exact: round(s·n) of the n neurons of a group go.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vp_core.ground.errors import VPError, number_or_nan, one_of
from vp_core.ground.names import SCOPES
from vp_core.ground.store import load_tensors, save_tensors
from vp_core.model.projections import Projection
from vp_core.model.units import UnitGroup, row_group


def check_sparsity(value: object) -> float:
    """`value` as a share between 0 and 1; VPError otherwise.

    >>> check_sparsity("0.3")
    0.3
    """
    sparsity = number_or_nan(value)
    if not 0 <= sparsity <= 1:
        raise VPError(f"The sparsity {value!r} is not a number between 0 and 1: use 0.3 to remove 30 % of the rows.")
    return sparsity


def count_removed(sparsity: float, units: int) -> int:
    """How many of `units` go at a sparsity: round(s·n), half to even.

    >>> count_removed(0.25, 10), count_removed(0.0, 10), count_removed(1.0, 10)
    (2, 0, 10)
    """
    return round(sparsity * units)


_COLUMNS = ".columns"


@dataclass(frozen=True, eq=False)
class Plan:
    """Which rows survive: projection name → keep (d_out,) bool, True = survives; `sparsity` is a share of `budget`.

    `columns` are the inputs that surviving rows still read, where masks of single weights left some that none does: projection
    name → (d_in,) bool, True = read; absent: all.
    """

    keep: Mapping[str, Tensor]
    criterion: str
    scope: str
    sparsity: float
    model: str = ""
    budget: str = "units"
    columns: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Rows of all projections that the plan speaks of."""
        return sum(len(keep) for keep in self.keep.values())

    @property
    def rows_removed(self) -> int:
        """Rows that go."""
        return self.rows - sum(int(keep.sum()) for keep in self.keep.values())

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Plan)
            and (self.criterion, self.scope, self.sparsity, self.model, self.budget)
            == (other.criterion, other.scope, other.sparsity, other.model, other.budget)
            and _equal(self.keep, other.keep)
            and _equal(self.columns, other.columns)
        )

    def __repr__(self) -> str:
        return (
            f"Plan({self.criterion}, {self.scope}, sparsity {self.sparsity:g}: {self.rows_removed:,} of {self.rows:,} rows go)"
        )

    def save(self, path: str | Path) -> None:
        """Write to a safetensors file, atomically."""
        about = {"criterion": self.criterion, "scope": self.scope, "model": self.model, "budget": self.budget}
        tensors = dict(self.keep) | {name + _COLUMNS: columns for name, columns in self.columns.items()}
        save_tensors(path, tensors, kind="plan", about={**about, "sparsity": json.dumps(self.sparsity)})

    @classmethod
    def load(cls, path: str | Path) -> "Plan":
        """Read what `save` wrote; VPError if the file is broken or something else."""
        tensors, about = load_tensors(path, kind="plan")
        columns = {name.removesuffix(_COLUMNS): t for name, t in tensors.items() if name.endswith(_COLUMNS)}
        keep = {name: t for name, t in tensors.items() if not name.endswith(_COLUMNS)}
        how = about["criterion"], about["scope"], json.loads(about["sparsity"]), about["model"], about["budget"]
        return cls(keep, *how, columns)


def _equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(mask, other[name]) for name, mask in one.items())


def masks(goes: Iterable[tuple[UnitGroup, np.ndarray]]) -> dict[str, Tensor]:
    """Projection name → keep (d_out,): what survives when of each group the units go where (units,) bool is True."""
    keep: dict[str, Tensor] = {}
    for group, gone in goes:
        for projection, rows in group.rows:
            mask = keep.setdefault(projection.name, torch.ones(projection.d_out, dtype=torch.bool))
            mask[rows[torch.from_numpy(gone)].flatten()] = False
    return keep


def everything(groups: Sequence[UnitGroup]) -> Plan:
    """The plan that takes all of these units: the same by any criterion and in any scope."""
    return Plan(masks((group, np.ones(len(group), dtype=bool)) for group in groups), "any", "any", 1.0)


@dataclass(frozen=True, eq=False)
class Ranking:
    """The order of removal: group name → place (units,) of each unit among those it competes with; lower goes earlier.

    By group name, `pool` says with whom its units compete, and `pool_size` how many those are. `groups` are the groups of
    units (`vp_core.model.units`); those of single rows have the name of their projection.
    """

    place: Mapping[str, np.ndarray]
    pool: Mapping[str, str]
    pool_size: Mapping[str, int]
    groups: Sequence[UnitGroup]
    criterion: str
    scope: str
    model: str = ""

    def plan(self, share: float, sparsity: float | None = None, budget: str = "units") -> Plan:
        """The exact mask when this share of the units goes, which spends the `sparsity` (default: the share) of a budget.

        Raises VPError for a share outside 0..1.
        """
        share = check_sparsity(share)
        goes = (self.place[g.name] < count_removed(share, self.pool_size[g.name]) for g in self.groups)
        keep, sparsity = masks(zip(self.groups, goes, strict=True)), share if sparsity is None else sparsity
        return Plan(keep, self.criterion, self.scope, sparsity, self.model, budget)

    def only(self, name: str, units: int) -> Plan:
        """The exact masks when so many units of one group go, the first in its order, and none of the others'."""
        group = next(g for g in self.groups if g.name == name)
        return replace(self, groups=(group,)).taking({name: units}, units / len(group))

    def taking(self, counts: Mapping[str, int], sparsity: float = 0.0, budget: str = "units") -> Plan:
        """The exact masks when so many units of each group go (group name → units), the first in its order."""
        keep = masks((g, np.isin(np.arange(len(g)), self.order(g.name)[: counts.get(g.name, 0)])) for g in self.groups)
        return Plan(keep, self.criterion, self.scope, sparsity, self.model, budget)

    def gone(self, name: str, share: float) -> int:
        """How many units of a group go with this share of all."""
        return int((self.place[name] < count_removed(share, self.pool_size[name])).sum())

    def counts(self, share: float) -> dict[str, int]:
        """How many units of each group go: group name → units."""
        return {g.name: self.gone(g.name, share) for g in self.groups}

    def dealt(self, seed: int, criterion: str) -> "Ranking":
        """The places of each group dealt out to its units at random: the same number goes from every group, whatever the share.

        The hands depend on the seed and the sizes of the groups alone: what two rankings of the same units remove is dealt
        to the same places, so that units that are first in both stay first.
        """
        rng = np.random.default_rng(seed)
        place = {g.name: self.place[g.name][rng.permutation(len(g))] for g in self.groups}
        return replace(self, place=place, criterion=criterion)

    def order(self, name: str) -> np.ndarray:
        """The indices (units,) of a group's units, first to go first."""
        return np.argsort(self.place[name])

    def sparsity_by_group(self, shares: Sequence[float]) -> dict[str, np.ndarray]:
        """The part of every group that goes at each share of all units: group name → (len(shares),), values 0..1.

        This is the data of the paper's fig. 3 for a whole slider at once. Raises VPError for a share outside 0..1.
        """
        parts = {}
        for name, place in self.place.items():
            cuts = [count_removed(check_sparsity(share), self.pool_size[name]) for share in shares]
            parts[name] = np.searchsorted(np.sort(place), cuts) / len(place)
        return parts


def rank(
    scores: Mapping[str, Tensor],
    groups: Sequence[UnitGroup] | Sequence[Projection],
    scope: str = "per type",
    criterion: str = "",
    model: str = "",
) -> Ranking:
    """Order the units of `groups` (of projections: their rows) by score, lowest first, ties by layer, then type, then index.

    Units compete with those of their kind in all layers (`per type`, paper eq. 5), with those of their own group (`per
    layer`), or all together: by the scores as they are (`global`, `measured`), or after each group's were divided by their
    sum (`scaled`), so that layers whose numbers are large are not spared for that alone. `scores` are group name → (units,).
    Raises VPError for an unknown scope.
    """
    one_of("scope", scope, SCOPES)
    ranked = [row_group(g) if isinstance(g, Projection) else g for g in groups]
    pools: dict[str, list[UnitGroup]] = {}
    for group in ranked:
        pools.setdefault({"per type": group.kind, "per layer": group.name}.get(scope, "all"), []).append(group)
    place: dict[str, np.ndarray] = {}
    pool: dict[str, str] = {}
    size: dict[str, int] = {}
    for label, members in pools.items():
        values = np.concatenate([_comparable(scores[m.name].double().numpy(), scope) for m in members])
        places = np.empty(len(values), dtype=np.int64)
        places[np.argsort(values, kind="stable")] = np.arange(len(values))
        splits = np.split(places, np.cumsum([len(m) for m in members])[:-1])
        for member, part in zip(members, splits, strict=True):
            place[member.name], pool[member.name], size[member.name] = part, label, len(values)
    return Ranking({g.name: place[g.name] for g in ranked}, pool, size, tuple(ranked), criterion, scope, model)


def _comparable(scores: np.ndarray, scope: str) -> np.ndarray:
    if scope != "scaled":
        return scores
    total = np.sort(scores[np.isfinite(scores)]).sum()  # sorted: to the last bit the same in whatever order they are dealt
    return scores / max(total, 1e-300)
