"""Fine-tuning: one loop for dense, gated, squeezed and spectrally normalised models, on one process or several.

Everything random comes from the seed, and a run begins with a fresh optimiser: the same call on the same weights gives the
same weights, which is what lets `vp_core.training.snip` go on after it was killed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, broadcast_object_list
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, mse_loss
from torch.nn.utils import parametrize
from transformers import PreTrainedModel, get_linear_schedule_with_warmup

from vp_core.asking.batches import Batch, Encoded, make_batches
from vp_core.asking.forward import told
from vp_core.asking.tasks import Task
from vp_core.ground.errors import VPError, one_of
from vp_core.ground.names import AUTO, BATCH, LEARNING_RATE, TRAINING_PRECISIONS
from vp_core.model.precision import fast_precision
from vp_core.training.gate import penalty
from vp_core.training.held import Held

_AUTOCAST = {"float32": None, "bfloat16": torch.bfloat16}
"""The dtype of products by precision; None: that of the weights."""
_POOL = 16
"""Mini-batches sorted by length together, so that little of one is padding."""
Result = TypeVar("Result")
Watch = Callable[[int, int, float], None]
"""Called after each step with (steps done, steps in all, loss)."""


@dataclass(frozen=True)
class Schedule:
    """How to train: `examples` of the training set drawn anew for each phase (None: all), AdamW, linear warm-up and decay.

    The defaults are those of the paper's fine-tuning (table 3) but for the learning rate, which is half of it, and the
    precision, for which see `settled`. What cannot be is refused with a VPError of one sentence.
    """

    epochs: int = 1
    examples: int | None = None
    batch: int = BATCH
    lr: float = LEARNING_RATE
    weight_decay: float = 0.01
    warm_up: float = 0.1
    precision: str = AUTO
    seed: int = 0

    def __post_init__(self) -> None:
        """Check every field."""
        one_of("precision", self.precision, TRAINING_PRECISIONS)
        numbers = {"epochs": self.epochs, "batch": self.batch, "examples": 1 if self.examples is None else self.examples}
        for name, value in numbers.items():
            if value < 1:
                raise VPError(f"Training needs at least 1 for {name}, not {value}.")
        if not 0 < self.lr < 1:
            raise VPError(f"The learning rate {self.lr!r} is not between 0 and 1: the default is 5e-5.")
        for name, share in (("weight decay", self.weight_decay), ("warm-up", self.warm_up)):
            if not 0 <= share <= 1:
                raise VPError(f"The {name} {share!r} is not between 0 and 1: the paper's settings are the defaults.")

    def settled(self, begun: str | None = None) -> "Schedule":
        """With a precision in place of `auto`: the one in which a run was `begun`, for a new one this machine's fast one."""
        return replace(self, precision=begun or fast_precision()) if self.precision == AUTO else self


@dataclass(frozen=True, eq=False)
class Lessons:
    """What a model is trained on: encoded texts and `targets` (n,), the number of the right output, or values.

    `multi_label`: targets are (n, outputs), 0 and 1 of each output by itself.
    """

    data: Encoded
    targets: Tensor
    regression: bool
    multi_label: bool = False

    @classmethod
    def make(cls, data: Encoded, labels: np.ndarray, task: Task, order: Sequence[int]) -> "Lessons":
        """From labels (n,); `order[j]` is the class of the model's output j. Raises VPError for fewer than two rows."""
        if len(data) < 2:
            raise VPError("The training data has a single row: give at least two, of different labels.")
        if task.regression:
            return cls(data, torch.tensor(labels, dtype=torch.float32), True)
        if task.multi_label:
            return cls(data, torch.tensor(labels[:, list(order)], dtype=torch.float32), False, True)
        return cls(data, torch.tensor(np.argsort(order))[torch.tensor(labels)], False)

    def mini_batches(self, schedule: Schedule, seed: int) -> list[np.ndarray]:
        """Positions (examples,) for every step, the same for the same seed: texts of like length together, in random order."""
        rng, found = np.random.default_rng([schedule.seed, seed]), []
        for _ in range(schedule.epochs):
            order = rng.permutation(len(self.data))[: schedule.examples]
            pools = np.split(order, range(_POOL * schedule.batch, len(order), _POOL * schedule.batch))
            batches = []
            for pool in pools:
                by_length = pool[np.argsort([len(self.data.ids[i]) for i in pool], kind="stable")]
                batches += np.split(by_length, range(schedule.batch, len(pool), schedule.batch))
            found += [batches[i] for i in rng.permutation(len(batches))]
        return found


def new_accelerator() -> Accelerator:
    """An Accelerator for the processes there are; it allows for unused parameters (a pooler, a block that left).

    Buffers are equal everywhere as it is (constants, indices, power iteration from one start), and to send them round between
    two passes of one step would spoil the gradient of the first.
    """
    return Accelerator(kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True, broadcast_buffers=False)])


def on_all(accelerator: Accelerator, compute: Callable[[], Result]) -> Result:
    """What the main process computes, broadcast to every process."""
    found: list[Any] = [compute() if accelerator.is_main_process else None]
    if accelerator.num_processes > 1:
        broadcast_object_list(found)
    return found[0]


def train(
    model: PreTrainedModel,
    lessons: Lessons,
    schedule: Schedule,
    *,
    seed: int = 0,
    l1: float = 0.0,
    watch: Watch = lambda step, steps, loss: None,
    accelerator: Accelerator | None = None,
) -> float:
    """Train `model` in place; returns the mean loss. It is in evaluation mode afterwards, and rows that were zero still are.

    `l1` weighs `penalty`, for a gated model. Under several processes each takes its part of every mini-batch
    and all end with equal weights. Raises VPError when the loss is no longer finite.
    """
    accelerator = accelerator or Accelerator()
    schedule = on_all(accelerator, schedule.settled)
    steps = lessons.mini_batches(schedule, seed)
    torch.manual_seed(int(np.random.default_rng([schedule.seed, seed, 1]).integers(2**31)) + accelerator.process_index)
    wrapped, optimiser = accelerator.prepare(model, _optimiser(model, schedule))
    warm_up = get_linear_schedule_with_warmup(optimiser, int(schedule.warm_up * len(steps)), len(steps))
    held = Held(model)  # where the model is by now
    model.train()
    total = 0.0
    for number, examples in enumerate(steps, 1):
        batches = _mine(lessons.data, examples, accelerator)
        texts = sum(len(batch.examples) for batch in batches)
        parts = [_loss(wrapped, model, batch, lessons, schedule, l1, accelerator.device) for batch in batches]
        loss = sum((part * (len(b.examples) / texts) for part, b in zip(parts, batches, strict=True)), start=torch.zeros(()))
        optimiser.zero_grad()
        accelerator.backward(loss)
        held.hold()
        accelerator.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        warm_up.step()
        value = loss.item()
        if not np.isfinite(value):
            raise VPError("The loss is NaN or infinite: choose a smaller learning rate, or the precision float32.")
        total += value
        watch(number, len(steps), value)
    accelerator.free_memory()  # it holds on to every model and optimiser that it has prepared
    model.eval()
    return total / len(steps)


def _optimiser(model: nn.Module, schedule: Schedule) -> torch.optim.AdamW:
    """Matrices decay, vectors do not."""
    tuned = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in tuned if p.ndim > 1], "weight_decay": schedule.weight_decay},
        {"params": [p for p in tuned if p.ndim == 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=schedule.lr, fused=True)


def _mine(data: Encoded, examples: np.ndarray, accelerator: Accelerator) -> list[Batch]:
    """This process' part of a mini-batch; one that is too small for all is everybody's. Several where texts cannot be together
    (`vp_core.asking.batches.Encoded.end_id`), as many in every process: each pass is a step of power iteration."""
    found: list[Batch] = []
    for together in make_batches(data, examples, max_tokens=10**9):
        those = examples[np.isin(examples, together.examples)]
        part = those[accelerator.process_index :: accelerator.num_processes]
        found += make_batches(data, part if len(part) else those, max_tokens=10**9)
    return found


def _of_answers(logits: Tensor, targets: Tensor, lessons: Lessons) -> Tensor:
    """The loss of logits (examples, outputs), as transformers has it for each kind of problem."""
    if lessons.regression:
        return mse_loss(logits[:, 0], targets)
    return (binary_cross_entropy_with_logits if lessons.multi_label else cross_entropy)(logits, targets)


def _loss(
    wrapped: nn.Module, model: nn.Module, batch: Batch, lessons: Lessons, schedule: Schedule, l1: float, device: torch.device
) -> Tensor:
    inputs = {name: value.to(device) for name, value in batch.inputs.items()}
    targets = lessons.targets[torch.from_numpy(batch.examples)].to(device)
    dtype = _AUTOCAST[schedule.precision]
    with (
        told(model, batch),
        parametrize.cached(),
        torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None),
    ):
        logits = wrapped(**inputs).logits
    loss = _of_answers(logits.float(), targets, lessons)
    if not l1:
        return loss
    mask = inputs.get("attention_mask")
    return loss + l1 * penalty(model, None if mask is None else mask.flatten().float())
