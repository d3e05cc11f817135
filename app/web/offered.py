"""What is offered of a recipe's parts, and what goes with units where others were chosen before."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from vp_core.asking.reading.tables import kind_of
from vp_core.asking.targets import METRICS
from vp_core.asking.tasks import TASKS, find_task
from vp_core.ground.chosen import check_types, criteria_for, of_weights, replacements_for, scopes_for
from vp_core.ground.errors import VPError, one_of
from vp_core.ground.names import ASKED, CRITERIA, TYPES, WEIGHT_UNITS, WORD_EMBEDDINGS
from vp_core.ground.patterns import find_pattern
from vp_core.recipes import RANDOM, RECIPES, Recipe, with_criterion

UNIT_CHOICES = (
    "rows", "ffn neurons,values,pairs", "ffn neurons", "heads", "ffn neurons,heads", "heads,feed-forward", "sublayers",
    "attention", "feed-forward", "layers", *(find_pattern(name).name for name in WEIGHT_UNITS),  # type: ignore[union-attr]
)  # fmt: skip
UNIT_NAMES = {
    "rows": "single rows (the paper)", "weights": "single weights", "blocks 32x32": "blocks of 32 × 32 weights",
    "2:4": "2 of every 4 weights stay (2:4)", "4:8": "4 of every 8 weights stay (4:8)",
    "columns": "columns (what a matrix reads)",
}  # fmt: skip
TYPE_CHOICES = (*TYPES, WORD_EMBEDDINGS)
TYPE_NAMES = {WORD_EMBEDDINGS: "word embeddings"}
MATRICES = (*TYPES, "ffn_in.gate", WORD_EMBEDDINGS)
"""Matrices of a layer whose pattern can be looked at, and the one that is of no layer."""
LINES = ("criteria", "replacement")
OWN = "my recipe"
"""The recipe of the sidebar among those that the page Compare compares."""
RECIPE_CHOICES = (*sorted(RECIPES, key=lambda name: {"paper": 0, "best": 1}.get(name, 2)), RANDOM, OWN)
"""The paper's and the best first."""
RECIPE_NAMES = {"paper": "Paper", "best": ":material/star: Best"}
_NO_INTERVAL = ("micro_f1", "macro_f1")
HEADLINES = tuple(dict.fromkeys(
    metric
    for metrics in (*(task.metrics for task in TASKS.values() if task.kind != "own"), *METRICS.values())
    for metric in metrics
    if metric not in _NO_INTERVAL
))  # fmt: skip
"""Metrics that can be a task's headline: what the address takes. One of a user's own has no name here."""
SAME, BY = "the same recipe", "by "
OVER = (SAME, *(BY + name for name in CRITERIA), *RECIPES)
"""What the page Weights lays over the mask in hand: the same recipe (of another model), the recipe by another criterion, or a
named one."""


def over_choices(recipe: Recipe, another_model: bool) -> tuple[str, ...]:
    """What can be laid over a recipe's mask: its own of another model, other criteria, named recipes of the same kind of units.

    >>> over_choices(Recipe(), False)[:2], over_choices(RECIPES["weights"], True)[:2]
    (('by random', 'by magnitude'), ('the same recipe', 'by random'))
    """
    by = (BY + name for name in criteria_for(recipe.units) if name != recipe.criterion)
    named = (name for name, one in RECIPES.items() if bool(one.pattern) == bool(recipe.pattern) and one != recipe)
    return (*((SAME,) if another_model else ()), *by, *named)


def over_first(recipe: Recipe, another_model: bool) -> str:
    """What is laid over it unless the visitor chooses: magnitude, the baseline of both papers."""
    if another_model:
        return SAME
    return BY + {"magnitude": "wanda" if recipe.pattern else "variance"}.get(recipe.criterion, "magnitude")


def over_recipe(recipe: Recipe, over: str, another_model: bool = False) -> Recipe:
    """The recipe of a mask that is laid over another; VPError where rows of one are not those of the other.

    In the principal basis the coordinates of heads are turned, in each model by other angles.
    """
    found = recipe if over == SAME else RECIPES.get(over) or with_criterion(recipe, over.removeprefix(BY))
    if found.basis != recipe.basis or (another_model and recipe.basis != "neurons"):
        raise VPError(
            "In the principal basis heads are turned, so their rows are none of the other mask's: choose the basis neurons."
        )
    return found


def types_of_weights(types: tuple[str, ...]) -> tuple[str, ...]:
    """The chosen types, word embeddings among them where single weights go."""
    return check_types(types, TYPE_CHOICES)


def check_recipes(names: tuple[str, ...]) -> tuple[str, ...]:
    """The chosen recipes; VPError for an unknown one."""
    return tuple(one_of("recipe", name, RECIPE_CHOICES) for name in names)


def budget_of(units: tuple[str, ...]) -> str:
    """Rows and single weights are counted, as in the papers; other units by the linear parameters that go with them."""
    return "units" if "rows" in units or of_weights(units) else "parameters"


def fitting(units: tuple[str, ...], before: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of settings that go with these units: those of `before` that can stay, else those of the recipe `weights` or the
    paper's. N:M has one sparsity, its own."""
    single = of_weights(units)
    usual = RECIPES["weights"] if single else Recipe()
    alike = single == of_weights(before["units"])

    def kept(name: str, can: tuple[str, ...]) -> str:
        value = before[name]
        return str(value) if alike and value in can else getattr(usual, name)

    criterion = kept("criterion", criteria_for(units))
    found: dict[str, Any] = {
        "criterion": criterion,
        "scope": kept("scope", scopes_for(units)),
        "replacement": kept("replacement", replacements_for(units, criterion)),
        "basis": "neurons" if single or units == ("rows",) else before["basis"],
        "steps": 1 if single else before["steps"],
        "budget": "",
    }
    if not single:
        types = tuple(name for name in before["types"] if name != WORD_EMBEDDINGS)
        found["types"] = types or TYPES
    pattern = find_pattern(units[0])
    return found | ({"sparsity": round(pattern.sparsity, 2)} if pattern and pattern.sparsity else {})


def own_is_there() -> bool:
    """Whether the command line that started the app named a metric of the user's own (`vp app --own`): no address can."""
    return bool(os.environ.get("VP_OWN"))


def kind_of_task(task: str) -> str:
    """What a task asks of a model, one of `vp_core.ground.names.ASKED`; classes for a file, and for a name that is no task's.

    >>> [kind_of_task(task) for task in ("demo-text", "squad", "own.csv", "nothing")]
    ['tokens', 'spans', 'classes', 'classes']
    """
    try:
        return ASKED[0] if kind_of(task) else find_task(task).kind
    except VPError:
        return ASKED[0]


def headlines_of(task: str, metrics: Sequence[str]) -> tuple[str, ...]:
    """Which of a task's metrics can be its headline, the one first that is unless another is chosen.

    >>> headlines_of("mrpc", ("f1", "accuracy")), headlines_of("own.csv", ("pearson", "spearman"))
    (('accuracy', 'f1'), ('spearman', 'pearson'))
    """
    of_files = (order for order in METRICS.values() if set(order) == set(metrics))
    usual = next(of_files, tuple(metrics)) if kind_of(task) else find_task(task).metrics
    return tuple(metric for metric in usual if metric in HEADLINES and metric in metrics)
