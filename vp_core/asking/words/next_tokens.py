"""A language model's next tokens: perplexity, exp of the mean loss of a predicted token."""

from dataclasses import dataclass, replace

import numpy as np
from transformers import PreTrainedTokenizerBase

from vp_core.asking.tasks import Task
from vp_core.asking.words.tokens import Tokens
from vp_core.asking.words.windows import Windows, cut

METRICS = ("perplexity", "token_accuracy", "bits_per_byte")


@dataclass(frozen=True, eq=False)
class NextTokens(Tokens):
    """Each token of a text from those before it in its window; no token counts twice."""

    def of_loss(self, loss: float) -> float:
        """Perplexity; at most exp of 700, the largest that a float64 holds well."""
        return float(np.exp(min(loss, 700.0)))

    @classmethod
    def make(
        cls, tokenizer: PreTrainedTokenizerBase, text: str, task: Task, length: int, stride: int | None = None
    ) -> "NextTokens":
        """A question about a text in windows of `length` tokens, each `stride` behind the last; raises as `windows.cut`."""
        return cls.of(cut(tokenizer, text, length, stride), task)

    @classmethod
    def of(cls, windows: Windows, task: Task) -> "NextTokens":
        """A question about windows that are there."""
        wanted = [np.array(ids[start:]) for ids, start in zip(windows.data.ids, windows.starts, strict=True)]
        read = [np.arange(start, len(ids)) - 1 for ids, start in zip(windows.data.ids, windows.starts, strict=True)]
        metrics = METRICS if windows.sizes is not None else METRICS[:2]
        return cls(windows.data, replace(task, metrics=metrics), read, wanted, windows.sizes)
