"""`python -m benchmarks.figure2`: the paper's figure 2, variance against random rows on MRPC, QNLI, STS-B and SQuAD.

    --mrpc, --qnli, --stsb, --squad   a folder with a model of that task (default: minilm-TASK in VP_SHARED's models)
    --data       the folder of data sets (default: that of VP_SHARED)
    --questions  how many questions of SQuAD are asked, a fixed random sample (default: 500; 0: all)
    --out        the picture (default: docs/figure2.png); "" draws none

The paper's recipe: single rows of all six types, ranked per type, the mean in their place, no fine-tuning; random rows as many
from each matrix, three seeds. Each number is in docs/figure2.json as soon as it is there, and none is measured twice: an
interrupted run goes on where it was. A task without a model or data is left out, and said so.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from analysis import figure2
from benchmarks.browser import CHROMIUM
from benchmarks.pages import shared
from vp_core.curves import point
from vp_core.ground.errors import VPError
from vp_core.ground.store import atomic
from vp_core.opening.study import open_study
from vp_core.recipes import Recipe
from vp_core.study import Study

ROOT = Path(__file__).parent.parent
JSON, PICTURE = ROOT / "docs" / "figure2.json", ROOT / "docs" / "figure2.png"
TASKS = ("mrpc", "qnli", "stsb", "squad")
SPARSITIES = tuple(i / 10 for i in range(10))
RECIPES = (Recipe(), *(Recipe("random", seed=seed) for seed in (0, 1, 2)))
WIDTH, HEIGHT = 1360, 470


def main(arguments: list[str]) -> int:
    """Measure what is not there yet, and draw; the number of tasks that are left out."""
    asked = _parser().parse_args(arguments)
    found: dict[str, Any] = json.loads(JSON.read_text()) if JSON.exists() else {"tasks": {}, "points": []}
    left_out = 0
    for task in TASKS:
        model = getattr(asked, task) or str(shared() / "models" / f"minilm-{task}")
        try:
            if not Path(model).is_dir():
                raise VPError(f"there is no model in {model!r}")
            _measure(task, model, asked.data, asked.questions or None, found)
        except VPError as error:
            known = task in found["tasks"]
            print(f"{task} is {'taken as it was' if known else 'left out'}: {error}", file=sys.stderr)
            left_out += not known
    if asked.out:
        draw(found, Path(asked.out))
    return left_out


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.figure2", description="The paper's figure 2.")
    for task in TASKS:
        parser.add_argument(f"--{task}", default="", help="a folder with a model of this task")
    parser.add_argument("--data", default=str(shared() / "data"), help="the folder of data sets")
    parser.add_argument("--questions", type=int, default=500, help="questions of SQuAD that are asked; 0: all")
    parser.add_argument("--out", default=str(PICTURE), help="the picture; empty: none")
    return parser


def _measure(task: str, model: str, data: str, questions: int | None, found: dict[str, Any]) -> None:
    """All points of a task that are not there yet, each kept as soon as it is."""
    there = {_name(one) for one in found["points"]}
    wanted = [(recipe, s) for recipe, s in _points() if _name(_facts(task, recipe, s)) not in there]
    if not wanted:
        return
    study = open_study(model, task, _place(Path(data), task), sentences=questions if task == "squad" else None)
    found["tasks"][task] = _about(study, Path(model).name)
    for recipe, sparsity in wanted:
        row = point(study, recipe, sparsity, study.score(recipe, sparsity), "float32")
        found["points"].append(_facts(task, recipe, sparsity) | {name: row[name] for name in figure2.COLUMNS[4:]})
        with atomic(JSON) as temporary:
            temporary.write_text(json.dumps(found, indent=1) + "\n")
        print(f"{_name(found['points'][-1])}: {row['metric']} {row['value']:.4f} {row['others']}", flush=True)


def _points() -> Iterator[tuple[Recipe, float]]:
    for recipe in RECIPES:
        yield from ((recipe, sparsity) for sparsity in SPARSITIES)


def _facts(task: str, recipe: Recipe, sparsity: float) -> dict[str, Any]:
    return {"task": task, "criterion": recipe.criterion, "seed": recipe.seed, "sparsity": sparsity}


def _name(one: dict[str, Any]) -> str:
    return f"{one['task']} {one['criterion']} {one['seed']} {one['sparsity']:g}"


def _place(data: Path, task: str) -> Path:
    """Where a task's data are: SQuAD's JSON stands in a folder of its own."""
    return data / task if task == "squad" and (data / task).is_dir() else data


def _about(study: Study, model: str) -> dict[str, Any]:
    return {"model": model, "counted": study.question.task.counted, "notes": list(study.notes)}


def titles(found: dict[str, Any]) -> dict[str, str]:
    """By task, what stands over its panel: its name, the model, and on how much it was asked."""
    names = {"mrpc": "MRPC", "qnli": "QNLI", "stsb": "STS-B", "squad": "SQuAD v1.1"}
    about = {task: f"{one['model']}, {_n(task, found):,} {one['counted']}" for task, one in found["tasks"].items()}
    return {task: f"{names[task]}<br><sup>{about[task]}</sup>" for task in TASKS if task in about}


def _n(task: str, found: dict[str, Any]) -> int:
    return max(int(one["n"]) for one in found["points"] if one["task"] == task)


def draw(found: dict[str, Any], picture: Path) -> None:
    """The picture, by a browser without a window; tasks that are left out are named below it."""
    from playwright.sync_api import sync_playwright

    figure = figure2.draw(figure2.table(found["points"]), titles(found))
    if missing := [task for task in TASKS if task not in found["tasks"]]:
        said = f"left out, for there is no data at hand: {', '.join(missing).upper()}"
        figure.add_annotation(text=said, x=1, y=-0.3, xref="paper", yref="paper", showarrow=False, font={"size": 11})
    figure.update_layout(width=WIDTH, height=HEIGHT)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        page = browser.new_page(viewport={"width": WIDTH + 20, "height": HEIGHT + 20}, device_scale_factor=2)
        page.set_content(figure.to_html(include_plotlyjs=True, config={"staticPlot": True}))
        page.wait_for_selector(".main-svg")
        page.locator(".plotly-graph-div").screenshot(path=str(picture))
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1:])
