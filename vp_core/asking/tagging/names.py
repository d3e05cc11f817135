"""Which output of a model stands for which tag of the data: as the user says, by their names, or by their numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedModel

from vp_core.asking.outputs import Outputs, class_number, labels_option, listing, match, outputs_of
from vp_core.asking.reading.columns import Sentences, Tag
from vp_core.asking.tagging.entities import LETTERS
from vp_core.ground.errors import VPError


@dataclass(frozen=True)
class TagNames:
    """The tags that a model's outputs stand for, in their order; `order` are their numbers in data that numbers them (n,),
    `counted`: whether nobody says these, so that a look at the answers has to say whether both number them alike. `notes` are
    what should be known of it."""

    names: tuple[str, ...]
    order: tuple[int, ...] = ()
    counted: bool = False
    notes: tuple[str, ...] = ()


def names_of(model: PreTrainedModel, sentences: Sentences, labels: Sequence[str] = ()) -> TagNames:
    """What the outputs of a model are called: as `labels` say, in their order, or by its own names. Of data that numbers its
    tags `labels` may be these numbers, in the order of the outputs.

    Raises VPError for labels that are not as many as the outputs, and for a model that only numbers them where the data names
    its tags.
    """
    outputs = outputs_of(model)
    numbered = all(_number(tag) is not None for tag in sentences.kinds())
    if labels:
        if len(labels) != len(outputs) or len(set(labels)) != len(labels):
            raise VPError(
                f"--labels names {len(labels)} tags ({listing(labels)}), the model has {len(outputs)} outputs "
                f"({listing(outputs.names)}): name each of them once, in their order."
            )
        said = [class_number(label) for label in labels]
        if numbered and sorted(-1 if one is None else one for one in said) == list(range(len(outputs))):
            return TagNames(outputs.names, tuple(one for one in said if one is not None))
        told = f"The model calls its outputs {listing(outputs.names)}; by --labels they are {listing(labels)}."
        notes = (told,) if tuple(labels) != outputs.names and not outputs.numbered else ()
        return TagNames(tuple(labels), tuple(range(len(outputs))), numbered, notes)
    if outputs.numbered and not numbered:
        raise VPError(
            f"The model only numbers its {len(outputs)} outputs, and the tags of {sentences.source!r} have names: say what the "
            f"outputs mean, in their order ({_as_option(outputs, sentences.kinds())}, or otherwise)."
        )
    notes = (f"The tags of {sentences.source!r} are numbers: they are read as the model's outputs, {listing(outputs.names)}.",)
    return TagNames(outputs.names, tuple(range(len(outputs))), numbered, notes if numbered and not outputs.numbered else ())


def numbers_of(called: TagNames, sentences: Sentences) -> list[np.ndarray]:
    """The output that each tag stands for, sentence by sentence (words,); VPError for a tag that is none of the outputs'."""
    kinds, names = sentences.kinds(), called.names
    if all(_number(tag) is not None for tag in kinds):
        place = {number: output for output, number in enumerate(called.order)}
        found = {tag: place[number] for tag in kinds if (number := _number(tag)) in place and number is not None}
    else:
        by_text = match([str(tag) for tag in kinds], names)
        found = {tag: by_text[str(tag)] for tag in kinds if str(tag) in by_text}
    unknown = [str(tag) for tag in kinds if tag not in found]
    if unknown:
        raise VPError(
            f"The tags {listing(unknown)} of {sentences.source!r} are not the model's, which are {listing(names)}: give "
            "sentences in the model's tags, or name its outputs in their order (--labels)."
        )
    return [np.array([found[tag] for tag in tags], dtype=np.int64) for tags in sentences.tags]


def scheme_notes(sentences: Sentences, names: Sequence[str]) -> tuple[str, ...]:
    """What to know of entities that begin with I, without a B, in the data: seqeval's default takes them as entities."""
    if not any(name.startswith("B-") for name in names):
        return ()
    odd = 0
    for tags in sentences.tags:
        before = "O"
        for tag in tags:
            if isinstance(tag, str):
                odd += tag[:1] == "I" and (before[:1] not in LETTERS or before[1:] != tag[1:])
                before = tag
    if not odd:
        return ()
    return (f"{odd:,} entities of {sentences.source!r} begin with I- and no B- before it: they count, as seqeval counts them.",)


def fits_otherwise(table: np.ndarray) -> np.ndarray | None:
    """From how often each output (rows) was said where each tag stands (outputs, tags): the tag of each output (outputs,) that
    fits the answers clearly better than the same number does; None if there is none.

    The commonest tag, which is mostly O, is left out where both number it alike: it would hide all others.
    """
    from scipy.optimize import linear_sum_assignment

    table = table.copy()
    most = int(table.sum(axis=0).argmax())
    table[most, most] = 0
    _, best = linear_sum_assignment(-table)
    right, said = table[np.arange(len(table)), best].sum(), np.trace(table)
    return best if right - said > _MARGIN * table.sum() and right > table.sum(axis=0).max() else None


_MARGIN = 0.1


def check_numbers(names: Sequence[str], table: np.ndarray) -> None:
    """VPError where another numbering of tags fits a model's answers clearly better (see `fits_otherwise`)."""
    best = fits_otherwise(table)
    if best is not None:
        order = [str(i) for i in best]
        raise VPError(
            f"The data only numbers its tags, and the model's answers ({listing(names)}) fit the numbers {listing(order)} "
            f"better than 0, 1, 2 …: give the tags by name, or say which number each output means ({labels_option(order)} or "
            f"{labels_option([str(i) for i in range(len(names))])})."
        )


def _number(tag: Tag) -> int | None:
    return tag if isinstance(tag, int) else class_number(tag)


def _as_option(outputs: Outputs, kinds: Sequence[Tag]) -> str:
    """The option that names the outputs; with the data's tags, if they are as many."""
    return labels_option(sorted(str(tag) for tag in kinds)) if len(kinds) == len(outputs) else "--labels O,B-PER,I-PER"
