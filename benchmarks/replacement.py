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
    study = open_study(*place)
    best = RECIPES["best"]
    line("best: everything before the first sparsity, seconds", _seconds(lambda: study.ranking(best)), "s", "-")
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


def _covariances(study: Study) -> None:
    batches = make_batches(study.calibration, range(len(study.calibration)))
    large = make_batches(study.calibration, range(len(study.calibration)))

    def plain(batch) -> None:
        with torch.inference_mode():
            forward(study.model, batch)

    seconds = alternating(
        {
            "plain": lambda: list(in_parallel(plain, batches)),
            "covariances": lambda: collect_covariances(study.model, large, []),
        },
        repeats=3,
    )
    ratio = seconds["covariances"] / seconds["plain"]
    line(f"covariances of {len(study.calibration):,} sentences / the same forward passes", ratio, "x", "<= 3")


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
