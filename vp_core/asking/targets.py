"""From the values of a label column to what is asked of a model: a class, a value, or any number of labels.

Where the model is known, it decides which of the three (a column of whole numbers is a regression for a model with a single
output); otherwise the look of the column does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vp_core.asking.outputs import Outputs, class_number, class_order, labels_option, listing, match, whole_number
from vp_core.asking.several import as_list, several
from vp_core.asking.tasks import Task
from vp_core.ground.errors import VPError

METRICS = {
    "classes": ("accuracy",),
    "value": ("spearman", "pearson"),
    "labels": ("subset_accuracy", "micro_f1", "macro_f1"),
}  # fmt: skip
"""By what is asked, the metrics of a file of one's own."""


@dataclass(frozen=True, eq=False)
class Targets:
    """`labels`: the names of classes (none for values), in the model's order where it is known; `numbers`: the places of the
    rows' classes in it (rows,), values (rows,), or 0 and 1 of each label (rows, labels). `notes`: what was decided."""

    kind: str
    labels: tuple[str, ...]
    numbers: np.ndarray
    notes: tuple[str, ...] = ()


def read_targets(
    values: Sequence[Any], source: str, outputs: Outputs | None = None, labels: Sequence[str] = (),
    columns: Sequence[str] = (),
) -> Targets:  # fmt: skip
    """What a file's label column asks: `values` as they were read, one a row.

    With several label `columns` a value is a tuple, one of each. `labels` are the user's names for the model's outputs, in
    their order. Raises VPError for values that do not fit the model, the names or each other.
    """
    if labels and outputs and outputs.kind == "value":
        raise VPError("The model has a single output, a value, and --labels names classes: leave it out.")
    if outputs and labels and len(labels) != len(outputs):
        raise VPError(
            f"--labels names {len(labels)} {'class' if len(labels) == 1 else 'classes'} ({listing(labels)}), but the model has "
            f"{len(outputs)} ({listing(outputs.names)}): name one for each of its outputs, in their order."
        )
    if len(set(labels)) < len(labels):
        raise VPError(f"--labels names a class twice ({listing(labels)}): name each output's class once.")
    kind = outputs.kind if outputs else _look(values, labels, columns)
    if kind == "labels":
        names = tuple(labels) or (outputs.names if outputs else ())
        found, numbers, notes = several(
            values, source, names, columns, by_place=not labels and bool(outputs and outputs.numbered)
        )
        return Targets(kind, found, numbers, notes)
    _check_single(values, source, columns)
    if kind == "value":
        return _values(values, source, told=outputs is not None)
    return _classes(values, source, outputs, tuple(labels))


def written(value: Any) -> str:
    """A label as a word: a whole number without its point, a JSON boolean as it is written there."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def check_given(values: Sequence[Any], source: str, names: Sequence[str] = (), lists: bool = False) -> None:
    """VPError if a label is missing: empty, null or nan, unless a class is called so. Where `lists` are asked for, none of
    the labels is a list too, so that such texts are not left out."""
    absent = [i for i, value in enumerate(values, start=1) if _missing(value, names)]
    if not absent:
        return
    rows = f"row {absent[0]}" if len(absent) == 1 else f"rows {listing(absent)}"
    what = "The label" if len(absent) == 1 else f"{len(absent):,} labels"
    verb = "is" if len(absent) == 1 else "are"
    mend = "write [] where a text has none of the labels" if lists else "fill in what is missing, or leave such rows out"
    raise VPError(f"{what} of {source!r} in {rows} {verb} missing (empty, null or nan): {mend}.")


def _missing(value: Any, names: Sequence[str]) -> bool:
    if isinstance(value, tuple):
        return any(_missing(part, names) for part in value)
    word = "" if value is None else str(value).strip()
    return not isinstance(value, list) and word not in names and word.lower() in ("", "nan", "null")


def number_of_class(word: str, task: Task) -> int | None:
    """The class of a task that a word names or numbers, None if it does neither."""
    if word in task.labels:
        return task.labels.index(word)
    number = whole_number(word)
    return number if number is not None and 0 <= number < len(task.labels) else None


def _look(values: Sequence[Any], labels: Sequence[str], columns: Sequence[str]) -> str:
    """What a column is by its look: lists are several labels, fractions are values, the rest are classes."""
    if len(columns) > 1 or any(as_list(value) is not None for value in values):
        return "labels"
    return "value" if not labels and any(_is_fraction(value) for value in values) else "classes"


def _is_fraction(value: Any) -> bool:
    try:
        return not isinstance(value, bool) and not float(str(value)).is_integer()
    except ValueError:
        return False


def _check_single(values: Sequence[Any], source: str, columns: Sequence[str]) -> None:
    """VPError for what only a multi-label model answers."""
    row = next((i for i, value in enumerate(values, start=1) if isinstance(value, dict) or as_list(value) is not None), None)
    if len(columns) > 1 or row:
        what = f"has {len(columns)} label columns" if len(columns) > 1 else f"has a list of labels in row {row}"
        raise VPError(
            f"{source!r} {what}, but the model gives each text a single answer: give one label for each text, or set "
            "problem_type to multi_label_classification in the model's config.json if it was trained so."
        )


def _values(values: Sequence[Any], source: str, told: bool) -> Targets:
    numbers = [float("nan") if isinstance(value, bool) else _number(value) for value in values]
    for row, (value, number) in enumerate(zip(values, numbers, strict=True), start=1):
        if not np.isfinite(number):
            why = "the model has a single output, a regression" if told else "other labels are fractions, a regression"
            raise VPError(f"The label {written(value)!r} in row {row} of {source!r} is not a number: {why}.")
    whole = told and all(number.is_integer() for number in numbers)
    note = (f"The labels of {source!r} are read as values, since the model has a single output (a regression).",)
    return Targets("value", (), np.array(numbers), note if whole else ())


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return float("nan")


_Found = tuple[tuple[str, ...], dict[str, int], tuple[str, ...]]
"""Names of classes, the place of each word among them, and notes."""


def _classes(values: Sequence[Any], source: str, outputs: Outputs | None, labels: tuple[str, ...]) -> Targets:
    if outputs and not labels and any(_is_fraction(value) for value in values) and not match(
        list(dict.fromkeys(map(written, values))), outputs.names
    ):  # fmt: skip
        raise VPError(
            f"{source!r} has labels with fractions, a regression, but the model has {len(outputs)} classes "
            f"({listing(outputs.names)}): choose a model with one output, or name the column of the classes (--label)."
        )
    words = [written(value) for value in values]
    if all(whole_number(word) is not None for word in words):
        words = [str(whole_number(word)) for word in words]  # 1.0 is 1
    present = sorted(set(words), key=class_order)
    found: _Found
    if labels:
        places = _said(words, present, labels, source)
        missing = [label for i, label in enumerate(labels) if i not in places.values()]
        found = labels, places, note_missing(missing, source)
    elif outputs is None:
        found = tuple(present), {word: i for i, word in enumerate(present)}, ()
    else:
        found = _by_model(words, present, outputs, source)
    names, places, notes = found
    return Targets("classes", names, np.array([places[word] for word in words]), notes)


def _said(words: Sequence[str], present: Sequence[str], labels: tuple[str, ...], source: str) -> dict[str, int]:
    """Places by the names that the user gave; where all words are numbers and none of the names is one, by these."""
    places = match(present, labels)
    numbers = {word: whole_number(word) for word in present}
    if all(whole_number(label) is None for label in labels) and None not in numbers.values():
        places = {word: n for word, n in numbers.items() if n is not None and 0 <= n < len(labels)}
        if len(places) == len(present) < len(labels) and 0 not in places.values():
            from_0, from_1 = (labels_option([str(first + i) for i in range(len(labels))]) for first in (0, 1))
            raise VPError(
                f"{source!r} has the labels {listing(present)} for some of {listing(labels)}, counted from 0 or from 1: name "
                f"the outputs by the file's numbers, in their order ({from_0} or {from_1})."
            )
    for row, word in enumerate(words, start=1):
        if word not in places:
            _check_spelling(word, present, source)
            raise VPError(
                f"The label {word!r} in row {row} of {source!r} is none of {listing(labels)}: name the classes (--labels) as "
                "the file does, in the order of the model's outputs."
            )
    return places


def _check_spelling(word: str, present: Sequence[str], source: str) -> None:
    """VPError if a label that fits no class differs from another by case alone: no list of names would help."""
    alike = [other for other in present if other.casefold() == word.casefold()]
    if len(alike) > 1:
        raise VPError(f"{source!r} writes the same class in two ways ({listing(alike)}): write each in one.")


def _by_model(words: Sequence[str], present: Sequence[str], outputs: Outputs, source: str) -> _Found:
    """(class names in the order of the model's outputs, or as many in the file's own order; places of words; notes)."""
    numbers = {word: class_number(word) for word in present}
    numbered = all(number is not None for number in numbers.values())
    places = match(present, outputs.names, prefixes=not numbered)
    if len(places) == len(present):
        spelt = {place: word for word, place in places.items()}
        names = tuple(spelt.get(place, name) for place, name in enumerate(outputs.names))
        return names, places, note_missing([name for i, name in enumerate(names) if i not in spelt], source)
    if numbered:
        return _by_number({word: int(number or 0) for word, number in numbers.items()}, outputs, source)
    if outputs.numbered:
        return _by_letter(present, outputs, source)
    row, word = next((row, word) for row, word in enumerate(words, start=1) if word not in places)
    _check_spelling(word, present, source)
    option = f"{labels_option(present)}, or otherwise" if len(present) == len(outputs) else "--labels"
    raise VPError(
        f"The label {word!r} in row {row} of {source!r} is none of the model's classes ({listing(outputs.names)}), or could be "
        f"two of them: name the file's classes in the order of the model's outputs ({option}), or choose a model with these."
    )


def _by_number(numbers: dict[str, int], outputs: Outputs, source: str) -> _Found:
    """Numbers of outputs; or others, as many as there are outputs, in number order."""
    there, total = sorted(set(numbers.values())), len(outputs)
    if len(there) < len(numbers):
        raise VPError(f"{source!r} writes the same class in two ways ({listing(list(numbers))}): write each in one.")
    if set(there) <= set(range(total)) and (0 in there or len(there) == total):
        names = tuple(str(i) for i in range(total))
        missing = [names[i] if outputs.numbered else f"{i} ({outputs.names[i]})" for i in range(total) if i not in there]
        return names, dict(numbers), note_missing(missing, source)
    if len(there) == total:
        names = tuple(str(number) for number in there)
        note = f"The labels {listing(names)} are taken for the model's outputs {listing(outputs.names)}, in this order."
        return names, {word: there.index(number) for word, number in numbers.items()}, (note,)
    begin = sorted({0, there[0]} if set(there) <= set(range(total)) else {there[0]})
    options = [labels_option([str(first + i) for i in range(total)]) for first in begin]
    raise VPError(
        f"{source!r} has the labels {listing(there)}, but the model has {total} classes ({listing(outputs.names)}): choose a "
        f"model with these, or name what all its outputs mean, in their order ({' or '.join(options)})."
    )


def _by_letter(present: Sequence[str], outputs: Outputs, source: str) -> _Found:
    """Names for a model that has none: in the order of letters, which is a guess."""
    if len(present) != len(outputs):
        raise VPError(
            f"{source!r} has the {len(present)} labels {listing(present)}, but the model has {len(outputs)} "
            f"({listing(outputs.names)}): choose a model that was fine-tuned for them, or name the classes of all its outputs "
            "in their order (--labels)."
        )
    note = f"The model only numbers its outputs: they are taken for {listing(present)}, in this order (--labels says another)."
    return tuple(present), {word: i for i, word in enumerate(present)}, (note,)


def note_missing(missing: Sequence[str], source: str) -> tuple[str, ...]:
    """A note on the classes that no text has, if there are any."""
    if not missing:
        return ()
    return (f"Nothing in {source!r} has the label {listing(missing)}, which the model knows: it is scored on the others.",)
