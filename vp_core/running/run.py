"""A whole training as a run that can be stopped: data, method, teacher, record on disk, and the model that comes of it."""

import copy
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from vp_core.asking.evaluate import score
from vp_core.asking.kinds.question import Score
from vp_core.ground.errors import VPError
from vp_core.ground.names import RESULT
from vp_core.running.keeping import save_trained
from vp_core.running.methods import pruner_of
from vp_core.running.settings import TrainSettings
from vp_core.squeezing.cost import parameters
from vp_core.study import Study
from vp_core.training.callbacks import Callback, Run, State
from vp_core.training.checkpoint import Saved
from vp_core.training.loop import new_accelerator, on_all, training
from vp_core.training.objectives import with_teacher
from vp_core.training.run_folder import Log, begun_in, check_run_folder
from vp_core.training.schedule import Lessons, TextLessons
from vp_core.training.teacher import Teacher

Row = dict[str, Any]
ROWS = 200
"""So many rows a run's record has of its loss, about."""


@dataclass(frozen=True, eq=False)
class TrainingMaterial:
    """What a run works on: a study's model and question, the lessons, and perhaps a teacher, by the name `teacher_name`."""

    study: Study
    lessons: Lessons | TextLessons
    teacher: Teacher | None = None
    teacher_name: str = ""

    def __post_init__(self) -> None:
        """VPError for a teacher without a name: a run is known by it."""
        if (self.teacher is None) != (not self.teacher_name):
            raise VPError("A teacher has a name, by which a run that was begun with it is known: give both or none.")


def run_training(
    material: TrainingMaterial,
    settings: TrainSettings,
    folder: str | Path,
    tell: Callable[[str], None] = lambda news: None,
    callbacks: Sequence[Callback] = (),
) -> Iterator[Row]:
    """Rows of the record as they come, those already there first; the last one has `done`.

    Every row has `step`, `steps` and `seconds`; further, as it comes, `loss` (mean since the last such row), `sparsity` (the
    share of its units that is gone), `removed` (by projection or matrix, after a cut), and a score (`metric`, `value`, `low`,
    `high`, `n`). `folder` keeps them as `run.json`, the state between two steps as `training.safetensors` and at the end the
    model, squeezed, as `model`. The same call goes on where a stopped run was; further `callbacks` watch along. Raises VPError
    for a folder of another run, cuts that end after the training, and what `vp_core.training.loop.training` refuses.
    """
    job = _Job(material, settings, Path(folder), tell, callbacks)
    yield from job.log.rows
    if not job.done:
        yield from job.rows()


class _Job:
    """One run: its record, and what it trains."""

    def __init__(
        self, material: TrainingMaterial, settings: TrainSettings, folder: Path, tell: Callable[[str], None],
        callbacks: Sequence[Callback],
    ) -> None:  # fmt: skip
        self.accelerator = new_accelerator()
        self.material, self.folder, self.tell, self.others = material, folder, tell, callbacks
        self.settings = on_all(self.accelerator, lambda: settings.settled(begun_in(folder, "schedule")))
        study, lessons = material.study, material.lessons
        self.steps = self.settings.schedule.number(len(lessons.data))
        about = self.settings.as_json() | {
            "model": study.loaded.name, "fingerprint": study.loaded.fingerprint, "task": study.question.task.name,
            "texts": len(lessons.data), "teacher": material.teacher_name,
        }  # fmt: skip
        check_run_folder(folder, about)  # before anything is made
        self.pruner = pruner_of(self.settings, self.steps)
        self.saved = Saved(folder, {"run": about})
        self.log = Log(folder, about, write=self.accelerator.is_main_process)
        self.done = bool(self.log.rows) and self.log.rows[-1].get("done", False)
        if not self.done:
            reached = self.saved.reached()
            self.log.rows = [row for row in self.log.rows if row["step"] <= reached]
        self._losses = _Losses()
        self._cuts = sum("sparsity" in row for row in self.log.rows)
        self._before = self.log.rows[-1]["seconds"] if self.log.rows else 0.0
        self._started = time.perf_counter()

    def rows(self) -> Iterator[Row]:
        """What comes from here on."""
        study, schedule, settings = self.material.study, self.settings.schedule, self.settings
        for note in self.material.lessons.notes:
            self.tell(note)
        if not self.log.rows:
            yield self._row(0, self._score(study.model).as_json())
        model = copy.deepcopy(study.model).requires_grad_(True)
        objective = with_teacher(
            self.material.lessons, self.material.teacher, settings.alpha, settings.temperature, settings.hidden
        )
        callbacks = [*([self.pruner] if self.pruner else []), self._losses, *self.others]
        steps = training(
            model,
            objective,
            schedule,
            callbacks=callbacks,
            tell=self.tell,
            accelerator=self.accelerator,
            saved=self.saved,
            reached=True,
        )
        try:
            for run in steps:
                said = self.log.rows[-1]["step"] == run.step  # gone on with after this row was written
                facts = {} if said else self._facts(run)
                if facts:
                    yield self._row(run.step, facts)
                if said or facts:
                    self._losses.all.clear()
        finally:
            steps.close()
        yield self._end(model.cpu().eval().requires_grad_(False))

    def _facts(self, run: Run) -> Row:
        """What there is to say after a step; often nothing."""
        facts: Row = {}
        cuts = self.pruner.cuts() if self.pruner else []
        new, self._cuts = len(cuts) > self._cuts, len(cuts)
        last = run.step == run.steps
        if new or last or run.step % max(1, run.steps // ROWS) == 0:
            facts["loss"] = sum(self._losses.all) / len(self._losses.all)
        if new:
            facts |= {"sparsity": cuts[-1]["sparsity"], "removed": cuts[-1]["removed"]}
        if self.settings.scores and not last and run.step % max(1, run.steps // (self.settings.scores + 1)) == 0:
            run.model.eval()
            facts |= self._score(run.model).as_json()
            run.model.train()
        return facts

    def _end(self, model: PreTrainedModel) -> Row:
        """The model that comes of it, kept and scored."""
        study = self.material.study
        small = self.pruner.compact(model) if self.pruner else model
        found = self._score(small)
        row: Row = {**found.as_json(), "done": True, "parameters_in_all": parameters(small)}
        if self.pruner:
            row["removed"] = self.pruner.removed()
        if squeezed := getattr(small, "squeezed", None):
            row |= {"share_pruned": squeezed.cost.share_removed, "parameters": squeezed.cost.parameters_left}
        if self.accelerator.is_main_process:
            about = {"model": study.loaded.name, "task": study.question.task.name, "trained": self.log.settings}
            save_trained(small, self.folder / RESULT, study.loaded.reader, about | {"score": found.as_json()})
            self.saved.forget()
        self.accelerator.wait_for_everyone()
        return self._row(self.steps, row)

    def _row(self, step: int, facts: Row) -> Row:
        seconds = round(self._before + time.perf_counter() - self._started, 1)
        row = {"step": step, "steps": self.steps, **{k: v for k, v in facts.items() if v is not None}, "seconds": seconds}
        self.log.add(row)
        return row

    def _score(self, model: PreTrainedModel) -> Score:
        """The main process asks, everybody hears."""
        return on_all(self.accelerator, lambda: score(model, self.material.study.question))


class _Losses(Callback):
    """The losses since the last row of the record; kept with the state, so that a row says the same if a run was stopped."""

    def __init__(self) -> None:
        self.all: list[float] = []

    def after_step(self, run: Run) -> None:
        self.all.append(run.loss)

    def state(self) -> State:
        return {}, {"losses": self.all}

    def restore(self, run: Run, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        self.all[:] = facts["losses"]
