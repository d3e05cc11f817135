"""What a training minimises: the loss of the task, with a teacher beside it, or that of masked words.

An objective has its `data`, and a `loss` that asks the model what it needs to know: `ask(inputs)` is a forward pass of the
model that is being trained, with all that watches it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
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
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from vp_core.asking.batches import Batch, Encoded
from vp_core.asking.kinds.masking import SHARE, check_masked_lm, mask_batch
from vp_core.ground.errors import VPError
from vp_core.ground.names import ALPHA, TEMPERATURE
from vp_core.model.sites import Site, observed
from vp_core.training.schedule import Lessons
from vp_core.training.teacher import Teacher

Ask = Callable[..., Any]
"""The output of the model in training for `inputs`, a dictionary of tensors (examples, tokens), and further arguments."""


class Objective(Protocol):
    """What `vp_core.training.loop.train` minimises."""

    @property
    def data(self) -> Encoded:
        """The texts."""

    def loss(self, model: PreTrainedModel, batch: Batch, ask: Ask, step: int) -> Tensor:
        """The mean loss () of a batch in step number `step`, with a gradient."""


@dataclass(frozen=True, eq=False)
class TaskLoss:
    """The loss of the task as transformers has it: cross-entropy, squared error of values, or binary of several labels."""

    lessons: Lessons

    @property
    def data(self) -> Encoded:
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
    def data(self) -> Encoded:
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
            total = total + self.hidden * _between(found, self.teacher.hidden(batch, logits.device), batch)
        return total


@dataclass(frozen=True, eq=False)
class MaskedWords:
    """The cross-entropy of masked words, masked anew in every step (BERT; RoBERTa's dynamic masking), of a ...ForMaskedLM.

    What is masked depends on the seed, the step and the text, and on nothing else.
    """

    data: Encoded
    tokenizer: PreTrainedTokenizerBase
    share: float = SHARE
    seed: int = 0

    def loss(self, model: PreTrainedModel, batch: Batch, ask: Ask, step: int) -> Tensor:
        """The mean loss () of the masked words of a batch."""
        check_masked_lm(model)
        masked = mask_batch(self.tokenizer, self.data, batch, self.share, (self.seed, step))
        head = model.get_output_embeddings()
        path = next(path for path, module in model.named_modules() if module is head)

        def only_masked(_site: Site, states: Tensor) -> Tensor:  # the vocabulary is wide: other words are not predicted
            return states[masked.rows.to(states.device), masked.columns.to(states.device)]

        with observed(model, [Site("head", path, inputs=True)], only_masked):
            logits = ask(masked.batch.inputs).logits
        return cross_entropy(logits.float(), masked.ids.to(logits.device))


def check_teaching(alpha: float, temperature: float, hidden: float) -> None:
    """VPError for weights and a temperature that a teacher cannot have."""
    if not 0 <= alpha <= 1:
        raise VPError(f"The weight α {alpha!r} of the task's loss is not between 0 and 1: 0.5 takes both halves.")
    if not (0 < temperature < inf and 0 <= hidden < inf):
        raise VPError("The temperature must be above 0, the weight of hidden states at least 0: 2 and 0 are the defaults.")


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


def _between(found: Any, teacher: tuple[Tensor, ...], batch: Batch) -> Tensor:
    """Mean squared error of hidden states over layers, real tokens and coordinates."""
    mine = found.hidden_states
    if len(mine) != len(teacher) or mine[0].shape != teacher[0].shape:
        raise VPError(
            f"The teacher has {len(teacher) - 1} layers of width {teacher[0].shape[-1]}, the student {len(mine) - 1} of "
            f"{mine[0].shape[-1]}: hidden states need equal ones; leave their weight at 0."
        )
    real = batch.inputs["attention_mask"].to(mine[0].device)[..., None].float()
    count = real.sum() * mine[0].shape[-1]
    losses = [((a.float() - b.float()).square() * real).sum() / count for a, b in zip(mine, teacher, strict=True)]
    return torch.stack(losses).mean()


def with_teacher(lessons: Lessons, teacher: Teacher | None, alpha: float, temperature: float, hidden: float = 0.0) -> Objective:
    """The task's loss, with a teacher's beside it if there is one."""
    if teacher is None:
        return TaskLoss(lessons)
    return Distillation(lessons, teacher, alpha, temperature, hidden)
