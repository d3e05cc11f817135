"""`python -m benchmarks.movement [--steps N] [--until S] [--step-times] [presets]`: block pruning's methods in few steps.

On minilm-sst2 of the folder that VP_SHARED names. Prints, for every preset, the score on SST-2's dev set, density, heads left,
the measured speed-up of the compacted model, and the processor time of a step. Presets with a teacher learn from the
dense model itself (the paper's base teacher).
"""

import argparse
import copy
import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.measure import line
from vp_core.asking.evaluate import score
from vp_core.movement.fill import heads_left
from vp_core.movement.prune import LearnedMasks
from vp_core.movement.shapes import PRESETS, Shapes, find_preset
from vp_core.opening.study import open_study
from vp_core.running.lessons import lessons_of
from vp_core.squeezing.timing import time_forward
from vp_core.study import Study
from vp_core.training.callbacks import Callback
from vp_core.training.loop import training
from vp_core.training.objectives import with_teacher
from vp_core.training.schedule import Lessons, Schedule
from vp_core.training.teacher import Teacher

BATCH, LENGTH = 32, 64
"""Texts and tokens of the forward passes that are timed."""
WARM = 2
"""First steps of a timing that do not count."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Print what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("presets", nargs="*", default=["hybrid nt", "hybrid", "struct", "block"], metavar="preset")
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--until", type=float, default=0.5)
    parser.add_argument("--scope", default="global")
    parser.add_argument("--lr", type=float, default=1e-4, help="learning rate of the weights")
    parser.add_argument("--score-lr", type=float, default=1e-2, help="learning rate of the scores")
    parser.add_argument("--step-times", action="store_true", help="only what a step costs, of every shape of scores")
    given = parser.parse_args(arguments)
    shared = Path(os.environ.get("VP_SHARED", "../shared"))
    study = open_study(str(shared / "models" / "minilm-sst2"), "sst2", shared / "data")
    lessons = lessons_of(study, "sst2", shared / "data")
    if given.step_times:
        step_times(study, lessons)
        return
    print(f"dense: {score(study.model, study.question).value:.4f}, {given.steps} steps, until {given.until:.0%}, seed 0")
    print("| preset | score | density | heads left | speed-up | processor ms a step |\n|---|--:|--:|--:|--:|--:|")
    for name in given.presets:
        print(row(study, lessons, name, given), flush=True)


def row(study: Study, lessons: Lessons, name: str, given: argparse.Namespace) -> str:
    """One preset, trained, compacted, scored and timed."""
    pruning = LearnedMasks.of(name, until=given.until, scope=given.scope, lr=given.score_lr)
    teacher = None
    if find_preset(name).teacher:
        teacher = Teacher.make(study.model, study.loaded.tokenizer, study.model, study.loaded.tokenizer)
    model = copy.deepcopy(study.model).requires_grad_(True)
    schedule = Schedule(steps=given.steps, lr=given.lr, precision="float32")
    seconds = _seconds(model, with_teacher(lessons, teacher, 0.5, 2.0), schedule, [pruning])
    small = pruning.compact(model.cpu().eval().requires_grad_(False))
    left = torch.cat(list(heads_left(pruning.layers, pruning.masks()).values()))
    *_, timings = time_forward({"dense": study.model, "small": small}, BATCH, LENGTH, repeats=7)
    faster = timings["dense"].median / timings["small"].median
    found = score(small, study.question)
    return (
        f"| {name} | {found.value:.4f} | {1 - pruning.sparsity:.3f} | {int(left.sum())} of {len(left)} | {faster:.2f} | "
        f"{1000 * statistics.median(seconds):.0f} |"
    )


def step_times(study: Study, lessons: Lessons, steps: int = 12) -> None:
    """What a step costs by the shape of scores, against a plain one, in turns."""
    print(f"processor time, {torch.get_num_threads()} threads, batch {BATCH}")
    shapes = {"plain": None, **{name: PRESETS[name].shapes for name in ("hybrid", "struct", "block", "movement")}}
    ways = [(name, one, way) for name, one in shapes.items() for way in (("until",) if one is None else ("until", "threshold"))]
    found: dict[str, list[float]] = {}
    for _ in range(2):
        for name, one, way in ways:
            found.setdefault(f"{name} {way}" if one else name, []).extend(_time(study, lessons, one, way, steps))
    plain = statistics.median(found["plain"])
    for name, seconds in found.items():
        line(f"a step, {name}", 1000 * statistics.median(seconds), "ms", f"{statistics.median(seconds) / plain:.2f} x plain")


def _time(study: Study, lessons: Lessons, shapes: Shapes | None, way: str, steps: int) -> list[float]:
    pruners = [] if shapes is None else [LearnedMasks(shapes, **({way: 0.7} if way == "until" else {way: 0.1}))]
    model = copy.deepcopy(study.model).requires_grad_(True)
    schedule = Schedule(steps=steps, lr=1e-4, precision="float32")
    seconds = _seconds(model, with_teacher(lessons, None, 0.5, 2.0), schedule, pruners)
    return seconds[WARM : round(steps * 0.7)]  # before masks are fixed


def _seconds(model, objective, schedule: Schedule, callbacks: Sequence[Callback]) -> list[float]:
    """Processor seconds of every step, whatever else the machine does."""
    found, last = [], time.process_time()
    for _ in training(model, objective, schedule, callbacks=callbacks):
        now = time.process_time()
        found.append(now - last)
        last = now
    return found


if __name__ == "__main__":
    main()
