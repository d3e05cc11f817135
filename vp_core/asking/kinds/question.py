"""A question: how examples become batches, what of a model's output counts, and what the answers are worth.

A further kind of question is a further file beside this one with a subclass of `Question`, and a way to make one in
`vp_core.opening`, with a line in `vp_core.opening.study.OPENERS`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor
from transformers import PreTrainedModel

from vp_core.asking.batches import Batch, Inputs, make_batches
from vp_core.asking.tasks import Task

BATCH_TOKENS = {"float32": 768, "bfloat16": 1536, "float16": 1536, "int8": 1536}
"""Padded tokens a batch. Smaller ones stay nearer the cache and waste less padding, larger ones cost less overhead,
which weighs more where the arithmetic is faster."""
FIRST_ANSWER = 64
NEXT_ANSWERS = 1024
"""Examples before the first running score, and before each next one."""


@dataclass(frozen=True)
class Worth:
    """What answers are worth: the headline metric with its 95 % interval, further metrics, and which examples were right."""

    value: float
    low: float
    high: float
    others: Mapping[str, float] = field(default_factory=dict)
    right: np.ndarray | None = None


@dataclass(frozen=True)
class Score:
    """A metric on `n` of `total` texts (or predicted tokens) with its 95 % interval, and the seconds it took.

    Final (`n == total`) scores also hold `right` (n,), which examples were right (None for a regression and for tokens; of
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


class Question(ABC):
    """What a model is asked: encoded examples `data`, and the `task`, which names the metrics.

    Everything that asks goes through `outputs`, `answers` and `worth`, in that order; the first two are of one batch.
    """

    data: Inputs
    task: Task
    first, following = FIRST_ANSWER, NEXT_ANSWERS
    """Examples before the first running score, and before each next one."""
    times = 1
    """So many times BATCH_TOKENS are in a batch: more where a pass is of few tokens of each example, as in writing."""

    def __len__(self) -> int:
        return len(self.data)

    @abstractmethod
    def outputs(self, model: PreTrainedModel, batch: Batch) -> Tensor:
        """What counts of a model's answer to a batch: (examples, outputs). Raises as `vp_core.asking.forward.told` does."""

    @abstractmethod
    def answers(self, outputs: Tensor) -> Tensor:
        """What these outputs say: (examples,) or (examples, several), of the type of `blank`."""

    @abstractmethod
    def blank(self) -> np.ndarray:
        """Room for the answers to all examples: (examples,) or (examples, several)."""

    @abstractmethod
    def worth(self, answers: np.ndarray, seen: np.ndarray) -> Worth:
        """What the answers to the examples `seen` (positions) are worth; `others` and `right` once all of them are seen."""

    @abstractmethod
    def losses(self, examples: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        """The loss of each of these examples (n,), from a model's outputs for them (n, outputs)."""

    def weights(self) -> np.ndarray | None:
        """What each example's loss counts in the mean of all; None: all alike."""
        return None

    def ready(self, model: PreTrainedModel) -> AbstractContextManager[None]:
        """While open, `model`, whose modules are the caller's own, may skip what no output depends on."""
        return nullcontext()

    def count(self, examples: np.ndarray) -> int:
        """How many there are at these positions of what a score counts: the examples themselves."""
        return len(examples)

    def chunks(self, precision: str = "float32") -> list[tuple[np.ndarray, list[Batch]]]:
        """The order of evaluation: (positions (examples,), batches) of each random chunk (see `running_chunks`)."""
        kept: dict[str, list[tuple[np.ndarray, list[Batch]]]] = self.__dict__.setdefault("_chunks", {})
        if precision not in kept:
            parts = running_chunks(len(self), first=self.first, following=self.following)
            kept[precision] = [(part, make_batches(self.data, part, self.times * BATCH_TOKENS[precision])) for part in parts]
        return kept[precision]

    def score(self, answers: np.ndarray, seen: np.ndarray, seconds: float) -> Score:
        """The score of the answers to the examples `seen`."""
        found = self.worth(answers, seen)
        return Score(
            self.task.metric, found.value, found.low, found.high, self.count(seen), self.count(np.arange(len(self))), seconds,
            found.others, found.right,
        )  # fmt: skip


def running_chunks(total: int, seed: int = 0, first: int = FIRST_ANSWER, following: int = NEXT_ANSWERS) -> list[np.ndarray]:
    """Random, disjoint sets of positions, (examples,) each: 64 for a first answer, then 1,024 at a time.

    After each chunk what has been seen is a simple random sample, so that its interval means what it says. Fewer, larger
    chunks find more sentences of like length: 5 % padding, where doubling from 64 left 11 %.

    >>> [len(c) for c in running_chunks(872)]
    [64, 808]
    """
    order = np.random.default_rng(seed).permutation(total)
    return [part for part in np.split(order, range(first, total, following)) if len(part)]
