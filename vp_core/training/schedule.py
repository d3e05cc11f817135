"""How to train and on what: `Schedule`, `Lessons`, `TextLessons`, `SpanLessons`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from vp_core.asking.batches import Inputs
from vp_core.asking.tagging.aligned import Words
from vp_core.asking.tasks import Task
from vp_core.asking.words.paragraphs import Paragraphs
from vp_core.ground.errors import VPError, one_of
from vp_core.ground.names import AUTO, BATCH, LEARNING_RATE, TRAINING_PRECISIONS
from vp_core.model.precision import fast_precision

_POOL = 16
"""Mini-batches sorted by length together, so that little of one is padding."""


@dataclass(frozen=True)
class Schedule:
    """How to train: `examples` of the training set drawn anew for each pass (None: all), AdamW, linear warm-up and decay.

    With `steps` there are so many steps, whatever number of passes that takes, and `epochs` does not count.
    `layer_decay` is the factor by which the learning rate shrinks from each layer to the one below, embeddings last (1: one
    rate for all; SNIP's table 3 has 0.8); `epsilon` is AdamW's. The defaults are those of SNIP's fine-tuning (table 3) but for
    the learning rate, which is half of it, these two, and the precision, for which see `settled`. What cannot be is refused
    with a VPError of one sentence.
    """

    epochs: int = 1
    examples: int | None = None
    batch: int = BATCH
    lr: float = LEARNING_RATE
    weight_decay: float = 0.01
    warm_up: float = 0.1
    precision: str = AUTO
    seed: int = 0
    layer_decay: float = 1.0
    epsilon: float = 1e-8
    steps: int | None = None

    def __post_init__(self) -> None:
        """Check every field."""
        one_of("precision", self.precision, TRAINING_PRECISIONS)
        numbers = {"epochs": self.epochs, "batch": self.batch, "examples": 1 if self.examples is None else self.examples}
        numbers["steps"] = 1 if self.steps is None else self.steps
        for name, value in numbers.items():
            if value < 1:
                raise VPError(f"Training needs at least 1 for {name}, not {value}.")
        if not 0 < self.lr < 1:
            raise VPError(f"The learning rate {self.lr!r} is not between 0 and 1: the default is 5e-5.")
        for name, share in (("weight decay", self.weight_decay), ("warm-up", self.warm_up)):
            if not 0 <= share <= 1:
                raise VPError(f"The {name} {share!r} is not between 0 and 1: the paper's settings are the defaults.")
        if not 0 < self.layer_decay <= 1:
            raise VPError(f"The layer-wise decay {self.layer_decay!r} is not above 0 and at most 1: SNIP's paper has 0.8.")
        if not 0 < self.epsilon < 1:
            raise VPError(f"AdamW's epsilon {self.epsilon!r} is not between 0 and 1: 1e-8 is usual, SNIP's paper has 1e-6.")

    def settled(self, begun: str | None = None) -> "Schedule":
        """With a precision in place of `auto`: the one in which a run was `begun`, for a new one this machine's fast one."""
        return replace(self, precision=begun or fast_precision()) if self.precision == AUTO else self

    def factor(self, step: int, steps: int) -> float:
        """What the learning rate of the step after `step` of `steps` is multiplied by: linear warm-up, then linear decay to 0.

        >>> [Schedule(warm_up=0.5).factor(step, 4) for step in range(4)]
        [0.0, 0.5, 1.0, 0.5]
        """
        warm_up = int(self.warm_up * steps)
        return step / max(1, warm_up) if step < warm_up else max(0.0, (steps - step) / max(1, steps - warm_up))

    def as_json(self) -> dict[str, Any]:
        """What a run's folder says of it. Fields that came later are left out at their defaults, so that older runs go on."""
        later = {"layer_decay": 1.0, "epsilon": 1e-8, "steps": None}
        return {k: v for k, v in asdict(self).items() if k not in later or v != later[k]}

    def number(self, texts: int) -> int:
        """How many steps a training on so many texts takes.

        >>> Schedule(epochs=2, batch=32).number(100), Schedule(examples=64).number(100), Schedule(steps=9).number(100)
        (8, 2, 9)
        """
        return self.steps or self.epochs * -(-min(texts, self.examples or texts) // self.batch)


@dataclass(frozen=True, eq=False)
class Lessons:
    """What a model is trained on: encoded texts and `targets` (n,), the number of the right output, or values.

    `multi_label`: targets are (n, outputs), 0 and 1 of each output by itself. `notes` are what whoever trains should know of
    them.
    """

    data: Inputs
    targets: Tensor
    regression: bool
    multi_label: bool = False
    notes: tuple[str, ...] = ()

    @classmethod
    def make(cls, data: Inputs, labels: np.ndarray, task: Task, order: Sequence[int]) -> "Lessons":
        """From labels (n,); `order[j]` is the class of the model's output j. Raises VPError for fewer than two rows."""
        if len(data) < 2:
            raise VPError("The training data has a single row: give at least two, of different labels.")
        if task.regression:
            return cls(data, torch.tensor(labels, dtype=torch.float32), True)
        if task.multi_label:
            return cls(data, torch.tensor(labels[:, list(order)], dtype=torch.float32), False, True)
        return cls(data, torch.tensor(np.argsort(order))[torch.tensor(labels)], False)

    def mini_batches(self, schedule: Schedule, seed: int) -> list[np.ndarray]:
        """Positions (examples,) for every step: see `mini_batches`."""
        return mini_batches(self.data, schedule, seed)


@dataclass(frozen=True, eq=False)
class TextLessons:
    """What a model that predicts tokens is trained on: windows of a text, whose next tokens it learns, or `masked` ones; or
    pairs of texts (`vp_core.asking.sequences.pairs.Pairs`), whose targets it learns.

    `notes` are what whoever trains should know of them.
    """

    data: Inputs
    tokenizer: PreTrainedTokenizerBase
    masked: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class TagLessons(TextLessons):
    """Sentences whose words have tags: `gold[i]` (words,) are the numbers of sentence i's among the model's outputs."""

    data: Words
    gold: Sequence[np.ndarray] = ()


@dataclass(frozen=True, eq=False)
class SpanLessons(TextLessons):
    """Questions with their paragraphs: `targets` (windows, 2) are the positions in each window where its answer begins and ends
    (`vp_core.asking.kinds.spans.targets_of`)."""

    data: Paragraphs
    targets: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), dtype=int))


def mini_batches(data: Inputs, schedule: Schedule, seed: int) -> list[np.ndarray]:
    """Positions (examples,) for every step, the same for the same seed: texts of like length together, in random order."""
    rng = np.random.default_rng([schedule.seed, seed])
    found: list[np.ndarray] = []
    steps = schedule.number(len(data))
    while len(found) < steps:
        order = rng.permutation(len(data))[: schedule.examples]
        pools = np.split(order, range(_POOL * schedule.batch, len(order), _POOL * schedule.batch))
        batches = []
        for pool in pools:
            by_length = pool[np.argsort([data.length(i) for i in pool], kind="stable")]
            batches += np.split(by_length, range(schedule.batch, len(pool), schedule.batch))
        found += [batches[i] for i in rng.permutation(len(batches))]
    return found[:steps]
