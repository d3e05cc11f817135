"""Every vocabulary of the tool, declared once: what can be chosen, by the names that code, command line, page and files use.

Nothing heavy is imported here, so that `vp --help` and `Recipe` cost nothing. What each word does stands where it is done
(the column on the right); a test holds the tables there to these names.
"""

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from vp_core.ground.errors import VPError, number_or_nan
from vp_core.ground.patterns import find_pattern

TYPES = ("query", "key", "value", "attention_output", "ffn_in", "ffn_out")
"""Projection types: W_Q, W_K, W_V, W_O, W_FF1, W_FF2 of the paper, in forward order (`vp_core.model.families`)."""
WORD_EMBEDDINGS = "word_embeddings"
"""One more matrix whose weights may go (Compressing BERT, section 3.1); it has no rows that a plan speaks of."""
UNITS = ("rows", "ffn neurons", "values", "pairs", "heads", "attention", "feed-forward", "sublayers", "layers")
"""What goes together (`vp_core.model.units`). Bare `ffn` is a kind of block and a mode, the whole network."""
WHOLE = ("attention", "feed-forward", "sublayers", "layers")
"""Kinds of units that go with their outputs; a mean takes the place of these."""
WEIGHT_UNITS = ("weights", "blocks", "2:4", "4:8", "columns")
"""Units of single weights that are offered; any N:M and `blocks RxC` are units too (`vp_core.ground.patterns`)."""
ESTIMATORS = ("exact", "ewmv")
"""How a variance is taken over batches (`vp_core.measuring.statistics`)."""
CALIBRATION = 512
"""Training sentences that statistics are collected on, unless asked otherwise. Their labels are never looked at."""
CRITERIA = (
    "variance", "random", "magnitude", "weighted variance", "conditional variance", "surgeon", "wanda", "fisher",
    "function norm", "coreset",
)  # fmt: skip
"""What makes a unit worth keeping (`vp_core.ranking.criteria`, of single weights `vp_core.weights.criteria`)."""
WEIGHT_CRITERIA = ("magnitude", "random", "wanda", "fisher", "surgeon", "coreset")
"""Those that score single weights; `coreset` draws whole columns (`vp_core.weights.coreset`)."""
PAPER_CRITERIA = ("variance", "random", "magnitude")
"""The paper's criterion and its two baselines: what a chart compares, unless asked otherwise."""
SCOPES = ("per type", "per layer", "global", "scaled", "measured", "per matrix", "per row")
"""Who competes with whom (`vp_core.ranking.plan.rank`). `measured` is `global` on scores that `vp_core.ranking.allocation` has
made comparable. The last two are for single weights."""
WEIGHT_SCOPES = ("per matrix", "per type", "global", "per row")
"""Who competes with whom among single weights (`vp_core.weights.order`): per matrix in Compressing BERT, per row in Wanda."""
BUDGETS = ("units", "parameters", "flops", "latency")
"""What a sparsity is a share of: units of each competition, linear parameters, FLOPs, or measured time of a forward pass."""
REPLACEMENTS = ("mean", "zero", "least squares", "refit", "inverse probability")
"""What takes the place of what was removed (`vp_core.replacing.ladder`, of single weights `vp_core.weights.ladder`)."""
WEIGHT_REPLACEMENTS = ("zero", "mean", "least squares", "inverse probability")
"""Those of single weights; `inverse probability` weighs drawn columns as a coreset does (`vp_core.weights.coreset`)."""
BASES = ("neurons", "principal")
"""The coordinates of heads (`vp_core.replacing.principal`)."""
PRECISIONS = ("float32", "bfloat16", "int8")
"""The arithmetic a model is run in (`vp_core.model.precision`)."""
AUTO = "auto"
"""No precision is named: bfloat16 where the processor is made for it, else float32 (`vp_core.model.precision`)."""
TRAINING_PRECISIONS = (AUTO, "float32", "bfloat16")
"""The arithmetic a model is trained in (`vp_core.training.loop`): bfloat16 is for products only, weights stay float32."""
REPEATS = 7
"""Timed rounds of a measurement of speed (`vp_core.squeezing.timing`)."""
FORMATS = ("pruned", "transformers", "onnx")
"""How a smaller model is written (`vp_core.squeezing.folder`, `vp_core.squeezing.onnx`)."""
KINDS = ("head", "attention", "ffn")
"""Kinds of blocks, residual mappings as a whole (`vp_core.model.blocks`)."""
MODES: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "heads": ("head",),
    "ffn": ("ffn",),
    "joint": ("head", "ffn"),
    "attention": ("attention",),
    "layers": ("attention", "ffn"),
    "separate": ("attention", "ffn"),
})  # fmt: skip
"""Which kinds of blocks a mode takes out. `layers` takes both of a layer at once, `separate` each by itself (fig. 5)."""
THETA, L1 = 0.95, 0.01
"""SNIP's threshold of identity and factor of the L1 term (sections 4.1 and A.2)."""
ITERATIONS = 10
"""So often blocks may leave, unless asked otherwise (`vp_core.training.snip`)."""
BATCH, LEARNING_RATE = 32, 5e-5
"""Texts in a mini-batch as in the paper's fine-tuning (table 3), and half of its learning rate (`vp_core.training.loop`)."""
_NAMES_IN_0_4 = {"ffn neurons": "ffn"}
"""Kinds of units that had another name in version 0.4."""
MOST_STEPS = 64
"""In so many steps at most is a model pruned and measured again."""
_TOUCHES = {
    "rows": {"rows", "attention", "ffn", "values", "pairs"},
    "ffn neurons": {"ffn"},
    "values": {"values"},
    "pairs": {"pairs"},
    "heads": {"values", "pairs"},
    "attention": {"attention", "values", "pairs"},
    "feed-forward": {"ffn"},
    "sublayers": {"attention", "ffn", "values", "pairs"},
    "layers": {"attention", "ffn", "values", "pairs"},
}


def check_types(types: tuple[str, ...], there: tuple[str, ...] = TYPES) -> tuple[str, ...]:
    """The chosen types in the order of those that are `there`, each once; VPError for an unknown or an empty choice.

    >>> check_types(("ffn_in", "query"))
    ('query', 'ffn_in')
    """
    unknown = [t for t in types if t not in there]
    if unknown or not types:
        what = f"Unknown projection type {unknown[0]!r}" if unknown else "No projection type is chosen"
        raise VPError(f"{what}: choose one or more of {', '.join(there)}.")
    return tuple(t for t in there if t in types)


def check_units(kinds: Sequence[str]) -> tuple[str, ...]:
    """The chosen kinds in the order of UNITS, each once; VPError for unknown kinds and for kinds that share rows.

    >>> check_units(("values", "ffn neurons"))
    ('ffn neurons', 'values')
    """
    if "ffn" in kinds:  # the name of the first in 0.4: taken for the other it would give a plausible wrong number
        raise VPError("The unit 'ffn' is now 'ffn neurons' (one hidden neuron each); the whole network is 'feed-forward'.")
    patterns = [pattern.name for kind in kinds if (pattern := find_pattern(kind))]
    unknown = [kind for kind in kinds if kind not in UNITS and not find_pattern(kind)]
    if unknown or not kinds:
        what = f"Unknown kind of unit {unknown[0]!r}" if unknown else "No kind of unit is chosen"
        raise VPError(f"{what}: choose one or more of {', '.join(UNITS)}, or one of {', '.join(WEIGHT_UNITS)}.")
    if patterns:
        if len(kinds) > 1:
            raise VPError(f"{patterns[0]!r} is chosen by itself: single weights and other units do not go together.")
        return (patterns[0],)
    chosen = tuple(kind for kind in UNITS if kind in kinds)
    for i, one in enumerate(chosen):
        for other in chosen[i + 1 :]:
            if _TOUCHES[one] & _TOUCHES[other]:
                raise VPError(f"The units {one!r} and {other!r} have rows in common: choose one of them.")
    return chosen


def units_in_0_4(kinds: Sequence[str]) -> tuple[str, ...]:
    """The kinds as version 0.4 called them: the keys of finished points are made of these, so that points are found again.

    >>> units_in_0_4(("ffn neurons", "values"))
    ('ffn', 'values')
    """
    return tuple(_NAMES_IN_0_4.get(kind, kind) for kind in kinds)


def units_today(text: str) -> str:
    """Kinds of units as today, in a text that version 0.4 wrote; today's stay as they are.

    >>> units_today("ffn,values"), units_today("ffn neurons + values, fisher")
    ('ffn neurons,values', 'ffn neurons + values, fisher')
    """
    return re.sub(r"\bffn\b(?! neurons)", "ffn neurons", text)


def of_weights(units: Sequence[str]) -> bool:
    """Whether these units are made of single weights, and not of rows.

    >>> of_weights(["blocks 16x16"]), of_weights(["rows"])
    (True, False)
    """
    return any(find_pattern(kind) for kind in units)


def criteria_for(units: Sequence[str]) -> tuple[str, ...]:
    """The criteria that can score units of these kinds.

    >>> "function norm" in criteria_for(["heads"]), "function norm" in criteria_for(["rows"]), criteria_for(["2:4"])[-1]
    (True, False, 'surgeon')
    """
    if of_weights(units):
        return tuple(name for name in WEIGHT_CRITERIA if name != "coreset" or tuple(units) == ("columns",))
    blocks = set(units) <= {"heads", *WHOLE}
    return tuple(name for name in CRITERIA if name != "coreset" and (blocks or name != "function norm"))


def scopes_for(units: Sequence[str]) -> tuple[str, ...]:
    """Who can compete with whom among units of these kinds.

    >>> scopes_for(["2:4"]), scopes_for(["blocks"])
    (('per matrix',), ('per matrix', 'per type', 'global'))
    """
    if not of_weights(units):
        return tuple(scope for scope in SCOPES if scope not in ("per matrix", "per row"))
    pattern = find_pattern(units[0])
    assert pattern
    if pattern.of:
        return ("per matrix",)  # every M neighbours have their own competition
    return tuple(scope for scope in WEIGHT_SCOPES if pattern.single or scope != "per row")


def replacements_for(units: Sequence[str], criterion: str) -> tuple[str, ...]:
    """What can take the place of units of these kinds that go by this criterion.

    >>> replacements_for(["columns"], "coreset")[-1], replacements_for(["rows"], "variance")[-1]
    ('inverse probability', 'refit')
    """
    if of_weights(units):
        return tuple(r for r in WEIGHT_REPLACEMENTS if r != "inverse probability" or criterion == "coreset")
    return tuple(replacement for replacement in REPLACEMENTS if replacement != "inverse probability")


def check_epsilon(value: object) -> float:
    """ε as a number above 0; VPError otherwise."""
    epsilon = number_or_nan(value)
    if not (0 < epsilon < float("inf")):
        raise VPError(f"ε must be a number above 0, not {value!r}: blocks whose function norm stays under it are shut.")
    return epsilon


def check_theta(value: object) -> float:
    """θ as a share between 0 and 1; VPError otherwise."""
    theta = number_or_nan(value)
    if not 0 <= theta <= 1:
        raise VPError(f"θ must be between 0 and 1, not {value!r}: 0.95 takes out what is the identity in 95 % of mini-batches.")
    return theta
