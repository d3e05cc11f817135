"""The lines of one recipe's chart: the criteria side by side, or the ladder of what takes the place of what goes."""

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from vp_core.curves import COLUMNS, CurveRow
from vp_core.ground.chosen import replacements_for
from vp_core.ground.names import PAPER_CRITERIA
from vp_core.recipes import Recipe, with_criterion

RUNGS = ("zero", "mean", "least squares", "refit")
_WEIGHT_CRITERIA = ("magnitude", "random", "wanda")
"""What a chart of single weights compares, beside the recipe's own criterion."""


def rungs(recipe: Recipe) -> tuple[str, ...]:
    """What can take the place of what the recipe removes, from the least informed on.

    >>> rungs(Recipe()), rungs(Recipe("magnitude", "per matrix", "zero", units=("weights",)))
    (('zero', 'mean', 'least squares', 'refit'), ('zero', 'mean', 'least squares'))
    """
    return replacements_for(recipe.units, recipe.criterion) if recipe.pattern else RUNGS


def lines(recipe: Recipe, by: str) -> dict[str, list[Recipe]]:
    """By name, what `analysis.compare.measure_lines` takes: lines `by` "criteria" or "replacement", with `random` in both.

    >>> list(lines(Recipe("fisher"), "criteria")), list(lines(Recipe(), "replacement"))
    (['variance', 'random', 'magnitude', 'fisher'], ['zero', 'mean', 'least squares', 'refit', 'random'])
    """
    if by == "criteria":
        compared = _WEIGHT_CRITERIA if recipe.pattern else PAPER_CRITERIA
        return {name: [with_criterion(recipe, name)] for name in dict.fromkeys((*compared, recipe.criterion))}
    ladder = {rung: [replace(recipe, replacement=rung)] for rung in rungs(recipe)}
    return ladder if recipe.criterion == "random" else ladder | {"random": [_random(recipe)]}


def _random(recipe: Recipe) -> Recipe:
    """Random units with the same budget, cheaply: nothing is measured or refitted for them."""
    scope = "per type" if recipe.scope == "measured" else recipe.scope
    rung = {"refit": "least squares", "inverse probability": "zero"}.get(recipe.replacement, recipe.replacement)
    return replace(recipe, criterion="random", scope=scope, replacement=rung)


def own_line(recipe: Recipe, by: str) -> str:
    """The name of the line that is the recipe itself."""
    return recipe.criterion if by == "criteria" else recipe.replacement


def table(rows: Sequence[CurveRow]) -> pd.DataFrame:
    """Points with their line, in the order of `vp_core.curves.COLUMNS`."""
    return pd.DataFrame(list(rows), columns=["line", *COLUMNS])
