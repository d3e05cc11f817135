"""Iterative pruning of whole residual blocks towards the identity (SNIP, section 3.4), as a run that can be stopped.

One iteration, in the order of the paper's four steps:

    ε ← k-th smallest mean function norm            (estimate)
    train with the gate S_ε and an L1 term          (towards the identity)
    blocks shut in ≥ θ of the mini-batches leave    (choose)
    train what is left                              (retrain)

Blocks really leave: what is trained, measured and saved is the squeezed model.
"""

import copy
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from accelerate.utils import gather_object
from transformers import PreTrainedModel

from vp_core.asking.batches import Inputs, Reader, make_batches
from vp_core.asking.evaluate import score
from vp_core.asking.kinds.question import Question, Score
from vp_core.asking.metrics import a_point_worse, at_least
from vp_core.ground.names import MODES
from vp_core.identity.gate import gated, ungate
from vp_core.identity.l1 import TowardsIdentity
from vp_core.identity.leaving import chosen, estimate, number_passing
from vp_core.identity.settings import SnipSettings
from vp_core.identity.spectral import fold, normalise_left
from vp_core.identity.spectral_start import nearest
from vp_core.identity.usage import Counting, Usage, leaving_together
from vp_core.measuring.function_norms import FunctionNorms, collect_norms
from vp_core.model.blocks import Block, find_sublayers
from vp_core.model.projections import find_layers
from vp_core.squeezing.blocks_off import freeze_new_biases, plan_without, without, write_back
from vp_core.squeezing.budget import text_length
from vp_core.squeezing.cost import cost
from vp_core.training.callbacks import Callback
from vp_core.training.held import check_whole, count_zero, said
from vp_core.training.loop import Watch, new_accelerator, on_all, train
from vp_core.training.run_folder import Checkpoint, Log
from vp_core.training.schedule import Lessons, Schedule, TextLessons

Tell = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Material:
    """What a run works on: `question` is asked after each iteration, `texts` give ε and the usage of blocks."""

    model: PreTrainedModel
    lessons: Lessons | TextLessons
    texts: Inputs
    question: Question
    model_id: str = ""
    tokenizer: Reader | None = None


def run_snip(
    material: Material, settings: SnipSettings, folder: str | Path, tell: Tell = lambda news: None, watch: Watch | None = None
) -> Iterator[dict[str, Any]]:
    """Rows of the log, one an iteration (the first, 0, is the model before anything leaves), those already there first.

    `folder` gets the log (`run.json`), a checkpoint after each training, the model of the last iteration (`model`) and the
    smallest within a point of the given model's score (`within`). The same call goes on where a stopped run was, and in the
    precision it was begun with, if none is named. What is zero in a masked model stays zero (`vp_core.training.held`). Raises
    VPError for a squeezed model, a folder of another run and a disk that is full (what was written stays whole).
    """
    job = _Run(material, settings, Path(folder), tell, watch or (lambda step, steps, loss: None))
    yield from job.log.rows
    while (row := job.next()) is not None:
        yield row


class _Run:
    """The state between two trainings: `dense`, the weights in their old shapes, and the blocks that are `gone`."""

    def __init__(self, material: Material, settings: SnipSettings, folder: Path, tell: Tell, watch: Watch) -> None:
        check_whole(material.model)
        self.accelerator = new_accelerator()
        named, settings = settings, on_all(self.accelerator, lambda: settings.settled(folder))
        if named != settings:
            tell(f"precision {settings.schedule.precision}")
        self.material, self.settings, self.tell, self.watch = material, settings, tell, watch
        self.main = self.accelerator.is_main_process
        self.log = Log(folder, settings.as_json() | {"model": material.model_id}, write=self.main)
        self.checkpoint = Checkpoint(folder, write=self.main)
        self.dense = copy.deepcopy(material.model).eval().requires_grad_(True)
        self.sublayers = find_sublayers(self.dense)
        if any(zeros := count_zero(self.dense)):
            tell(said(*zeros))
        self.gone: list[Block] = []
        self.epsilon: dict[str, float] | None = None
        self.usage: Usage | None = None
        """What the training with the gate counted, until blocks have left by it."""
        if state := self.checkpoint.load(self.dense):
            self.gone, self.epsilon = [Block.named(name) for name in state["gone"]], state["epsilon"]
            self.usage = Usage.from_json(state["usage"]) if state.get("usage") else None
            self.log.rows = self.log.rows[: state["rows"]]
        else:  # stopped before the first one was written
            self.log.rows = []

    def next(self) -> dict[str, Any] | None:
        """The next row; None at the end: enough iterations, or nothing that could leave."""
        number, started = len(self.log.rows), time.perf_counter()
        if number > self.settings.iterations or (number and not leaving_together(self.settings.mode, self._blocks())):
            return None
        row: dict[str, Any] = {"iteration": number, "went": []}
        if number == 0:
            row |= {"given": self._score(self.material.model).as_json()}
            self._begin()
        else:
            row |= self._towards_identity(number)
            row |= self._leave(number)
        small = self._small()
        found = self._score(small)
        left = self._blocks()
        cost, length = small.squeezed.cost, text_length(small)
        row |= found.as_json() | {
            "gone": [block.name for block in self.gone],
            "share_pruned": cost.share_removed,
            "parameters": cost.parameters_left,
            "flops": cost.flops_per_token_left(length) * length,
            "left": {kind: sum(b.kind == kind for b in left) for kind in ("head", "attention", "ffn")},
            "seconds": round(time.perf_counter() - started, 1),
        }
        self.log.add(row)
        self._keep(small, row)
        self.checkpoint.save(self.dense, {"gone": row["gone"], "epsilon": None, "rows": len(self.log.rows)})
        self.accelerator.wait_for_everyone()
        return row

    def _begin(self) -> None:
        """The dense model of the run: fine-tuned once as it is, or from where spectral normalisation may begin."""
        if self.settings.sn and self.settings.readings.start == "nearest":
            self.tell("looking for weights of spectral norm λ")
            batches = make_batches(self.material.texts, range(len(self.material.texts)))
            self.dense.load_state_dict(nearest(self.dense, batches, self.settings.sn).state_dict())
        self._train("fine-tuning", 0, schedule=self.settings.begin)

    def _towards_identity(self, number: int) -> dict[str, Any]:
        """Steps 1 and 2, unless a checkpoint of them was found."""
        if self.epsilon is not None:
            return {"epsilon": self.epsilon}
        self.epsilon = estimate(self._norms(), self.settings.mode, self.settings.k)
        said = ", ".join(f"{kind} {value:.3g}" for kind, value in self.epsilon.items())
        self._train(f"iteration {number}: training with the gate (ε: {said})", 2 * number - 1, self.epsilon)
        state = {"gone": [b.name for b in self.gone], "epsilon": self.epsilon, "rows": len(self.log.rows)}
        self.checkpoint.save(self.dense, state | ({"usage": self.usage.as_json()} if self.usage else {}))
        return {"epsilon": self.epsilon}

    def _leave(self, number: int) -> dict[str, Any]:
        """Steps 3 and 4."""
        assert self.epsilon is not None
        norms, settings = self._norms(), self.settings
        usage = self.usage or Usage.of_texts(norms, self.epsilon, settings.mode)
        went = chosen(usage, settings.theta, settings.readings, settings.at_least, settings.least_share, self._shares())
        shares = usage.alone[settings.readings.identity]
        self.gone, self.epsilon, self.usage = [*self.gone, *went], None, None
        self._train(f"iteration {number}: {len(went)} blocks leave, retraining", 2 * number)
        means = {block.name: round(mean, 6) for block, mean in norms.means().items()}
        identity = {b.name: round(share, 4) for b, share in shares.items() if b.kind in MODES[settings.mode]}
        counted = {"batches": usage.batches, "passing": number_passing(usage, settings.theta)}
        return {"went": [block.name for block in went], "identity": identity, "mean": means} | counted

    def _small(self) -> PreTrainedModel:
        """What is left, sharing whatever was not cut with `dense`."""
        small = without(self.dense, self.gone)
        freeze_new_biases(self.dense, small, plan_without(self.dense, self.gone))
        return small

    def _shares(self) -> dict[Block, float]:
        """The share of all projection weights that goes with each block."""
        layers, left = find_layers(self.dense), self._blocks()
        first = {b.kind: cost(layers, plan_without(self.dense, [b])) for b in reversed(left)}
        return {b: first[b.kind].share_removed for b in left}

    def _left(self):
        return tuple(one.without(self.gone) for one in self.sublayers)

    def _blocks(self) -> list[Block]:
        return [block for one in self._left() for block in one.blocks]

    def _train(
        self, what: str, seed: int, epsilon: Mapping[str, float] | None = None, schedule: Schedule | None = None
    ) -> None:
        self.tell(what)
        small, settings = self._small(), self.settings
        if settings.sn:
            normalise_left(small, self.dense, settings.sn)
        trained = gated(small, self._left(), epsilon) if epsilon else small
        callbacks: list[Callback] = [TowardsIdentity(settings.l1, settings.readings.l1_on)] if epsilon else []
        counting = None
        if epsilon and settings.readings.counted == "training":
            once = replace(settings.schedule, epochs=1).number(len(self.material.lessons.data))
            callbacks.append(counting := Counting(self._left(), epsilon, settings.mode, once))
        train(
            trained, self.material.lessons, schedule or settings.schedule, seed=seed, callbacks=callbacks, watch=self.watch,
            accelerator=self.accelerator,
        )  # fmt: skip
        self.usage = counting.usage() if counting else None
        trained = trained.cpu()
        ungate(trained)
        fold(trained)
        write_back(self.dense, trained, plan_without(self.dense, self.gone))

    def _norms(self) -> FunctionNorms:
        """Over all texts, each process its part; equal on all of them."""
        rank, ranks = self.accelerator.process_index, self.accelerator.num_processes
        batches = make_batches(self.material.texts, np.arange(len(self.material.texts))[rank::ranks])
        parts: Sequence[FunctionNorms] = [collect_norms(self._small(), batches, self._left())]
        if ranks > 1:
            parts = gather_object(list(parts))
        total = parts[0]
        for part in parts[1:]:
            total = total.merge(part)
        return total

    def _score(self, model: PreTrainedModel) -> Score:
        """The main process asks, everybody hears."""
        return on_all(self.accelerator, lambda: score(model, self.material.question))

    def _keep(self, small: PreTrainedModel, row: Mapping[str, Any]) -> None:
        if not self.main:
            return
        about = {"method": "snip", "mode": self.settings.mode, "iteration": row["iteration"], "score": row["value"]}
        self.log.keep("model", small, self.material.tokenizer, about)
        metric, given = row["metric"], self.log.rows[0]["given"]["value"]
        if at_least(metric, row["value"], a_point_worse(metric, given)):
            self.log.keep("within", small, self.material.tokenizer, about)
