"""Exact match and F1 against SQuAD's own definitions, written here anew from the papers, on random and hostile answers."""

import string

import numpy as np
import pytest

from vp_core.asking.kinds.answers import golds_of, normalised, worth_of

HOSTILE = (
    "", " ", "\t\n", "the", "The A an", "a.", "...", "?!", "“quoted”", "naïve café", "NAÏVE", "İstanbul", "ẞ", "１２３", "3.14",
    "$5", "5$", "U.S.A.", "usa", "the the cat", "cat the", "cats", "cat cat cat", "cat cat", "a-b", "ab", "a b", "theatre",
    "anthem", "x\u00a0y", "x y", "x\u200by", "日本 語", "日本", "🐈 cat", "🐈", "o'clock", "oclock", "1,000", "1000", "A",
)  # fmt: skip


def words_of(text):
    """What the evaluation compares, character by character: lower case, no ASCII punctuation, no articles, no white space."""
    lower = "".join(" " if c.isspace() else c for c in text.lower() if c not in string.punctuation)
    pieces, here = [], ""
    for c in lower + " ":
        if c.isalnum() or c == "_":  # a word, which an article may be; everything else parts words of it
            here += c
            continue
        pieces += [" " if here in ("a", "an", "the") else here, c]
        here = ""
    return "".join(pieces).split()


def f1_of(said, gold):
    """Twice the shared words over all words."""
    rest, shared = list(gold), 0
    for word in said:
        if word in rest:
            rest.remove(word)
            shared += 1
    return 2 * shared / (len(said) + len(gold)) if shared else 0.0


def first_version(said, golds):
    """(F1, exact match) of version 1.1."""
    said, golds = words_of(said), [words_of(gold) for gold in golds]
    return max(f1_of(said, gold) for gold in golds), float(any(said == gold for gold in golds))


def second_version(said, golds):
    """(F1, exact match) of version 2: golds without a word do not count, and no answer is one."""
    said, golds = words_of(said), [words for gold in golds if (words := words_of(gold))] or [[]]
    each = [float(said == gold) if not said or not gold else f1_of(said, gold) for gold in golds]
    return max(each), float(any(said == gold for gold in golds))


def answers(n=400, seed=0):
    """Answers with one to four golds: random words with articles and punctuation between, and all hostile ones."""
    rng = np.random.default_rng(seed)
    pieces = ["cat", "Cat", "dog", "the", "a", "an", "cat.", "(dog)", "sat", "on", "the,", "é", "—", *HOSTILE]

    def one():
        return " ".join(rng.choice(pieces, rng.integers(0, 6))) if rng.random() < 0.6 else str(rng.choice(HOSTILE))

    return [(one(), [one() for _ in range(rng.integers(1, 5))]) for _ in range(n)]


@pytest.mark.parametrize(("unanswerable", "reference"), [(False, first_version), (True, second_version)])
def test_as_the_official_evaluation(unanswerable, reference):
    pairs = answers() + [(said, [gold]) for said in HOSTILE for gold in HOSTILE]
    found = [worth_of(said, golds_of(golds, unanswerable), unanswerable) for said, golds in pairs]
    expected = [reference(said, golds) for said, golds in pairs]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert len({round(f1, 6) for f1, _ in expected}) > 10


def test_no_answer():
    assert worth_of("", golds_of([], True), True) == (1, 1)
    assert worth_of("a cat", golds_of([], True), True) == (0, 0)
    assert worth_of("", golds_of(["cat"], True), True) == (0, 0)


def test_words_that_only_look_like_articles_stay():
    assert normalised("Theatre, anthem; A-team the_cat") == "theatre anthem ateam thecat"
    assert normalised("the–cat a—b") == "–cat —b"  # dashes are no ASCII punctuation, and part words
