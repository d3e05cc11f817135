"""Pairs of texts in a table: what is read, and what is to be written about it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vp_core.asking.reading.tables import kind_of, read_table, stem_of
from vp_core.ground.errors import VPError

SPLITS = {"train": ("train",), "dev": ("dev", "validation", "valid", "val", "test")}
"""What a file of a folder is called, without its ending, the first that is there: what is learnt from, and what is scored."""


@dataclass(frozen=True, eq=False)
class TextPairs:
    """`sources` and `targets` (n,) of the file `source`; `notes` are what should be known of how they were read."""

    sources: Sequence[str]
    targets: Sequence[str]
    source: str
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.sources)

    def sample(self, n: int, seed: int = 0) -> "TextPairs":
        """`n` of them, a simple random sample in the old order; all of them, if there are no more. VPError for fewer than 2."""
        if n >= len(self):
            return self
        if n < 2:
            raise VPError(f"A score and its interval need at least 2 pairs of texts, and {n} are asked for: ask for more.")
        picked = np.sort(np.random.default_rng(seed).choice(len(self), n, replace=False))
        return replace(self, sources=[self.sources[i] for i in picked], targets=[self.targets[i] for i in picked])


def read_pairs(data: str | Path | None, split: str, text: Sequence[str], label: str, separator: str = "") -> TextPairs:
    """The pairs of a file, or of a folder's file of this `split` (SPLITS): columns `text` (one) and `label`.

    Raises VPError where no column or file is named, for what `vp_core.asking.reading.tables.read_table` refuses, and for fewer
    than two rows, a text that is empty or none.
    """
    if data is None:
        raise VPError(
            "Which texts? Give a file (.tsv, .csv, .json, .jsonl, .parquet) with two columns, or a folder with train and dev "
            "files (--data FILE --text COLUMN --label COLUMN)."
        )
    if len(text) != 1:
        raise VPError(
            "Which columns? Name the one that is read and the one that is to be written about it (--text COLUMN, --label "
            "COLUMN)."
        )
    path = file_of(data, split)
    table, source = read_table(path, text, (label,), separator), str(path)
    if text[0] == label:
        raise VPError(f"The column {label!r} is both what is read and what is to be written: name two (--text, --label).")
    if len(table.rows) < 2:
        raise VPError(f"{source!r} has {len(table.rows)} pairs of texts: give a file with at least two.")
    found = [(_text(row[text[0]], text[0], i, source), _text(row[label], label, i, source))
             for i, row in enumerate(table.rows, start=1)]  # fmt: skip
    sources, targets = zip(*found, strict=True)
    return TextPairs(sources, targets, source, table.notes)


def file_of(data: str | Path, split: str) -> Path:
    """The file of a split: `data` itself, or a file of that folder; VPError if there is none, or several of one name."""
    place = Path(data)
    if not place.is_dir():
        return place
    names = SPLITS[split]
    for name in names:
        there = sorted(path for path in place.iterdir() if path.is_file() and kind_of(path) and stem_of(path) == name)
        if len(there) > 1:
            raise VPError(f"{str(place)!r} has {there[0].name} and {there[1].name}: leave one of them there.")
        if there:
            return there[0]
    raise VPError(
        f"There is no {' or '.join(names)} file (.tsv, .csv, .json, .jsonl, .parquet) in {str(place)!r}: put one there."
    )


def _text(value: object, column: str, row: int, source: str) -> str:
    """A cell as text; VPError if it is none, or has nothing in it."""
    if not isinstance(value, str):
        raise VPError(f"The column {column!r} in row {row} of {source!r} is no text: give a column of texts.")
    if not value.strip():
        raise VPError(f"The column {column!r} in row {row} of {source!r} is empty: fill it in, or leave the row out.")
    return value
