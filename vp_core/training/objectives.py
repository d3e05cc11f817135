"""What a training minimises: the loss of the task, with a teacher beside it, or that of words of a text, or of answers in one.

An objective has its `data`, and a `loss` that asks the model what it needs to know: `ask(inputs)` is a forward pass of the
model that is being trained, with all that watches it.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    kl_div,
    log_softmax,
    logsigmoid,
    mse_loss,
)  # fmt: skip
from transformers import PreTrainedModel

from vp_core.asking.batches import Batch, Encoded, Inputs
from vp_core.asking.sequences.pairs import Pairs
from vp_core.asking.words.masking import SHARE
from vp_core.asking.words.paragraphs import Paragraphs
from vp_core.ground.names import ALPHA, TEMPERATURE
from vp_core.training.schedule import Lessons, SpanLessons, TagLessons, TextLessons
from vp_core.training.teacher import Teacher
from vp_core.training.words import Ask, MaskedWords, NextWords, TargetWords, Taught, WordTags, apart, check_teaching

_NEVER = -1e4
"""A logit of what cannot be: its probability is 0 in float32, and unlike that of −∞ its logarithm can be multiplied by it."""


class Objective(Protocol):
    """What `vp_core.training.loop.train` minimises."""

    @property
    def data(self) -> Inputs:
        """The texts."""

    def loss(self, model: PreTrainedModel, batch: Batch, ask: Ask, step: int) -> Tensor:
        """The mean loss () of a batch in step number `step`, with a gradient."""


@dataclass(frozen=True, eq=False)
class TaskLoss:
    """The loss of the task as transformers has it: cross-entropy, squared error of values, or binary of several labels."""

    lessons: Lessons

    @property
    def data(self) -> Inputs:
        """The texts."""
        return self.lessons.data

    def loss(self, model: PreTrainedModel, batch: Batch, ask: Ask, step: int) -> Tensor:
        """The mean loss () of a batch."""
        logits = ask(batch.inputs).logits.float()
        return of_answers(logits, self.targets(batch, logits), self.lessons)

    def targets(self, batch: Batch, logits: Tensor) -> Tensor:
        """The targets of a batch's examples, where the logits are."""
        return self.lessons.targets[torch.from_numpy(batch.examples)].to(logits.device)


@dataclass(frozen=True, eq=False)
class Distillation:
    """α·task + (1 − α)·T²·KL(teacher ‖ student) on outputs softened by the temperature T (Hinton et al. 2015).

    Of a regression the second term is the squared error towards the teacher's value, of several labels the KL of each yes and
    no. `hidden` weighs the mean squared error of all hidden states besides, of a teacher with as many layers of the same width.
    VPError for α outside 0..1, a temperature or weight that is none.
    """

    lessons: Lessons
    teacher: Teacher
    alpha: float = ALPHA
    temperature: float = TEMPERATURE
    hidden: float = 0.0

    def __post_init__(self) -> None:
        """Check every number."""
        check_teaching(self.alpha, self.temperature, self.hidden)
        self.teacher.answers(self.lessons.data)

    @property
    def data(self) -> Inputs:
        """The texts."""
        return self.lessons.data

    def expect(self, examples: np.ndarray) -> None:
        """Which examples a training will ask about (`vp_core.training.teacher.Teacher.expect`)."""
        self.teacher.expect(examples)

    def loss(self, model: PreTrainedModel, batch: Batch, ask: Ask, step: int) -> Tensor:
        """The mean loss () of a batch."""
        found = ask(batch.inputs, **({"output_hidden_states": True} if self.hidden else {}))
        logits = found.logits.float()
        task = of_answers(logits, TaskLoss(self.lessons).targets(batch, logits), self.lessons)
        soft = towards(logits, self.teacher.logits(batch, logits.device), self.temperature, self.lessons)
        total = self.alpha * task + (1 - self.alpha) * soft
        if self.hidden:
            total = total + self.hidden * apart(found, self.teacher.answer(batch), batch)
        return total


def of_answers(logits: Tensor, targets: Tensor, lessons: Lessons) -> Tensor:
    """The loss of logits (examples, outputs), as transformers has it for each kind of problem."""
    if lessons.regression:
        return mse_loss(logits[:, 0], targets)
    return (binary_cross_entropy_with_logits if lessons.multi_label else cross_entropy)(logits, targets)


def towards(logits: Tensor, teacher: Tensor, temperature: float, lessons: Lessons) -> Tensor:
    """The loss () of logits (examples, outputs) against a teacher's: T²·KL(teacher ‖ student), of values the squared error."""
    if lessons.regression:
        return mse_loss(logits, teacher)
    student, teacher = logits / temperature, teacher / temperature
    if lessons.multi_label:
        mine, theirs = (torch.stack([logsigmoid(z), logsigmoid(-z)], dim=-1) for z in (student, teacher))
        return temperature**2 * kl_div(mine, theirs, reduction="none", log_target=True).sum(dim=-1).mean()
    found = kl_div(log_softmax(student, dim=1), log_softmax(teacher, dim=1), reduction="batchmean", log_target=True)
    return temperature**2 * found


@dataclass(frozen=True, eq=False)
class MarkedSpans(Taught):
    """The mean cross-entropy of where the answer of a window begins and of where it ends, among its tokens (Devlin et al. 2019,
    section 4.2); of a window that does not hold it both are the first token.

    `targets` (windows, 2) are the two positions. With a teacher it is α·loss + (1 − α)·T²·KL(teacher ‖ model), the mean of both
    positions' KL of outputs softened by the temperature T (Hinton et al. 2015); `hidden` weighs the mean squared error of all
    hidden states besides. VPError for α outside 0..1, a temperature or weight that is none.
    """

    data: Paragraphs
    targets: np.ndarray
    teacher: Teacher | None = None
    alpha: float = ALPHA
    temperature: float = TEMPERATURE
    hidden: float = 0.0

    def loss(self, model: PreTrainedModel, batch: Batch, ask: Ask, step: int) -> Tensor:
        """The mean loss () of a batch."""
        found = ask(batch.inputs, **self._more())
        logits = _both(found, batch)
        right = torch.from_numpy(self.targets[batch.examples]).to(logits.device).flatten()
        loss = cross_entropy(logits, right)
        if self.teacher is not None:
            mine, theirs = (
                log_softmax(_both(one, batch, self.temperature).to(logits.device), dim=1)
                for one in (found, self.teacher.spans(batch))
            )
            taught = self.temperature**2 * kl_div(mine, theirs, reduction="batchmean", log_target=True)
            loss = self.alpha * loss + (1 - self.alpha) * taught
        return self._with_hidden(loss, found, batch)


def _both(found: Any, batch: Batch, temperature: float = 1.0) -> Tensor:
    """Logits (2·windows, tokens), float32, of an answer's beginning and end, window by window, softened; not of padding."""
    logits = torch.stack([found.start_logits, found.end_logits], dim=1).float() / temperature
    real = batch.inputs["attention_mask"].bool().to(logits.device)
    return logits.masked_fill(~real[:, None], _NEVER).flatten(0, 1)


def with_teacher(
    lessons: Lessons | TextLessons, teacher: Teacher | None, alpha: float = ALPHA, temperature: float = TEMPERATURE,
    hidden: float = 0.0,
) -> Objective:  # fmt: skip
    """The task's loss, or that of words or answers, with a teacher's beside it if there is one."""
    if isinstance(lessons, TextLessons):
        taught = teacher, alpha, temperature, hidden
        if isinstance(lessons, TagLessons):
            return WordTags(lessons.data, lessons.gold, *taught)
        if isinstance(lessons, SpanLessons):
            return MarkedSpans(lessons.data, lessons.targets, *taught)
        if lessons.masked:
            assert isinstance(lessons.data, Encoded)
            return MaskedWords(lessons.data, lessons.tokenizer, SHARE, 0, *taught)
        return (TargetWords if isinstance(lessons.data, Pairs) else NextWords)(lessons.data, *taught)
    if teacher is None:
        return TaskLoss(lessons)
    return Distillation(lessons, teacher, alpha, temperature, hidden)
