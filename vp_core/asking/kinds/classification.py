"""Classes, values and several labels of texts: what a ...ForSequenceClassification is asked."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from vp_core.asking.batches import Batch, Inputs
from vp_core.asking.forward import forward
from vp_core.asking.kinds.question import Question, Worth
from vp_core.asking.metrics import compute, interval, right_answers
from vp_core.asking.tasks import Task
from vp_core.ground.errors import VPError
from vp_core.model.projections import last_attention_norm
from vp_core.model.sites import Site, observed


@dataclass(frozen=True, eq=False)
class Classification(Question):
    """Which class, value or labels a text has: encoded texts, their labels (n,), the task, and which output means which class.

    Labels of a multi-label task are (n, classes). `order[j]` is the class of the model's output j (see
    `vp_core.asking.labels.label_order`). Outputs are logits (examples, outputs), answers classes or values (examples,), or 0
    and 1 of each label (examples, classes).
    """

    data: Inputs
    labels: np.ndarray
    task: Task
    order: tuple[int, ...]

    def outputs(self, model: PreTrainedModel, batch: Batch) -> Tensor:
        """Logits (examples, outputs), float32."""
        logits: Tensor = forward(model, batch).logits
        return logits.float().cpu()

    def answers(self, outputs: Tensor) -> Tensor:
        """Of several labels each is said by itself, where its output is above 0, a probability of one half."""
        if self.task.regression:
            return outputs[:, 0]
        if self.task.multi_label:
            return (outputs[:, np.argsort(self.order)] > 0).long()
        return torch.tensor(self.order)[outputs.argmax(dim=1)]

    def blank(self) -> np.ndarray:
        """Room for all answers."""
        return np.zeros(self.labels.shape, dtype=float if self.task.regression else int)

    def worth(self, answers: np.ndarray, seen: np.ndarray) -> Worth:
        """The task's metrics."""
        labels, said, task = self.labels[seen], answers[seen], self.task
        final = len(seen) == len(self)
        return Worth(
            compute(task.metric, labels, said),
            *interval(task.metric, labels, said),
            {m: compute(m, labels, said) for m in task.metrics[1:]} if final else {},
            right_answers(self.labels, answers) if final and not task.regression else None,
        )

    def losses(self, examples: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        """Cross-entropy of classes in nats, squared error of values; of several labels their mean binary cross-entropy."""
        labels = self.labels[examples]
        if self.task.regression:
            squared: np.ndarray = (outputs[:, 0] - labels) ** 2
            return squared
        by_class = outputs[:, np.argsort(self.order)]
        found: np.ndarray = (
            (np.logaddexp(0, by_class) - by_class * labels).mean(axis=1)
            if self.task.multi_label
            else np.logaddexp.reduce(by_class, axis=1) - by_class[np.arange(len(labels)), labels]
        )
        return found

    def ready(self, model: PreTrainedModel) -> AbstractContextManager[None]:
        """The last layer's feed-forward runs on the first token only, where that is all the classifier reads."""
        return first_token_only(model)


def as_classification(question: Question, what: str) -> Classification:
    """The same; VPError where `what` is asked of classifiers only."""
    if not isinstance(question, Classification):
        raise VPError(f"{what} is there for text classifiers only, not for the task {question.task.name!r}: choose another.")
    return question


@contextmanager
def first_token_only(model: PreTrainedModel) -> Iterator[None]:
    """While open, the last layer's feed-forward runs on the first token only, where that is all the classifier reads.

    Saves 8/72 of a 6-layer model's linear work; a logit changes by rounding alone.
    """
    path = last_attention_norm(model)
    sites = [Site("last attention", path, inputs=True)] if path else []
    with observed(model, sites, lambda _site, states: states[:, :1]):
        yield
