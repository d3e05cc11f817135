"""Texts that a model writes about others: ROUGE of what it writes, beside the perplexity of what was wanted."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from vp_core.asking.batches import Batch
from vp_core.asking.forward import inputs_for, told
from vp_core.asking.kinds.question import Worth
from vp_core.asking.sequences.pairs import Pairs
from vp_core.asking.sequences.rouge import ROUGES, rouge, words_of
from vp_core.asking.sequences.target_tokens import METRICS, TargetTokens
from vp_core.asking.sequences.writing import How, generated, read_out
from vp_core.asking.tasks import Task
from vp_core.asking.words.tokens import drawn_again


@dataclass(frozen=True, eq=False)
class Sequences(TargetTokens):
    """What a model writes about each source of `data` (Pairs), at most as many tokens as the longest target has, against
    `targets` (n,).

    Outputs and answers of a pair are (sum of losses, tokens, tokens that were the likeliest, the three ROUGE, 1 if it wrote
    the target's words).
    """

    tokenizer: PreTrainedTokenizerBase | None = None
    targets: Sequence[str] = ()
    how: How | None = None
    first, following = 16, 128
    times = 2

    def outputs(self, model: PreTrainedModel, batch: Batch) -> Tensor:
        """(pairs, 7), float64."""
        assert self.how is not None and self.tokenizer is not None
        told_by = super().outputs(model, batch)
        with told(model, batch):
            texts = read_out(self.tokenizer, generated(model, inputs_for(model, batch), self.how))
        found = []
        for i, text in zip(batch.examples, texts, strict=True):
            target = self.targets[int(i)]
            found.append([*rouge(target, text), float(list(words_of(target)) == list(words_of(text)))])
        return torch.cat([told_by, torch.tensor(found, dtype=torch.float64)], dim=1)

    def blank(self) -> np.ndarray:
        """Room for what is known of all pairs."""
        return np.zeros((len(self.data), 4 + len(ROUGES)))

    def worth(self, answers: np.ndarray, seen: np.ndarray) -> Worth:
        """The mean of the headline's ROUGE, its interval a percentile bootstrap over pairs (seeded); right is a text that has
        the target's words in their order."""
        values = answers[seen][:, 3 + ROUGES.index(self.task.metric)]
        low, high = drawn_again(np.stack([values, np.ones(len(values))], axis=1))
        if len(seen) < len(self):
            return Worth(float(values.mean()), low, high)
        means = dict(zip(ROUGES, answers[:, 3:6].mean(axis=0).tolist(), strict=True))
        losses, tokens, right = answers[:, :3].sum(axis=0)
        means |= {"perplexity": self.of_loss(float(losses / tokens)), "token_accuracy": float(right / tokens)}
        others = {name: means[name] for name in self.task.metrics[1:]}
        return Worth(float(values.mean()), low, high, others, answers[:, -1] > 0)

    @classmethod
    def about(
        cls, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, data: Pairs, targets: Sequence[str], task: Task
    ) -> "Sequences":
        """A question about pairs that are there, whose `targets` (n,) are whole; the task's headline is one of ROUGES."""
        plain = TargetTokens.of(data, task)
        metrics = (task.metric, *(name for name in ROUGES[::-1] if name != task.metric), *METRICS)
        how = How.of(model, tokenizer, max(map(len, data.wanted)))
        return cls(data, replace(task, metrics=metrics), plain.read, plain.wanted, None, tokenizer, targets, how)


def ask_about(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, data: Pairs, targets: Sequence[str], task: Task
) -> TargetTokens:
    """The question of a task: nothing is written where the headline is perplexity."""
    if task.metric == METRICS[0]:
        return TargetTokens.of(data, task)
    return Sequences.about(model, tokenizer, data, targets, task)
