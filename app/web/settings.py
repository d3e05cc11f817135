"""What a visitor can choose, each choice declared once, and how it stands in the address of the page."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from app.web import settings_fields as kind
from app.web.asked_choices import AskedChoices
from app.web.offered import (
    LINES,
    MATRICES,
    OVER,
    RECIPE_CHOICES,
    RECIPE_NAMES,
    TYPE_CHOICES,
    TYPE_NAMES,
    UNIT_CHOICES,
    UNIT_NAMES,
    budget_of,
    check_recipes,
    fitting,
    types_of_weights,
)
from app.web.settings_fields import Setting, setting
from app.web.training_choices import TrainingChoices
from vp_core.ground.chosen import check_epsilon, check_theta, check_units, replacements_for
from vp_core.ground.names import (
    ALL_CRITERIA,
    ALL_REPLACEMENTS,
    ALL_SCOPES,
    BASES,
    BUDGETS,
    MODES,
    MOST_STEPS,
    PRECISIONS,
    THETA,
    TYPES,
)
from vp_core.recipes import RANDOM, RECIPES, Recipe, recipe_name

BESIDE = ("twin", "nothing", "rescaled")
"""What the page Sub-layers draws beside the model in hand. An empty setting is the first of them that there is."""
_SHOWN = (*TYPES, "ffn neurons", "values", "pairs", "heads", "attention", "feed-forward", "layer")
_HUNDREDTHS = tuple(f"{i / 100:g}" for i in range(101))
_TENTHS = tuple(f"{i / 10:g}" for i in range(10))
_MODE_NAMES = {
    "ffn": "FFNs", "joint": "heads and FFNs", "attention": "whole attention", "layers": "whole layers",
    "separate": "attention and FFNs",
}  # fmt: skip


@dataclass(frozen=True)
class Settings(AskedChoices, TrainingChoices):
    """Every choice on the pages; each field is a parameter of the address if it differs from its default."""

    # fmt: off
    criterion: str = setting(kind.OneOf(
        "variance", ALL_CRITERIA, folded=True, label="Criterion",
        help="What decides which units go first. **variance**: those whose output varies least over real tokens (the "
        "paper). **magnitude**: those whose weights have the smallest L2 norm. **random**: any, but as many in each layer as "
        "variance takes. **weighted variance**: variance times the weights that read it. **conditional variance**: what the "
        "others cannot predict. **surgeon**: the error that going adds when the rest is solved again. **wanda**: weights times "
        "inputs. **function norm**: how large what a whole block adds is, at its largest coordinate. **fisher**: the effect on "
        "the model's outputs, to first order. Of single weights **magnitude** is |W|, **wanda** |W| times the norm of its "
        "input, and **coreset** draws whole columns without looking at data.",
    ))
    scope: str = setting(kind.OneOf(
        "per type", ALL_SCOPES, folded=True, label="Allocation",
        help="Who competes with whom. **per type**: all layers of one type or kind (the paper). **per layer**: each layer by "
        "itself, so all are cut alike. **global**: all by their scores. **scaled**: all, each layer's scores divided by their "
        "sum. **measured**: all, by what each layer really loses, which takes a moment to measure. Of single weights also "
        "**per matrix**: each by itself, and **per row**: each row of a matrix by itself (Wanda).",
    ))
    replacement: str = setting(kind.OneOf(
        "mean", ALL_REPLACEMENTS, folded=True, label="Replacement",
        help="What takes the place of what goes, each better informed. **zero**: nothing. **mean**: its mean output, as "
        "a constant in the bias (the paper). **least squares**: the matrix that read it is solved again. **refit**: every "
        "matrix is solved again against the dense model, from the bottom up; seconds for every sparsity. Of single weights, "
        "**least squares** moves those that stay (surgeon), **inverse probability** weighs drawn columns. No labels, no "
        "gradient steps.",
    ))
    types: tuple[str, ...] = setting(kind.SomeOf(
        TYPES, TYPE_CHOICES, check=types_of_weights, none="Choose at least one projection type", label="Projection types",
        names=TYPE_NAMES,
        help="The six linear projections of a layer: query, key, value and output of the attention, and the two of the "
        "feed-forward network; of single weights also the word embeddings.",
    ))
    precision: str = setting(kind.OneOf(
        "float32", PRECISIONS, label="Precision",
        help="Arithmetic of the evaluation. bfloat16 may cost a few predictions, and is faster only where the machine is made "
        "for it: what it takes here was measured, and stands below. int8, on processors, keeps the linear layers' weights in "
        "8 bits and quantises what they read as it comes.",
    ))
    sparsity: float = setting(kind.Share(0.2))
    units: tuple[str, ...] = setting(kind.Combination(
        ("rows",), UNIT_CHOICES, check=check_units, label="Units", names=UNIT_NAMES,
        help="What goes as one. **single rows** of any of the six matrices, as in the paper; or rows together with the columns "
        "that read them, so that a matrix shrinks on both sides: **ffn neurons**, **values** (a value's coordinate), **pairs** "
        "(a coordinate of query and key), **heads**, **sublayers**, **layers**. Or weights of a matrix, which stays as large "
        "as it is: **single weights**, **blocks** of them, **columns**, or all but N of every M neighbours (**2:4**).",
    ))
    basis: str = setting(kind.OneOf(
        "neurons", BASES, label="Basis",
        help="**neurons**: units as they are. **principal**: value and query/key coordinates are turned within each head to "
        "their principal axes first, which changes nothing the dense model says.",
    ))
    budget: str = setting(kind.OneOf(
        "", ("", *BUDGETS), label="Budget",
        help="What the sparsity is a share of. **units**: of what goes as one. **parameters**: of the weights of the six "
        "matrices of all layers. **flops**: of the multiplications of a text. **latency**: of the time of a forward pass on "
        "the machine the app runs on; layers of several widths are timed once, which takes a while, and each plan after that.",
    ))
    steps: int = setting(kind.Whole(1, least=1, most=MOST_STEPS))
    lines: str = setting(kind.OneOf(
        "", ("", *LINES), label="Lines",
        help="What the lines stand for. **criteria**: the chosen one, variance, magnitude and random. **replacement**: all "
        "that can take the place of what goes, and random units.",
    ))
    show: str = setting(kind.OneOf(
        "ffn_in", _SHOWN, label="Shown", help="Which projection type or kind of unit the two figures show.",
    ))
    batch: int = setting(kind.Whole(8, least=1, label="Batch", help="How many texts, or images, the model is given at once."))
    length: int = setting(kind.Whole(128, least=1, label="Length", help="Tokens of each text; all texts have the same length."))
    repeats: int = setting(kind.Whole(
        7, least=1, label="Repeats", help="How often each form takes its turn. More repeats give steadier medians.",
    ))
    sparsities: tuple[float, ...] = setting(kind.Shares(
        (0.0, 0.3, 0.5, 0.7), _TENTHS, label="Sparsities measured",
        help="At these sparsities speed is measured, and at the slider's.",
    ))
    recipes: tuple[str, ...] = setting(kind.SomeOf(
        ("paper", "units mean", "units least squares", "best", RANDOM), RECIPE_CHOICES, check=check_recipes,
        names=RECIPE_NAMES, label="Recipes",
        help="Which recipes to compare. *my recipe* is the one set on the left; *random units* is the mean of three seeds.",
    ))
    mode: str = setting(kind.OneOf(
        "joint", tuple(MODES), label="What may go", names=_MODE_NAMES,
        help="Which blocks may go: attention **heads**, **FFNs** (feed-forward networks), both (*joint* in the paper), **whole "
        "attention** blocks, **whole layers** (both sub-layers of a layer at once), or attention blocks and FFNs each by "
        "itself.",
    ))
    eps_attention: float | None = setting(kind.OpenNumber(
        None, check=check_epsilon, label="ε of heads",
        help="A head or attention block is the identity in a mini-batch where no token's function norm is above ε. "
        "At the left end nothing is, at the right end everything.",
    ))
    eps_ffn: float | None = setting(kind.OpenNumber(
        None, check=check_epsilon, label="ε of FFNs",
        help="The same for feed-forward networks, whose norms are on another scale.",
    ))
    theta: float = setting(kind.Number(
        THETA, _HUNDREDTHS, check=check_theta, label="θ: least share of mini-batches",
        help="A block is off if it is the identity in at least this share of the mini-batches (32 texts each). The paper takes "
        "0.95.",
    ))
    gate: bool = setting(kind.Switch(
        False, label="Gate on what stays",
        help="Blocks that stay are shut token by token wherever their function norm is below ε (S_ε of the paper). Without it "
        "they run as they are.",
    ))
    beside: str = setting(kind.OneOf(
        "", ("", *BESIDE), label="Beside it",
        help="The **twin** was trained under spectral normalisation (λ = 5) towards the demo's own hidden states and outputs: "
        "its function norms follow the demo's, and do not show what normalisation does to norms. *Only rescaled* divides the "
        "weights of the model in hand by σ/λ and trains nothing: for comparison, no substitute.",
    ))
    run: str = setting(kind.Text(
        "", label="Folders of runs", placeholder="empty: the runs of the demo that come with it",
        help="The folder that `vp snip --out` wrote, also while it runs; several: separated by semicolons. Empty: the runs of "
        "the demo that come with it.",
    ))
    run_shown: str = setting(kind.Text(
        "", label="Map of", help="Each row is an iteration, from the top down; what is blank has left the model.",
    ))
    layer: int = setting(kind.Whole(0, least=0, label="Layer", help="Whose matrix is shown."))
    matrix: str = setting(kind.OneOf(
        "query", MATRICES, folded=True, label="Matrix", names=TYPE_NAMES | {"ffn_in.gate": "gate of ffn_in"},
        help="Which of its matrices; word embeddings are of no layer.",
    ))
    over: str = setting(kind.OneOf(
        "", ("", *OVER), folded=True, label="Laid over it",
        help="The mask that is laid over the one of the recipe on the left, at the same sparsity: the same recipe **by** "
        "another criterion, or a named recipe.",
    ))
    over_model: str = setting(kind.Text(
        "", label="Of another model", placeholder="empty: the same model",
        help="A model of the same shape, such as one fine-tuned on another task: a folder or an id of the Hub, as on the left.",
    ))
    over_task: str = setting(kind.Text(
        "", label="Its task", placeholder="empty: the same task",
        help="The task of that model; its data are in the same folder as those on the left.",
    ))
    # fmt: on

    @property
    def recipe(self) -> Recipe:
        """The recipe that is set; VPError with one sentence for what no recipe can be."""
        return Recipe(
            criterion=self.criterion,
            scope=self.scope,
            replacement=self.replacement,
            types=self.types,
            units=self.units,
            basis=self.basis,
            budget=self.budget or budget_of(self.units),
            steps=self.steps,
        )

    @property
    def recipe_name(self) -> str | None:
        """The name of the recipe that is set, if it has one."""
        return recipe_name(self.recipe)

    def with_recipe(self, name: str) -> "Settings":
        """All fields of a named recipe."""
        recipe = RECIPES[name]
        same: dict[str, Any] = {
            one: getattr(recipe, one) for one in ("criterion", "scope", "replacement", "types", "units", "basis", "steps")
        }
        pattern = recipe.pattern
        if pattern and pattern.sparsity:
            same["sparsity"] = round(pattern.sparsity, 2)  # N:M has no other
        return replace(self, **same, budget="" if recipe.budget == budget_of(recipe.units) else recipe.budget)

    def with_units(self, units: tuple[str, ...]) -> "Settings":
        """Other units, with what goes with them of criterion, allocation, replacement, types, basis, budget and sparsity."""
        return replace(self, units=units, **fitting(units, self.__dict__))

    def with_criterion(self, criterion: str) -> "Settings":
        """Another criterion, and zeros if what takes the place of what goes does not go with it."""
        fits = self.replacement in replacements_for(self.units, criterion)
        return replace(self, criterion=criterion, replacement=self.replacement if fits else "zero")

    @property
    def curve_lines(self) -> str:
        """What the curves stand for: criteria, as in the paper, for recipes that need no more than it does; else the ladder."""
        return self.lines or ("criteria" if self.recipe.plain else "replacement")

    @property
    def position(self) -> int:
        """The slider's position, 0..100."""
        return round(self.sparsity * 100)

    @property
    def measured_sparsities(self) -> tuple[float, ...]:
        """The sparsities that the page Speed measures: the chosen ones and the slider's."""
        return tuple(sorted({*self.sparsities, self.sparsity}))


FIELDS: Mapping[str, Setting[Any]] = {field.name: field.metadata["setting"] for field in fields(Settings)}
"""What is declared of each setting, by its name."""
