"""What was chosen among the names: checked, written in its one way, and what goes with it."""

import re
from collections.abc import Sequence

from vp_core.ground.errors import VPError, number_or_nan
from vp_core.ground.names import (
    CRITERIA,
    REPLACEMENTS,
    SCOPES,
    TYPES,
    UNITS,
    WEIGHT_CRITERIA,
    WEIGHT_REPLACEMENTS,
    WEIGHT_SCOPES,
    WEIGHT_UNITS,
    WHOLE,
)
from vp_core.ground.patterns import find_pattern

_NAMES_IN_0_4 = {"ffn neurons": "ffn"}
"""Kinds of units that had another name in version 0.4."""
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
    return tuple(name for name in CRITERIA if blocks or name != "function norm")


def scopes_for(units: Sequence[str], criterion: str = "") -> tuple[str, ...]:
    """Who can compete with whom among units of these kinds by this criterion.

    >>> scopes_for(["2:4"]), scopes_for(["blocks"])
    (('per matrix',), ('per matrix', 'per type', 'global'))
    """
    pattern = find_pattern(units[0])
    if pattern is None:
        return SCOPES
    if pattern.of or criterion == "coreset":
        return ("per matrix",)  # every M neighbours have their own competition, and every matrix its own sample
    return tuple(scope for scope in WEIGHT_SCOPES if pattern.single or scope != "per row")


def replacements_for(units: Sequence[str], criterion: str) -> tuple[str, ...]:
    """What can take the place of units of these kinds that go by this criterion.

    >>> replacements_for(["columns"], "coreset")[-1], replacements_for(["rows"], "variance")[-1]
    ('inverse probability', 'refit')
    """
    if not of_weights(units):
        return REPLACEMENTS
    return tuple(r for r in WEIGHT_REPLACEMENTS if r != "inverse probability" or criterion == "coreset")


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
