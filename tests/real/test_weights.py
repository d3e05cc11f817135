"""What Compressing BERT says of fine-tuning, on three fine-tunings of one encoder (`VP_SHARED`, see test_checkpoints)."""

import os
from pathlib import Path

import pytest

from analysis.weights import movement, spread
from vp_core.comparing.movement import by_magnitude, movements
from vp_core.loading.weights import load_bare, load_weights
from vp_core.weights.matrices import find_matrices

pytestmark = pytest.mark.slow
SHARED = Path(os.environ.get("VP_SHARED") or Path(__file__).parents[3] / "shared")


@pytest.fixture(scope="module")
def weights():
    """(matrices, task → the weights fine-tuned for it)."""
    folders = {task: SHARED / "models" / f"minilm-{task}" for task in ("sst2", "mrpc", "stsb")}
    if not all((folder / "model.safetensors").is_file() for folder in folders.values()):
        pytest.skip(f"VP_SHARED={str(SHARED)!r} holds no models/minilm-…")
    return find_matrices(load_bare(str(folders["sst2"]))), {task: load_weights(str(f)) for task, f in folders.items()}


@pytest.mark.parametrize(("one", "other"), [("sst2", "mrpc"), ("sst2", "stsb"), ("mrpc", "stsb")])
def test_tasks_choose_nearly_the_same_weights(weights, one, other):
    """Section 5: masks differ by less than 6 %, the order by at most 4.1 %, and large weights move least."""
    matrices, of = weights
    table = movement.difference_table(by_magnitude(matrices, of[one]), by_magnitude(matrices, of[other]))
    total = movement.total_difference(table)
    assert (total["differ"][1:] > 0.002).all() and (total["differ"] < 0.06).all()
    moves = movements(matrices, of[one], of[other])
    (row,) = movement.pooled(movement.movement_table(matrices, moves)).itertuples()
    assert 0.005 < row.mean < 0.041
    started = movement.pooled(movement.start_table(matrices, moves), ["start"])["mean"]
    assert started.iloc[-1] == started.min() < 0.2 * started.max()


def test_weights_are_nearly_normal(weights):
    """Table 3 and footnote 5: means near 0; the standard deviations of this encoder go up to 0.1."""
    matrices, of = weights
    table = spread.table(matrices, of["mrpc"])
    assert (table["mean"].abs() < 0.003).all() and table["std"].between(0.035, 0.1).all() and (table["ks"] < 0.05).all()
