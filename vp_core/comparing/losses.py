"""The loss of a task beside its score, of the same passes: what pruning costs before an answer turns (fig. 2 left).

The paper has the loss of pre-training on its axis (`vp_core.comparing.masked_lm`); this is the loss of the question itself.
"""

from dataclasses import dataclass, field

import numpy as np
from torch import Tensor
from transformers import PreTrainedModel

from vp_core.asking.batches import Batch
from vp_core.asking.evaluate import Question, Score, evaluate


@dataclass(frozen=True)
class Asked:
    """A score, and the mean `loss` over the same examples, whose own are `losses` (n,)."""

    loss: float
    score: Score
    losses: np.ndarray = field(compare=False, repr=False)


def loss_and_score(model: PreTrainedModel, question: Question, precision: str = "float32") -> Asked:
    """Evaluation loss and score on all examples: cross-entropy of classes in nats, squared error of values.

    Of several labels it is the mean over labels of each one's binary cross-entropy. Raises as `evaluate` does.
    """
    found = np.empty(len(question))

    def hear(batch: Batch, logits: Tensor) -> None:
        found[batch.examples] = example_losses(question, batch.examples, logits.double().numpy())

    *_, score = evaluate(model, question, precision, hear)
    return Asked(float(found.mean()), score, found)


def example_losses(question: Question, examples: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """The loss of each of these examples (n,), from the model's outputs for them (n, outputs)."""
    labels = question.labels[examples]
    if question.task.regression:
        return (logits[:, 0] - labels) ** 2
    by_class = logits[:, np.argsort(question.order)]
    if question.task.multi_label:
        return (np.logaddexp(0, by_class) - by_class * labels).mean(axis=1)
    return np.logaddexp.reduce(by_class, axis=1) - by_class[np.arange(len(labels)), labels]
