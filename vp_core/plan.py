"""From scores to exact masks.

Scores are ranked once into `Ranking`: for every neuron its place in the order of removal of its group. A mask for any
sparsity is then one comparison, masks are nested, and counts are exact: round(s·n) of the n neurons of a group go.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vp_core.errors import VPError, one_of
from vp_core.projections import Projection
from vp_core.store import load_tensors, save_tensors

SCOPES = ("per type", "per layer", "global")


def check_sparsity(value: object) -> float:
    """`value` as a share between 0 and 1; VPError otherwise.

    >>> check_sparsity("0.3")
    0.3
    """
    try:
        sparsity = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        sparsity = float("nan")
    if not 0 <= sparsity <= 1:
        raise VPError(f"The sparsity {value!r} is not a number between 0 and 1: use 0.3 to remove 30 % of the rows.")
    return sparsity


def count_removed(sparsity: float, units: int) -> int:
    """How many of `units` go at a sparsity: round(s·n), half to even.

    >>> count_removed(0.25, 10), count_removed(0.0, 10), count_removed(1.0, 10)
    (2, 0, 10)
    """
    return round(sparsity * units)


@dataclass(frozen=True, eq=False)
class Plan:
    """Which rows survive: projection name → keep (d_out,) bool, True = survives."""

    keep: Mapping[str, Tensor]
    criterion: str
    scope: str
    sparsity: float
    model: str = ""

    @property
    def rows(self) -> int:
        return sum(len(keep) for keep in self.keep.values())

    @property
    def rows_removed(self) -> int:
        return self.rows - sum(int(keep.sum()) for keep in self.keep.values())

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Plan)
            and (self.criterion, self.scope, self.sparsity, self.model)
            == (other.criterion, other.scope, other.sparsity, other.model)
            and self.keep.keys() == other.keep.keys()
            and all(torch.equal(keep, other.keep[name]) for name, keep in self.keep.items())
        )

    def __repr__(self) -> str:
        return (
            f"Plan({self.criterion}, {self.scope}, sparsity {self.sparsity:g}: {self.rows_removed:,} of {self.rows:,} rows go)"
        )

    def save(self, path: str | Path) -> None:
        """Write to a safetensors file, atomically."""
        about = {"criterion": self.criterion, "scope": self.scope, "model": self.model}
        save_tensors(path, dict(self.keep), kind="plan", about={**about, "sparsity": json.dumps(self.sparsity)})

    @classmethod
    def load(cls, path: str | Path) -> "Plan":
        """Read what `save` wrote; VPError if the file is broken or something else."""
        keep, about = load_tensors(path, kind="plan")
        return cls(keep, about["criterion"], about["scope"], json.loads(about["sparsity"]), about["model"])


@dataclass(frozen=True, eq=False)
class Ranking:
    """The order of removal: projection name → place (d_out,) of each neuron in its group; lower goes earlier.

    By projection name, `group` says with whom its neurons compete, and `group_size` how many those are.
    """

    place: Mapping[str, np.ndarray]
    group: Mapping[str, str]
    group_size: Mapping[str, int]
    criterion: str
    scope: str
    model: str = ""

    def plan(self, sparsity: float) -> Plan:
        """The exact mask at one sparsity."""
        sparsity = check_sparsity(sparsity)
        keep = {
            name: torch.from_numpy(place >= count_removed(sparsity, self.group_size[name]))
            for name, place in self.place.items()
        }
        return Plan(keep, self.criterion, self.scope, sparsity, self.model)

    def sparsity_by_projection(self, sparsities: Sequence[float]) -> dict[str, np.ndarray]:
        """The share of removed rows in every projection at each sparsity: name → (len(sparsities),), values 0..1.

        This is the data of the paper's fig. 3 for a whole slider at once.
        """
        shares = {}
        for name, place in self.place.items():
            cuts = [count_removed(check_sparsity(s), self.group_size[name]) for s in sparsities]
            shares[name] = np.searchsorted(np.sort(place), cuts) / len(place)
        return shares


def rank(
    scores: Mapping[str, Tensor],
    projections: Sequence[Projection],
    scope: str = "per type",
    criterion: str = "",
    model: str = "",
) -> Ranking:
    """Order the neurons of `projections` by score, lowest first, ties by layer, then type, then index.

    Neurons compete within a group: all layers of one projection type (`per type`, paper eq. 5), each matrix of each
    layer by itself (`per layer`), or all together (`global`).
    """
    one_of("scope", scope, SCOPES)
    group_of = {
        "per type": lambda p: p.type,
        "per layer": lambda p: p.name,
        "global": lambda p: "all",
    }[scope]
    groups: dict[str, list[Projection]] = {}
    for projection in projections:
        groups.setdefault(group_of(projection), []).append(projection)
    place: dict[str, np.ndarray] = {}
    group: dict[str, str] = {}
    size: dict[str, int] = {}
    for label, members in groups.items():
        values = np.concatenate([scores[p.name].numpy() for p in members])
        places = np.empty(len(values), dtype=np.int64)
        places[np.argsort(values, kind="stable")] = np.arange(len(values))
        splits = np.split(places, np.cumsum([p.d_out for p in members])[:-1])
        for projection, part in zip(members, splits, strict=True):
            place[projection.name], group[projection.name], size[projection.name] = part, label, len(values)
    return Ranking({p.name: place[p.name] for p in projections}, group, size, criterion, scope, model)
