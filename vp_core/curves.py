"""Recipes × sparsities → a tidy table of scores that can be stopped and resumed; no point is computed twice.

pandas is imported where a table is made, not before: a single score (`point`) needs none.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock

from vp_core.asking.kinds.question import Score
from vp_core.ground.chosen import units_today
from vp_core.ground.errors import VPError
from vp_core.ground.store import atomic
from vp_core.ground.work import checkpoint
from vp_core.ranking.plan import check_sparsity
from vp_core.recipes import Recipe, recipe_name
from vp_core.study import Study

if TYPE_CHECKING:
    import pandas as pd

CurveRow = dict[str, Any]
COLUMNS = (
    "recipe", "criterion", "sparsity", "metric", "value", "low", "high", "n", "seconds", "rows_removed", "rows",
    "parameters_removed", "parameters", "scope", "replacement", "types", "estimator", "seed", "units", "basis",
    "budget", "steps", "calibration", "precision", "others",
    "model", "task", "key", "right",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Curve:
    """A tidy table, one row a point, with the columns COLUMNS (`right` holds packed bits: which examples were right)."""

    table: "pd.DataFrame"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Curve) and self.table.equals(other.table)

    def _repr_html_(self) -> str:
        return self.table[["criterion", "sparsity", "metric", "value", "low", "high", "n"]].to_html(index=False)

    def save(self, path: str | Path) -> None:
        """Write as parquet, atomically."""
        with atomic(path) as temporary:
            self.table.to_parquet(temporary, index=False)

    @classmethod
    def load(cls, path: str | Path) -> "Curve":
        """Read what `save` wrote, also that of version 0.4; VPError if the file is broken or something else."""
        import pandas as pd

        try:
            # in one go: a reader that opens the path twice meets two files when another process replaces it in between
            table = pd.read_parquet(BytesIO(Path(path).read_bytes()))
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise VPError(f"{str(path)!r} cannot be read as a curve ({reason}): move it away and run again.") from error
        table = _today(table)
        if not set(COLUMNS) <= set(table.columns):
            raise VPError(f"{str(path)!r} is a table, but no curve of this tool: choose another file.")
        return cls(table[list(COLUMNS)])


class CurveStore:
    """A cache of finished points by key, in a parquet file if a path is given. Safe for threads and for processes.

    Raises VPError if the folder is not there, or the file is broken or something else.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = Path(path) if path else None
        self._rows: dict[str, CurveRow] = {}
        self._lock = Lock()
        if self.path and not self.path.parent.is_dir():
            raise VPError(f"The folder {str(self.path.parent)!r} is not there: make it first, or choose another place.")
        if self.path and self.path.exists():
            self._read()

    def get(self, key: str) -> CurveRow | None:
        """The finished point of a key (`Study.key`), None if there is none."""
        with self._lock:
            return self._rows.get(key)

    def add(self, row: CurveRow) -> None:
        """Keep a finished point; it is on disk when this returns."""
        with self._lock:
            self._rows[row["key"]] = row
            if self.path:
                with FileLock(self.path.with_name(f".{self.path.name}.lock")):
                    if self.path.exists():
                        self._read()  # another process may have added points
                    Curve(_table(self._rows.values())).save(self.path)

    def _read(self) -> None:
        assert self.path
        for row in Curve.load(self.path).table.to_dict("records"):
            self._rows.setdefault(str(row["key"]), {str(k): v for k, v in row.items()})


def _table(rows) -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame(list(rows), columns=list(COLUMNS))


def _today(table: "pd.DataFrame") -> "pd.DataFrame":
    """A table of version 0.4 in today's words: `precision` was `dtype`, and the unit `ffn neurons` was `ffn`."""
    if "dtype" not in table.columns or not {"recipe", "units"} <= set(table.columns):
        return table
    words = {name: table[name].astype(str).map(units_today) for name in ("recipe", "units")}
    return table.rename(columns={"dtype": "precision"}).assign(**words)


def point(study: Study, recipe: Recipe, sparsity: float, score: Score, precision: str) -> CurveRow:
    """One row of a curve: a score, what the plan takes, and the recipe that was asked."""
    cost = study.cost(recipe, sparsity)
    return {
        "recipe": recipe_name(recipe) or recipe.describe(),
        "criterion": recipe.criterion,
        "sparsity": sparsity,
        "metric": score.metric,
        "value": score.value,
        "low": score.low,
        "high": score.high,
        "n": score.n,
        "seconds": score.seconds,
        "rows_removed": cost.rows_removed,
        "rows": cost.rows,
        "parameters_removed": cost.parameters_removed,
        "parameters": cost.parameters,
        "scope": recipe.scope,
        "replacement": recipe.replacement,
        "types": ",".join(recipe.types),
        "estimator": recipe.estimator,
        "seed": recipe.facts()["seed"],
        "units": ",".join(recipe.units),
        "basis": recipe.basis,
        "budget": recipe.budget,
        "steps": recipe.steps,
        "calibration": len(study.calibration),
        "precision": precision,
        "others": json.dumps(dict(score.others)),
        "model": study.loaded.name,
        "task": study.question.task.name,
        "key": study.key(recipe, sparsity, precision),
        "right": np.packbits(score.right).tobytes() if score.right is not None else None,
    }


def known_point(study: Study, recipe: Recipe, sparsity: float, precision: str, store: CurveStore) -> CurveRow | None:
    """A finished point, if there is one. At sparsity 0 every recipe has the same: the dense model's."""
    row = store.get(study.key(recipe, sparsity, precision))
    if row is None:
        return None
    about = recipe.facts() | {"types": ",".join(recipe.types), "units": ",".join(recipe.units)}
    return row | about | {"recipe": recipe_name(recipe) or recipe.describe()}


def score_of(row: CurveRow) -> Score:
    """The final Score that a point was made of."""
    bits = row["right"]
    right = None if bits is None else np.unpackbits(np.frombuffer(bits, np.uint8))[: row["n"]].astype(bool)
    n = int(row["n"])
    others = json.loads(row["others"])
    return Score(row["metric"], row["value"], row["low"], row["high"], n, n, row["seconds"], others, right)


def order_of_points(
    criteria: Sequence[str | Recipe], sparsities: Sequence[float], recipe: Recipe
) -> list[tuple[Recipe, float]]:
    """All points, the shape of the curve first: ends, middle, then what lies between, criteria in turn.

    A criterion is taken with the rest of `recipe`; a whole recipe stands for itself.

    >>> [s for _, s in order_of_points(["variance"], [0, .1, .2, .3, .4], Recipe())]
    [0, 0.4, 0.2, 0.1, 0.3]
    """
    ordered: list[float] = []
    spans = [(0, len(sparsities) - 1)]
    ordered += [sparsities[i] for i in dict.fromkeys(spans[0])] if len(sparsities) else []
    while spans:
        first, last = spans.pop(0)
        middle = (first + last) // 2
        if first < middle < last:
            ordered.append(sparsities[middle])
            spans += [(first, middle), (middle, last)]
    recipes = [replace(recipe, criterion=c) if isinstance(c, str) else c for c in criteria]
    return [(one, s) for s in ordered for one in recipes]


def sweep(
    study: Study,
    criteria: Sequence[str | Recipe],
    sparsities: Sequence[float],
    recipe: Recipe | None = None,
    store: CurveStore | None = None,
    precision: str = "float32",
) -> Iterator[CurveRow]:
    """Points of criteria (or whole recipes) × sparsities as they are finished; those the store has come at once.

    Every finished point is in the store before it is yielded, so a sweep that is interrupted or cancelled (`Cancelled`) loses
    the running point only. Raises VPError for sparsities outside 0..1, and for what a recipe cannot do with the model.
    """
    recipe, store = recipe or Recipe(), store or CurveStore()
    for chosen, sparsity in order_of_points(criteria, [check_sparsity(s) for s in sparsities], recipe):
        checkpoint()  # what somebody waits for may be this very point
        row = known_point(study, chosen, sparsity, precision, store)
        if row is None:
            row = point(study, chosen, sparsity, study.score(chosen, sparsity, precision), precision)
            store.add(row)
        yield row


def curve(rows: Sequence[CurveRow]) -> Curve:
    """A tidy Curve of finished points, by criterion, recipe and sparsity."""
    table = _table(rows)
    return Curve(table.sort_values(["criterion", "recipe", "sparsity"], kind="stable").reset_index(drop=True))
