"""Calibration with covariances, a new sparsity by least squares, refit; the last also on a model of BERT-base's size."""

import resource
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from transformers import BertConfig, BertForSequenceClassification

from benchmarks.measure import alternating, line
from vp_core.asking.batches import make_batches
from vp_core.asking.forward import forward
from vp_core.carry_out import Stage
from vp_core.ground.parallel import in_parallel
from vp_core.measuring.covariance import bytes_needed, collect_covariances
from vp_core.measuring.measured import Measured
from vp_core.opening.study import open_study
from vp_core.recipes import RECIPES, Recipe
from vp_core.study import Study

SENTENCES = 1024
_LADDER = RECIPES["units least squares"]


def run(place: tuple[str, str, str | None]) -> None:
    many = open_study(*place, calibration=SENTENCES)
    _covariances(many)
    best = RECIPES["best"]
    _cold(place, best)
    study = open_study(*place)
    study.pruned(best, 0.5)  # the first one chooses the ridges and factorises
    new = alternating({"new": lambda: study.pruned(best, float(np.random.default_rng().uniform(0.3, 0.7)))})["new"]
    line("a new sparsity with least squares, all layers, ms", 1000 * new, "ms", "< 300")
    weights = _seconds(lambda: study.measured().token_weights())
    line(f"weights of tokens, {len(study.calibration)} sentences, seconds", weights, "s", "with refit <= 10")
    for name in ("rows refit", "units refit"):
        recipe: Recipe = RECIPES[name]
        study.ranking(recipe)
        seconds = _seconds(partial(study.pruned, recipe, 0.5))
        line(f"{name} on {len(study.calibration)} sentences, seconds", seconds, "s", "with weights <= 10")
    _base(study)


def _cold(place: tuple[str, str, str | None], best: Recipe) -> None:
    """From a study that has measured nothing to a pruned model, beside passes over the same texts, as torch is and as here."""
    studies = [open_study(*place) for _ in range(3)]
    study, left = studies[0], iter(studies)
    seconds = alternating(
        {
            "plain": _passes(study, plain=True),
            "ours": _passes(study, plain=False),
            "best": lambda: next(left).pruned(best, 0.5),
        },
        repeats=2,
    )
    about = f"best, cold, on {len(study.calibration)} sentences, to a pruned model"
    line(f"{about}, seconds", seconds["best"], "s", "-")
    line("... / forward passes over them, torch as it is", seconds["best"] / seconds["plain"], "x", "<= 8")
    line("... / our own, by the faster library", seconds["best"] / seconds["ours"], "x", "<= 8")
    study.ranking(RECIPES["best refit"])
    once = _seconds(lambda: study.pruned(RECIPES["best refit"], 0.5))
    line("best refit on top of that, seconds", once, "s", "<= 10")
    scores = alternating({"half": lambda: study.score(Recipe(), 0.5), "dense": lambda: study.score(Recipe(), 0.0)}, repeats=3)
    line("a score at 50 % of rows / the dense score", scores["half"] / scores["dense"], "x", "<= 0.6")


def _passes(study: Study, plain: bool) -> Callable[[], object]:
    """Forward passes over the calibration texts, on all cores."""
    batches = make_batches(study.calibration, range(len(study.calibration)))

    def one(batch) -> None:
        with torch.inference_mode():
            study.model(**batch.inputs) if plain else forward(study.model, batch)

    return lambda: list(in_parallel(one, batches))


def _covariances(study: Study) -> None:
    measured = study.measured()
    parts = measured.parted()
    seconds = alternating(
        {
            "plain": _passes(study, plain=True),
            "ours": _passes(study, plain=False),
            "covariances": lambda: collect_covariances(study.model, *parts),
        },
        repeats=3,
    )
    for name, side in (("torch as it is", "plain"), ("by the faster library", "ours")):
        ratio = seconds["covariances"] / seconds[side]
        line(f"covariances of {len(study.calibration):,} sentences / forward passes, {name}", ratio, "x", "<= 2")


def _base(study: Study) -> None:
    """BERT-base's size with random weights, which cost as much time as trained ones, on the same sentences' lengths."""
    config = BertConfig(num_labels=2, vocab_size=30522)
    torch.manual_seed(0)
    model = BertForSequenceClassification(config).eval()
    stage = Stage(Measured(model, study.calibration, "", ""))
    line("BERT-base: memory of covariances, MB", bytes_needed(stage.measured.layers) / 1e6, "MB", "-")
    seconds = _seconds(lambda: stage.pruned(Recipe(replacement="refit"), 0.5))
    line(f"BERT-base: refit of rows on {len(study.calibration)} sentences in all, seconds", seconds, "s", "< 180")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    line("peak memory of this process, GB", peak, "GB", "< 4")


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
