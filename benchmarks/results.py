"""`python -m benchmarks.results`: what is kept without fine-tuning on SST-2, MRPC and STS-B, into docs/results.json and .md.

By name of a part (all of them: `all`; none: the tables are only written anew from the JSON file):

    figure2      the paper's figure 2: variance, magnitude and random (three seeds), 10 to 90 % of the rows, mean replacement;
                 and variance with `zero`
    draws        the paper's recipe at 50 % by how the calibration texts are drawn, three seeds each
    scores       every named recipe
    candidates   candidates for `best`, on training sentences that nothing else has seen, without labels: how far the outputs
                 are from the dense model's, and how often the answers agree
    calibration  `best` with 64 to 4,096 calibration sentences (not part of `all`, and not on the page)

Each number is in the JSON file as soon as it is there, and none is measured twice: an interrupted run goes on where it was.
Names of tasks and recipes among the arguments restrict the run to them. `VP_SHARED` says where models and data are.
"""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import torch

from benchmarks.results_page import CHOSEN_ON, DRAWS, HELD_OUT, HERE, SEEDS, SHOWN, SPARSITIES, TASKS, page
from vp_core.asking.batches import Encoded, encode, make_batches
from vp_core.asking.evaluate import outputs_by_batch
from vp_core.asking.examples import open_examples
from vp_core.ground.names import CALIBRATION
from vp_core.ground.store import atomic
from vp_core.opening.classes import make_study
from vp_core.opening.study import open_study
from vp_core.recipes import RECIPES, Recipe
from vp_core.study import Study

ROWS = {"paper + refit, share of rows": Recipe(criterion="fisher", replacement="refit")}
"""The paper's own setting with the last rung: read with a share of rows."""
SIZES = (64, 128, 256, 512, 1024, 2048, 4096)
DOCS = Path(__file__).parent.parent / "docs"
JSON = DOCS / "results.json"
_BEST = RECIPES["best"]
FIGURE_2 = {
    "variance": Recipe(),
    "magnitude": Recipe(criterion="magnitude"),
    **{f"random {seed}": Recipe(criterion="random", seed=seed) for seed in SEEDS},
    "variance zero": Recipe(replacement="zero"),
}
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
    empty = {"figure 2": {}, "draws": {}, "scores": {}, "choice": {}, "calibration": {}}
    found = empty | (json.loads(JSON.read_text()) if JSON.exists() else {})
    chosen = [part for part in PARTS if part in arguments or ("all" in arguments and part != "calibration")]
    names = [name for name in (*RECIPES, *ROWS) if name in arguments] or [*RECIPES, *ROWS]
    for part, task in ((part, task) for part in chosen for task in [t for t in TASKS if t in arguments] or TASKS):
        for key, value in PARTS[part](task, found, names):
            print(f"{key}: {value}", flush=True)
            with atomic(JSON) as temporary:
                temporary.write_text(json.dumps(found, indent=1) + "\n")
    with atomic(DOCS / "results.md") as temporary:
        temporary.write_text(page(found, [*RECIPES, *ROWS], list(CANDIDATES)))


def _study(task: str, calibration: int = CALIBRATION) -> Study:
    shared = Path(os.environ.get("VP_SHARED", "../shared"))
    return open_study(str(shared / "models" / f"minilm-{task}"), task, shared / "data", calibration=calibration)


def _figure2(task: str, found: dict, names: Sequence[str]) -> Iterator[tuple[str, object]]:
    """Scores of the paper's criteria at every share of the rows; `random` counts rows as `variance` does."""
    study, kept = _study(task), found["figure 2"]
    if f"{task} dense" not in kept:
        kept[f"{task} dense"] = round(study.score(Recipe(), 0.0).value, 5)
        yield f"{task} dense", kept[f"{task} dense"]
    for (label, recipe), sparsity in product(FIGURE_2.items(), SPARSITIES):
        key = f"{task} {label} {sparsity:g}"
        if key not in kept:
            kept[key] = round(study.score(recipe, sparsity).value, 5)
            yield f"figure 2: {key}", kept[key]


def _draws(task: str, found: dict, names: Sequence[str]) -> Iterator[tuple[str, object]]:
    """Scores of the paper's recipe at half of the rows by the draw of its calibration texts, the number of texts the same."""
    shared, kept, study = Path(os.environ.get("VP_SHARED", "../shared")), found["draws"], _study(task)
    dev, train = (open_examples(task, split, shared / "data") for split in ("dev", "train"))
    for draw, seed in product(DRAWS, SEEDS):
        key = f"{task} {draw} {seed}"
        if key not in kept:
            texts = train.sample_like(dev, CALIBRATION, seed) if draw == "by length" else train.sample(CALIBRATION, seed)
            other, words = make_study(study.loaded, dev, texts), float(texts.lengths().mean())
            scored = {rung: round(other.score(Recipe(replacement=rung), 0.5).value, 5) for rung in ("mean", "zero")}
            kept[key] = scored | {"words": round(words, 1), "words asked": round(float(dev.lengths().mean()), 1)}
            yield f"draws: {key}", kept[key]


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
    names = sorted(names, key=lambda name: {**RECIPES, **ROWS}[name].replacement == "refit")  # what is quick first
    if f"{task} dense" not in found["scores"]:
        found["scores"][f"{task} dense"] = study.score(Recipe(), 0.0).value
        yield f"{task} dense", found["scores"][f"{task} dense"]
    for name in names:
        recipe = {**RECIPES, **ROWS}[name]
        for sparsity in SHOWN if recipe.replacement == "refit" else SPARSITIES:
            key = f"{task} {name} {sparsity:g}"
            if key not in found["scores"]:
                score = study.score(recipe, sparsity)
                found["scores"][key] = {
                    "metric": score.metric,
                    "value": round(score.value, 5),
                    "params_removed": round(study.cost(recipe, sparsity).share_removed, 4),
                }
                yield key, found["scores"][key]


def _candidates(task: str, found: dict, names: Sequence[str]) -> Iterator[tuple[str, object]]:
    """Held-out distance from the dense model: relative squared error of the outputs, and agreement; of one task."""
    if task != CHOSEN_ON:
        return
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
    for batch, logits in outputs_by_batch(model, study.question, make_batches(sentences, range(len(sentences)))):
        outputs[batch.examples] = logits.numpy()
    return outputs


PARTS = {
    "figure2": _figure2, "draws": _draws, "scores": _scores, "candidates": _candidates, "calibration": _calibration,
}  # fmt: skip


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    main(sys.argv[1:])
