"""The methods for people who have a transformers Trainer: `Trainer(…, callbacks=[VariancePruning(first=500, every=500)])`.

Each hands its moments on to the callback that our own loop trains with (`vp_core.gradual`, `vp_core.movement`), so that equal
batches give equal masks. What a Trainer does otherwise than our loop is made up for here:

- It clips gradients before a callback hears of them. What is gone must not count in their norm, so the norm to clip by is
  taken from the Trainer for the time of a step, and they are clipped here; the norm that it logs is the one before.
- A callback cannot add to the loss. A penalty's own gradient joins the backward pass instead (`_Beside`), once a step, whatever
  the number of passes it is made of; the loss that is logged is without it.
- Parameters of a method's own (scores) have their own AdamW, whose rate follows the Trainer's schedule. The Trainer's optimiser
  never sees their gradients.

Masks, meters and scores are kept beside each of the Trainer's checkpoints (`vp_core.running.trainer_state`).
"""

import copy
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.utils import gather
from torch import Tensor, nn
from torch.nn.utils import parametrize
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from vp_core.gradual.cuts import Cuts
from vp_core.gradual.rows import GradualRows
from vp_core.gradual.weights import GradualWeights
from vp_core.ground.errors import VPError
from vp_core.model.sites import around
from vp_core.movement import prune as movement
from vp_core.running.trainer_state import PlainNames, read_state, write_state
from vp_core.training.callbacks import Callback, Pruner, Run
from vp_core.training.held import Held

_LOG = logging.getLogger(__name__)
_MANY = 10**9
"""Steps of a training whose number is not known yet: a Trainer that is made with epochs counts its data when it begins."""


class Pruning(TrainerCallback):
    """Any of our callbacks, `pruner`, in a Trainer: give it to `Trainer(callbacks=[…])`, one for one training.

    `tell` hears news. A training that goes on from a checkpoint outside of `output_dir` says where: `resumed_from`. Afterwards
    the Trainer's model is a plain one, masked, and `squeezed()` gives the smaller one. Under several processes all prune
    alike. Raises VPError for what does not go together: fp16, torch.compile, DataParallel, FSDP and DeepSpeed, the best
    checkpoint loaded at the end, a callback that was given to the Trainer when it was made already; and where the gradient is
    no longer finite, before that step is taken.
    """

    def __init__(
        self, pruner: Callback, tell: Callable[[str], None] = _LOG.info, resumed_from: str | Path | None = None
    ) -> None:
        self.pruner, self._tell, self._resumed_from = pruner, tell, resumed_from
        self.run: Run | None = None
        self._model: PreTrainedModel | None = None
        self._own: torch.optim.Optimizer | None = None
        self._open = ExitStack()
        self._within = False
        self._penalised = False

    # the moments of a Trainer

    def on_init_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any) -> None:
        """The model is on its device, and there is no optimiser yet."""
        _check(args)
        model = self._model = given["model"]
        self._held = Held(model)
        self.pruner.prepare(model, args.max_steps if args.max_steps > 0 else _MANY)
        self._names = PlainNames(model)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any) -> None:
        """Begin, or go on where the checkpoint was taken that the Trainer has just loaded."""
        model = given["model"]
        self._check_begin(model, state)
        self.pruner.check(state.max_steps)
        args.max_grad_norm = self._norm = getattr(args.max_grad_norm, "was", args.max_grad_norm)
        tell = self._tell if state.is_world_process_zero else lambda news: None
        run = self.run = Run(model, state.max_steps, cast(Accelerator, _Processes(args)), state.global_step, tell=tell)
        optimiser = given["optimizer"]
        run.optimiser = getattr(optimiser, "optimizer", optimiser)
        if groups := [dict(group) for group in self.pruner.groups()]:
            betas = args.adam_beta1, args.adam_beta2
            self._own = torch.optim.AdamW(groups, lr=args.learning_rate, betas=betas, eps=args.adam_epsilon)
        for group in self._own.param_groups if self._own else ():
            group["initial_lr"] = group["lr"]
        if run.step:
            folder = Path(self._resumed_from or _checkpoint(args, run.step))
            self._held = read_state(folder, self.pruner, run, self._own, self._held)
        else:
            self.pruner.begin(run)
        self._open.enter_context(around(model, self._watching, self._beside))

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any) -> None:
        """Before the forward passes of a step."""
        if args.max_grad_norm != self._norm:
            raise VPError("Another callback clips gradients by itself: give a Trainer one pruning callback.")
        args.max_grad_norm = _Aside(self._norm)
        self.pruner.before_step(self._now)
        self._within, self._penalised = True, False

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Gradients of all passes and processes are there."""
        run, self._within = self._now, False
        args.max_grad_norm = self._norm
        self._held.hold()
        self.pruner.after_backward(run)
        norm = nn.utils.clip_grad_norm_(run.model.parameters(), self._norm or float("inf"))
        if not torch.isfinite(norm):
            raise VPError(
                f"The gradient is NaN or infinite at step {run.step + 1:,}: choose a smaller learning rate, or float32."
            )
        self._step_own()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any) -> None:
        """The weights have moved."""
        self._now.step = state.global_step
        self.pruner.after_step(self._now)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any) -> None:
        """The Trainer has written a checkpoint."""
        write_state(_checkpoint(args, state.global_step), self.pruner, self._now, self._own, self._held)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any) -> None:
        """The model becomes a plain one again."""
        self._open.close()
        self.pruner.end(self._now)
        self._names.close()

    # what came of it

    def removed(self) -> dict[str, float]:
        """Share that is gone by now, by projection (`3.ffn_in`) or matrix."""
        return self._a_pruner.removed()

    def cuts(self) -> list[dict[str, Any]]:
        """What went when: rows of `step`, `sparsity` and `removed`."""
        return self._a_pruner.cuts()

    def squeezed(self) -> PreTrainedModel:
        """After the training, on the CPU: a smaller model with the outputs of the Trainer's (`vp_core.squeezing.folder` keeps
        it)."""
        return self._a_pruner.compact(copy.deepcopy(self._now.model).cpu().eval().requires_grad_(False))

    # how

    @property
    def _now(self) -> Run:
        if self.run is None:
            raise VPError("The training has not begun: call the Trainer's train first.")
        return self.run

    @property
    def _a_pruner(self) -> Pruner:
        assert isinstance(self.pruner, Pruner)
        return self.pruner

    def _check_begin(self, model: nn.Module, state: TrainerState) -> None:
        name = type(self).__name__
        if self._model is None:
            raise VPError(f"Give {name} to Trainer(callbacks=[…]): when it is added later, the optimiser may be made already.")
        if self.run is not None:
            raise VPError(f"This {name} has been through a training: make a new one, and a new Trainer, for another.")
        if model is not self._model or state.is_hyper_param_search:
            raise VPError(f"The Trainer has made another model since {name} was given to it: leave model_init out.")

    def _counts(self, model: nn.Module) -> bool:
        """Whether a pass is one of a training step: none of an evaluation, none that somebody else makes."""
        return self._within and model.training and torch.is_grad_enabled()

    @contextmanager
    def _watching(self, inputs: Mapping[str, Any]) -> Iterator[None]:
        if not self._counts(self._now.model):
            yield
            return
        with parametrize.cached(), self.pruner.watching(self._now, _tensors(inputs)):
            yield

    def _beside(self, inputs: Mapping[str, Any], output: Any) -> Any:
        """The outputs, whose backward pass brings the penalty's gradient along."""
        penalty = self.pruner.penalty(self._now, _tensors(inputs)) if self._counts(self._now.model) else None
        if penalty is None:
            return None
        named = dict(output.items() if isinstance(output, Mapping) else enumerate(output))
        wanted = {name: value for name, value in named.items() if isinstance(value, Tensor) and value.requires_grad}
        named |= dict(zip(wanted, _Beside.apply(self, penalty, *wanted.values()), strict=True))
        kind: Any = type(output)
        return kind(named) if isinstance(output, Mapping) else tuple(named.values())

    def _step_own(self) -> None:
        """Scores move at the rate of their own that the Trainer's schedule makes of it, and it hears nothing of them."""
        if self._own is None:
            return
        leader = self._now.optimiser.param_groups[0]
        factor = leader["lr"] / leader.get("initial_lr", leader["lr"])
        for group in self._own.param_groups:
            group["lr"] = group["initial_lr"] * factor
        self._own.step()
        self._own.zero_grad()


class VariancePruning(Pruning):
    """Rows whose outputs vary least go, cut by cut (`vp_core.gradual.rows.GradualRows`); the defaults are the paper's.

    `random` as `criterion` is its baseline: as many rows of each projection.
    """

    def __init__(
        self, first: int = 500, every: int = 500, share: float = 0.1, until: float = 0.5, *, ramp: str = "linear",
        tell: Callable[[str], None] = _LOG.info, resumed_from: str | Path | None = None, **settings: Any,
    ) -> None:  # fmt: skip
        super().__init__(GradualRows(Cuts(first, every, share, until, ramp), **settings), tell, resumed_from)
        if settings.get("squeezed", "end") != "end":
            raise VPError("A Trainer keeps the shapes of its model while it trains: squeeze the result, with squeezed().")


class MagnitudePruning(Pruning):
    """The smallest single weights go, cut by cut (`vp_core.gradual.weights.GradualWeights`), most of them early."""

    def __init__(
        self, first: int = 500, every: int = 500, share: float = 0.1, until: float = 0.5, *, ramp: str = "cubic",
        tell: Callable[[str], None] = _LOG.info, resumed_from: str | Path | None = None, **settings: Any,
    ) -> None:  # fmt: skip
        super().__init__(GradualWeights(Cuts(first, every, share, until, ramp), **settings), tell, resumed_from)


class MovementPruning(Pruning):
    """Masks are learned with the weights (`vp_core.movement.prune.LearnedMasks`), by a preset (`PRESETS`)."""

    def __init__(
        self, preset: str = "movement", *, tell: Callable[[str], None] = _LOG.info, resumed_from: str | Path | None = None,
        **settings: Any,
    ) -> None:  # fmt: skip
        super().__init__(movement.LearnedMasks.of(preset, **settings), tell, resumed_from)


class _Aside(float):
    """0 for the Trainer, in the place of a norm that `was` there: what is left by a training that fails can be put back."""

    was: float

    def __new__(cls, was: float) -> "_Aside":
        """Keep what was there."""
        made = super().__new__(cls, 0.0)
        made.was = was
        return made


class _Beside(torch.autograd.Function):
    """Outputs as they are; backwards, the penalty's gradient is 1, in the first pass of a step that has a gradient at all."""

    @staticmethod
    def forward(ctx: Any, owner: Pruning, penalty: Tensor, *outputs: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.owner, ctx.like = owner, penalty
        return tuple(one.clone() for one in outputs)  # a Trainer changes its loss in place

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        first, ctx.owner._penalised = not ctx.owner._penalised, True
        return None, torch.ones_like(ctx.like) if first else None, *gradients


class _Processes:
    """What a `Run` asks of an Accelerator; the Trainer has its own, and a second one would change its settings."""

    def __init__(self, args: TrainingArguments) -> None:
        self.device, self.num_processes, self.process_index = args.device, args.world_size, args.process_index
        self.is_main_process = args.process_index == 0

    def gather(self, tensor: Tensor) -> Any:
        """The tensors of all processes, one behind the other."""
        return gather(tensor)


def _tensors(inputs: Mapping[str, Any]) -> dict[str, Tensor]:
    """What a model reads of its inputs: no labels, and not how many of these there are."""
    read = {name: value for name, value in inputs.items() if isinstance(value, Tensor) and value.dim() > 1}
    return {name: value for name, value in read.items() if name != "labels"}


def _checkpoint(args: TrainingArguments, step: int) -> Path:
    return Path(args.output_dir or "") / f"checkpoint-{step}"


def _check(args: TrainingArguments) -> None:
    """VPError for what a Trainer can do and we cannot."""
    wrong = {
        "fp16 (steps are left out there, and gradients scaled): take bf16": args.fp16,
        "torch_compile (it does not see what is looked at in the model)": args.torch_compile,
        "several GPUs in one process: start one for each, with accelerate launch": args.n_gpu > 1,
        "FSDP or DeepSpeed (no process has a whole matrix)": bool(args.fsdp or args.deepspeed),
        "load_best_model_at_end (it may be from before the last cut): load it yourself": args.load_best_model_at_end,
    }
    for what, is_so in wrong.items():
        if is_so:
            raise VPError(f"Pruning in a Trainer does not go with {what}.")
