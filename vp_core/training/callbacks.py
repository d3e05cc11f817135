"""What may act on a model while it trains: pruning by a schedule, learned scores, gates, meters, records.

A `Callback` is told of every moment of a training; `vp_core.training.loop.train` calls it, and so does a transformers Trainer
(`vp_core.running.trainer`). Its `state` is part of every checkpoint, so that a run which was killed goes on as if nothing
had happened.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import PreTrainedModel

State = tuple[dict[str, Tensor], dict[str, Any]]
"""Tensors by name, and JSON-able facts."""


@dataclass(eq=False)
class Run:
    """A training as it goes: `step` of `steps` are done, `loss` was that of the last, `total` of all. `tell` hears news.

    A callback that replaces modules of `model` puts the new parameters into `optimiser` and calls `rewrap`.
    """

    model: PreTrainedModel
    steps: int
    accelerator: Accelerator
    optimiser: torch.optim.Optimizer = field(init=False)
    step: int = 0
    loss: float = float("nan")
    total: float = 0.0
    tell: Callable[[str], None] = lambda news: None
    rewrap: Callable[[], None] = lambda: None

    def gather(self, tensor: Tensor) -> Tensor:
        """The tensors of all processes, (processes, …), of equal shapes."""
        if self.accelerator.num_processes == 1:
            return tensor[None]
        device = self.accelerator.device
        found = self.accelerator.gather(tensor.to(device)[None])
        assert isinstance(found, Tensor)
        return found.to(tensor.device)


class Callback:
    """Does nothing; what acts overrides what it needs. One instance belongs to one training.

    A step whose loss or gradient is no number is not taken, and `after_step` not called: what `state` says should change there
    only, or it is kept as it was in the middle of that step.
    """

    passive = False
    """Whether it only looks on: its state is not kept, a training goes on with it or without it, and `begin` is called then."""

    def check(self, steps: int) -> None:
        """VPError unless this fits a training of so many steps; `prepare` asks it, and whoever knows the number later only."""

    def prepare(self, model: PreTrainedModel, steps: int) -> None:
        """Before there is an optimiser, on the device of the training: the place to put parameters on the model."""

    def groups(self) -> Sequence[Mapping[str, Any]]:
        """Parameter groups of AdamW for parameters of this callback's own, with `params`, `lr`, `weight_decay`."""
        return ()

    def begin(self, run: Run) -> None:
        """All is ready, no step is done; not called again when a run is resumed, `restore` is instead."""

    def before_step(self, run: Run) -> None:
        """Before the forward passes of step `run.step + 1`. May refuse it with a VPError, having changed nothing."""

    def watching(self, run: Run, inputs: Mapping[str, Tensor]) -> AbstractContextManager[None]:
        """What is open around each forward pass with these inputs (examples, tokens)."""
        return nullcontext()

    def penalty(self, run: Run, inputs: Mapping[str, Tensor]) -> Tensor | None:
        """What is added to the loss () of a forward pass that has just been made."""
        return None

    def after_backward(self, run: Run) -> None:
        """Gradients are there; they are not clipped yet."""

    def after_step(self, run: Run) -> None:
        """The weights have moved, `run.step` steps are done."""

    def end(self, run: Run) -> None:
        """After the last step: the model becomes a plain one again."""

    def state(self) -> State:
        """Everything that `restore` needs: (tensors by name, JSON-able facts)."""
        return {}, {}

    def restore(self, run: Run, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Become what `state` was taken from; weights and optimiser are restored afterwards, into the shapes made here."""


class Pruner(Callback):
    """A callback that prunes while it trains: what is gone by now, and what is left at the end."""

    def removed(self) -> dict[str, float]:
        """Share that is gone by now, by projection (`3.ffn_in`) or matrix, for the heat map and the record."""
        raise NotImplementedError

    def cuts(self) -> list[dict[str, Any]]:
        """What went when: JSON-able rows of `step`, `sparsity` (the share of its units) and `removed`."""
        raise NotImplementedError

    def compact(self, model: PreTrainedModel) -> PreTrainedModel:
        """After `end`, on the CPU: a new, squeezed model with the outputs of `model` (evaluation mode)."""
        raise NotImplementedError
