"""`python -m benchmarks.weights`: what is kept when single weights go, nothing trained, into docs/weights_results.json and .md.

    --parts curves   every line of `LINES` on the full development sets of SST-2, MRPC and STS-B
            coreset  columns of the attention's matrices drawn without data, ten seeds, beside other ways at the same density
            time     columns of the whole model drawn: what is left, and how long it takes
            ""       nothing: the page is only written anew from the JSON file
    --only sst2      one task or several (mrpc,stsb); coreset and time are of SST-2 whatever is asked

What is quick comes first. Each number is in the JSON file and on the page as soon as it is there, and none is measured twice:
an interrupted run goes on where it was. Whole points, with intervals, are kept in results/weights.parquet (not committed). A
line that cannot be measured is told at once and left out; the run ends with 1 then. `VP_SHARED` says where models and data are.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.pages import minilm, write
from benchmarks.weights_page import DENSITIES, LINES, ROWS, SEEDS, SPARSITIES, TASKS, TIMED, Line, page
from vp_core.curves import CurveStore, sweep
from vp_core.ground.names import TYPES
from vp_core.recipes import ATTENTION, RECIPES, Recipe
from vp_core.squeezing.cost import parameters
from vp_core.squeezing.timing import time_forward
from vp_core.study import Study

ROOT = Path(__file__).parent.parent
JSON, PAGE = ROOT / "docs" / "weights_results.json", ROOT / "docs" / "weights_results.md"
POINTS = ROOT / "results" / "weights.parquet"
PARTS = ("curves", "coreset", "time")
BATCH, LENGTH, ROUNDS = 8, 128, 15
WHOLE = replace(RECIPES["coreset"], types=TYPES)
"""The coreset recipe on all six matrices of a layer."""
Step = tuple[str, Callable[[], Iterable[tuple[str, str, dict]]]]
"""What is about to be measured, in words, and the numbers as they come: (part, key, value)."""


def main(arguments: list[str]) -> int:
    """Measure what is asked and not there yet; the number of lines that failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.weights")
    parser.add_argument("--only", default=",".join(TASKS), help="tasks, with commas between them")
    parser.add_argument("--parts", default=",".join(PARTS), help="parts, with commas between them")
    asked = parser.parse_args(arguments)
    tasks, parts = asked.only.split(","), [part for part in asked.parts.split(",") if part]
    if unknown := [*(t for t in tasks if t not in TASKS), *(p for p in parts if p not in PARTS)]:
        parser.error(f"{unknown[0]!r} is neither a task ({', '.join(TASKS)}) nor a part ({', '.join(PARTS)})")
    empty: dict[str, dict] = {part: {} for part in PARTS}
    found = empty | (json.loads(JSON.read_text()) if JSON.exists() else {})
    POINTS.parent.mkdir(exist_ok=True)
    failed = 0
    for words, measure in _steps(tasks, parts, found, CurveStore(POINTS)):
        try:
            for part, key, value in measure():
                found[part][key] = value
                print(f"{part}: {key}: {value}", flush=True)
                write(found, JSON, PAGE, page(found))
        except Exception as error:  # whatever it is: the lines behind it are still to be measured
            print(f"{words} failed: {error!r}", file=sys.stderr, flush=True)
            failed += 1
    write(found, JSON, PAGE, page(found))
    return failed


def _steps(tasks: list[str], parts: list[str], found: dict, store: CurveStore) -> Iterator[Step]:
    """Everything in the order in which it is measured: quick lines of every task, coresets, time, then the slow lines."""
    curves = "curves" in parts
    for line in (line for line in LINES if curves and not line.slow):
        for task in tasks:
            yield f"{task} {line.name}", lambda t=task, one=line: _line(t, one, found["curves"], store)
    if "coreset" in parts:
        for name in ROWS:
            yield f"coreset {name}", lambda one=name: _coreset(one, found["coreset"], store)
    if "time" in parts:
        yield "time", lambda: _time(found["time"], store)
    for line in (line for line in LINES if curves and line.slow):
        for task in tasks:
            yield f"{task} {line.name}", lambda t=task, one=line: _line(t, one, found["curves"], store)


def _score(study: Study, recipe: Recipe, sparsity: float, store: CurveStore) -> dict:
    [row] = sweep(study, [recipe], [sparsity], store=store)
    return {"value": round(row["value"], 5), "metric": row["metric"]}


def _line(task: str, line: Line, kept: dict, store: CurveStore) -> Iterator[tuple[str, str, dict]]:
    """A recipe at every sparsity that it can have, those of the goals first; and the dense score."""
    if f"{task} dense" not in kept:
        yield "curves", f"{task} dense", _score(minilm(task), Recipe(), 0.0, store)
    own = line.recipe.pattern.sparsity if line.recipe.pattern else None
    for sparsity in [own] if own is not None else sorted(SPARSITIES, key=lambda s: (s not in (0.5, 0.6, 0.7), s)):
        key = f"{task} {line.name} {sparsity:g}"
        if key not in kept:
            yield "curves", key, _score(minilm(task), line.recipe, sparsity, store)


def _coreset(name: str, kept: dict, store: CurveStore) -> Iterator[tuple[str, str, dict]]:
    """One way to thin out the attention of SST-2, at every density; `coreset` with each of the seeds."""
    study = minilm(TASKS[0])
    weights = {t: sum(p.weights_of_a_row * p.d_out for p in study.projections([t])) for t in TYPES}
    attention = sum(weights[t] for t in ATTENTION)
    for density in DENSITIES:
        for seed in SEEDS if name == "coreset" else SEEDS[:1]:
            recipe = replace(ROWS[name], seed=seed)
            key = f"{name} {density:g}" + (f" {seed}" if name == "coreset" else "")
            if key in kept:
                continue
            gone = round(1 - density, 6)
            # a budget of parameters is a share of all six matrices, of which the attention's are a part
            sparsity = gone * attention / sum(weights.values()) if recipe.budget == "parameters" else gone
            cost = study.cost(recipe, sparsity)
            left = {"attention left": round(1 - cost.parameters_removed / attention, 4)}
            yield "coreset", key, _score(study, recipe, sparsity, store) | left


def _time(kept: dict, store: CurveStore) -> Iterator[tuple[str, str, dict]]:
    """The whole model with columns drawn: accuracy, what is left, and time against the dense model, rounds in turn."""
    if all(f"{density:g}" in kept for density in TIMED):
        return
    study = minilm(TASKS[0])
    models, about = {}, {}
    for density in TIMED:
        sparsity = round(1 - density, 6)
        model = study.squeezed(WHOLE, sparsity) if sparsity else study.model
        models[f"{density:g}"] = model
        about[f"{density:g}"] = _score(study, WHOLE, sparsity, store) | {
            "parameters": round(parameters(model) / parameters(study.model), 4),
            "projections": round(1 - study.cost(WHOLE, sparsity).share_removed, 4),
            "flops": round(1 / study.cost(WHOLE, sparsity).speed_limit(LENGTH), 4),
        }
    *_, timings = time_forward(models, BATCH, LENGTH, ROUNDS)
    dense = timings["1"]
    for name, timing in timings.items():
        low, high = timing.spread
        ratios = {"time": timing.median, "time low": low, "time high": high}
        yield "time", name, about[name] | {key: round(seconds / dense.median, 4) for key, seconds in ratios.items()}


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    sys.exit(min(main(sys.argv[1:]), 1))
