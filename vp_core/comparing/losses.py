"""The loss of a task beside its score, of the same passes: what pruning costs before an answer turns (fig. 2 left).

The paper has the loss of pre-training on its axis (`vp_core.comparing.masked_lm`); this is the loss of the question itself.
"""

from dataclasses import dataclass, field

import numpy as np
from torch import Tensor
from transformers import PreTrainedModel

from vp_core.asking.batches import Batch
from vp_core.asking.evaluate import evaluate
from vp_core.asking.kinds.question import Question, Score


@dataclass(frozen=True)
class Asked:
    """A score, and the mean `loss` over the same examples, whose own are `losses` (n,)."""

    loss: float
    score: Score
    losses: np.ndarray = field(compare=False, repr=False)


def loss_and_score(model: PreTrainedModel, question: Question, precision: str = "float32") -> Asked:
    """Loss and score on all examples, the loss as the question has it; raises as `evaluate` does."""
    found = np.empty(len(question))

    def hear(batch: Batch, outputs: Tensor) -> None:
        found[batch.examples] = question.losses(batch.examples, outputs.double().numpy())

    *_, score = evaluate(model, question, precision, hear)
    weights = question.weights()
    mean = found.mean() if weights is None else np.average(found, weights=weights)
    return Asked(float(mean), score, found)
