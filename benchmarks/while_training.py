"""`python -m benchmarks.while_training`: what is kept by training on, by method, into docs/training_results.json and .md.

    --only sst2          one task or several (mrpc, stsb, squad)
    --lines "best 0.9"   only lines whose name contains one of these, with commas between them
    --lines ""           nothing: the page is only written anew from the JSON file
    --time               time the models of all runs that are there, in turn

A line is a run of `vp_core.running.run.run_training`: its folder is results/training/LINE (not committed), so that one that was
interrupted goes on, and one that is done is not done again. `best` begins from the model that the recipe `best` leaves without
training, all others from the dense one. `VP_SHARED` says where models and data are.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import torch

from benchmarks.pages import minilm, shared, write
from benchmarks.while_training_page import ALPHA, TASKS, Line, lines_of, page
from vp_core.asking.evaluate import score
from vp_core.loading.load import load_model
from vp_core.recipes import RECIPES
from vp_core.running.finetune import study_of
from vp_core.running.lessons import lessons_of
from vp_core.running.run import TrainingMaterial, run_training
from vp_core.running.settings import TrainSettings
from vp_core.squeezing.timing import time_forward
from vp_core.training.schedule import Schedule
from vp_core.training.teacher import Teacher

ROOT = Path(__file__).parent.parent
JSON, PAGE = ROOT / "docs" / "training_results.json", ROOT / "docs" / "training_results.md"
RUNS = ROOT / "results" / "training"
BATCH, LENGTH, ROUNDS = 8, 64, 15
ALSO = ("exact_match",)
"""A further metric that is kept beside the headline."""


def main(arguments: list[str]) -> int:
    """Measure what is asked and not there yet; the number of lines that failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.while_training")
    parser.add_argument("--only", default=",".join(TASKS), help="tasks, with commas between them")
    parser.add_argument("--lines", help="parts of the names of lines, with commas between them (default: all)")
    parser.add_argument("--time", action="store_true", help="time the models of all runs that are there; wants a quiet machine")
    asked = parser.parse_args(arguments)
    parts = None if asked.lines is None else [part.strip() for part in asked.lines.split(",") if part.strip()]
    found = json.loads(JSON.read_text()) if JSON.exists() else {}
    failed = 0
    for task in asked.only.split(","):
        if task == "squad" and "squad dense" not in found:
            dense = score(minilm(task).model, minilm(task).question)
            found["squad dense"] = {"value": dense.value, "low": dense.low, "high": dense.high, "n": dense.n} | dict(
                dense.others
            )
        for line in lines_of(task):
            key = f"{task} {line.name}"
            if key in found or (parts is not None and not any(part in line.name for part in parts)):
                continue
            try:
                found[key] = measure(task, line)
                print(f"{key}: {found[key]}", flush=True)
                write(found, JSON, PAGE, page(found))
            except Exception as error:  # whatever it is: the lines behind it are still to be measured
                print(f"{key} failed: {error!r}", file=sys.stderr, flush=True)
                failed += 1
        if asked.time:
            times(task, found)
    write(found, JSON, PAGE, page(found))
    return failed


@cache
def _lessons(task: str):  # noqa: ANN202 (Lessons)
    return lessons_of(minilm(task), task, shared() / "data" / ("squad" if task == "squad" else ""))


@cache
def _teacher(task: str) -> Teacher:
    """The dense model itself: what it says of a text is computed once for all lines."""
    loaded = load_model(minilm(task).loaded.name, minilm(task).question.task.kind)
    return Teacher.make(loaded.model, loaded.tokenizer, loaded.model, loaded.tokenizer)


def settings_of(task: str, line: Line) -> TrainSettings:
    """The settings of a line: as many texts and passes for all methods of a task, for `best` every text."""
    about = TASKS[task]
    examples = None if line.recipe and task != "squad" else about.examples
    schedule = Schedule(epochs=about.epochs, examples=examples, lr=line.lr or about.lr)
    return TrainSettings(line.method, schedule, until=line.share, alpha=ALPHA if line.teacher else 0.5, scores=0)


def folder_of(task: str, line: Line) -> Path:
    """Where the run of a line is."""
    return RUNS / f"{task} {line.name}".replace(" ", "-")


def times(task: str, found: dict) -> None:
    """How much faster than the dense model each model of a task is, all in one measurement, rounds in turn."""
    lines = [line for line in lines_of(task) if f"{task} {line.name}" in found and folder_of(task, line).is_dir()]
    kind = minilm(task).question.task.kind
    models = {line.name: load_model(str(folder_of(task, line)), kind).model for line in lines}
    *_, timings = time_forward({"dense": minilm(task).model, **models}, BATCH, LENGTH, ROUNDS)
    for line in lines:
        found[f"{task} {line.name}"]["speed"] = round(timings["dense"].median / timings[line.name].median, 3)


def measure(task: str, line: Line) -> dict:
    """A line's numbers."""
    dense = minilm(task)
    study, start = dense, None
    if line.recipe:
        small = dense.squeezed(RECIPES[line.recipe], line.share)
        study, start = study_of(dense, small, f"{line.recipe} {line.share:g}"), score(small, dense.question)
    teacher = _teacher(task) if line.teacher else None
    material = TrainingMaterial(study, _lessons(task), teacher, "the dense model" if teacher else "")
    RUNS.mkdir(parents=True, exist_ok=True)
    folder = folder_of(task, line)
    rows = list(_said(run_training(material, settings_of(task, line), folder), f"{task} {line.name}"))
    last = rows[-1]
    return {
        "value": last["value"], "low": last["low"], "high": last["high"], "n": last["n"], "metric": last["metric"],
        "gone": round(last.get("share_pruned", 0.0), 4), "seconds": last["seconds"], "steps": last["steps"],
        **({"before": start.value} if start else {}), **{name: last[name] for name in ALSO if name in last},
    }  # fmt: skip


def _said(rows: Iterator[dict], name: str) -> Iterator[dict]:
    for row in rows:
        if "sparsity" in row or "value" in row:
            print(name, {k: v for k, v in row.items() if k in ("step", "loss", "sparsity", "value", "seconds")}, flush=True)
        yield row


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    sys.exit(min(main(sys.argv[1:]), 1))
