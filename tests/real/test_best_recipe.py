"""What the recipe `best` keeps of a real checkpoint without fine-tuning, on the whole dev set."""

import os
from pathlib import Path

import pytest

from vp_core.opening.study import open_study
from vp_core.recipes import RECIPES, Recipe

pytestmark = pytest.mark.slow
SHARED = Path(os.environ.get("VP_SHARED") or Path(__file__).parents[3] / "shared")


@pytest.fixture(scope="module")
def sst2():
    folder = SHARED / "models" / "minilm-sst2"
    if not (folder / "model.safetensors").is_file() or not (SHARED / "data" / "sst2" / "dev.tsv").is_file():
        pytest.skip(f"VP_SHARED={str(SHARED)!r} holds no models/minilm-sst2 and data/sst2")
    return open_study(str(folder), "sst2", SHARED / "data")


@pytest.mark.parametrize(("sparsity", "kept"), [(0.5, 0.99), (0.8, 0.93)])
def test_best_keeps_this_share_of_the_dense_score(sst2, sparsity, kept):
    recipe = RECIPES["best"]
    dense, found = sst2.score(Recipe(), 0), sst2.score(recipe, sparsity)
    assert found.n == dense.n == 872
    assert found.value >= kept * dense.value
    assert sst2.cost(recipe, sparsity).share_removed == pytest.approx(sparsity, abs=0.005)
