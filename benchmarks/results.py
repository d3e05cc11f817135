"""`python -m benchmarks.results`: every named recipe on SST-2, MRPC and STS-B, 10 to 90 %, into docs/results.json and .md.

`--calibration` measures `best` with 64 to 4,096 calibration sentences. `--choose` measures candidates for `best`, on training
sentences that nothing else has seen, without labels: how far the outputs are from the dense model's, and how often the answers
agree. Finished numbers are kept in the JSON file, so that an interrupted run goes on where it was. Names of tasks and recipes
among the arguments restrict the run to them.
"""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from vp_core.asking.batches import Encoded, encode, make_batches
from vp_core.asking.evaluate import logits_by_batch
from vp_core.asking.examples import open_examples
from vp_core.ground.names import CALIBRATION
from vp_core.ground.store import atomic
from vp_core.recipes import RECIPES, Recipe
from vp_core.study import Study, open_study

TASKS = ("sst2", "mrpc", "stsb")
SPARSITIES = tuple(i / 10 for i in range(1, 10))
ROWS = {"paper + refit, share of rows": Recipe(criterion="fisher", replacement="refit")}
"""The paper's own setting with the last rung: read with a share of rows."""
HELD_OUT = 512
SIZES = (64, 128, 256, 512, 1024, 2048, 4096)
HERE = (0.5, 0.8)
"""Sparsities at which candidates and calibration sizes are compared."""
DOCS = Path(__file__).parent.parent / "docs"
JSON = DOCS / "results.json"
_BEST = RECIPES["best"]
CANDIDATES = {
    "best": _BEST,
    "refit": replace(_BEST, replacement="refit"),
    "mean": replace(_BEST, replacement="mean"),
    "neurons": replace(_BEST, basis="neurons"),
    "scaled": replace(_BEST, scope="scaled"),
    "per type": replace(_BEST, scope="per type"),
    "weighted variance": replace(_BEST, criterion="weighted variance"),
    "fisher": replace(_BEST, criterion="fisher"),
    "4 steps": replace(_BEST, steps=4),
}


def main(arguments: list[str]) -> None:
    found = {"scores": {}, "choice": {}, "calibration": {}} | (json.loads(JSON.read_text()) if JSON.exists() else {})
    measure = _choice if "--choose" in arguments else _calibration if "--calibration" in arguments else _scores
    names = [name for name in (*RECIPES, *ROWS) if name in arguments] or [*RECIPES, *ROWS]
    for task in [task for task in TASKS if task in arguments] or TASKS:
        for key, value in measure(task, found, names):
            print(f"{key}: {value}", flush=True)
            with atomic(JSON) as temporary:
                temporary.write_text(json.dumps(found, indent=1) + "\n")
    with atomic(DOCS / "results.md") as temporary:
        temporary.write_text(page(found))


def _study(task: str, calibration: int = CALIBRATION) -> Study:
    shared = Path(os.environ.get("VP_SHARED", "../shared"))
    return open_study(str(shared / "models" / f"minilm-{task}"), task, shared / "data", calibration=calibration)


def _calibration(task: str, found: dict, names: Sequence[str]) -> Iterator[tuple[str, object]]:
    """Scores of `best` by the number of calibration sentences."""
    for size in SIZES:
        study = _study(task, size)
        for sparsity in HERE:
            key = f"{task} {len(study.calibration)} {sparsity:g}"
            if key not in found["calibration"]:
                found["calibration"][key] = round(study.score(_BEST, sparsity).value, 5)
                yield key, found["calibration"][key]


def _scores(task: str, found: dict, names: Sequence[str]) -> Iterator[tuple[str, object]]:
    """Scores on the whole development set, with the share of linear parameters that goes."""
    study = _study(task)
    if f"{task} dense" not in found["scores"]:
        found["scores"][f"{task} dense"] = study.score(Recipe(), 0.0).value
        yield f"{task} dense", found["scores"][f"{task} dense"]
    for name in names:
        recipe = {**RECIPES, **ROWS}[name]
        for sparsity in SPARSITIES:
            key = f"{task} {name} {sparsity:g}"
            if key not in found["scores"]:
                score = study.score(recipe, sparsity)
                found["scores"][key] = {
                    "metric": score.metric,
                    "value": round(score.value, 5),
                    "params_removed": round(study.cost(recipe, sparsity).share_removed, 4),
                }
                yield key, found["scores"][key]


def _choice(task: str, found: dict, names: Sequence[str]) -> Iterator[tuple[str, object]]:
    """Held-out distance from the dense model: relative squared error of the outputs, and agreement."""
    study = _study(task)
    sentences = _unseen(study, task)
    dense = _logits(study, study.model, sentences)
    for name, recipe in CANDIDATES.items():
        for sparsity in HERE:
            key = f"{task} {name} {sparsity:g}"
            if key not in found["choice"]:
                logits = _logits(study, study.pruned(recipe, sparsity), sentences)
                error = float(((logits - dense) ** 2).sum(axis=1).mean() / dense.var(axis=0).sum())
                same = float((logits.argmax(axis=1) == dense.argmax(axis=1)).mean()) if dense.shape[1] > 1 else None
                found["choice"][key] = {"error": round(error, 5), "agreement": same}
                yield key, found["choice"][key]


def _unseen(study: Study, task: str) -> Encoded:
    """Training sentences as long as those of the task, none of which calibrates."""
    shared = Path(os.environ.get("VP_SHARED", "../shared"))
    dev, train = (open_examples(task, split, shared / "data") for split in ("dev", "train"))
    used = {tuple(ids) for ids in study.calibration.ids}
    drawn = train.sample_like(dev, 3 * CALIBRATION, seed=1)
    encoded = encode(study.loaded.tokenizer, drawn.texts, study.question.data.max_length)
    free = [i for i, ids in enumerate(encoded.ids) if tuple(ids) not in used]
    picked = np.random.default_rng(0).permutation(free)[:HELD_OUT]
    types = encoded.type_ids
    return replace(encoded, ids=[encoded.ids[i] for i in picked], type_ids=types and [types[i] for i in picked])


def _logits(study: Study, model, sentences: Encoded) -> np.ndarray:
    outputs = np.empty((len(sentences), study.model.config.num_labels))
    for batch, logits in logits_by_batch(model, make_batches(sentences, range(len(sentences)))):
        outputs[batch.examples] = logits.numpy()
    return outputs


def page(found: dict) -> str:
    """The documented tables."""
    lines = [
        "# Without fine-tuning: what every recipe keeps",
        "",
        "Score on the whole development set, and in brackets its share of the dense model's.",
        f"Checkpoints of the 6-layer MiniLM encoder; {CALIBRATION} training sentences without labels for calibration; "
        "no weight update by gradient.",
        "Columns: share of the encoder's linear parameters that go once squeezed; for `paper` and the last row: "
        "share of rows, and below it what goes once squeezed.",
        "Made by `python -m benchmarks.results` from `docs/results.json`.",
        "",
        "`best` was chosen among the candidates at the end of this page, on training sentences, never on the development set.",
        "",
    ]
    for task in TASKS:
        dense = found["scores"].get(f"{task} dense")
        if dense is None:
            continue
        lines += [f"## {task}: dense {dense:.4f}", "", "| recipe |" + "".join(f" {s:.0%} |" for s in SPARSITIES)]
        lines += ["|---|" + "---|" * len(SPARSITIES)]
        for name in {**RECIPES, **ROWS}:
            cells = [found["scores"].get(f"{task} {name} {s:g}") for s in SPARSITIES]
            if any(cells):
                lines.append(f"| {name} |" + "".join(f" {_cell(c, dense)} |" for c in cells))
                if name == "paper" or name in ROWS:
                    lines.append(
                        "| parameters that go |" + "".join(f" {c['params_removed']:.0%} |" if c else " |" for c in cells)
                    )
        lines.append("")
    lines += [
        "## Candidates for `best`",
        "",
        f"Relative squared error of the outputs (and agreement of the answers) with the dense model, on {HELD_OUT} training "
        "sentences that do not calibrate, at 50 and 80 %; each differs from `best` in one.",
        "",
    ]
    lines += ["| candidate |" + "".join(f" {t} {s:.0%} |" for t in TASKS for s in HERE), "|---|" + "---|" * 6]
    for name in CANDIDATES:
        cells = [found["choice"].get(f"{t} {name} {s:g}") for t in TASKS for s in HERE]
        if any(cells):
            lines.append(f"| {name} |" + "".join(f" {_distance(c)} |" for c in cells))
    return "\n".join(lines) + "\n"


def _cell(score: dict | None, dense: float) -> str:
    return "" if score is None else f"{score['value']:.3f} ({score['value'] / dense:.1%})"


def _distance(choice: dict | None) -> str:
    if choice is None:
        return ""
    return f"{choice['error']:.4f}" + ("" if choice["agreement"] is None else f" ({choice['agreement']:.1%})")


if __name__ == "__main__":
    torch.set_num_threads(2)
    main(sys.argv[1:])
