"""Fine-tuning the model of a study on its task's training set, from data to scores: with or without a teacher, with or
without spectral normalisation.

A pruned model goes on as it is: squeezed, its constants frozen, or masked, with what is zero staying zero.
"""

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from vp_core.asking.batches import make_batches
from vp_core.asking.evaluate import score
from vp_core.asking.kinds.question import Score
from vp_core.asking.outputs import outputs_of
from vp_core.ground.errors import VPError, one_of
from vp_core.ground.kept import Kept
from vp_core.ground.names import ALPHA, READINGS, TEMPERATURE
from vp_core.identity.spectral import SpectralNorm, check_lambda, fold, normalise
from vp_core.identity.spectral_start import nearest
from vp_core.loading.load import LoadedModel, fingerprint
from vp_core.measuring.spectral_norms import SpectralNorms
from vp_core.model.families import longest_input
from vp_core.study import Study
from vp_core.training.held import count_single, count_zero, said
from vp_core.training.loop import Watch, new_accelerator, on_all, train
from vp_core.training.objectives import Objective, with_teacher
from vp_core.training.schedule import Lessons, Schedule, TextLessons
from vp_core.training.teacher import Teacher

POINTS = 20
"""How often in a training the spectral norms are measured, besides at its start."""
FORMAT = "variance-pruning training 1"
Sigmas = tuple[tuple[int, dict[str, float]], ...]
"""(step, projection name → σ), from step 0 on."""


@dataclass(frozen=True, eq=False)
class Tuned:
    """A plain or squeezed model on the CPU in evaluation mode, and how it came about: mean `loss`, exact scores, spectral norms
    (of a squeezed model none), the `schedule` with the precision that was taken, and how many rows and columns were `zero` in
    its projections and stayed so, and how many `zero_weights` besides, in embeddings too; `teacher` says who taught."""

    model: PreTrainedModel
    loss: float
    before: Score
    after: Score
    sigmas: Sigmas
    seconds: float
    schedule: Schedule
    zero: tuple[int, int] = (0, 0)
    zero_weights: int = 0
    teacher: dict[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        """What was found: everything but the model and the schedule, JSON-able."""
        told = {name: found.as_json() for name, found in (("before", self.before), ("after", self.after))}
        sigmas = [{"step": step, "sigma": found} for step, found in self.sigmas]
        kept = {"zero_rows": self.zero[0], "zero_columns": self.zero[1], "zero_weights": self.zero_weights}
        told |= {} if self.teacher is None else {"teacher": self.teacher}
        return {"loss": self.loss, **told, "seconds": round(self.seconds, 1), **kept, "sigmas": sigmas}


def fine_tune(
    study: Study,
    lessons: Lessons | TextLessons,
    schedule: Schedule | None = None,
    sn: float | None = None,
    tell: Callable[[str], None] = lambda news: None,
    watch: Watch = lambda step, steps, loss: None,
    teacher: LoadedModel | None = None,
    alpha: float = ALPHA,
    temperature: float = TEMPERATURE,
    hidden: float = 0.0,
    start: str = "nearest",
) -> Tuned:
    """Train a copy of the study's model; with `sn`, λ, under spectral normalisation, from the nearest weights that have it or
    from weights that are `rescaled`, as in SNIP's paper (`start`, `vp_core.ground.names.READINGS`).

    With a `teacher` the loss is α·task + (1 − α)·T²·KL(teacher ‖ model) at the `temperature` T, and `hidden` weighs the squared
    error of all hidden states besides (`vp_core.training.objectives.Distillation`). The study's own model is not changed. Under
    several processes all end with equal weights. A squeezed model stays squeezed, ready for `save_pruned`, and what is zero in
    a masked one stays zero, single weights too. Raises VPError for settings that cannot be, a squeezed model with `sn`, a
    teacher of another task or with another tokeniser, and a loss that is no longer finite.
    """
    started, named = time.perf_counter(), schedule or Schedule()
    one_of("start", start, tuple(READINGS["start"]))
    check_normalisable(study.model, sn)
    objective = objective_of(study, lessons, teacher, alpha, temperature, hidden, tell)
    squeezed = hasattr(study.model, "squeezed")
    zero, weights = (0, 0) if squeezed else count_zero(study.model), count_single(study.model)
    if any(zero) or weights:
        tell(said(*zero, weights))
    for note in lessons.notes:
        tell(note)
    accelerator = new_accelerator()
    schedule = on_all(accelerator, named.settled)
    if named != schedule:
        tell(f"precision {schedule.precision}, the fast one here")
    if sn is None or start == "rescaled":  # the normalisation itself does that
        model = copy.deepcopy(study.model)
    else:
        tell("looking for weights of spectral norm λ")
        model = copy.deepcopy(nearest(study.model, make_batches(study.calibration, range(len(study.calibration))), sn))
    model.requires_grad_(True)
    if sn is not None:
        normalise(model, sn)
    measure, sigmas = SpectralNorms(), []

    def step_done(step: int, steps: int, loss: float) -> None:
        watch(step, steps, loss)
        if not squeezed and (step == steps or step % max(1, steps // POINTS) == 0):
            with power_iteration_at_rest(model):
                sigmas.append((step, measure(model)))

    step_done(0, 1, 0.0)
    tell("fine-tuning" if sn is None else f"fine-tuning with spectral normalisation, λ = {sn:g}")
    loss = train(model, objective, schedule, watch=step_done, accelerator=accelerator)
    fold(model)
    model = model.cpu().eval().requires_grad_(False)
    before, after = on_all(accelerator, lambda: (score(study.model, study.question), score(model, study.question)))
    seconds, taught = time.perf_counter() - started, about_teacher(teacher, alpha, temperature, hidden)
    return Tuned(model, loss, before, after, tuple(sigmas), seconds, schedule, zero, weights, taught)


def objective_of(
    study: Study, lessons: Lessons | TextLessons, teacher: LoadedModel | None, alpha: float, temperature: float, hidden: float,
    tell: Callable[[str], None] = lambda news: None,
) -> Objective:  # fmt: skip
    """The task's loss, or that of a teacher beside it; raises VPError as `teacher_of` does."""
    made = None if teacher is None else teacher_of(study, lessons, teacher, tell)
    return with_teacher(lessons, made, alpha, temperature, hidden)


def teacher_of(
    study: Study, lessons: Lessons | TextLessons, teacher: LoadedModel, tell: Callable[[str], None]
) -> Teacher:  # fmt: skip
    """A loaded model as the teacher of a study's; VPError for one that is none for this model and these texts."""
    made = Teacher.make(teacher.model, teacher.reader, study.model, study.loaded.reader)
    longest = lessons.data.longest
    if longest > longest_input(teacher.model.config):
        raise VPError(
            f"The teacher {teacher.name!r} takes at most {longest_input(teacher.model.config):,} tokens, and a text here has "
            f"{longest:,}: cut texts to what it takes (--max-length)."
        )
    if len(made.order) > 1 and (outputs_of(teacher.model).numbered or outputs_of(study.model).numbered):
        tell("the teacher's outputs are taken in their order: the labels of one of the two are only numbers")
    return made


def about_teacher(teacher: LoadedModel | None, alpha: float, temperature: float, hidden: float) -> dict[str, Any] | None:
    """Who taught, and how: JSON-able, None without a teacher."""
    if teacher is None:
        return None
    by = {"model": teacher.name, "fingerprint": teacher.fingerprint}
    return by | {"alpha": alpha, "temperature": temperature, "hidden": hidden}


def check_normalisable(model: PreTrainedModel, sn: float | None) -> None:
    """VPError for spectral normalisation of a squeezed model."""
    if sn is not None and hasattr(model, "squeezed"):
        raise VPError(
            "This model is squeezed already, and spectral normalisation is one of whole matrices: train it without, or take "
            "the model that it was made from."
        )


@contextmanager
def power_iteration_at_rest(model: nn.Module) -> Iterator[None]:
    """While open, to read a normalised weight is no step of its power iteration: measuring must not change what is trained."""
    moving = [module for module in model.modules() if isinstance(module, SpectralNorm) and module.training]
    for module in moving:
        module.training = False
    try:
        with torch.no_grad():
            yield
    finally:
        for module in moving:
            module.training = True


def study_of(study: Study, model: PreTrainedModel, name: str) -> Study:
    """The study's question and calibration texts for another model of the same tokeniser and label order."""
    loaded = replace(study.loaded, model=model, name=name, fingerprint=fingerprint(model))
    return replace(study, loaded=loaded, _kept=Kept())


def about_training(
    study: Study, lessons: Lessons | TextLessons, sn: float | None, tuned: Tuned, start: str = "nearest"
) -> dict[str, Any]:  # fmt: skip
    """Facts that are saved beside a fine-tuned model, JSON-able; VPError for λ ≤ 0."""
    about: dict[str, Any] = {"format": FORMAT, "model": study.loaded.name, "fingerprint": study.loaded.fingerprint}
    about |= {"task": study.question.task.name, "sn": None if sn is None else check_lambda(sn), "rows": len(lessons.data)}
    about |= {} if sn is None else {"start": start}
    return about | {"schedule": tuned.schedule.as_json()} | tuned.as_json()
