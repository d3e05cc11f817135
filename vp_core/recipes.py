"""How to prune: what is removed, by which criterion, shared out how, and what takes its place. Named recipes for all."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from vp_core.ground.chosen import check_types, check_units, criteria_for, of_weights, replacements_for, scopes_for
from vp_core.ground.errors import VPError, one_of
from vp_core.ground.names import (
    ALL_CRITERIA,
    ALL_REPLACEMENTS,
    ALL_SCOPES,
    BASES,
    BUDGETS,
    ESTIMATORS,
    MOST_STEPS,
    TYPES,
    WORD_EMBEDDINGS,
)
from vp_core.ground.patterns import Pattern, find_pattern


@dataclass(frozen=True, eq=False)
class Recipe:
    """How to prune: the defaults are the paper's. What cannot be is refused with a VPError of one sentence.

    `units` and `basis`: see `model.units` and `replacing.principal`; `scope` and `budget`: `ranking.plan`; `criterion`:
    `ranking.criteria`; `replacement`: `replacing.ladder`. `types` and `estimator` matter to single rows only: others have
    their defaults. In `steps` the model is measured again after each of so many equal parts of the sparsity.

    `seed` matters to `random` and `coreset` only. It is kept, since `replace` may change the criterion, but two recipes that
    differ in a seed that nothing depends on are equal.
    """

    criterion: str = "variance"
    scope: str = "per type"
    replacement: str = "mean"
    types: tuple[str, ...] = TYPES
    estimator: str = "exact"
    seed: int = 0
    units: tuple[str, ...] = ("rows",)
    basis: str = "neurons"
    budget: str = "units"
    steps: int = 1

    def __post_init__(self) -> None:
        """Check every field, and write it in its one way."""
        one_of("criterion", self.criterion, ALL_CRITERIA)
        one_of("scope", self.scope, ALL_SCOPES)
        one_of("replacement", self.replacement, ALL_REPLACEMENTS)
        one_of("estimator", self.estimator, ESTIMATORS)
        one_of("basis", self.basis, BASES)
        one_of("budget", self.budget, BUDGETS)
        units = check_units(self.units)
        single = of_weights(units)
        types = check_types(self.types, (*TYPES, WORD_EMBEDDINGS) if single else TYPES)
        if single:
            self._check_weights(units)
        elif self.scope not in scopes_for(units) or self.criterion == "coreset" or self.replacement == "inverse probability":
            wrong = next(w for w in (self.scope, self.criterion, self.replacement) if w in _OF_WEIGHTS)
            raise VPError(f"{wrong!r} is for single weights: choose units such as weights or columns, or something else here.")
        elif "rows" not in units:
            types = TYPES
        elif self.basis != "neurons":
            raise VPError(
                "Single rows are pruned as they are: the principal basis needs units such as ffn neurons,values,pairs."
            )
        if self.seed < 0:
            raise VPError(f"The seed {self.seed} is below 0: take 0 or any larger whole number.")
        if not 1 <= self.steps <= MOST_STEPS:
            raise VPError(f"Pruning in {self.steps} steps is not possible: choose 1 to {MOST_STEPS}.")
        normal = {"types": types, "units": units, "estimator": self.estimator if "rows" in units else "exact"}
        for name, value in normal.items():
            object.__setattr__(self, name, value)

    def _check_weights(self, units: tuple[str, ...]) -> None:
        """VPError for what units of single weights cannot have."""
        can = {
            "criterion": criteria_for(units),
            "scope": scopes_for(units, self.criterion),
            "replacement": replacements_for(units, self.criterion),
            "basis": ("neurons",),
            "budget": ("units",),
            "steps": (1,),
        }
        for name, choices in can.items():
            if (value := getattr(self, name)) not in choices:
                raise VPError(
                    f"The {name} {value!r} does not go with {units[0]}: choose {' or '.join(str(one) for one in choices)}."
                )
        for value in (self.criterion, self.replacement):
            if WORD_EMBEDDINGS in self.types and value in _MEASURED:
                raise VPError(
                    f"Word embeddings read nothing that {value} could measure: take magnitude and zero, or leave them out."
                )

    def facts(self) -> dict[str, Any]:
        """Its fields as they are compared and kept: a seed that nothing depends on is 0."""
        return self.__dict__ | {"seed": self.seed if self.criterion in ("random", "coreset") else 0}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Recipe) and self.facts() == other.facts()

    def __hash__(self) -> int:
        return hash(tuple(self.facts().items()))

    @property
    def single_rows(self) -> bool:
        """Whether it removes single rows, as the paper does, and not units."""
        return "rows" in self.units

    @property
    def pattern(self) -> Pattern | None:
        """What goes as one of a weight matrix; None for rows and units made of rows."""
        return find_pattern(self.units[0])

    @property
    def plain(self) -> bool:
        """Whether statistics of the outputs are all it needs: no second moments, no gradients."""
        closed = self.replacement in ("mean", "zero")
        if self.pattern:
            return self.replacement in ("zero", "inverse probability") and self.criterion in ("magnitude", "random", "coreset")
        return self.single_rows and closed and self.criterion in ("variance", "random", "magnitude")

    @property
    def scoring(self) -> "Recipe":
        """What scores depend on: the recipe but for the order, the replacement and the budget, which are the paper's."""
        if self.pattern:
            return replace(self, scope="per matrix", replacement="zero")
        return replace(self, scope=Recipe.scope, replacement=Recipe.replacement, budget=Recipe.budget, steps=Recipe.steps)

    @property
    def ordering(self) -> "Recipe":
        """What the order of removal depends on: also the scope, and the rung that losses are measured with."""
        if self.pattern:
            return replace(self, replacement="zero")
        return replace(
            self.scoring, scope=self.scope, replacement=self.rung if self.scope == "measured" else Recipe.replacement
        )

    @property
    def rung(self) -> str:
        """What a closed form puts in the place of what goes: refit begins with least squares."""
        return "least squares" if self.replacement == "refit" else self.replacement

    def describe(self) -> str:
        """The recipe in a few words."""
        what = "rows" if self.single_rows else " + ".join(self.units)
        turned = ", principal basis" if self.basis == "principal" else ""
        steps = f", {self.steps} steps" if self.steps > 1 else ""
        return f"{what}{turned}, {self.criterion}, {self.scope}, {self.replacement}{steps}"


_MEASURED = ("wanda", "fisher", "surgeon", "mean", "least squares")
"""Criteria and replacements that go by what a matrix reads."""
_OF_WEIGHTS = ("per matrix", "per row", "coreset", "inverse probability")
"""Scopes, criterion and replacement that other units do not have."""
ATTENTION = ("query", "key", "value", "attention_output")
"""The four matrices whose columns the coreset recipe draws."""
STRUCTURED = ("ffn neurons", "values", "pairs")
_UNITS = Recipe(units=STRUCTURED, budget="parameters", criterion="weighted variance")

_WEIGHTS = Recipe("magnitude", "per matrix", "zero", units=("weights",))
_COLUMNS = replace(_WEIGHTS, units=("columns",), types=ATTENTION)

RECIPES: Mapping[str, Recipe] = {
    "paper": Recipe(),
    "rows refit": Recipe(criterion="fisher", replacement="refit", budget="parameters"),
    "units zero": replace(_UNITS, replacement="zero"),
    "units mean": _UNITS,
    "units least squares": replace(_UNITS, replacement="least squares"),
    "units refit": replace(_UNITS, replacement="refit"),
    "best refit": replace(_UNITS, criterion="surgeon", basis="principal", scope="measured", replacement="refit"),
    "best": replace(_UNITS, criterion="surgeon", basis="principal", scope="measured", replacement="least squares"),
    "weights": _WEIGHTS,
    "wanda": replace(_WEIGHTS, criterion="wanda", scope="per row"),
    "weights best": replace(_WEIGHTS, criterion="fisher", scope="global", replacement="least squares"),
    "2:4": replace(_WEIGHTS, criterion="surgeon", replacement="least squares", units=("2:4",)),
    "coreset": replace(_COLUMNS, criterion="coreset", replacement="inverse probability"),
    "coreset top norm": _COLUMNS,
}
"""By name, usable everywhere. `paper` removes a share of rows, those from `weights` on of weights or columns, the others of the
linear parameters."""
RANDOM = "random units"
"""The baseline beside them in comparisons: units at random, several seeds."""


def find_recipe(name: str) -> Recipe:
    """The recipe of that name; VPError lists them."""
    return RECIPES[one_of("recipe", name, tuple(RECIPES))]


def recipe_name(recipe: Recipe) -> str | None:
    """The name of a recipe, if it has one."""
    return next((name for name, one in RECIPES.items() if one == recipe), None)


def with_criterion(recipe: Recipe, criterion: str) -> Recipe:
    """The recipe by another criterion; with zeros where what took the place of weights goes with the old one only.

    >>> with_criterion(RECIPES["coreset"], "magnitude").replacement
    'zero'
    """
    fits = recipe.replacement in replacements_for(recipe.units, criterion)
    return replace(recipe, criterion=criterion, replacement=recipe.replacement if fits else "zero")


def changed(recipe: Recipe) -> dict[str, object]:
    """What differs from the paper's recipe: field → value."""
    return {f.name: getattr(recipe, f.name) for f in fields(Recipe) if getattr(recipe, f.name) != f.default}
