"""`python -m benchmarks.results`: what is kept without fine-tuning on SST-2, MRPC and STS-B, into docs/results.json and .md.

By name of a part (all of them: `all`; none: the tables are only written anew from the JSON file):

    figure2      the paper's figure 2: variance, magnitude and random (three seeds), 10 to 90 % of the rows, mean replacement;
                 and variance with `zero`
    draws        the paper's recipe at 50 % by how the calibration texts are drawn, three seeds each
    scores       every named recipe
    candidates   candidates for `best`, on training sentences that nothing else has seen, without labels: how far the outputs
                 are from the dense model's, and how often the answers agree
    calibration  `best` and `best refit` with 64 to 4,096 calibration sentences of SST-2, on training sentences that none of
                 these calibrations has seen
    bands        the same two with a second draw of the calibration sentences, on the development sets
    peers        `best` against torch-pruning's Taylor importance, which sees labels, at 10 to 30 %, sentence by sentence: on
                 SST-2's development set, its test set, and training sentences that neither has seen

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
from transformers import PreTrainedModel

from benchmarks.paired import compare
from benchmarks.results_page import (
    BANDS,
    CHOSEN_ON,
    DRAWS,
    HEADLINES,
    HELD_OUT,
    HERE,
    LIGHT,
    SECOND_SEED,
    SEEDS,
    SHOWN,
    SIZES,
    SPARSITIES,
    TASKS,
    UNSEEN,
    page,
)
from vp_core.asking.batches import encode, make_batches
from vp_core.asking.evaluate import outputs_by_batch
from vp_core.asking.examples import Examples, from_rows, open_examples
from vp_core.asking.reading.tables import read_table
from vp_core.asking.tasks import Task
from vp_core.ground.names import CALIBRATION
from vp_core.ground.store import atomic
from vp_core.opening.classes import make_study
from vp_core.opening.study import open_study
from vp_core.recipes import RECIPES, Recipe
from vp_core.study import Study

ROWS = {"paper + refit, share of rows": Recipe(criterion="fisher", replacement="refit")}
"""The paper's own setting with the last rung: read with a share of rows."""
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
    empty = {"figure 2": {}, "draws": {}, "scores": {}, "choice": {}, "calibration": {}, "bands": {}, "peers": {}}
    found = empty | (json.loads(JSON.read_text()) if JSON.exists() else {})
    chosen = [part for part in PARTS if part in arguments or "all" in arguments]
    names = [name for name in (*RECIPES, *ROWS) if name in arguments] or [*RECIPES, *ROWS]
    for part, task in ((part, task) for part in chosen for task in [t for t in TASKS if t in arguments] or TASKS):
        for key, value in PARTS[part](task, found, names):
            print(f"{key}: {value}", flush=True)
            with atomic(JSON) as temporary:
                temporary.write_text(json.dumps(found, indent=1) + "\n")
    with atomic(DOCS / "results.md") as temporary:
        temporary.write_text(page(found, [*RECIPES, *ROWS], list(CANDIDATES)))


def _study(task: str) -> Study:
    shared = Path(os.environ.get("VP_SHARED", "../shared"))
    return open_study(str(shared / "models" / f"minilm-{task}"), task, shared / "data", calibration=CALIBRATION)


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
    kept, (dev, train), study = found["draws"], _texts(task), _study(task)
    for draw, seed in product(DRAWS, SEEDS):
        key = f"{task} {draw} {seed}"
        if key not in kept:
            texts = train.sample_like(dev, CALIBRATION, seed) if draw == "by length" else train.sample(CALIBRATION, seed)
            other, words = make_study(study.loaded, dev, texts), float(texts.lengths().mean())
            scored = {rung: round(other.score(Recipe(replacement=rung), 0.5).value, 5) for rung in ("mean", "zero")}
            kept[key] = scored | {"words": round(words, 1), "words asked": round(float(dev.lengths().mean()), 1)}
            yield f"draws: {key}", kept[key]


def _calibration(task: str, found: dict, names: Sequence[str]) -> Iterator[tuple[str, object]]:
    """How near the dense model, and how good, by the number of calibration sentences: on sentences that none of them saw."""
    if task != CHOSEN_ON:
        return
    kept, (dev, train), study = found["calibration"], _texts(task), _study(task)
    unseen = _unseen(study, task, UNSEEN, SIZES)
    for size in SIZES:
        other = make_study(study.loaded, unseen, train.sample_like(dev, size))
        for name, sparsity in product([name for name in HEADLINES if name in names], HERE):
            key = f"{task} {name} {size} {sparsity:g}"
            if key not in kept:
                kept["dense"] = round(other.score(Recipe(), 0.0).value, 5) if "dense" not in kept else kept["dense"]
                kept[key] = _distance(other, RECIPES[name], sparsity)
                yield f"calibration: {key}", kept[key]


def _bands(task: str, found: dict, names: Sequence[str]) -> Iterator[tuple[str, object]]:
    """Scores on the development set with another draw of the calibration sentences."""
    kept, (dev, train), study = found["bands"], _texts(task), _study(task)
    other = make_study(study.loaded, dev, train.sample_like(dev, CALIBRATION, SECOND_SEED))
    for name, sparsity in product([name for name in HEADLINES if name in names], BANDS):
        for seed, one in ((0, study), (SECOND_SEED, other)):
            key = f"{task} {name} {seed} {sparsity:g}"
            if key not in kept:
                kept[key] = round(one.score(RECIPES[name], sparsity).value, 5)
                yield f"bands: {key}", kept[key]


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


def _peers(task: str, found: dict, names: Sequence[str]) -> Iterator[tuple[str, object]]:
    """Sentence by sentence against what sees labels."""
    if task != CHOSEN_ON:
        return
    study, (dev, train) = _study(task), _texts(task)
    sets = {"dev": dev, "test": _test(dev.task), "unseen": _unseen(study, task, UNSEEN)}
    for share in LIGHT:
        if f"{share:g}" not in found["peers"]:
            found["peers"][f"{share:g}"] = compare(study, train.sample_like(dev, CALIBRATION), sets, "best", share)
            yield f"peers: {share:g}", found["peers"][f"{share:g}"]


def _test(task: Task) -> Examples:
    """SST-2's test set, whose labels GLUE keeps back and the Stanford treebank tells."""
    path = Path(os.environ.get("VP_SHARED", "../shared")) / "data" / "sst2" / "stanford_binary_test.tsv"
    rows = read_table(path, ("content",), ("label",)).rows
    return from_rows(task, [{task.text[0]: row["content"], task.label: row["label"]} for row in rows], str(path))


def _candidates(task: str, found: dict, names: Sequence[str]) -> Iterator[tuple[str, object]]:
    """Held-out distance from the dense model: relative squared error of the outputs, and agreement; of one task."""
    if task != CHOSEN_ON:
        return
    study, (dev, train) = _study(task), _texts(task)
    other = make_study(study.loaded, _unseen(study, task, HELD_OUT), train.sample_like(dev, CALIBRATION))
    for name, recipe in CANDIDATES.items():
        for sparsity in HERE:
            key = f"{task} {name} {sparsity:g}"
            if key not in found["choice"]:
                found["choice"][key] = _distance(other, recipe, sparsity)
                yield key, found["choice"][key]


def _texts(task: str) -> tuple[Examples, Examples]:
    """(development, training) texts of a task."""
    shared = Path(os.environ.get("VP_SHARED", "../shared"))
    return open_examples(task, "dev", shared / "data"), open_examples(task, "train", shared / "data")


def _unseen(study: Study, task: str, count: int, sizes: Sequence[int] = (CALIBRATION,)) -> Examples:
    """Training texts as long as those of the task, none of which calibrates where so many do."""
    dev, train = _texts(task)
    tokenizer, longest = study.loaded.tokenizer, study.question.data.max_length
    used = {tuple(ids) for size in sizes for ids in encode(tokenizer, train.sample_like(dev, size).texts, longest).ids}
    drawn = train.sample_like(dev, 3 * count, seed=1)
    free = [i for i, ids in enumerate(encode(tokenizer, drawn.texts, longest).ids) if tuple(ids) not in used]
    picked = np.random.default_rng(0).permutation(free)[:count]
    return replace(drawn, texts=[drawn.texts[i] for i in picked], labels=drawn.labels[picked])


def _distance(study: Study, recipe: Recipe, sparsity: float) -> dict[str, float | None]:
    """How good the pruned model is on the study's texts, how far from the dense model, how often they agree."""
    logits, dense = (_logits(study, model) for model in (study.squeezed(recipe, sparsity), study.model))
    answers = study.question.answers(torch.from_numpy(logits)).numpy()
    error = float(((logits - dense) ** 2).sum(axis=1).mean() / dense.var(axis=0).sum())
    same = float((logits.argmax(axis=1) == dense.argmax(axis=1)).mean()) if dense.shape[1] > 1 else None
    score = study.question.worth(answers, np.arange(len(answers))).value
    return {"error": round(error, 5), "agreement": same, "score": round(score, 5)}


def _logits(study: Study, model: PreTrainedModel) -> np.ndarray:
    outputs, data = np.empty((len(study.question), study.model.config.num_labels)), study.question.data
    for batch, logits in outputs_by_batch(model, study.question, make_batches(data, range(len(data)))):
        outputs[batch.examples] = logits.numpy()
    return outputs


PARTS = {
    "figure2": _figure2, "draws": _draws, "scores": _scores, "bands": _bands, "peers": _peers, "candidates": _candidates,
    "calibration": _calibration,
}  # fmt: skip


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    main(sys.argv[1:])
