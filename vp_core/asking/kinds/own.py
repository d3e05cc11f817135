"""Whatever a function measures of a model and batches: values of examples, or a value and how much it is a mean of."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from vp_core.asking.batches import Batch
from vp_core.asking.forward import inputs_for
from vp_core.asking.given.dicts import Given
from vp_core.asking.given.returned import PART, TOGETHER, WHOLE, Metric, sums_of
from vp_core.asking.given.watched import Watched, with_tensors_of_its_own
from vp_core.asking.kinds.question import FIRST_ANSWER, NEXT_ANSWERS, Question, Worth
from vp_core.asking.metrics import LESS, LESS_MARK, METRICS, less_is_better, sums_interval
from vp_core.asking.tasks import TASKS, Task
from vp_core.ground.errors import VPError, one_line
from vp_core.ground.work import Cancelled, Enough

_TAKEN = {*METRICS, *LESS, *(metric for task in TASKS.values() for metric in task.metrics)} - {"own"}
"""Names of metrics that mean something else."""
_CHUNKS = 8
"""A running score comes no oftener than so often on the way, however many examples there are."""


@dataclass(frozen=True, eq=False)
class Own(Question):
    """What `metric(model, batch)` says of batches, each as it was given: a dict of tensors on the model's device.

    It returns a number for each example, whose mean is the score, or (value, n), which is combined over batches as the mean
    weighted by n. It is asked one batch at a time, about a copy of the model that has tensors of its own, and VPError if it
    changes that. Outputs and answers of an example are three sums (`vp_core.asking.given.returned`), float64.
    """

    data: Given
    task: Task
    metric: Metric
    _turn: Lock = field(default_factory=Lock, repr=False)
    _watched: dict[int, Watched] = field(default_factory=dict, repr=False)

    @classmethod
    def make(cls, data: Given, metric: Metric, name: str, smaller_is_better: bool = False) -> "Own":
        """The question whose metric is called by a name; VPError for what is no function, and for names that are taken."""
        if not callable(metric):
            raise VPError(f"The metric is a {type(metric).__name__}: give a function of a model and a batch.")
        name = " ".join(str(name).split())
        if not name or name in _TAKEN or name.endswith(LESS_MARK):
            raise VPError(f"A metric of your own cannot be called {name!r}: choose another name, such as 'my metric'.")
        called = name + LESS_MARK * smaller_is_better
        return cls(data, replace(TASKS["own"], metrics=(called,)), metric)

    @property
    def name(self) -> str:
        """What the metric is called, without its direction."""
        return self.task.metric.removesuffix(LESS_MARK)

    def chunks(self, precision: str = "float32") -> list[tuple[np.ndarray, list[Batch]]]:
        """Whole batches in random order (seeded), so that what has been seen is a simple random sample of them."""
        kept: list[tuple[np.ndarray, list[Batch]]] = self.__dict__.setdefault("_chunks", [])
        if not kept:
            least, step = FIRST_ANSWER, max(NEXT_ANSWERS, len(self) // _CHUNKS)
            batches = list[Batch]()
            for number in np.random.default_rng(0).permutation(len(self.data.batches)):
                batches.append(self.data.whole(int(number)))
                if sum(len(batch.examples) for batch in batches) >= least:
                    kept.append((np.concatenate([batch.examples for batch in batches]), batches))
                    batches, least = [], step
            if batches:
                kept.append((np.concatenate([batch.examples for batch in batches]), batches))
        return kept

    def ready(self, model: PreTrainedModel) -> AbstractContextManager[None]:
        """While open the model has tensors of its own; VPError at its end if it was changed."""
        return self._ready(model)

    @contextmanager
    def _ready(self, model: PreTrainedModel) -> Iterator[None]:
        with with_tensors_of_its_own(model) as watched:
            self._watched[id(model)] = watched
            try:
                yield
                self._check(watched, whole=True)
            finally:
                del self._watched[id(model)]

    def _check(self, watched: Watched, whole: bool = False) -> None:
        if what := watched.changed(whole):
            raise VPError(f"The metric {self.name!r} changes the model ({what}), so that scores would depend on it: mend it.")

    def outputs(self, model: PreTrainedModel, batch: Batch) -> Tensor:
        """(examples, 3), float64. Raises VPError for a metric that raises, changes the model, or returns something else."""
        number = self.data.apart(int(batch.examples[0])) + 1
        with self._turn:
            try:
                # a dict and tensors of its own, for many a metric takes labels out of it
                inputs = {name: value.clone() for name, value in inputs_for(model, batch).items()}
                found: Any = self.metric(model, inputs)
            except (Cancelled, Enough):
                raise
            except Exception as error:  # somebody else's function
                raise VPError(
                    f"The metric {self.name!r} failed on batch {number:,} ({type(error).__name__}: {one_line(error)}): mend it."
                ) from error
            if (watched := self._watched.get(id(model))) is not None:
                self._check(watched)
            return torch.from_numpy(sums_of(found, len(batch.examples), self.name, number))

    def answers(self, outputs: Tensor) -> Tensor:
        """The same."""
        return outputs

    def blank(self) -> np.ndarray:
        """Room for the sums of all examples."""
        return np.zeros((len(self.data), 3))

    def losses(self, examples: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        """The values themselves, negative where more is better."""
        values = np.divide(outputs[:, PART], outputs[:, WHOLE], out=np.zeros(len(outputs)), where=outputs[:, WHOLE] != 0)
        found: np.ndarray = values if less_is_better(self.task.metric) else -values
        return found

    def worth(self, answers: np.ndarray, seen: np.ndarray) -> Worth:
        """The mean; the interval is a percentile bootstrap (seeded) over examples, or over batches where these have a value.

        Examples whose values are all 0 or 1 are right or wrong.
        """
        sums, final = answers[seen], len(seen) == len(self)
        if len(set(sums[:, TOGETHER].tolist())) > 1:
            raise VPError(
                f"The metric {self.name!r} returns values of examples for some batches, (value, n) for others: choose one."
            )
        units = sums[sums[:, WHOLE] > 0][:, [PART, WHOLE]]
        part, whole = units.sum(axis=0)
        if not whole:
            if final:
                raise VPError(f"The metric {self.name!r} counts nothing: the n that it returned is 0 for every batch.")
            return Worth(float("nan"), float("nan"), float("nan"))
        right = None
        if final and not sums[0, TOGETHER] and np.isin(answers[:, PART], (0, 1)).all():
            right = answers[:, PART] == (0 if less_is_better(self.task.metric) else 1)
        return Worth(float(part / whole), *sums_interval(units), {}, right)
