"""ROUGE against the reference implementation, on random and hostile texts."""

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer

from vp_core.asking.sequences.rouge import ROUGES, rouge, words_of

HOSTILE = [
    "", " ", "...", "!?,;", "\n\t", "the", "THE the The", "a a a a a", "a b a b a b", "naïve café", "全然 日本語",
    "𝛼 𝛽 𝛾", "İstanbul", "don't can't", "running runs ran runner", "x" * 500, "1,000.50", "e-mail @ site.org", "\u200b",
    "a\u0301b", "<s> </s>", "ＡＢＣ",
]  # fmt: skip


def texts():
    rng = np.random.default_rng(0)
    words = ["the", "cats", "cat", "sat", "sitting", "Mats", "on", ",", ".", "é", "naïve", "3", "-"]
    return [*HOSTILE, *(" ".join(rng.choice(words, rng.integers(0, 12))) for _ in range(20))]


@pytest.mark.parametrize("target", texts())
def test_rouge_is_the_reference_implementations(target):
    scorer = RougeScorer(list(ROUGES), use_stemmer=True)
    for text in texts():
        found = scorer.score(target, text)
        assert rouge(target, text) == tuple(found[name].fmeasure for name in ROUGES)


def test_words_are_stems_of_letters_and_digits():
    assert list(words_of("The Runners' 3 naïve cats!")) == ["the", "runner", "3", "na", "ve", "cat"]
    assert rouge("全然", "全然") == (0, 0, 0) and not words_of("全然")
