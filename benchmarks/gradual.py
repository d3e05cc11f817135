"""What pruning while training costs, and saves: `python -m benchmarks.gradual [--repeats N]`, one thread, MiniLM's shape.

Steps take turns and are measured in processor time, so that a busy machine slows all alike; what counts are their ratios.
Memory is counted, not measured.
"""

import argparse
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from transformers import BertConfig, BertForSequenceClassification

from benchmarks.measure import alternating, line
from vp_core.asking.batches import Encoded
from vp_core.gradual.cuts import Cuts
from vp_core.gradual.meters import Meters
from vp_core.gradual.rows import GradualRows
from vp_core.gradual.weights import GradualWeights
from vp_core.model.projections import find_projections
from vp_core.training.callbacks import Callback
from vp_core.training.loop import training
from vp_core.training.schedule import Lessons, Schedule

BATCH, LENGTH = 32, 48
"""Of an ordinary step of fine-tuning; a tenth of the tokens is padding."""


def minilm() -> BertForSequenceClassification:
    """Six layers of 384, as the checkpoints that results are measured on; random weights."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
    return BertForSequenceClassification(BertConfig(**sizes)).requires_grad_(True)


def lessons(steps: int) -> Lessons:
    """Random texts for so many steps."""
    rng = np.random.default_rng(0)
    lengths = np.where(rng.random(steps * BATCH) < 0.2, LENGTH // 2, LENGTH)
    ids = [rng.integers(1000, 20_000, length).tolist() for length in lengths]
    return Lessons(Encoded(ids, None, 0, 0, LENGTH), torch.from_numpy(rng.integers(2, size=len(ids))), False)


def stepper(callbacks: Sequence[Callback], precision: str, skip: int, repeats: int) -> Callable[[], object]:
    """One step of a training of MiniLM with these callbacks, after so many steps have gone by."""
    schedule = Schedule(batch=BATCH, precision=precision)
    run = training(minilm(), lessons(skip + repeats + 2), schedule, callbacks=callbacks)
    for _ in range(skip):
        next(run)
    return lambda run=run: next(run)


def ratios(precision: str, repeats: int) -> None:
    """Meters, masks and narrow matrices against the plain step."""
    rows, once = (GradualRows(Cuts(2, 1, 0.5, 0.5), squeezed=when) for when in ("end", "last"))
    weights = GradualWeights(Cuts(1, 1, 0.9, 0.9))
    runs = {
        "plain": stepper([], precision, 3, repeats),
        "meters": stepper([Meters()], precision, 3, repeats),
        "masked rows": stepper([rows], precision, 3, repeats),
        "squeezed at once": stepper([once], precision, 3, repeats),
        "masked weights": stepper([weights], precision, 3, repeats),
    }
    found = alternating(runs, repeats, clock=time.process_time)
    plain = found["plain"]
    what = f"MiniLM, batch {BATCH} of {LENGTH}, {precision}"
    line(f"{what}: a plain step", plain * 1e3, "ms", "-")
    line(f"{what}: meters", 100 * (found["meters"] / plain - 1), "%", "<= 10")
    line(f"{what}: rows masked, 50 %", found["masked rows"] / plain, "x", "<= 1.1")
    line(f"{what}: rows squeezed at once, masked / squeezed", found["masked rows"] / found["squeezed at once"], "x", "> 1")
    line(f"{what}: single weights held, 90 %", found["masked weights"] / plain, "x", "<= 1.1")


def memory() -> None:
    """Bytes that meters and masks hold besides the model."""
    model = minilm()
    projections = find_projections(model)
    neurons, size = sum(p.d_out for p in projections), sum(p.d_out * p.d_in for p in projections)
    all_of = 4 * sum(p.numel() for p in model.parameters())
    line("MiniLM: memory of the meters (mean, rest, sum of squares, moving variance)", 4 * 8 * neurons / 1e6, "MB", "-")
    line("MiniLM: memory of masks of rows", neurons / 1e6, "MB", "-")
    line("MiniLM: memory of masks of single weights (a byte each, and a bit kept)", 1.125 * size / 1e6, "MB", "-")
    line("MiniLM: weights, gradients and AdamW's moments", 4 * all_of / 1e6, "MB", "-")


def main() -> None:
    """All of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    memory()
    for precision in ("float32", "bfloat16"):
        ratios(precision, repeats)


if __name__ == "__main__":
    main()
