"""Masks: exact counts, nested, ties by index; against brute force."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vp_core.ground.errors import VPError
from vp_core.ground.names import SCOPES, TYPES
from vp_core.model.projections import Projection
from vp_core.model.units import row_group
from vp_core.ranking.plan import Plan, check_sparsity, count_removed, everything, rank

PROJECTIONS = [
    Projection(layer, type_, f"{layer}.{type_}", 4, 7 if type_ == "ffn_in" else 5, None, None)
    for layer in range(3)
    for type_ in TYPES
]


def group(projection, scope):
    return {"per type": projection.type, "per layer": projection.name}.get(scope, "")


def brute_force(scores, scope, sparsity):
    """Which rows go, by sorting (score, order of appearance) in plain Python, one group at a time."""
    gone = set()
    if scope == "scaled":  # shares of each matrix's sum
        scores = {name: s / (s.numpy().sum() or 1) for name, s in scores.items()}
    for key in {group(p, scope) for p in PROJECTIONS}:
        units = [(p.name, i) for p in PROJECTIONS if group(p, scope) == key for i in range(p.d_out)]
        by_score = sorted(range(len(units)), key=lambda u: (scores[units[u][0]][units[u][1]].item(), u))
        gone |= {units[u] for u in by_score[: round(sparsity * len(units))]}
    return gone


def removed(plan):
    return {(name, i) for name, keep in plan.keep.items() for i in (~keep).nonzero().flatten().tolist()}


def random_scores(seed, ties):
    rng = np.random.default_rng(seed)
    draw = (lambda n: rng.integers(0, 3, n).astype(float)) if ties else rng.random
    return {p.name: torch.from_numpy(draw(p.d_out)) for p in PROJECTIONS}


@given(st.integers(0, 10**6), st.booleans(), st.sampled_from(SCOPES), st.lists(st.floats(0, 1), min_size=1, max_size=5))
@settings(max_examples=80)
def test_masks_are_those_of_brute_force_nested_and_counted(seed, ties, scope, sparsities):
    scores = random_scores(seed, ties)
    ranking = rank(scores, PROJECTIONS, scope)
    before = set()
    for sparsity in sorted(sparsities):
        plan = ranking.plan(sparsity)
        gone = removed(plan)
        assert gone == brute_force(scores, scope, sparsity)
        assert before <= gone
        assert plan.rows_removed == len(gone)
        assert plan.rows == sum(p.d_out for p in PROJECTIONS) == 96
        before = gone


def test_by_hand():
    # One type, two layers of 5: variances .5 .1 .3 .9 .2 | .1 .4 .3 .8 .7. In order: .1 (0,1), .1 (1,0) by index,
    # .2 (0,4), .3 (0,2), .3 (1,2) by index, .4 (1,1), .5 (0,0), .7 (1,4), .8 (1,3), .9 (0,3). 30 % of 10 rows is 3.
    two = [p for p in PROJECTIONS if p.type == "query"][:2]
    scores = {"0.query": torch.tensor([0.5, 0.1, 0.3, 0.9, 0.2]), "1.query": torch.tensor([0.1, 0.4, 0.3, 0.8, 0.7])}
    ranking = rank(scores, two, "per type")
    assert removed(ranking.plan(0.1)) == {("0.query", 1)}
    assert removed(ranking.plan(0.3)) == {("0.query", 1), ("1.query", 0), ("0.query", 4)}
    assert removed(ranking.plan(0.4)) - removed(ranking.plan(0.3)) == {("0.query", 2)}
    # Per layer: 40 % of 5 is 2 in each: .1 .2 of layer 0; .1 .3 of layer 1.
    alone = rank(scores, two, "per layer").plan(0.4)
    assert removed(alone) == {("0.query", 1), ("0.query", 4), ("1.query", 0), ("1.query", 2)}


@pytest.mark.parametrize("scope", SCOPES)
def test_ends(scope):
    ranking = rank(random_scores(0, ties=True), PROJECTIONS, scope)
    assert ranking.plan(0).rows_removed == 0
    assert all(keep.all() for keep in ranking.plan(0).keep.values())
    assert not any(keep.any() for keep in ranking.plan(1).keep.values())


@pytest.mark.parametrize("scope", SCOPES)
def test_all_equal_scores_go_by_index(scope):
    ranking = rank({p.name: torch.zeros(p.d_out) for p in PROJECTIONS}, PROJECTIONS, scope)
    plan = ranking.plan(0.4)
    for p in PROJECTIONS:
        keep = plan.keep[p.name].tolist()
        assert keep == sorted(keep)  # the removed ones come first
    together = {"per layer": 5, "per type": 15}.get(scope, 96)
    assert ranking.pool_size["0.query"] == together
    if together == 96:
        assert plan.rows_removed == round(0.4 * 96)


@pytest.mark.parametrize("scope", SCOPES)
def test_the_first_units_of_one_group(scope):
    """Those that go first in its own order, by numpy, and nothing of another group; as many as any plan takes of it."""
    scores = random_scores(5, ties=False)
    ranking = rank(scores, PROJECTIONS, scope)
    for name, units in scores.items():
        lowest_first = np.argsort(units.numpy(), kind="stable")
        for n in range(len(units) + 1):
            plan = ranking.only(name, n)
            assert removed(plan) == {(name, i) for i in lowest_first[:n].tolist()}
            assert (plan.sparsity, plan.rows) == (n / len(units), len(units))
    counts = ranking.counts(0.4)
    assert set().union(*(removed(ranking.only(name, n)) for name, n in counts.items())) == removed(ranking.plan(0.4))


def test_everything_is_what_any_ranking_takes_in_the_end():
    plan = everything([row_group(p) for p in PROJECTIONS])
    assert removed(plan) == removed(rank(random_scores(0, False), PROJECTIONS).plan(1)) and plan.rows == 96


def test_shares_at_every_slider_position_are_the_plans():
    for scope in SCOPES:
        ranking = rank(random_scores(3, ties=False), PROJECTIONS, scope)
        steps = [i / 100 for i in range(101)]
        shares = ranking.sparsity_by_group(steps)
        for i, sparsity in enumerate(steps):
            for name, keep in ranking.plan(sparsity).keep.items():
                assert shares[name][i] == (~keep).double().mean().item()


def test_counts_round_half_to_even():
    assert [count_removed(s, 5) for s in (0.1, 0.3, 0.5, 0.7)] == [0, 2, 2, 4]  # 0.5, 1.5, 2.5, 3.5
    assert count_removed(0.29, 100) == 29  # 28.999999999999996 in binary


@pytest.mark.parametrize("bad", [1.2, -0.1, "abc", None, float("nan"), float("inf"), "1e9", [0.3], ""])
def test_bad_sparsities(bad):
    with pytest.raises(VPError, match="between 0 and 1"):
        check_sparsity(bad)
    with pytest.raises(VPError):
        rank(random_scores(0, False), PROJECTIONS).plan(bad)


def test_unknown_scope():
    with pytest.raises(VPError, match="per type, per layer, global"):
        rank(random_scores(0, False), PROJECTIONS, "per head and shoulder")


def test_equality_sees_every_field():
    ranking = rank(random_scores(0, False), PROJECTIONS, criterion="variance", model="m")
    plan = ranking.plan(0.3)
    assert plan == ranking.plan(0.3)
    assert plan != ranking.plan(0.4)
    assert plan != Plan(plan.keep, "random", plan.scope, plan.sparsity, plan.model)
    other = dict(plan.keep) | {"0.query": ~plan.keep["0.query"]}
    assert plan != Plan(other, plan.criterion, plan.scope, plan.sparsity, plan.model)
    assert f"{plan.rows_removed} of 96 rows" in repr(plan)
