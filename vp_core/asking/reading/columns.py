"""Sentences whose words have tags: CoNLL's columns (word first, tag last, a blank line behind each sentence), or JSONL."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vp_core.asking.reading.files import read_lines
from vp_core.asking.reading.records import listed, read_json, read_jsonl
from vp_core.asking.reading.tables import kind_of
from vp_core.ground.errors import VPError

MOST_WORDS = 10_000
"""Of a sentence: more are many sentences without a blank line between them."""
SPLITS = {
    "train": ("train", "training", "eng.train", "trn"),
    "dev": ("test", "eng.testb", "tst", "dev", "valid", "validation", "val", "eng.testa", "devel"),
}  # fmt: skip
"""What the files of a folder are called, without endings: of statistics and trainings, and of what is scored (the first)."""
_ENDINGS = ("", ".txt", ".conll", ".conll03", ".iob", ".iob2", ".bio", ".tsv", ".json", ".jsonl")
_WORDS, _TAGS = ("tokens", "words"), ("tags", "ner_tags", "labels", "ner")
_BLANKS = re.compile("[ \t]+")
_DOCUMENT = "-DOCSTART-"

Tag = str | int


@dataclass(frozen=True, eq=False)
class Sentences:
    """Sentences as tuples of `words`, and as many `tags` for each: names, or numbers of the model's outputs. `source` names the
    file, `notes` are what should be known of it."""

    words: Sequence[tuple[str, ...]]
    tags: Sequence[tuple[Tag, ...]]
    source: str
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.words)

    @property
    def numbered(self) -> bool:
        """Whether tags are numbers."""
        return isinstance(self.tags[0][0], int)

    def kinds(self) -> tuple[Tag, ...]:
        """The different tags, in the order in which they first stand there."""
        return tuple(dict.fromkeys(tag for tags in self.tags for tag in tags))

    def sample(self, n: int, seed: int = 0) -> "Sentences":
        """A simple random sample of `n` in the old order, all of them if there are no more."""
        if n >= len(self):
            return self
        places = np.sort(np.random.default_rng(seed).choice(len(self), max(n, 0), replace=False))
        return replace(self, words=[self.words[i] for i in places], tags=[self.tags[i] for i in places])


def open_sentences(data: str | Path | None, split: str, words: str = "", tags: str = "") -> Sentences:
    """The `train` or `dev` sentences of a folder with a file for each (see SPLITS), or those of a single file, which serves for
    both; `words` and `tags` name the keys of a JSONL file where they are not the usual ones.

    Raises VPError where there is no such file, and as `read_sentences` does.
    """
    if data is None:
        raise VPError("Which tagged words? Give a file of CoNLL columns or JSONL, or a folder with train and test (--data).")
    place = Path(data)
    return read_sentences(file_of(place, split) if place.is_dir() else place, words, tags)


def file_of(folder: Path, split: str) -> Path:
    """The file of a split in a folder; VPError if there is none."""
    names = [f"{name}{ending}{packed}" for name in SPLITS[split] for ending in _ENDINGS for packed in ("", ".gz")]
    found = next((path for name in names if (path := folder / name).is_file()), None)
    if found is None:
        wanted = "train.txt" if split == "train" else "test.txt (or dev.txt, valid.txt)"
        raise VPError(f"There is no {wanted} in {str(folder)!r}: give a folder with both, or a single file.")
    return found


def read_sentences(path: Path, words: str = "", tags: str = "") -> Sentences:
    """The tagged sentences of a file: JSON and JSONL by its ending, else columns. Bounded as `files.read_lines`.

    Raises VPError for a file that is missing, broken, too large or no text, without sentences, with lines of unequal columns
    (the line), with sentences of unequal words and tags, without words or of more than MOST_WORDS.
    """
    source, kind = str(path), kind_of(path)
    if kind == ".parquet":
        raise VPError(f"{source!r} is a Parquet file: write an object with tokens and tags in each line instead (.jsonl).")
    notes: tuple[str, ...] = ()
    found = list[tuple[tuple[str, ...], tuple[Tag, ...]]]()
    if kind in (".json", ".jsonl"):
        read = read_jsonl if kind == ".jsonl" else read_json
        found = list(_of_records(path, read, words, tags))
        if found and len({isinstance(tag, int) for _, said in found for tag in said}) > 1:
            raise VPError(f"The tags of {source!r} are names in some places and numbers in others: write names everywhere.")
    else:
        if words or tags:
            raise VPError(
                f"The columns of {source!r} have no names (the word is first, its tag last): leave --text, --label out."
            )
        columns, documents = _of_columns(path)
        found = list(columns)
        notes = (f"{documents:,} lines of {source!r} that begin documents ({_DOCUMENT}) were left out.",) if documents else ()
    if not found:
        raise VPError(
            f"{source!r} has no sentences: write a word and its tag in each line, and a blank line behind a sentence."
        )
    for number, (spoken, _) in enumerate(found, start=1):
        if len(spoken) > MOST_WORDS:
            raise VPError(
                f"Sentence {number:,} of {source!r} has {len(spoken):,} words, where {MOST_WORDS:,} are the most: part it."
            )
    return Sentences([one for one, _ in found], [said for _, said in found], source, notes)


def _of_columns(path: Path) -> tuple[list[tuple[tuple[str, ...], tuple[str, ...]]], int]:
    """(words and tags of every sentence, lines that begin documents)."""
    source, found, documents = str(path), list[tuple[tuple[str, ...], tuple[str, ...]]](), 0
    words, tags, columns, tabs, numbers = list[str](), list[str](), 0, False, True
    for number, line in enumerate(read_lines(path), start=1):
        content = line.strip(" \t\r\n")
        begins = content.startswith(_DOCUMENT)
        documents += begins
        if not content or begins:
            if words:
                found.append((tuple(words), tuple(tags)))
                words, tags = [], []
            continue
        tabs = tabs or (not columns and "\t" in content)
        cells = line.rstrip("\r\n").split("\t") if tabs else _BLANKS.split(content)
        columns = columns or len(cells)
        _check_cells(cells, columns, number, source)
        words.append(cells[0].strip())
        tags.append(cells[-1].strip())
        numbers = numbers and words[-1] == str(len(words))
        if len(words) > MOST_WORDS:
            raise VPError(
                f"The sentence that ends behind line {number:,} of {source!r} has more than {MOST_WORDS:,} words: put a blank "
                "line behind each sentence."
            )
    if words:
        found.append((tuple(words), tuple(tags)))
    if numbers and sum(len(one) for one, _ in found) > 1 and any(len(one) > 1 for one, _ in found):
        raise VPError(
            f"The first column of {source!r} numbers its words: write the word first and its tag last, as CoNLL 2003."
        )
    return found, documents


def _check_cells(cells: Sequence[str], columns: int, number: int, source: str) -> None:
    if len(cells) == 1:
        raise VPError(
            f"Line {number:,} of {source!r} has a single column: write a word and its tag, parted by a space or a tab."
        )
    if len(cells) != columns:
        raise VPError(f"Line {number:,} of {source!r} has {len(cells)} columns and the lines before it {columns}: mend it.")
    if not cells[0].strip() or not cells[-1].strip():
        what = "word" if not cells[0].strip() else "tag"
        raise VPError(f"Line {number:,} of {source!r} has no {what}: the word stands first, its tag last.")


def _of_records(
    path: Path, read: Callable[[Path, Sequence[str]], Iterator[dict[str, Any]]], words: str, tags: str
) -> Iterator[tuple[tuple[str, ...], tuple[Tag, ...]]]:
    source = str(path)
    asked = (words,) if words else _WORDS, (tags,) if tags else _TAGS
    for number, row in enumerate(read(path, [*asked[0], *asked[1]]), start=1):
        spoken, said = (_list_of(row, names, number, source) for names in asked)
        if not spoken:
            raise VPError(f"Sentence {number:,} of {source!r} has no words: leave it out.")
        if len(spoken) != len(said):
            raise VPError(f"Sentence {number:,} of {source!r} has {len(spoken)} words and {len(said)} tags: mend it.")
        if any(not isinstance(word, str) or not word for word in spoken):
            raise VPError(f"Sentence {number:,} of {source!r} has a word that is no text: write every word as a string.")
        if any(isinstance(tag, bool) or not isinstance(tag, str | int) or tag == "" for tag in said):
            raise VPError(f"Sentence {number:,} of {source!r} has a tag that is neither a name nor a whole number: mend it.")
        yield tuple(spoken), tuple(said)


def _list_of(row: dict[str, Any], names: Sequence[str], number: int, source: str) -> list[Any]:
    """The list under the first of these keys that is there."""
    name = next((name for name in names if name in row), None)
    if name is None:
        raise VPError(
            f"Sentence {number:,} of {source!r} has no {' or '.join(names)}: its keys are {listed(row)} (--text for the words, "
            "--label for the tags)."
        )
    if not isinstance(row[name], list):
        raise VPError(f"{name!r} in sentence {number:,} of {source!r} is no list: write one of words, and one of tags.")
    return row[name]
