"""Training: one loop for dense, gated, squeezed, masked and spectrally normalised models, on one process or several.

Everything random comes from the seed, and a run begins with a fresh optimiser: the same call on the same weights gives the
same weights, whether it was stopped between (`vp_core.training.checkpoint`) or not.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, broadcast_object_list
from torch import Tensor
from torch.nn.utils import parametrize
from transformers import PreTrainedModel

from vp_core.asking.batches import Batch, Inputs, make_batches
from vp_core.asking.forward import told
from vp_core.ground.errors import VPError
from vp_core.ground.work import checkpoint
from vp_core.training.callbacks import Callback, Run
from vp_core.training.checkpoint import Saved, restore
from vp_core.training.groups import parameter_groups
from vp_core.training.held import Held
from vp_core.training.objectives import Distillation, Objective, with_teacher
from vp_core.training.schedule import Lessons, Schedule, TextLessons, mini_batches

_AUTOCAST = {"float32": None, "bfloat16": torch.bfloat16}
"""The dtype of products by precision; None: that of the weights."""
Result = TypeVar("Result")
Watch = Callable[[int, int, float], None]
"""Called after each step with (steps done, steps in all, loss)."""


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
    objective: Objective | Lessons | TextLessons,
    schedule: Schedule,
    *,
    seed: int = 0,
    callbacks: Sequence[Callback] = (),
    watch: Watch = lambda step, steps, loss: None,
    tell: Callable[[str], None] = lambda news: None,
    accelerator: Accelerator | None = None,
    saved: Saved | None = None,
) -> float:
    """Train `model` in place to the end; returns the mean loss. See `training`, which does it step by step."""
    steps = training(
        model, objective, schedule, seed=seed, callbacks=callbacks, tell=tell, accelerator=accelerator, saved=saved
    )
    while True:
        try:
            run = next(steps)
        except StopIteration as end:
            return float(end.value)
        watch(run.step, run.steps, run.loss)


def training(
    model: PreTrainedModel,
    objective: Objective | Lessons | TextLessons,
    schedule: Schedule,
    *,
    seed: int = 0,
    callbacks: Sequence[Callback] = (),
    tell: Callable[[str], None] = lambda news: None,
    accelerator: Accelerator | None = None,
    saved: Saved | None = None,
    reached: bool = False,
) -> Generator[Run, None, float]:
    """Train `model` in place, yielding after each step, and return the mean loss.

    At the end it is in evaluation mode, and rows that were zero still are.

    `objective` is what is minimised, for lessons the task's own loss, or that of their words. Each of `callbacks` acts in its
    turn. With `saved` the state is kept while it goes on, and when it is left or fails between two steps; a training found
    there is gone on with, to the same bits on one thread. With `reached` the step that it had reached is yielded again: whoever
    looked on was perhaps stopped before they had done with it. Under several processes each takes its part of every mini-batch
    and all end with equal weights. Raises VPError when the loss or its gradient is no longer finite, before that step is taken,
    and Cancelled between two steps if the work was cancelled.
    """
    accelerator = accelerator or Accelerator()
    schedule = on_all(accelerator, schedule.settled)
    objective = with_teacher(objective, None) if isinstance(objective, Lessons | TextLessons) else objective
    steps = mini_batches(objective.data, schedule, seed)
    if isinstance(objective, Distillation):
        objective.expect(np.concatenate(steps))
    torch.manual_seed(int(np.random.default_rng([schedule.seed, seed, 1]).integers(2**31)) + accelerator.process_index)
    job = _Job(model, objective, schedule, Run(model, len(steps), accelerator, tell=tell), callbacks, saved)
    job.begin()
    run = job.run
    try:
        if reached and run.step:
            yield run
        for examples in steps[run.step :]:
            checkpoint()
            job.step(examples)
            job.keep()
            yield run
    except BaseException:
        job.stopped()
        raise
    for callback in callbacks:
        callback.end(run)
    accelerator.free_memory()  # it holds on to every model and optimiser that it has prepared
    model.eval()
    return run.total / run.steps


class _Job:
    """A training between two of its steps."""

    def __init__(
        self, model: PreTrainedModel, objective: Objective, schedule: Schedule, run: Run, callbacks: Sequence[Callback],
        saved: Saved | None,
    ) -> None:  # fmt: skip
        self.model, self.objective, self.schedule, self.run = model, objective, schedule, run
        self.callbacks, self.saved = callbacks, saved
        self.whole = True
        """Whether all is as it is between two steps, and nothing is being written."""

    def begin(self) -> None:
        """Everything is where it begins, or where it was when the state was kept."""
        run, accelerator = self.run, self.run.accelerator
        self.model.to(accelerator.device)
        self.held = Held(self.model)
        for callback in self.callbacks:
            callback.prepare(self.model, run.steps)
        groups = [*parameter_groups(self.model, self.schedule), *(dict(g) for one in self.callbacks for g in one.groups())]
        run.optimiser = torch.optim.AdamW(groups, lr=self.schedule.lr, eps=self.schedule.epsilon, fused=True)
        for group in run.optimiser.param_groups:
            group["initial_lr"] = group["lr"]
        run.rewrap = self._wrap
        self._wrap()
        self.model.train()
        found = None if self.saved is None else self.saved.read()
        if found is not None:
            assert self.saved is not None
            restore(run, self.callbacks, *found)
            self.saved.written = run.step
        for callback in self.callbacks:
            if found is None or callback.passive:
                callback.begin(run)

    def _wrap(self) -> None:
        # the schedule says the precision, whatever the processes were started with, or a Trainer has left in accelerate's state
        accelerator = self.run.accelerator
        if accelerator.scaler is not None:
            raise VPError(
                "These processes were started with fp16, which scales gradients: start them with --mixed_precision no."
            )
        mixed, accelerator.native_amp = accelerator.native_amp, False
        try:
            self.wrapped = accelerator.prepare_model(self.model)
        finally:
            accelerator.native_amp = mixed

    def step(self, examples: np.ndarray) -> None:
        """One step, whole or not at all."""
        run, accelerator = self.run, self.run.accelerator
        self.whole, random = False, _random_state(accelerator.device)
        try:
            for callback in self.callbacks:
                callback.before_step(run)
        except VPError:  # refused before anything was changed
            self.whole = True
            raise
        for group in run.optimiser.param_groups:
            group["lr"] = group["initial_lr"] * self.schedule.factor(run.step, run.steps)
        batches = _mine(self.objective.data, examples, accelerator)
        texts = sum(len(batch.examples) for batch in batches)
        run.optimiser.zero_grad()
        loss = sum((self._loss(batch) * (len(batch.examples) / texts) for batch in batches), start=torch.zeros(()))
        value = run.gather(loss.detach()).mean().item()
        self._check_finite("loss", value, random)
        accelerator.backward(loss)
        self.held.hold()
        for callback in self.callbacks:
            callback.after_backward(run)
        norm = accelerator.clip_grad_norm_(self.model.parameters(), 1.0)
        # else the weights would be no numbers, and the next loss would tell too late
        self._check_finite("gradient", float(norm), random)
        run.optimiser.step()
        run.step, run.loss, run.total = run.step + 1, value, run.total + value
        for callback in self.callbacks:
            callback.after_step(run)
        self.whole = True

    def _check_finite(self, what: str, value: float, random: list[Tensor]) -> None:
        """VPError for a value that is none; weights, optimiser and random state are those before the step."""
        if np.isfinite(value):
            return
        self.run.optimiser.zero_grad()
        _set_random_state(random, self.run.accelerator.device)
        self.whole = True
        raise VPError(
            f"The {what} is NaN or infinite at step {self.run.step + 1:,}: choose a smaller learning rate, or the precision "
            "float32."
        )

    def keep(self) -> None:
        """Write the state where it is time to."""
        if self.saved is not None and self.saved.due(self.run):
            self.whole = False
            self.saved.now(self.run, self.callbacks)
            self.whole = True

    def stopped(self) -> None:
        """Write the state that was reached, whatever stopped it: a step is taken whole or not at all."""
        alone = self.run.accelerator.num_processes == 1  # others may be in another step
        if self.saved is None or not alone or not self.whole or self.run.step <= self.saved.written:
            return
        try:
            self.saved.now(self.run, self.callbacks)
        except VPError as error:  # what stopped it is what its caller hears
            self.run.tell(str(error))

    def _loss(self, batch: Batch) -> Tensor:
        device, dtype = self.run.accelerator.device, _AUTOCAST[self.schedule.precision]
        last: Mapping[str, Tensor] = {}

        def ask(inputs: Mapping[str, Tensor], **more: Any) -> Any:
            nonlocal last
            last = {name: value.to(device) for name, value in inputs.items()}
            with ExitStack() as open_:
                for callback in self.callbacks:
                    open_.enter_context(callback.watching(self.run, last))
                open_.enter_context(told(self.model, batch))
                open_.enter_context(parametrize.cached())
                open_.enter_context(torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None))
                return self.wrapped(**last, **more)

        loss = self.objective.loss(self.model, batch, ask, self.run.step)
        for callback in self.callbacks:
            more = callback.penalty(self.run, last)
            loss = loss if more is None else loss + more
        return loss


def _random_state(device: torch.device) -> list[Tensor]:
    """Of the processor, and of a device of its own."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def _set_random_state(states: list[Tensor], device: torch.device) -> None:
    torch.set_rng_state(states[0])
    for state in states[1:]:
        torch.cuda.set_rng_state(state, device)


def _mine(data: Inputs, examples: np.ndarray, accelerator: Accelerator) -> list[Batch]:
    """This process' part of a mini-batch; one that is too small for all is everybody's. Several where texts cannot be together
    (`vp_core.asking.batches.Inputs.apart`), as many in every process: each pass is a step of power iteration."""
    found: list[Batch] = []
    for together in make_batches(data, examples, max_tokens=10**9):
        those = examples[np.isin(examples, together.examples)]
        part = those[accelerator.process_index :: accelerator.num_processes]
        found += make_batches(data, part if len(part) else those, max_tokens=10**9)
    return found
