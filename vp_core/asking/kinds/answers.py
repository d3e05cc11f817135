"""What an answer in words is worth beside those that people gave: exact match and F1, as SQuAD's own evaluation has them.

Rajpurkar et al. 2016 (section 6.1) and 2018: both look at answers without case, punctuation, articles and white space; of
several answers that people gave the one counts that comes off best.
"""

import re
import string
from collections import Counter
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b", re.UNICODE)
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalised(text: str) -> str:
    """A text in lower case, without ASCII punctuation and English articles, one space between words.

    >>> normalised(" The  cat's\\tU.S.A. "), normalised("An a the!")
    ('cats usa', '')
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def golds_of(answers: Sequence[str], unanswerable: bool) -> tuple[str, ...]:
    """The answers that count, normalised.

    Where some questions have no answer (`unanswerable`, version 2) those that are empty then do not count, and where none is
    left the right answer is none, ''.

    >>> golds_of(["The", "Cat"], False), golds_of(["The", "Cat"], True), golds_of(["The"], True)
    (('', 'cat'), ('cat',), ('',))
    """
    found = [normalised(answer) for answer in answers]
    return tuple([one for one in found if one] or [""]) if unanswerable else tuple(found)


def worth_of(said: str, golds: Sequence[str], unanswerable: bool) -> tuple[float, float]:
    """(F1, exact match) of an answer against `golds` as `golds_of` gives them, each the best of them.

    An answer without a word has an F1 of 0 in version 1.1, whatever the gold; in version 2 it is 1 where the gold has none
    either.

    >>> worth_of("the black cat", golds_of(["Black cat", "a cat"], False), False)
    (1.0, 1.0)
    >>> worth_of("the", ("",), False), worth_of("the", ("",), True)
    ((0.0, 1.0), (1.0, 1.0))
    """
    own = normalised(said)
    return max(_f1(own.split(), gold.split(), unanswerable) for gold in golds), float(own in golds)


def _f1(said: list[str], gold: list[str], unanswerable: bool) -> float:
    """The harmonic mean of precision and recall of words, each as often as it stands there."""
    if unanswerable and not (said and gold):
        return float(said == gold)
    shared = (Counter(said) & Counter(gold)).total()
    if not shared:
        return 0.0
    precision, recall = shared / len(said), shared / len(gold)
    return 2 * precision * recall / (precision + recall)
