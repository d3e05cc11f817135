"""Which entities tags name, as seqeval (Nakayama 2018) finds them in its default mode, after the CoNLL evaluation of 2000.

A tag is a letter and a type: B begins, I is inside, E ends, S is single, O is outside. Any scheme of these is taken, and so is
what none would write: an I whose type is another than before it, or behind an O, begins an entity, as in IOB1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LETTERS = "BIES"
_ENDS = {"BB", "BS", "BO", "IB", "IS", "IO"}
"""Letters, one behind the other, between which an entity ends; it also does behind every E and S."""
_STARTS = {"EE", "EI", "SE", "SI", "OE", "OI"}
"""... between which one begins; it also does with every B and S."""


def names_entities(tags: Sequence[str]) -> bool:
    """Whether every tag is O, or one of B, I, E and S, bare or with a type behind a hyphen.

    >>> names_entities(["O", "B-PER", "I-PER"]), names_entities(["NOUN", "VERB"]), names_entities(["O"])
    (True, False, False)
    """
    others = [tag for tag in tags if tag != "O"]
    return bool(others) and all(tag[:1] in LETTERS and (len(tag) == 1 or tag[1] == "-") for tag in others)


@dataclass(frozen=True, eq=False)
class Scheme:
    """The tags by number, with one more behind the last that is outside of every entity: what nothing is said of.

    `ends[i, j]` and `starts[i, j]` (tags + 1, tags + 1): whether an entity ends, and whether one begins, between tag i and tag
    j; `types` (tags + 1,): the number of each tag's type.
    """

    ends: np.ndarray
    starts: np.ndarray
    types: np.ndarray

    @classmethod
    def of(cls, tags: Sequence[str]) -> "Scheme":
        """The scheme of these tags, whatever they are."""
        letters = [*(tag[0] for tag in tags), "O"]
        types = [*(tag[1:].split("-", maxsplit=1)[-1] or "_" for tag in tags), "_"]
        numbers = {type_: i for i, type_ in enumerate(dict.fromkeys(types))}
        known = list(zip(letters, types, strict=True))
        ends = [[a in "ES" or a + b in _ENDS or (a not in "O." and s != t) for b, t in known] for a, s in known]
        starts = [[b in "BS" or a + b in _STARTS or (b not in "O." and s != t) for b, t in known] for a, s in known]
        return cls(np.array(ends), np.array(starts), np.array([numbers[type_] for type_ in types]))

    @property
    def outside(self) -> int:
        """The number of what nothing is said of."""
        return len(self.types) - 1

    def found(self, tags: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(begin, type) (n,) each, of the entity that ends with each of these tags (n,), −1 where none does."""
        outside = np.array([self.outside])
        before, here = np.concatenate([outside, tags]), np.concatenate([tags, outside])
        begins = np.where(self.starts[before, here], np.arange(len(here)), 0)
        begin = np.maximum.accumulate(begins)[:-1]
        closes = self.ends[before, here][1:]  # behind each tag
        return np.where(closes, begin, -1), np.where(closes, self.types[tags], -1)


def count_entities(scheme: Scheme, gold: Sequence[np.ndarray], said: Sequence[np.ndarray]) -> np.ndarray:
    """(right, said, gold) entities of each sentence (sentences, 3), from the numbers of their tags (words,), sentence by
    sentence. An entity is right where its type, its first and its last word are."""
    if not gold:
        return np.zeros((0, 3), dtype=np.int64)
    outside = np.array([scheme.outside])
    one, two = (np.concatenate([part for tags in rows for part in (tags, outside)]) for rows in (gold, said))
    (begin, type_), (own_begin, own_type) = scheme.found(one), scheme.found(two)
    right = (begin >= 0) & (begin == own_begin) & (type_ == own_type)
    starts = np.cumsum([0, *(len(tags) + 1 for tags in gold)])[:-1]
    return np.stack([np.add.reduceat(each.astype(np.int64), starts) for each in (right, own_begin >= 0, begin >= 0)], axis=1)
