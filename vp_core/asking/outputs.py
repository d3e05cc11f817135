"""What a model's outputs stand for: one class of several, any number of labels, or a value; and what their names match."""

import csv
import io
import re
import shlex
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from transformers import PreTrainedModel

from vp_core.ground.errors import VPError

Kind = Literal["classes", "labels", "value"]
_WHOLE = re.compile(r"([+-]?\d{1,15})(\.0*)?", re.ASCII)
_NUMBERED = re.compile(r"(?:label[ _-]?)?(\d{1,15})", re.ASCII | re.IGNORECASE)
_SHOWN = 10
_START = 3
"""Letters by which names are told apart where all else failed: NEG is negative."""


@dataclass(frozen=True)
class Outputs:
    """The outputs of a model by `names` (in order), and what they say together.

    `kind`: "classes", the largest output is the answer; "labels", each output says yes or no by itself (multi-label);
    "value", the single output is a number (regression).
    """

    kind: Kind
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def numbered(self) -> bool:
        """Whether the names say nothing but the place: LABEL_0, LABEL_1 … or 0, 1 …"""
        found = [_NUMBERED.fullmatch(name.strip()) for name in self.names]
        return all(match is not None and int(match[1]) == place for place, match in enumerate(found))


def outputs_of(model: PreTrainedModel) -> Outputs:
    """What a model's configuration says of its outputs; VPError for names that do not fit, and for several values at once."""
    id2label = {int(i): str(label) for i, label in model.config.id2label.items()}
    if set(id2label) != set(range(len(id2label))):
        raise VPError(f"The model numbers its labels {sorted(id2label)}: number them from 0 in its config.json.")
    names = tuple(id2label[i] for i in range(len(id2label)))
    if model.config.problem_type == "multi_label_classification":
        return Outputs("labels", names)
    if len(names) == 1:
        return Outputs("value", names)
    if model.config.problem_type == "regression":
        raise VPError(
            f"The model predicts {len(names)} values at once (problem_type regression): choose one with a single output, or "
            "set problem_type in its config.json if its outputs are classes."
        )
    return Outputs("classes", names)


def whole_number(word: str) -> int | None:
    """The whole number that a word is, None if it is none.

    >>> whole_number("-1"), whole_number("11.0"), whole_number("0.5"), whole_number("²")
    (-1, 11, None, None)
    """
    match = _WHOLE.fullmatch(word)
    return int(match[1]) if match else None


def class_number(word: str) -> int | None:
    """The number of a class that is only numbered, None for a name.

    >>> class_number("LABEL_10"), class_number("-1.0"), class_number("top10")
    (10, -1, None)
    """
    match = _NUMBERED.fullmatch(word)
    return int(match[1]) if match else whole_number(word)


def class_order(word: str) -> tuple[int, int, str]:
    """By number, before names by letters: −1 before 0, 2 before 10."""
    number = class_number(word)
    return (1, 0, word) if number is None else (0, number, word)


def match(words: Sequence[str], names: Sequence[str], prefixes: bool = False) -> dict[str, int]:
    """Which of `names` each of the (different) words means: word → place, without the words that mean none.

    As they are written first; then as whole numbers (1.0 is 1); then without case; then without punctuation, letters and
    digits of every script kept; at last, with `prefixes`, by their first three letters, if these tell all apart. Two words
    never get the same name, and a word that could mean two names gets none.

    >>> match(["POS", "Neg"], ["negative", "positive"], prefixes=True), match(["+", "-"], ["-", "+"])
    ({'POS': 1, 'Neg': 0}, {'+': 1, '-': 0})
    """
    found: dict[str, int] = {}
    for form in (str, _as_number, _folded, _plain):
        found = _match_by(form, words, names) | found
    starts = [{_plain(one)[:_START] for one in side} for side in (words, names)]
    if prefixes and len(words) == len(names) == len(starts[0]) == len(starts[1]):
        found = _match_by(lambda word: _plain(word)[:_START], words, names) | found
    taken = Counter(found.values())
    return {word: place for word, place in found.items() if taken[place] == 1 or word == names[place]}


def _match_by(form: Callable[[str], str], words: Sequence[str], names: Sequence[str]) -> dict[str, int]:
    """Matches of words and names that have a form which no other word and no other name has."""
    once = Counter(map(form, words))
    places, twice = {form(name): i for i, name in enumerate(names)}, Counter(map(form, names))
    fit = {word: form(word) for word in words}
    return {w: places[f] for w, f in fit.items() if f and once[f] == 1 and twice[f] == 1}


def _as_number(word: str) -> str:
    number = whole_number(word)
    return "" if number is None else str(number)


def _folded(word: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", word).casefold()).strip()


def _plain(word: str) -> str:
    """Letters, marks (in many scripts a vowel is one) and digits; signs stay where they make a number (1-2 is not 12) or
    another name (C++, C#, A-)."""
    folded = _folded(word)
    kept = "".join(c if unicodedata.category(c)[0] in "LMN" or c in "+#" else " " for c in folded) + "-" * folded.endswith("-")
    return re.sub(r"(?<=\d) +(?=\d)", "-", kept).replace(" ", "") if any(c.isalpha() for c in kept) else ""


def listing(names: Sequence[object]) -> str:
    """Names in a sentence, the first ten of many."""
    more = f" … ({len(names)} in all)" if len(names) > _SHOWN else ""
    return ", ".join(str(name) for name in names[:_SHOWN]) + more


def parse_labels(text: str) -> tuple[str, ...]:
    """Class names from a list with commas; a name that has a comma stands in double quotes. VPError for what is no list.

    >>> parse_labels('bad, good'), parse_labels('"well, no",yes')
    (('bad', 'good'), ('well, no', 'yes'))
    """
    try:
        parts = next(csv.reader([text], skipinitialspace=True), [])
    except csv.Error:
        raise VPError(f"The labels {text[:80]!r} are no list: write names with commas between them, in one line.") from None
    return tuple(part.strip() for part in parts if part.strip())


def format_labels(names: Sequence[str]) -> str:
    """What `parse_labels` reads as these names."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(names)
    return line.getvalue()


def labels_option(names: Sequence[str]) -> str:
    """The option of `vp` that names these classes, as a shell takes it.

    >>> labels_option(["bad", "very good"]), labels_option(["-1", "1"])
    ("--labels 'bad,very good'", '--labels=-1,1')
    """
    value = shlex.quote(format_labels(names))
    return f"--labels={value}" if value.lstrip("'").startswith("-") else f"--labels {value}"
