"""Coresets: unbiased, exact counts, nested for one seed, no text wanted."""

from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
from bench_models import classifier, texts

from vp_core.ground.errors import VPError
from vp_core.measuring.measured import Measured
from vp_core.recipes import ATTENTION, RECIPES, Recipe
from vp_core.weights.coreset import priorities, weighted
from vp_core.weights.matrices import view
from vp_core.weights.stage import WeightStage, prune_weights

CORESET = RECIPES["coreset"]


def drawn(weight, kept, seed):
    """W' with so many columns."""
    order = priorities(weight, "m", seed)
    keep = torch.zeros(len(order), dtype=torch.bool).index_fill(0, order.argsort(descending=True)[:kept], True)
    return weighted(weight, keep, order)


@pytest.mark.parametrize("kept", [1, 3, 6, 7])
def test_the_mean_over_many_draws_is_the_whole_product(kept):
    rng = np.random.default_rng(0)
    weight = torch.from_numpy(rng.normal(size=(3, 8)) * np.array([0.1, 1, 1, 2, 5, 0.3, 1, 1]))
    x = torch.from_numpy(rng.normal(size=8))
    found = torch.stack([drawn(weight, kept, seed) @ x for seed in range(4000)])
    error = found.std(dim=0) / len(found) ** 0.5
    assert ((found.mean(dim=0) - weight @ x).abs() < 4 * error).all()
    assert ((weight @ x).abs() > 8 * error).any()  # a sum without the weights, or of nothing, would be seen


def test_all_columns_are_the_matrix_itself():
    weight = torch.randn(5, 9, dtype=torch.float64)
    assert torch.equal(drawn(weight, 9, 0), weight)


def test_columns_of_zeros_go_first_and_stay_zero():
    weight = torch.randn(4, 6, dtype=torch.float64)
    weight[:, [1, 4]] = 0
    assert (drawn(weight, 4, 3) != 0).any(dim=0).tolist() == [True, False, True, True, False, True]
    assert torch.isfinite(drawn(weight, 5, 3)).all()
    assert not drawn(torch.zeros(4, 6), 2, 0).any()


@pytest.mark.parametrize("seed", [0, 7])
def test_a_recipe_draws_exactly_and_nests(seed):
    one = WeightStage(Measured(classifier("bert"), texts("bert"), "m", "d"))
    recipe, before = replace(CORESET, seed=seed), None
    for density in (0.9, 0.7, 0.5, 0.3, 0.05):
        masks, pruned = one.masks(recipe, 1 - density), one.pruned(recipe, 1 - density)
        assert {matrix.type for matrix in one.matrices(recipe)} == set(ATTENTION)
        for matrix in one.matrices(recipe):
            keep = masks.keep(matrix.name)
            assert torch.equal(keep, keep[:1].expand_as(keep))
            assert int(keep[0].sum()) == matrix.columns - round((1 - density) * matrix.columns)
            weight, new = view(one.measured.model, matrix), view(pruned, matrix)
            factor = (new / weight)[:, keep[0]]
            assert torch.allclose(factor, factor[:1].expand_as(factor)) and (factor > 0.999999).all()
            assert not new[:, ~keep[0]].any()
            if before is not None:
                assert not (keep & ~before.keep(matrix.name)).any()
        before = masks
    other = one.masks(replace(CORESET, seed=seed + 1), 0.5)
    assert other != one.masks(recipe, 0.5)


def test_the_largest_norms_stay_in_the_variant_without_chance():
    one = WeightStage(Measured(classifier("bert"), texts("bert"), "m", "d"))
    masks = one.masks(RECIPES["coreset top norm"], 0.5)
    for matrix in one.matrices(RECIPES["coreset top norm"]):
        norms = view(one.measured.model, matrix).norm(dim=0)
        assert norms[masks.keep(matrix.name)[0]].min() >= norms[~masks.keep(matrix.name)[0]].max()


def test_nothing_left_is_one_sentence():
    one = WeightStage(Measured(classifier("bert"), texts("bert"), "m", "d"))
    with pytest.raises(VPError, match=r"No column of 0\.query would be left: a coreset wants a density of 0\.021 or more\."):
        one.pruned(CORESET, 1.0)


def test_a_model_without_text():
    model, given = tiny.transformer("vit"), tiny.inputs("vit")
    for name in ("coreset", "coreset top norm", "weights"):
        pruned, masks = prune_weights(model, RECIPES[name], 0.3)
        assert masks.weights_removed == pytest.approx(0.3 * masks.weights, rel=0.03)
        assert tiny.distance(tiny.logits(pruned, given), tiny.logits(model, given)) > 1e-6
    for recipe, says in ((RECIPES["wanda"], "needs texts to measure: ask a study"), (Recipe(), "is not of single weights")):
        with pytest.raises(VPError, match=says):
            prune_weights(model, recipe, 0.3)


def test_other_scopes_are_refused():
    with pytest.raises(VPError, match="The scope 'global' does not go with columns: choose per matrix"):
        replace(CORESET, scope="global")
