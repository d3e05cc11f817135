"""A tag for every word: entity F1, as seqeval computes it by default, and the share of words whose tag is right."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from vp_core.asking.batches import Batch
from vp_core.asking.forward import forward
from vp_core.asking.kinds.question import Question, Worth
from vp_core.asking.metrics import sums_interval
from vp_core.asking.tagging.aligned import Words
from vp_core.asking.tagging.entities import Scheme, count_entities, names_entities
from vp_core.asking.tasks import Task, with_headline

METRICS = ("entity_f1", "word_accuracy")
_LOSS, _READ, _RIGHT_WORDS, _RIGHT, _SAID = range(5)
"""What outputs and answers of a sentence are: the sum of its words' losses, words that were read, words whose tag is right,
entities that are right, entities that were said."""


@dataclass(frozen=True, eq=False)
class Tags(Question):
    """Which tag each word has: sentences `data`, and `gold[i]` (words,), the numbers of sentence i's tags among the model's
    outputs, which are called `names`.

    The first token of a word speaks for it. A word that has none, for it was cut off, has no tag: it is wrong, and no entity
    goes on through it. Outputs and answers of a sentence are five sums, float64.
    """

    data: Words
    task: Task
    gold: Sequence[np.ndarray]
    names: tuple[str, ...]

    @classmethod
    def make(cls, data: Words, gold: Sequence[np.ndarray], names: Sequence[str], task: Task, metric: str = "") -> "Tags":
        """The question with those of the task's metrics that its tags have, `metric` as the headline; VPError for another.

        Tags that name no entities, such as parts of speech, have no entity F1.
        """
        metrics = METRICS if names_entities(names) else METRICS[1:]
        return cls(data, with_headline(replace(task, metrics=metrics, labels=tuple(names)), metric), gold, tuple(names))

    @cached_property
    def scheme(self) -> Scheme:
        """How entities begin and end."""
        return Scheme.of(self.names)

    @cached_property
    def there(self) -> np.ndarray:
        """(entities, words) of every sentence (sentences, 2)."""
        entities = count_entities(self.scheme, self.gold, self.gold)[:, 2]
        return np.stack([entities, np.array([len(tags) for tags in self.gold])], axis=1)

    def said(self, model: PreTrainedModel, batch: Batch) -> tuple[Tensor, Tensor]:
        """(logits (words, outputs), the numbers of their tags (words,)) of the words that are read, sentence after sentence."""
        logits: Tensor = forward(model, batch).logits
        assert batch.counted is not None
        gold = [self.gold[int(i)][self.data.spoken[int(i)]] for i in batch.examples]
        return logits[batch.counted.to(logits.device)].float().cpu(), torch.from_numpy(np.concatenate(gold))

    def outputs(self, model: PreTrainedModel, batch: Batch) -> Tensor:
        """(sentences, 5), float64."""
        logits, gold = self.said(model, batch)
        losses = cross_entropy(logits.double(), gold, reduction="none").numpy()
        tags, right = logits.argmax(dim=1).numpy(), (logits.argmax(dim=1) == gold).numpy()
        sizes = [len(self.data.read[int(i)]) for i in batch.examples]
        rows, found = np.repeat(np.arange(len(sizes)), sizes), np.zeros((len(sizes), 5))
        for column, values in ((_LOSS, losses), (_READ, np.ones(len(rows))), (_RIGHT_WORDS, right)):
            found[:, column] = np.bincount(rows, values, minlength=len(sizes))
        said = []
        for i, own in zip(batch.examples, np.split(tags, np.cumsum(sizes)[:-1]), strict=True):
            of_words = np.full(len(self.gold[int(i)]), self.scheme.outside)
            of_words[self.data.spoken[int(i)]] = own
            said.append(of_words)
        counts = count_entities(self.scheme, [self.gold[int(i)] for i in batch.examples], said)
        found[:, [_RIGHT, _SAID]] = counts[:, :2]
        return torch.from_numpy(found)

    def answers(self, outputs: Tensor) -> Tensor:
        """The same."""
        return outputs

    def blank(self) -> np.ndarray:
        """Room for the sums of all sentences."""
        return np.zeros((len(self.data), 5))

    def losses(self, examples: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        """The mean cross-entropy of each sentence's words in nats."""
        found: np.ndarray = outputs[:, _LOSS] / np.maximum(outputs[:, _READ], 1)
        return found

    def weights(self) -> np.ndarray:
        """Words of each sentence that are read."""
        return np.array([len(read) for read in self.data.read])

    def worth(self, answers: np.ndarray, seen: np.ndarray) -> Worth:
        """The task's metrics; the interval is a percentile bootstrap over sentences (seeded)."""
        whole, final = answers[seen], len(seen) == len(self)
        entities, words = self.there[seen].T
        of = {
            "entity_f1": np.stack([2 * whole[:, _RIGHT], whole[:, _SAID] + entities], axis=1),
            "word_accuracy": np.stack([whole[:, _RIGHT_WORDS], words], axis=1),
        }
        values = {name: of_sums(*of[name].sum(axis=0)) for name in self.task.metrics}
        headline, *others = self.task.metrics
        low, high = sums_interval(of[headline])
        right = answers[:, _RIGHT_WORDS] == self.there[:, 1] if final else None
        return Worth(values[headline], low, high, {name: values[name] for name in others} if final else {}, right)


def of_sums(part: float, whole: float) -> float:
    """The share that a part is of a whole; 0 where there is nothing, as seqeval has it."""
    return float(part / whole) if whole else 0.0
