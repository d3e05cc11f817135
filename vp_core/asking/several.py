"""Any number of labels for each text (multi-label), as files write them: lists of 0 and 1, lists of names, or a column each."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from vp_core.asking.outputs import listing, match
from vp_core.ground.errors import VPError

_BITS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}
_Found = tuple[tuple[str, ...], np.ndarray, tuple[str, ...]]


def as_list(value: Any) -> list[Any] | None:
    """A list as it was read, or one written as JSON in a text; None for anything else.

    >>> as_list('["a", "b"]'), as_list("a"), as_list("[sic]")
    (['a', 'b'], None, None)
    """
    if isinstance(value, str) and value.strip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, list) else None


def several(values: Sequence[Any], source: str, names: tuple[str, ...], columns: Sequence[str], by_place: bool) -> _Found:
    """(label names, 0 and 1 of each (rows, labels), notes) of the values of a label column, or tuples of several `columns`.

    `names` are those of the model's outputs in their order, empty if they are not known; `by_place`: they say nothing but
    their place. Raises VPError for what is none of the forms, or could be two.
    """
    if len(columns) > 1:
        names, numbers = _of_columns(values, source, names, columns, by_place)
    else:
        names, numbers = _of_lists(values, source, names)
    never = [name for name, some in zip(names, numbers.sum(axis=0).tolist(), strict=True) if not some]
    notes = (f"No text of {source!r} has the label {listing(never)}: its F1 counts as 0 in macro F1.",) if never else ()
    return names, numbers, notes


def _of_columns(
    values: Sequence[tuple[Any, ...]], source: str, names: tuple[str, ...], columns: Sequence[str], by_place: bool
) -> tuple[tuple[str, ...], np.ndarray]:
    names = names or tuple(columns)
    places = match(columns, names)
    if by_place and len(columns) == len(names) and len(places) < len(names):
        names, places = tuple(columns), {column: i for i, column in enumerate(columns)}  # `order_of` tells it
    if len(places) < max(len(columns), len(names)):
        raise VPError(
            f"The label columns of {source!r} are {listing(columns)}, the model's labels {listing(names)}: name one column for "
            "each of them (--label), or their order (--labels)."
        )
    numbers = np.zeros((len(values), len(names)), dtype=int)
    for row, value in enumerate(values, start=1):
        for column, part in zip(columns, value, strict=True):
            bit = _bit(part)
            if bit is None:
                raise VPError(f"The column {column!r} of {source!r} has {part!r} in row {row}: write 1 for the label, or 0.")
            numbers[row - 1, places[column]] = bit
    return names, numbers


def _of_lists(values: Sequence[Any], source: str, names: tuple[str, ...]) -> tuple[tuple[str, ...], np.ndarray]:
    if len(names) == 1 and all(_bit(value) is not None for value in values):
        return names, np.array([[_bit(value)] for value in values])
    lists = [_parts(value, names) for value in values]
    _check_lists(values, lists, source, names)
    rows = [part for part in lists if part is not None]
    words = list(dict.fromkeys(part for row in rows for part in row if isinstance(part, str)))
    numbers = [part for row in rows for part in row if not isinstance(part, str)]
    if words and numbers:
        raise VPError(f"The label lists of {source!r} mix names and numbers ({words[0]!r}, {numbers[0]!r}): write names only.")
    return _of_names(rows, source, names, words) if words else _of_bits(rows, source, names)


def _check_lists(values: Sequence[Any], lists: Sequence[list[Any] | None], source: str, names: tuple[str, ...]) -> None:
    """VPError for a row that is no list; `a` is one among rows such as `a|c`, but not where all rows are single names."""
    single = not any(isinstance(value, list) or as_list(value) is not None or "|" in str(value) for value in values)
    row = 1 if single else next((i for i, part in enumerate(lists, start=1) if part is None), None)
    if row:
        about = f" ({listing(names)})" if names else ""
        raise VPError(
            f"The model gives a text any number of its labels{about}, but row {row} of {source!r} has the single label "
            f'{str(values[row - 1])!r}: write lists, such as ["a", "c"] or [1, 0, 1], or name a column of 0 and 1 for each '
            "label (--label a,b,c)."
        )


def _parts(value: Any, names: Sequence[str]) -> list[Any] | None:
    """The parts of one row's list: a list, its JSON text, or names with `|` between them."""
    found = as_list(value)
    if found is not None or not isinstance(value, str):
        return found
    word = value.strip()
    return [word] if word in names or any("|" in name for name in names) else [part.strip() for part in word.split("|")]


def _of_bits(rows: Sequence[list[Any]], source: str, names: tuple[str, ...]) -> tuple[tuple[str, ...], np.ndarray]:
    total = len(names) or len(rows[0])
    for number, row in enumerate(rows, start=1):
        if len(row) != total or any(_bit(part) is None for part in row):
            raise VPError(
                f"Row {number} of {source!r} has the labels {_short(row)}, but numbers are read as one 0 or 1 for each of "
                f"{total} outputs: write these in the order of the outputs, or lists of names."
            )
    return names or tuple(str(i) for i in range(total)), np.array([[_bit(part) for part in row] for row in rows])


def _of_names(
    rows: Sequence[list[str]], source: str, names: tuple[str, ...], words: Sequence[str]
) -> tuple[tuple[str, ...], np.ndarray]:
    names = names or tuple(sorted(words))
    places = match(words, names)
    numbers = np.zeros((len(rows), len(names)), dtype=int)
    for number, row in enumerate(rows, start=1):
        for word in row:
            if word not in places:
                raise VPError(
                    f"The label {word!r} in row {number} of {source!r} is none of {listing(names)}: write the model's names, "
                    "or say what its outputs are called, in their order (--labels)."
                )
            if numbers[number - 1, places[word]]:
                raise VPError(f"Row {number} of {source!r} has the label {word!r} twice ({_short(row)}): write it once.")
            numbers[number - 1, places[word]] = 1
    return names, numbers


def _bit(value: Any) -> int | None:
    return _BITS.get(str(value).strip().lower()) if isinstance(value, str | int | float) else None


def _short(row: Sequence[Any]) -> str:
    text = json.dumps(list(row), ensure_ascii=False, default=str)
    return text if len(text) <= 80 else f"{text[:80]}…"
