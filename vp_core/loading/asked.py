"""As what a model is loaded: the class that transformers makes of it, by what it is asked, and whether it is one of those."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from vp_core.ground.bounded import read_json
from vp_core.ground.errors import VPError
from vp_core.loading.folder import CONFIG, class_of
from vp_core.model.families import families_for, family_of


@dataclass(frozen=True)
class Way:
    """One way to load a model: transformers' `auto` class, the `endings` of the names of its classes, what its weights are
    `trained_for`, what such a model `does`, which `families` (of `vp_core.model.families.families_for`) have one, and the
    options of `vp` with which one is `given`."""

    auto: type
    endings: tuple[str, ...]
    trained_for: str
    does: str
    families: str
    given: str


_CLASSES = Way(
    AutoModelForSequenceClassification, ("ForSequenceClassification",), "sequence classification", "classifies texts",
    "classes", "a task (--task sst2 --data DIR)",
)  # fmt: skip
_TEXT = "a text (--task text --data FILE)"
_NEXT = Way(
    AutoModelForCausalLM, ("ForCausalLM", "LMHeadModel"), "predicting the next token", "predicts tokens of a text",
    "next tokens", _TEXT,
)  # fmt: skip
_MASKED = Way(
    AutoModelForMaskedLM, ("ForMaskedLM",), "predicting masked words", "predicts masked tokens of a text", "masked tokens",
    _TEXT,
)  # fmt: skip
WAYS: Mapping[str, tuple[Way, ...]] = MappingProxyType({
    "classes": (_CLASSES,),
    "tokens": (_NEXT, _MASKED),
    "spans": (Way(
        AutoModelForQuestionAnswering, ("ForQuestionAnswering", "ForQuestionAnsweringSimple"),
        "question answering, or train a new head of it (vp finetune or vp train with --fresh-head)",
        "marks answers in a text", "spans", "questions (--task squad --data DIR)",
    ),),
    "images": (Way(
        AutoModelForImageClassification, ("ForImageClassification", "ForImageClassificationWithTeacher"),
        "image classification", "classifies images", "images", "a folder of images (--task images --data DIR)",
    ),),
    "sequences": (Way(
        AutoModelForSeq2SeqLM, ("ForConditionalGeneration",), "writing about a text", "writes about a text",
        "target tokens", "pairs of texts (--task sequences --data FILE --text COLUMN --label COLUMN)",
    ),),
    "tags": (Way(
        AutoModelForTokenClassification, ("ForTokenClassification",),
        "token classification, or train a new head of it (vp finetune or vp train with --fresh-head)",
        "tags the words of a text", "tags", "tagged words (--task tags --data DIR)",
    ),),
    "own": (Way(AutoModel, ("Model",), "states alone", "puts out states alone", "any", "a metric of your own"),),
})  # fmt: skip
"""What is asked (`vp_core.ground.names.ASKED`) → the ways to load a model for it, the usual one first; `own` is bare."""


def way_of(asked: str, name: str, folder: Path, fresh_head: bool = False) -> Way:
    """The way to load the model in a folder for what it is asked, by the class that saved it, else by its family; VPError for
    a class that does something else, unless its head is not taken (`fresh_head`)."""
    ways, saved_by = WAYS[asked], class_of(folder)
    if not fresh_head:
        check_asked(name, saved_by, asked)
    said = next((way for way in ways if saved_by.endswith(way.endings)), None)
    if said is None and (folder / CONFIG).exists():
        type_ = read_json(folder / CONFIG).get("model_type")
        said = next((way for way in ways if type_ in families_for(way.families)), None)
    return said or ways[0]


def asked_of(class_name: str) -> str | None:
    """What a model of this class is asked, one of `vp_core.ground.names.ASKED`; None for a class that says nothing.

    >>> [asked_of(name) for name in ("GPT2LMHeadModel", "BertForMaskedLM", "ViTForImageClassification", "BertModel")]
    ['tokens', 'tokens', 'images', None]
    """
    with_heads = ((asked, ways) for asked, ways in WAYS.items() if asked != "own")
    return next((asked for asked, ways in with_heads if any(class_name.endswith(way.endings) for way in ways)), None)


def check_asked(name: str, class_name: str, asked: str) -> None:
    """VPError for a model of a class that is made to be asked something else."""
    own = asked_of(class_name)
    if own == asked or (own is None and not class_name.endswith(_OTHER_HEADS)):
        return
    wanted = " or ".join(f"...{way.endings[0]}" for way in WAYS[asked])
    does = f"{next(way for way in WAYS[own] if class_name.endswith(way.endings)).does}, and" if own else "is one that"
    give = f"give it {WAYS[own][0].given}, or give a {wanted}" if own else f"give a {wanted}"
    raise VPError(f"The model {name!r} (a {class_name}) {does} {_NOT[asked]}: {give}.")


_OTHER_HEADS = ("Classification", "ForMultipleChoice", "ForPreTraining")
_NOT: Mapping[str, str] = MappingProxyType({
    "classes": "is no text classifier",
    "tokens": "predicts no tokens of a text",
    "spans": "marks no answers in a text",
    "images": "classifies no images",
    "sequences": "writes nothing about a text",
    "tags": "tags no words",
    "own": "cannot be loaded for a metric of your own",
})  # fmt: skip


def check_family(name: str, model_type: str, asked: str, class_name: str) -> None:
    """VPError unless models of this type and class are taken for what is asked."""
    ways = WAYS[asked]
    if any(class_name.endswith(way.endings) and model_type in families_for(way.families) for way in ways):
        return
    family_of(model_type)
    could = ", or a ".join(f"...{way.endings[0]} of one of {', '.join(families_for(way.families))}" for way in ways)
    raise VPError(f"The model {name!r} {_NOT[asked]} here (it is a {class_name} of the type {model_type!r}): give a {could}.")
