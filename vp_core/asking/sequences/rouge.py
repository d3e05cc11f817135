"""ROUGE of a text against the one that was wanted, by the `rouge-score` library (Lin 2004).

F-measures, on words brought to their stems by Porter's algorithm, as transformers' examples of summarisation have it; words are
runs of the letters a to z and of digits, after capitals were made small.
"""

from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import Any

ROUGES = ("rouge1", "rouge2", "rougeL")
"""Single words in common, pairs of them, and the longest common subsequence of words."""


def rouge(target: str, written: str) -> tuple[float, float, float]:
    """F-measures of ROUGES between 0 and 1; 0 where one of the texts has no word.

    >>> [round(value, 3) for value in rouge("The cats sat down.", "the cat sat")]
    [0.857, 0.8, 0.857]
    """
    found = _scorer().score(target, written)
    one, two, longest = (float(found[name].fmeasure) for name in ROUGES)
    return one, two, longest


def words_of(text: str) -> Sequence[str]:
    """The stems that ROUGE compares."""
    tokenizer = _scorer()._tokenizer
    found: Sequence[str] = tokenizer.tokenize(text)
    return found


@cache
def _scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer  # it brings a library with it that takes a while
    from rouge_score.tokenizers import DefaultTokenizer

    return RougeScorer(list(ROUGES), tokenizer=_Remembering(DefaultTokenizer(use_stemmer=True).tokenize))


class _Remembering:
    """A tokeniser that does not do a text twice: the same targets are scored at every sparsity."""

    def __init__(self, tokenize: Callable[[str], Sequence[str]]) -> None:
        self.tokenize = lru_cache(maxsize=20_000)(tokenize)
