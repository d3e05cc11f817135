"""The tokens of a target, each from the source and from those before it: perplexity, with the right words before each token.

Nothing is written for it, so it is there in one pass: what the slider follows.
"""

from dataclasses import dataclass, replace

import numpy as np

from vp_core.asking.kinds.question import FIRST_ANSWER, NEXT_ANSWERS
from vp_core.asking.sequences.pairs import Pairs
from vp_core.asking.tasks import Task
from vp_core.asking.words.tokens import Tokens

METRICS = ("perplexity", "token_accuracy")


@dataclass(frozen=True, eq=False)
class TargetTokens(Tokens):
    """Each token of the targets of `data` (Pairs), the one that ends a target included."""

    first, following = FIRST_ANSWER, NEXT_ANSWERS

    def of_loss(self, loss: float) -> float:
        """Perplexity; at most exp of 700, the largest that a float64 holds well."""
        return float(np.exp(min(loss, 700.0)))

    def count(self, examples: np.ndarray) -> int:
        """Pairs of texts: these are what a score is drawn from."""
        return len(examples)

    @classmethod
    def of(cls, data: Pairs, task: Task) -> "TargetTokens":
        """A question about pairs that are there."""
        wanted = [np.array(ids) for ids in data.wanted]
        return cls(data, replace(task, metrics=METRICS), [np.arange(len(ids)) for ids in wanted], wanted)
