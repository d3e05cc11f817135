"""All that texts say of a model: each measured once, over the same texts, for criteria to look at."""

import numpy as np
import pytest
import torch
from bench_models import classifier, texts

from vp_core.measuring import measured as module
from vp_core.measuring.measured import HELD_OUT, Measured
from vp_core.model.projections import find_layers
from vp_core.model.units import unit_groups
from vp_core.ranking.criteria import score_units

COLLECTORS = ("collect", "collect_covariances", "collect_gradients", "collect_norms")


@pytest.fixture
def counted(monkeypatch):
    """(measured texts of the tiny BERT, how often each collector was called)."""
    calls = dict.fromkeys(COLLECTORS, 0)

    def count(name, collector):
        def call(*arguments, **named):
            calls[name] += 1
            return collector(*arguments, **named)

        monkeypatch.setattr(module, name, call)

    for name in COLLECTORS:
        count(name, getattr(module, name))
    return Measured(classifier("bert"), texts("bert", 23), "m", "d"), calls


def test_each_is_measured_once_and_when_it_is_asked_for(counted):
    measured, calls = counted
    assert set(calls.values()) == {0}
    other = measured.seen_with("exact", 7)
    for _ in range(2):
        assert measured.gradients() is other.gradients()  # from statistics and covariances
        assert measured.statistics() is other.statistics() and measured.covariances() is other.covariances()
        assert measured.norms() is other.norms()
    assert calls == dict.fromkeys(COLLECTORS, 1)
    moving = measured.seen_with("ewmv", 0)
    assert moving.statistics() is moving.statistics() is not measured.statistics() and calls["collect"] == 2
    assert (moving.statistics().estimator, measured.statistics().estimator) == ("ewmv", "exact")
    assert moving.gradients() is measured.gradients()  # around exact means, whatever the estimator


def test_covariances_of_every_fifth_text_stand_apart(counted):
    measured, _ = counted
    lengths = np.array([len(ids) for ids in measured.texts.ids])
    found = measured.covariances()
    assert found["0.activation"].count == lengths.sum()
    assert found.held_out["0.activation"].count == lengths[HELD_OUT - 1 :: HELD_OUT].sum()


def test_known_covariances_are_taken(counted):
    measured, calls = counted
    known = measured.covariances()
    assert Measured(measured.model, measured.texts, "m", "d", lambda: known).covariances() is known
    assert calls["collect_covariances"] == 1


def test_some_batches_are_spread_over_all_texts(counted):
    measured, _ = counted
    chosen = sorted(int(i) for batch in measured.some_batches(5) for i in batch.examples)
    assert chosen == [0, 5, 11, 16, 22]
    assert sorted(i for batch in measured.some_batches(64) for i in batch.examples) == list(range(23))


def test_criteria_look_at_it(counted):
    measured, _ = counted
    groups = unit_groups(find_layers(measured.model), ("rows",))
    by_seed = [score_units("random", measured.seen_with("exact", seed), groups)["0.query"] for seed in (0, 0, 1)]
    assert torch.equal(by_seed[0], by_seed[1]) and not torch.equal(by_seed[0], by_seed[2])
    moving = score_units("variance", measured.seen_with("ewmv", 0), groups)["0.query"]
    assert torch.equal(moving, measured.seen_with("ewmv", 0).statistics().variance("0.query"))
    assert not torch.equal(moving, score_units("variance", measured, groups)["0.query"])
