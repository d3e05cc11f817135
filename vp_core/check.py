"""What can be done with a model, and if not, why not: one row a capability, told before anything is measured.

Every row asks the check that the thing itself begins with, so what is said here is what would be said there. Nothing is run:
docs/support.md is made by really doing each on a tiny model of every family, and a test holds the two together.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

from vp_core.carry_out import check_recipe
from vp_core.ground.errors import VPError
from vp_core.ground.names import UNITS
from vp_core.load import LoadedModel
from vp_core.model.precision import check_precision
from vp_core.model.projections import find_layers, find_projections
from vp_core.model.units import unit_groups
from vp_core.recipes import RECIPES
from vp_core.squeezing.folder import check_dense_form
from vp_core.squeezing.onnx import check_onnx
from vp_core.squeezing.squeeze import check_squeezable
from vp_core.training.finetune import check_trainable


@dataclass(frozen=True)
class Capability:
    """Whether something can be done with a model; `why`: the reason if it cannot, or what else is to be known of it."""

    name: str
    can: bool
    why: str = ""

    def as_json(self) -> dict[str, Any]:
        """Its fields, JSON-able."""
        return asdict(self)


def capabilities(model: PreTrainedModel) -> tuple[Capability, ...]:
    """One row a capability, in the order of the way of the data; nothing is run, and the model is not changed."""
    return tuple(_asked(name, question, model) for name, question in _QUESTIONS.items())


def check_model(loaded: LoadedModel) -> tuple[Capability, ...]:
    """`capabilities`, with a first row that says what was loaded and what was odd about it."""
    about = f"{loaded.model.config.model_type}, {loaded.layers} layers" if loaded.layers else "squeezed already"
    return (Capability("load", True, " ".join((f"{about}.", *loaded.notes))), *capabilities(loaded.model))


def _asked(name: str, question: Callable[[PreTrainedModel], str], model: PreTrainedModel) -> Capability:
    try:
        return Capability(name, True, question(model))
    except VPError as error:
        return Capability(name, False, str(error))


def _statistics(model: PreTrainedModel) -> str:
    find_projections(model)
    return ""


def _rows(model: PreTrainedModel) -> str:
    check_recipe(model, RECIPES["paper"])
    return ""


def _units(model: PreTrainedModel) -> str:
    """The kinds that cannot go, if others can; VPError if none can."""
    layers, refused = find_layers(model), {}
    for kind in UNITS[1:]:
        try:
            unit_groups(layers, (kind,))
        except VPError as error:
            refused[kind] = str(error)
    if len(refused) == len(UNITS) - 1:
        raise VPError(next(iter(refused.values())))
    return " ".join(f"But {kind}: {why}" for kind, why in refused.items())
