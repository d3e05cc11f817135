"""What a visitor has chosen, and how it stands in the address of the page."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from analysis.compare import RANDOM
from vp_core.ground.errors import VPError, one_of
from vp_core.ground.names import (
    BASES,
    CRITERIA,
    MODES,
    MOST_STEPS,
    PRECISIONS,
    REPLACEMENTS,
    SCOPES,
    TYPES,
    check_types,
    check_units,
)
from vp_core.ranking.plan import check_sparsity
from vp_core.recipes import RECIPES, Recipe, recipe_name
from vp_core.study import CALIBRATION
from vp_core.training.gate import check_epsilon, check_theta
from vp_core.training.snip import THETA

UNIT_CHOICES = (
    "rows",
    "ffn neurons,values,pairs",
    "ffn neurons",
    "heads",
    "ffn neurons,heads",
    "heads,feed-forward",
    "sublayers",
    "attention",
    "feed-forward",
    "layers",
)
"""Kinds of units that are offered; the address takes every combination that the library does."""
CALIBRATIONS = ("64", "128", "256", "512", "1024", "2048", "4096")
BUDGETS = ("units", "parameters", "flops")
"""Latency is left to the command line: it is measured anew for every sparsity."""
LINES = ("criteria", "replacement")
OWN = "my recipe"
"""The recipe of the sidebar among those that the page Compare compares."""
BESIDE = ("twin", "nothing", "rescaled")
"""What the page Sub-layers draws beside the model in hand. An empty setting is the first of them that there is."""


@dataclass(frozen=True)
class Settings:
    """Every choice on the pages; each field is a parameter of the address if it differs from its default."""

    model: str = "demo"
    task: str = "demo"
    data: str = ""
    text: str = ""
    label: str = "label"
    criterion: str = "variance"
    scope: str = "per type"
    replacement: str = "mean"
    types: str = ",".join(TYPES)
    precision: str = "float32"
    sparsity: str = "0.2"
    units: str = "rows"
    basis: str = "neurons"
    budget: str = ""
    steps: str = "1"
    calibration: str = str(CALIBRATION)
    lines: str = ""
    show: str = "ffn_in"
    batch: str = "8"
    length: str = "128"
    repeats: str = "7"
    sparsities: str = "0,0.3,0.5,0.7"
    recipes: str = "paper,units mean,units least squares,best,random units"
    mode: str = "joint"
    eps_attention: str = ""
    eps_ffn: str = ""
    theta: str = f"{THETA:g}"
    gate: str = ""
    beside: str = ""
    run: str = ""
    run_shown: str = ""

    @property
    def recipe(self) -> Recipe:
        return Recipe(
            criterion=self.criterion,
            scope=self.scope,
            replacement=self.replacement,
            types=tuple(self.types.split(",")),
            units=tuple(self.units.split(",")),
            basis=self.basis,
            budget=self.budget or _budget_of(self.units),
            steps=int(self.steps),
        )

    @property
    def recipe_name(self) -> str | None:
        """The name of the recipe that is set, if it has one."""
        return recipe_name(self.recipe)

    def with_recipe(self, name: str) -> "Settings":
        """All fields of a named recipe."""
        recipe = RECIPES[name]
        units = ",".join(recipe.units)
        return replace(
            self,
            criterion=recipe.criterion,
            scope=recipe.scope,
            replacement=recipe.replacement,
            types=",".join(recipe.types),
            units=units,
            basis=recipe.basis,
            budget="" if recipe.budget == _budget_of(units) else recipe.budget,
            steps=str(recipe.steps),
        )

    def with_units(self, units: str) -> "Settings":
        """Other units, with the budget that goes with them; single rows have no other basis than their neurons."""
        return replace(self, units=units, budget="", basis="neurons" if units == "rows" else self.basis)

    @property
    def curve_lines(self) -> str:
        """What the curves stand for: criteria, as in the paper, for recipes that need no more than it does; else the ladder."""
        return self.lines or ("criteria" if self.recipe.plain else "replacement")

    @property
    def position(self) -> int:
        """The slider's position, 0..100."""
        return round(float(self.sparsity) * 100)

    @property
    def measured_sparsities(self) -> tuple[float, ...]:
        """Those that the page Speed measures: the chosen ones and the slider's."""
        return tuple(sorted({float(part) for part in [*self.sparsities.split(","), self.sparsity] if part}))

    def to_query(self) -> dict[str, str]:
        """The parameters of the address."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}


def from_query(query: Mapping[str, str]) -> tuple[Settings, list[str]]:
    """Settings from an address, and one sentence for each value that could not be used (its default is taken)."""
    chosen: dict[str, str] = {}
    problems: list[str] = []
    for field in fields(Settings):
        if field.name not in query:
            continue
        try:
            chosen[field.name] = _checked(field.name, query[field.name])
        except VPError as error:
            problems.append(f"In the address: {str(error)[:-1]}. The default, {field.default}, is used instead.")
    settings = Settings(**chosen)
    try:
        _ = settings.recipe
    except VPError as error:
        problems.append(f"In the address: {str(error)[:-1]}. The defaults of units and basis are used instead.")
        settings = replace(settings, units="rows", basis="neurons")
    problems += [f"In the address: {name!r} is no setting and is ignored." for name in query if name not in _NAMES]
    return settings, problems


_NAMES = {field.name for field in fields(Settings)}
_CHOICES = {
    "criterion": CRITERIA,
    "scope": SCOPES,
    "replacement": REPLACEMENTS,
    "precision": PRECISIONS,
    "basis": BASES,
    "budget": ("", *BUDGETS),
    "lines": ("", *LINES),
    "show": (*TYPES, "ffn neurons", "values", "pairs", "heads", "attention", "feed-forward", "layer"),
    "mode": tuple(MODES),
    "gate": ("", "on"),
    "beside": ("", *BESIDE),
}
_MOST = {"steps": MOST_STEPS, "calibration": int(CALIBRATIONS[-1])}
_LEAST = {"steps": 1, "calibration": int(CALIBRATIONS[0])}
_EXAMPLES = {"batch": "8", "length": "128", "repeats": "7"}


def _checked(name: str, value: str) -> str:
    if name in _CHOICES:
        return one_of(name, value, _CHOICES[name])
    if name == "types":
        return ",".join(check_types(tuple(part for part in value.split(",") if part)))
    if name == "sparsity":
        return _hundredth(value)
    if name == "sparsities":
        return ",".join(sorted({_hundredth(part) for part in value.split(",") if part.strip()}, key=float))
    if name == "units":
        return ",".join(check_units([part for part in value.split(",") if part]))
    if name == "recipes":
        return ",".join(one_of("recipe", part, (*RECIPES, OWN, RANDOM)) for part in value.split(",") if part)
    if name in ("eps_attention", "eps_ffn"):
        return f"{check_epsilon(value):.4g}" if value else ""
    if name == "theta":
        return f"{check_theta(value):.4g}"
    if name in _MOST:
        if not (value.isdecimal() and _LEAST[name] <= int(value) <= _MOST[name]):
            raise VPError(f"The {name} {value!r} is no whole number from {_LEAST[name]} to {_MOST[name]:,}.")
        return str(int(value))
    if name in _EXAMPLES:
        if not (value.isdecimal() and int(value) > 0):
            raise VPError(f"The {name} {value!r} is no whole number above 0: use {_EXAMPLES[name]}.")
        return str(int(value))
    return value


def _hundredth(sparsity: str) -> str:
    """The slider's step is 1 %."""
    return f"{round(check_sparsity(sparsity), 2):g}"


def _budget_of(units: str) -> str:
    """Rows are counted, as in the paper; other units by the linear parameters that go with them."""
    return "units" if "rows" in units.split(",") else "parameters"
