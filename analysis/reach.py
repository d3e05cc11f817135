"""How far a recipe can go: units other than rows do not hold all of the encoder's linear parameters."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from vp_core.model.projections import find_layers
from vp_core.recipes import Recipe
from vp_core.squeezing.budget import FLOPS_LENGTH, saved_flops
from vp_core.squeezing.cost import cost
from vp_core.study import Study

_TOLERANCE = 0.004
"""A sparsity a little beyond what the units hold takes all of them: a little less than `vp_core.squeezing.budget` forgives."""


def most_saved(study: Study, recipe: Recipe) -> float:
    """The largest sparsity the recipe's units can meet; nothing is measured for it."""
    if recipe.budget == "units":
        return 1.0
    nothing = study.plan(recipe, 0.0)
    everything = replace(nothing, keep={name: torch.zeros_like(keep) for name, keep in nothing.keep.items()})
    found = cost(find_layers(study.model), everything)
    if recipe.budget == "parameters":
        return found.share_removed
    return saved_flops(found, min(FLOPS_LENGTH, study.loaded.max_length))


def reachable(study: Study, recipe: Recipe, sparsities: Sequence[float]) -> list[float]:
    """Those of the sparsities that the recipe's units can meet."""
    most = most_saved(study, recipe) + _TOLERANCE
    return [sparsity for sparsity in sparsities if sparsity <= most]
