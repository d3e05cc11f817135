"""What can be done with a model, and if not, why not: one row a capability, told before anything is measured.

Every row asks the check that the thing itself begins with, so what is said here is what would be said there. Nothing is run:
docs/support.md is made by really doing each on a tiny model of every family, and a test holds the two together.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from transformers import PreTrainedModel

from vp_core.asking.kinds.heads import head_of, path_of_head
from vp_core.asking.kinds.tags import Tags
from vp_core.asking.outputs import listing, outputs_of
from vp_core.asking.sequences.pairs import Pairs
from vp_core.carry_out import check_recipe
from vp_core.ground.errors import VPError
from vp_core.ground.names import UNITS
from vp_core.loading.load import LoadedModel
from vp_core.model.family.stack import ROTARY_NOTE
from vp_core.model.projections import find_layers, find_projections
from vp_core.model.units import unit_groups
from vp_core.recipes import RECIPES
from vp_core.squeezing.dense_form import check_dense_form
from vp_core.squeezing.onnx import check_onnx, require_onnx
from vp_core.study import Study


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
    """One row a capability, in the order of the way of the data; nothing is run, and the model is not changed.

    A model that predicts next tokens, or those of a target, has a row more than others: it writes.
    """
    writes = head_of(model) in ("next tokens", "target tokens")
    return tuple(_asked(name, ask, model) for name, ask in _QUESTIONS.items() if writes or name != "generation")


def check_model(loaded: LoadedModel) -> tuple[Capability, ...]:
    """`capabilities`, with a first row that says what was loaded and what was odd about it."""
    about = (
        f"{loaded.model.config.model_type}, {loaded.layers} layer{'s' * (loaded.layers != 1)}"
        if loaded.layers
        else "squeezed already"
    )
    first = Capability("load", True, " ".join((f"{about}.", *loaded.notes)))
    outputs = _asked("outputs", _outputs, loaded.model)  # a row only where no task can be asked of them
    return (first, *(() if outputs.can else (outputs,)), *capabilities(loaded.model))


def check_task(study: Study) -> Capability:
    """The row of a model and a task that fit: what is asked, on how many examples, and what was odd about them."""
    told = [note for note in study.notes if note not in study.loaded.notes]
    return Capability("task", True, " ".join((f"{study.question.task.name}: {_what_is_asked(study)}.", *told)))


def _what_is_asked(study: Study) -> str:
    question, task, n = study.question, study.question.task, len(study.question)
    counted, length = question.count(np.arange(n)), question.data.max_length
    match task.kind:
        case "tokens":
            return f"{head_of(study.model)}, {task.metric} on {counted:,} tokens in {n:,} windows of {length:,}"
        case "spans":
            return f"spans, {task.metric} on {counted:,} questions in {n:,} windows of at most {length:,} tokens"
        case "sequences":
            assert isinstance(question.data, Pairs)
            return f"{head_of(study.model)}, {task.metric} on {n:,} texts, targets of {question.data.targets.tokens:,} tokens"
        case "tags":
            assert isinstance(question, Tags)
            return f"{', '.join(task.labels)}, {task.metric} on {int(question.weights().sum()):,} words of {n:,} sentences"
        case "images":
            return f"{len(task.labels)} classes ({listing(task.labels)}), {task.metric} on {n:,} images"
        case "own":
            return f"{task.metric} on {study.source.rpartition(' on ')[2]}, {n:,} {task.counted}"
    classes = f"classes {', '.join(task.labels)}" if task.labels else "a number"
    return f"{classes}, {task.metric} on {n:,} texts"


def _asked(name: str, question: Callable[[PreTrainedModel], str], model: PreTrainedModel) -> Capability:
    try:
        return Capability(name, True, question(model))
    except VPError as error:
        return Capability(name, False, str(error))


def _outputs(model: PreTrainedModel) -> str:
    if head_of(model) == "classes":
        outputs_of(model)
    elif head_of(model) != "spans":
        path_of_head(model)
    return ""


def _statistics(model: PreTrainedModel) -> str:
    find_projections(model)
    return ""


def units_refused(take: Callable[[str], object]) -> str:
    """Of the kinds of units that `take` is tried with, those it refuses and why; VPError if it takes none."""
    refused: dict[str, str] = {}
    for kind in UNITS[1:]:
        try:
            take(kind)
        except VPError as error:
            refused[kind] = str(error)
    if len(refused) == len(UNITS) - 1:
        raise VPError(next(iter(refused.values())))
    return " ".join(f"But {kind}: {why}" for kind, why in refused.items())


def _units(model: PreTrainedModel) -> str:
    layers = find_layers(model)
    return units_refused(lambda kind: unit_groups(layers, (kind,)))


def _recipe(name: str) -> Callable[[PreTrainedModel], str]:
    def question(model: PreTrainedModel) -> str:
        check_recipe(model, RECIPES[name])
        return ""

    return question


def _squeeze(model: PreTrainedModel) -> str:
    told = [(layer.fixed_heads, layer.full_heads or (ROTARY_NOTE if layer.rotary else None)) for layer in find_layers(model)]
    return " ".join(dict.fromkeys(note for notes in told for note in notes if note))


def _transformers(model: PreTrainedModel) -> str:
    check_dense_form(model)
    return ""


def _onnx(model: PreTrainedModel) -> str:
    require_onnx()
    check_onnx(model)
    return ""


def _any(model: PreTrainedModel) -> str:
    """Nothing stands in the way of any model that was loaded."""
    return ""


_QUESTIONS: Mapping[str, Callable[[PreTrainedModel], str]] = MappingProxyType(
    {
        "statistics": _statistics,
        "rows": _recipe("paper"),
        "units": _units,
        "weights": _recipe("weights best"),
        "best": _recipe("best"),
        "squeeze": _squeeze,
        "save": _any,
        "transformers": _transformers,
        "ONNX": _onnx,
        "int8": _any,
        "training": _any,
        "generation": _any,
    }
)
"""Capability → what says why not (VPError), or what else is to be known of it."""
