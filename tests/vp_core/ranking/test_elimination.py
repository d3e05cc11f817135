"""Orders of removal against brute force: least squares for every candidate, one at a time."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vp_core.ranking.elimination import RIDGE, conditional_variance, surgeon


def samples(seed, n, tokens=400, rank=None):
    """(tokens, n) with unlike variances, of the given rank."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(tokens, rank or n)) @ rng.normal(size=(rank or n, n)) * rng.uniform(0.3, 3, n)
    return x - x.mean(0)


def unexplained(x, target, by):
    """Mean square of a column that no linear combination of others explains."""
    left = x[:, target]
    if len(by):
        left = left - x[:, by] @ np.linalg.lstsq(x[:, by], left, rcond=None)[0]
    return (left**2).mean()


@given(seed=st.integers(0, 10**6), n=st.integers(1, 8))
@settings(max_examples=30)
def test_conditional_variance_is_what_regressions_leave(seed, n):
    x = samples(seed, n)
    scores = conditional_variance(torch.from_numpy(x.T @ x / len(x))).numpy()
    kept: list[int] = []
    for _ in range(n):
        left = {i: unexplained(x, i, kept) for i in range(n) if i not in kept}
        best = max(left, key=left.__getitem__)
        assert scores[best] == pytest.approx(left[best], rel=1e-6)
        assert scores[best] == pytest.approx(max(scores[i] for i in left), rel=1e-9)  # the next one to stay
        kept.append(best)


def test_conditional_variance_of_coordinates_that_others_determine():
    x = samples(0, 7, rank=4)
    x[:, 5] = x[:, 0]  # identical
    x[:, 6] = 0.0  # dead
    scores = conditional_variance(torch.from_numpy(x.T @ x / len(x))).numpy()
    assert np.isfinite(scores).all() and (scores >= 0).all()
    assert scores.argmin() == 6 and scores[6] == 0
    order = scores.argsort()[::-1]
    assert not {0, 5} <= set(order[:4].tolist())  # each says what the other does
    for i in order[4:]:
        assert unexplained(x, i, order[:4]) < 1e-20 * (x**2).mean() + 1e-18
        assert scores[i] < 1e-5 * scores[order[:4]].min()
    assert torch.equal(conditional_variance(torch.zeros(3, 3, dtype=torch.float64)), torch.zeros(3, dtype=torch.float64))


def error_without(x, weight, gone):
    """E‖Wx − W'x_kept‖² with the best W' there is."""
    y, kept = x @ weight.T, [i for i in range(x.shape[1]) if i not in gone]
    left = y - x[:, kept] @ np.linalg.lstsq(x[:, kept], y, rcond=None)[0] if kept else y
    return (left**2).sum() / len(x)


@given(seed=st.integers(0, 10**6), units=st.integers(2, 7), per_unit=st.integers(1, 3), outputs=st.integers(1, 4))
@settings(max_examples=30)
def test_surgeon_takes_whatever_costs_least_once_all_are_solved_again(seed, units, per_unit, outputs):
    x = samples(seed, units * per_unit)
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(outputs, x.shape[1])) * rng.uniform(0.1, 3, x.shape[1])
    columns = rng.permutation(x.shape[1]).reshape(units, per_unit)
    # λ is put into the samples, so that least squares sees the same second moments as the surgeon
    ridge = RIDGE * (x**2).mean(0).mean()
    seen = np.concatenate([x, np.eye(x.shape[1]) * np.sqrt(len(x) * ridge)])
    scores = surgeon(torch.from_numpy(x.T @ x / len(x)), torch.from_numpy(weight), torch.from_numpy(columns)).numpy()
    gone: list[int] = []
    left = list(range(units))
    for unit in scores.argsort():

        def total(u, gone=tuple(gone)):
            return error_without(seen, weight, {*gone, *columns[u].tolist()}) * len(seen) / len(x)

        costs = {u: total(u) for u in left}
        assert costs[unit] == pytest.approx(min(costs.values()), rel=1e-6)
        assert scores[unit] == pytest.approx(costs[unit], rel=1e-5)  # scores add up to the error of all that is gone
        gone += columns[unit].tolist()
        left.remove(unit)


def test_surgeon_of_many_units_at_a_time_is_near_the_one_by_one():
    """200 units, 3 at a time; the matrices shrink on the way."""
    x = samples(1, 200, tokens=1000, rank=120)
    weight = np.random.default_rng(2).normal(size=(20, 200))
    covariance = torch.from_numpy(x.T @ x / len(x))
    scores = surgeon(covariance, torch.from_numpy(weight), torch.arange(200)[:, None]).numpy()
    assert np.isfinite(scores).all() and len(np.unique(scores)) == 200
    ranked, drawn = scores.argsort(), np.random.default_rng(3).permutation(200)
    small = (weight**2).sum(0) * covariance.diagonal().numpy()
    for count in (100, 150):
        mine = error_without(x, weight, set(ranked[:count].tolist()))
        assert mine < error_without(x, weight, set(small.argsort()[:count].tolist()))
        assert mine < 0.7 * error_without(x, weight, set(drawn[:count].tolist()))


def test_surgeon_of_dead_and_identical_units():
    x = samples(4, 6)
    x[:, 2], x[:, 4] = 0, x[:, 1]
    weight = np.ones((3, 6))
    scores = surgeon(torch.from_numpy(x.T @ x / len(x)), torch.from_numpy(weight), torch.arange(6)[:, None])
    assert torch.isfinite(scores).all()
    order = scores.argsort().tolist()
    assert set(order[:2]) in ({2, 4}, {2, 1})  # the dead one and one of the twins cost nothing
    assert scores[order[1]] < 1e-2 * scores[order[2]]
    nothing = surgeon(torch.zeros(4, 4, dtype=torch.float64), torch.ones(2, 4), torch.arange(4)[:, None])
    assert torch.isfinite(nothing).all() and nothing.abs().max() < 1e-200
