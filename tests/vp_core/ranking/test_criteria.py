"""Criteria: the rows they choose, against torch's own pruning and by counting."""

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils import prune as torch_prune

from vp_core.ground.errors import VPError
from vp_core.ground.names import SCOPES, TYPES
from vp_core.measuring.moments import Moments
from vp_core.measuring.statistics import Statistics
from vp_core.model.projections import find_projections, gate_weight_of, weight_of
from vp_core.ranking.criteria import score_neurons
from vp_core.ranking.plan import rank


def statistics_of(projections, seed, ties):
    generator = torch.Generator().manual_seed(seed)
    moments = {}
    for p in projections:
        m2 = torch.rand(p.d_out, generator=generator, dtype=torch.float64) * (1 + p.layer)
        moments[p.name] = Moments(2, torch.zeros(p.d_out, dtype=torch.float64), (m2 * 4).round() if ties else m2)
    return Statistics(moments, None, "", "")


@given(
    seed=st.integers(0, 10**6),
    draws=st.lists(st.integers(0, 50), min_size=1, max_size=3),
    scope=st.sampled_from(SCOPES),
    sparsity=st.one_of(st.floats(0, 1), st.integers(0, 100).map(lambda i: i / 100)),
    ties=st.booleans(),
    types=st.sets(st.sampled_from(TYPES), min_size=1),
)
@settings(max_examples=150)
def test_random_takes_as_many_of_every_matrix_as_variance(seed, draws, scope, sparsity, ties, types):
    projections = [p for p in _projections() if p.type in types]
    statistics = statistics_of(projections, seed, ties)
    paper = rank(score_neurons("variance", None, statistics, projections), projections, scope).plan(sparsity)
    for draw in draws:
        baseline = rank(score_neurons("random", None, statistics, projections, draw), projections, scope).plan(sparsity)
        for name, keep in paper.keep.items():
            assert baseline.keep[name].sum() == keep.sum(), name


_FOUND = []


def _projections():
    if not _FOUND:
        _FOUND.extend(find_projections(tiny.classifier("bert")))
    return _FOUND


def test_random_depends_on_the_seed_only_and_not_on_the_variances_order():
    projections = _projections()
    statistics = statistics_of(projections, 0, ties=False)
    plans = [
        rank(score_neurons("random", None, statistics, projections, s), projections, "per layer").plan(0.5) for s in (0, 0, 1)
    ]
    assert plans[0] == plans[1] != plans[2]
    # Over seeds every neuron goes about half the time, whatever its variance.
    gone = torch.zeros(tiny.HIDDEN)
    for seed in range(200):
        scores = score_neurons("random", None, statistics, projections, seed)
        gone += ~rank(scores, projections, "per layer").plan(0.5).keep["0.query"]
    assert gone.min() > 65 and gone.max() < 135  # 100 ± 5 standard deviations of 7.07


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("sparsity", [0.1, 0.33, 0.5, 0.9])
def test_magnitude_is_torchs_ln_structured(loaded, family, sparsity):
    model, projections = loaded[family].model, loaded[family].projections
    plan = rank(score_neurons("magnitude", model, None, projections), projections, "per layer").plan(sparsity)
    for p in projections:
        module = torch.nn.Linear(p.d_in, p.d_out)
        module.weight.data.copy_(weight_of(model, p))
        if p.gate:  # which goes with it, row by row
            both = torch.cat([weight_of(model, p), gate_weight_of(model, p)], dim=1)
            module = torch.nn.Linear(2 * p.d_in, p.d_out)
            module.weight.data.copy_(both)
        torch_prune.ln_structured(module, "weight", amount=sparsity, n=2, dim=0)
        assert torch.equal(plan.keep[p.name], module.weight_mask.bool().any(dim=1)), p.name


def test_variance_is_the_statistics_own():
    projections = _projections()
    statistics = statistics_of(projections, 0, ties=False)
    scores = score_neurons("variance", None, statistics, projections)
    assert all(torch.equal(scores[p.name], statistics.moments[p.name].m2) for p in projections)  # m2 / (2 − 1)
    moving = {p.name: torch.rand(p.d_out, dtype=torch.float64) for p in projections}
    weighted = Statistics(statistics.moments, moving, "", "")
    scores = score_neurons("variance", None, weighted, projections)
    assert all(torch.equal(scores[name], values) for name, values in moving.items())


def test_unknown_criterion_lists_them():
    with pytest.raises(VPError, match="variance, random, magnitude"):
        score_neurons("luck", None, None, [])
    with pytest.raises(VPError, match="needs texts to measure the model on"):
        score_neurons("fisher", None, None, _projections()[:1])
