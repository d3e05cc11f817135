"""How good is a model on a data set: a running score with an interval, exact at the end."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from vp_core.asking.batches import Batch, Encoded, make_batches
from vp_core.asking.forward import forward
from vp_core.asking.metrics import compute, interval, right_answers
from vp_core.asking.tasks import Task
from vp_core.ground.errors import VPError
from vp_core.ground.parallel import Stopwatch, in_parallel
from vp_core.model.precision import in_precision
from vp_core.model.projections import last_attention_norm
from vp_core.model.sharing import share
from vp_core.model.sites import Site, observed

BATCH_TOKENS = {"float32": 768, "bfloat16": 1536, "int8": 1536}
"""Padded tokens a batch. Smaller ones stay nearer the cache and waste less padding, larger ones cost less overhead,
which weighs more where the arithmetic is faster."""
FIRST_ANSWER = 64
NEXT_ANSWERS = 1024
"""Examples before the first running score, and before each next one."""


@dataclass(frozen=True, eq=False)
class Question:
    """What a model is asked: encoded examples, their labels (n,), the task, and which output means which class.

    Labels of a multi-label task are (n, classes). `order[j]` is the class of the model's output j (see
    `vp_core.asking.labels.label_order`).
    """

    data: Encoded
    labels: np.ndarray
    task: Task
    order: tuple[int, ...]
    _chunks: dict[str, list[tuple[np.ndarray, list[Batch]]]] = field(default_factory=dict, init=False, repr=False)

    def __len__(self) -> int:
        return len(self.labels)

    def chunks(self, precision: str = "float32") -> list[tuple[np.ndarray, list[Batch]]]:
        """The order of evaluation: (positions (examples,), batches) of each random chunk (see `running_chunks`)."""
        if precision not in self._chunks:
            parts = running_chunks(len(self))
            self._chunks[precision] = [(part, make_batches(self.data, part, BATCH_TOKENS[precision])) for part in parts]
        return self._chunks[precision]


@dataclass(frozen=True)
class Score:
    """A metric on `n` of `total` examples with its 95 % interval, and the seconds it took.

    Final (`n == total`) scores also hold `right` (n,), which examples were right (None for a regression; of
    several labels, all of them), and `others`, the task's further metrics.
    """

    metric: str
    value: float
    low: float
    high: float
    n: int
    total: int
    seconds: float
    others: Mapping[str, float] = field(default_factory=dict)
    right: np.ndarray | None = field(default=None, compare=False, repr=False)

    @property
    def final(self) -> bool:
        """Whether it is exact, on all examples."""
        return self.n == self.total

    def as_json(self) -> dict[str, Any]:
        """What trainings report of a score: the metric with its interval, and the further metrics by name."""
        kept = {name: getattr(self, name) for name in ("metric", "value", "low", "high", "n")}
        return kept | dict(self.others)

    def _repr_html_(self) -> str:
        return (
            f"<b>{self.metric} {self.value:.4f}</b> (95 % interval {self.low:.4f} to {self.high:.4f}, "
            f"n = {self.n:,}{'' if self.final else f' of {self.total:,}'}, {self.seconds:.2f} s)"
        )


@contextmanager
def first_token_only(model: PreTrainedModel) -> Iterator[None]:
    """While open, the last layer's feed-forward runs on the first token only, where that is all the classifier reads.

    Saves 8/72 of a 6-layer model's linear work; a logit changes by rounding alone.
    """
    path = last_attention_norm(model)
    sites = [Site("last attention", path, inputs=True)] if path else []
    with observed(model, sites, lambda _site, states: states[:, :1]):
        yield


def logits_by_batch(model: PreTrainedModel, batches: Sequence[Batch]) -> Iterator[tuple[Batch, Tensor]]:
    """(batch, logits (examples, outputs) float32) in the order of `batches`, several at a time.

    The caller's model is not touched. Raises VPError for logits that are NaN or infinite, and if the model fails on a text.
    """
    private = share(model)

    def one(batch: Batch) -> tuple[Batch, Tensor]:
        with torch.inference_mode():
            return batch, forward(private, batch).logits.float()

    with first_token_only(private):
        for batch, logits in in_parallel(one, batches):
            if not torch.isfinite(logits).all():
                raise VPError("The model's outputs are NaN or infinite: check its weights, or evaluate in float32.")
            yield batch, logits


def running_chunks(total: int, seed: int = 0) -> list[np.ndarray]:
    """Random, disjoint sets of positions, (examples,) each: 64 for a first answer, then 1,024 at a time.

    After each chunk what has been seen is a simple random sample, so that its interval means what it says. Fewer, larger
    chunks find more sentences of like length: 5 % padding, where doubling from 64 left 11 %.

    >>> [len(c) for c in running_chunks(872)]
    [64, 808]
    """
    order = np.random.default_rng(seed).permutation(total)
    return [part for part in np.split(order, range(FIRST_ANSWER, total, NEXT_ANSWERS)) if len(part)]


def evaluate(
    model: PreTrainedModel,
    question: Question,
    precision: str = "float32",
    hear: Callable[[Batch, Tensor], object] = lambda batch, logits: None,
) -> Iterator[Score]:
    """Running scores, the last one exact: iterate for a first answer early, or take `score` for the last.

    `hear(batch, logits (examples, outputs))` is told what a score is made of, for whoever makes something else of it too.

    Every caller gets the same batches in the same order, so that the same question has the same answer everywhere.
    Between two batches it waits for its turn; once it is cancelled no more scores come (see `vp_core.ground.work`).
    Raises VPError for an unknown precision, and for logits that are NaN or infinite.
    """
    clock = Stopwatch()
    model = in_precision(model, precision)
    predictions = np.zeros(question.labels.shape, dtype=float if question.task.regression else int)
    seen: list[np.ndarray] = []
    chunks = question.chunks(precision)
    left = [len(batches) for _, batches in chunks]
    everything = [batch for _, batches in chunks for batch in batches]
    for batch, logits in logits_by_batch(model, everything):
        hear(batch, logits)
        predictions[batch.examples] = answers(question, logits).numpy()
        left[len(seen)] -= 1
        if left[len(seen)] == 0:
            seen.append(chunks[len(seen)][0])
            yield _score(question, predictions, np.concatenate(seen), clock.seconds)


def answers(question: Question, logits: Tensor) -> Tensor:
    """What logits (examples, outputs) say: classes or values (examples,), or 0 and 1 of each label (examples, classes).

    Of several labels each is said by itself, where its output is above 0, a probability of one half.
    """
    if question.task.regression:
        return logits[:, 0]
    if question.task.multi_label:
        return (logits[:, np.argsort(question.order)] > 0).long()
    return torch.tensor(question.order)[logits.argmax(dim=1)]


def score(model: PreTrainedModel, question: Question, precision: str = "float32") -> Score:
    """The exact score on all examples; raises as `evaluate` does."""
    *_, last = evaluate(model, question, precision)
    return last


def _score(question: Question, predictions: np.ndarray, seen: np.ndarray, seconds: float) -> Score:
    labels, answers, task = question.labels[seen], predictions[seen], question.task
    final = len(seen) == len(question)
    low, high = interval(task.metric, labels, answers)
    return Score(
        metric=task.metric,
        value=compute(task.metric, labels, answers),
        low=low,
        high=high,
        n=len(seen),
        total=len(question),
        seconds=seconds,
        others={m: compute(m, labels, answers) for m in task.metrics[1:]} if final else {},
        right=right_answers(question.labels, predictions) if final and not task.regression else None,
    )
