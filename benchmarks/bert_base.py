"""`best` on a model of BERT-base's shape, random weights, from nothing to a pruned model: seconds and memory by stage.

    python -m benchmarks.bert_base [texts] [scope]

Texts of random tokens are as long as sentences of SST-2 are. It runs in a process of its own, since the peak of one never
falls; what torch and transformers take before anything is measured is told too.
"""

import resource
import sys
import time
from dataclasses import replace

import numpy as np
import torch
from transformers import BertConfig, BertForSequenceClassification

from benchmarks.measure import line
from vp_core.asking.batches import Encoded
from vp_core.carry_out import Stage
from vp_core.measuring.measured import Measured
from vp_core.recipes import RECIPES
from vp_core.replacing.principal import turned, turned_covariances, turns

TEXTS, LONGEST = 512, 66


def texts(number: int = TEXTS) -> Encoded:
    """Random tokens; lengths have SST-2's mean, 26, and its longest."""
    rng = np.random.default_rng(0)
    lengths = rng.gamma(5, 4.6, number).clip(1, LONGEST - 3).astype(int) + 3
    return Encoded([rng.integers(1000, 30_000, length).tolist() for length in lengths], None, 0, 0, LONGEST)


def main(number: int, scope: str) -> None:
    start, first = time.perf_counter(), time.perf_counter()

    def told(stage: str) -> None:
        nonlocal start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        line(f"{stage}: seconds, and the most memory so far ({peak:.2f} GB)", time.perf_counter() - start, "s", "-")
        start = time.perf_counter()

    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig(num_labels=2)).eval().requires_grad_(False)
    told("the model")
    dense = Measured(model, texts(number), "m", "d")
    dense.covariances()
    told("covariances")
    maps = turns(model, dense.covariances())
    again = Measured(
        turned(model, maps), dense.texts, "m", "d", lambda: turned_covariances(dense.covariances(), maps), basis="principal"
    )
    stage, recipe = Stage(again), replace(RECIPES["best"], scope=scope)
    told("turning heads")
    stage.scores(recipe)
    told("scores")
    stage.ranking(recipe)
    told("ranking")
    stage.pruned(recipe, 0.5)
    told("pruned at 50 %")
    line(f"best, {scope}, {number} texts, in all", time.perf_counter() - first, "s", "<= 180")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else TEXTS, sys.argv[2] if len(sys.argv) > 2 else "measured")
