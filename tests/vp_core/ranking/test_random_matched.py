"""`random` takes of every matrix as many rows as `variance` does: in every scope, by every budget, in any number of steps."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from bench_models import stage

from vp_core.ground.chosen import units_in_0_4
from vp_core.ground.names import SCOPES, TYPES
from vp_core.ground.store import digest
from vp_core.ranking.plan import rank
from vp_core.recipes import RECIPES, STRUCTURED, Recipe

SPARSITIES = tuple(i / 10 for i in range(1, 10))
KINDS = (("rows",), STRUCTURED, ("heads", "feed-forward"))


@pytest.fixture(scope="module")
def bert():
    return stage("bert", 12)


def left(plan):
    """Rows of each matrix that survive: projection name → rows."""
    return {name: int(keep.sum()) for name, keep in plan.keep.items()}


def matched(one, recipe, sparsity, seed=0):
    """The plans of `variance` and of `random`, which must be other rows, and as many."""
    paper = one.plan(replace(recipe, criterion="variance"), sparsity)
    drawn = one.plan(replace(recipe, criterion="random", seed=seed), sparsity)
    assert left(drawn) == left(paper), (recipe, sparsity)
    return paper, drawn


@pytest.mark.parametrize("scope", SCOPES)
def test_in_every_scope_by_every_budget_at_every_sparsity(bert, scope):
    for units in KINDS if scope != "measured" else KINDS[1:]:
        for budget in ("units", "parameters", "flops"):
            for i, sparsity in enumerate(SPARSITIES):
                if budget == "units" or "rows" in units or sparsity < 0.85:  # more than units can save
                    matched(bert, Recipe(scope=scope, units=units, budget=budget), sparsity, seed=i)


@pytest.mark.parametrize("steps", [2, 3])
@pytest.mark.parametrize("scope", SCOPES)
def test_in_several_steps(bert, scope, steps):
    """What `random` has left after a step varies otherwise than what `variance` has left: that must not count."""
    asked = [(0.2, "parameters"), (0.5, "units"), (0.8, "flops")]
    types = TYPES if scope != "measured" else ("key", "ffn_out")  # every group's loss is a few forward passes
    for sparsity, budget in asked if scope != "measured" else asked[1:2]:
        recipe = Recipe(scope=scope, steps=steps, budget=budget, types=types)
        paper, drawn = matched(bert, recipe, sparsity, seed=steps)
        assert any(not torch.equal(keep, drawn.keep[name]) for name, keep in paper.keep.items())


@pytest.mark.parametrize("family", ["gpt2", "bart", "llama", "albert"])
def test_of_every_family_and_its_units(family):
    one = stage(family, 8)
    for units in (("rows",), ("ffn neurons", "values")):
        matched(one, Recipe(units=units, scope="global", steps=2), 0.5)


@pytest.mark.parametrize("changed", [{"estimator": "ewmv"}, {"types": ("query", "ffn_out")}, {"replacement": "zero"}])
def test_whatever_else_is_chosen(bert, changed):
    matched(bert, Recipe(scope="global", steps=2, **changed), 0.4)


def test_by_measured_time(bert, monkeypatch):
    """Two measurements of time differ: the share of `random` is the one that was found for `variance`."""
    found = iter((0.31, 0.47))
    monkeypatch.setattr("vp_core.carry_out.unit_share", lambda *asked: next(found))
    monkeypatch.setattr("vp_core.carry_out.counts_for", lambda ranking, layers, budget, share, model: ranking.counts(share))
    paper, _ = matched(bert, Recipe(budget="latency"), 0.4)
    assert paper.rows_removed == sum(round(0.31 * 2 * n) for n in (48, 48, 48, 48, 56, 48))


def test_with_units_that_are_dead_from_the_start():
    """Half of each matrix's rows of the second layer vary not at all, so their scores tie at 0."""
    dead = stage("bert", 12).pruned(Recipe(scope="per layer"), 0.5)
    for steps in (1, 2):
        for sparsity in (0.2, 0.5, 0.7):
            matched(stage("bert", 12, dead), Recipe(scope="global", steps=steps), sparsity)


@pytest.mark.parametrize("scope", SCOPES)
def test_masks_are_nested_as_the_sparsity_rises(bert, scope):
    recipe = Recipe("random", scope, seed=3)
    plans = [bert.plan(recipe, sparsity) for sparsity in SPARSITIES]
    for smaller, larger in pairwise(plans):
        assert smaller.rows_removed < larger.rows_removed
        assert all(not (larger.keep[name] & ~keep).any() for name, keep in smaller.keep.items())


def test_what_went_in_a_step_stays_gone(bert):
    recipe = Recipe("random", "global", seed=1, steps=3)
    last = bert.after_steps(recipe, 0.9)
    final = bert.plan(recipe, 0.9)
    assert last.gone.rows_removed == round(0.6 * final.rows)
    assert all(not (final.keep[name] & ~keep).any() for name, keep in last.gone.keep.items())


def test_the_rows_are_drawn_alike_from_all():
    """Over many seeds every row goes equally often: 30 % of 48, within five standard deviations."""
    one, gone = stage("bert", 12), torch.zeros(48)
    for seed in range(400):
        gone += ~one.plan(Recipe("random", "per layer", seed=seed), 0.3).keep["1.key"]
    share = round(0.3 * 48) / 48
    assert (gone / 400 - share).abs().max() < 5 * np.sqrt(share * (1 - share) / 400)


def test_dealt_places_are_those_of_the_group(bert):
    ranking = bert.ranking(Recipe(scope="global"))
    dealt = ranking.dealt(5, "random")
    assert dealt.criterion == "random" and dealt.pool_size == ranking.pool_size
    for name, places in ranking.place.items():
        assert sorted(dealt.place[name]) == sorted(places) and not np.array_equal(dealt.place[name], places)


def test_a_scaled_sum_does_not_depend_on_the_order():
    """Sums of the same numbers in another order differ in the last bit, and then another group's unit goes first."""
    scores = {p: torch.rand(1000, dtype=torch.float64, generator=torch.Generator().manual_seed(i)) for i, p in enumerate("ab")}
    groups = [FakeGroup(name, 1000) for name in scores]
    reverse = {name: values.flip(0) for name, values in scores.items()}
    one, other = (rank(found, groups, "scaled") for found in (scores, reverse))
    assert all(np.array_equal(one.place[name], other.place[name][::-1]) for name in scores)


class FakeGroup:
    """Just what `rank` reads of a group."""

    def __init__(self, name, units):
        self.name, self.kind, self.units = name, "rows", units

    def __len__(self):
        return self.units


def test_keys_of_finished_points(studies):
    """What was counted otherwise before has another key; what was not, the same as ever."""
    study, random = studies["bert"], Recipe("random")
    assert study.key(random, 0.3) != study.key(replace(random, steps=2), 0.3)
    for changed in ({"steps": 2}, {"budget": "parameters"}, {"scope": "measured"}):
        recipe = replace(random, **changed)
        assert study.key(recipe, 0.3) != old_key(study, recipe, 0.3)
    for recipe in (random, replace(RECIPES["units mean"], steps=2)):
        assert study.key(recipe, 0.3) == old_key(study, recipe, 0.3)


def old_key(study, recipe, sparsity):
    """As version 0.5 made it."""
    facts = recipe.facts() | {"units": units_in_0_4(recipe.units)}
    how = (tuple(facts.items()), study.calibration_id, round(sparsity, 9))
    return digest("score 3", study.loaded.fingerprint, study.data_id, "float32", how)
