"""A recipe carried out: the steps of the method one by one, by the library's own primitives, end in the same model."""

import pytest
import tiny
import torch
from bench_models import stage

from vp_core.asking.batches import make_batches
from vp_core.carry_out import carry_out
from vp_core.measuring.statistics import collect
from vp_core.model.projections import find_projections
from vp_core.ranking.criteria import score_neurons, score_units
from vp_core.ranking.plan import rank
from vp_core.recipes import RECIPES, Recipe
from vp_core.replacing.ladder import Consumers, constants
from vp_core.replacing.prune import prune
from vp_core.squeezing.cost import cost

pytestmark = pytest.mark.usefixtures("exact_norms")


@pytest.mark.parametrize("family", ["bert", "gpt2", "bart"])
def test_the_papers_recipe_step_by_step(family):
    one = stage(family)
    model, projections = one.measured.model, find_projections(one.measured.model)
    statistics = collect(model, make_batches(one.measured.texts, range(40)))  # measure
    ranking = rank(score_neurons("variance", model, statistics, projections), projections, "per type")  # score, rank
    expected = prune(model, ranking.plan(0.4), constants("mean", statistics))  # plan, replace, prune
    found = carry_out(one, Recipe(), 0.4)
    assert tiny.sha(found) == tiny.sha(expected) == tiny.sha(one.pruned(Recipe(), 0.4)) != tiny.sha(model)


def test_units_by_a_budget_step_by_step():
    one, recipe = stage("bert"), RECIPES["units least squares"]
    measured, groups = one.measured, one.groups(recipe)
    ranking = rank(score_units("weighted variance", measured, groups), groups, "per type")
    share = one.share(recipe, 0.3)
    plan = ranking.plan(share)
    assert cost(measured.layers, plan).share_removed == pytest.approx(0.3, abs=0.01)
    # a consumer's order is that of its own group, which the scope does not change
    solved = Consumers(measured.model, measured.layers, ranking, measured.covariances).solve(
        "least squares", ranking.counts(share)
    )
    nothing = {p.name: torch.zeros(p.d_out) for p in find_projections(measured.model)}  # of a unit nothing is left
    expected = prune(measured.model, plan, nothing, solved)
    assert tiny.sha(carry_out(one, recipe, 0.3)) == tiny.sha(expected)


def test_a_plan_says_what_it_is_a_share_of():
    one = stage("bert")
    for recipe, sparsity in ((RECIPES["units mean"], 0.3), (Recipe("magnitude", "global"), 0.5)):
        plan = one.plan(recipe, sparsity)
        said = plan.criterion, plan.scope, plan.sparsity, plan.budget, plan.model
        assert said == (recipe.criterion, recipe.scope, sparsity, recipe.budget, "m")
