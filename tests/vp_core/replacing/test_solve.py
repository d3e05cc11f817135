"""Closed forms against numpy's lstsq and scikit-learn's Ridge; every rung is at least as good as the one below."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from vp_core.measuring.covariance import co_moments
from vp_core.replacing.regression import Sums
from vp_core.replacing.solve import DEFAULT_RIDGE, HELD_OUT_DENSITY, RIDGES, best_ridge, factorise, held_out_error, output_error


def problem(seed, tokens=80, n=7, d=4):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(tokens, n)) @ rng.normal(size=(n, n)) + rng.normal(size=n) * 3
    return x, rng.normal(size=(d, n)), rng.normal(size=d), rng.permutation(n)


@given(seed=st.integers(0, 10**6), ridge=st.sampled_from((1e-6, 1e-3, 0.1)))
@settings(max_examples=20)
def test_every_number_of_columns_is_solved_as_ridge_and_lstsq_do(seed, ridge):
    x, weight, bias, order = problem(seed)
    n, w, b = len(order), torch.from_numpy(weight), torch.from_numpy(bias)
    moments = co_moments(torch.from_numpy(x), 1)
    factor = factorise(moments.matrix(), moments.mean, torch.from_numpy(order), ridge)
    level = ridge * moments.matrix().diagonal().mean().item()
    for kept in range(n + 1):
        new, new_bias = factor.solve(w, b, kept)
        stays, goes = order[:kept], order[kept:]
        assert not new[:, goes].any()
        if not kept:  # nothing but the mean output is left
            torch.testing.assert_close(new_bias, torch.from_numpy(x.mean(0) @ weight.T + bias), rtol=1e-10, atol=1e-10)
            continue
        # What went is predicted from what stays: W'_K − W_K is the ridge regression of W_P h_P on h_K.
        target = x[:, goes] @ weight[:, goes].T
        fit = Ridge(alpha=level * len(x)).fit(x[:, stays], target)
        np.testing.assert_allclose(new.numpy()[:, stays] - weight[:, stays], fit.coef_, atol=1e-8)
        np.testing.assert_allclose(new_bias.numpy() - bias, fit.intercept_, atol=1e-8)
        again = np.concatenate([x[:, stays] - x[:, stays].mean(0), np.sqrt(level * len(x)) * np.eye(kept)])
        moved = np.linalg.lstsq(again, np.concatenate([target - target.mean(0), np.zeros((kept, len(weight)))]), rcond=None)[0]
        np.testing.assert_allclose(new.numpy()[:, stays] - weight[:, stays], moved.T, atol=1e-8)
    assert torch.equal(factor.solve(w, b, n)[0], w)


def rungs(moments, weight, bias, order, kept, ridge):
    """name → (W', b') of the three closed forms, the first two written out here."""
    goes = order[kept:]
    zero = weight.index_fill(1, goes, 0)
    return {
        "zero": (zero, bias),
        "mean": (zero, bias + (weight - zero) @ moments.mean),
        "least squares": factorise(moments.matrix(), moments.mean, order, ridge).solve(weight, bias, kept),
    }


@given(seed=st.integers(0, 10**6), kept=st.integers(0, 7), ridge=st.sampled_from(RIDGES), twins=st.booleans())
@settings(max_examples=60)
def test_each_rung_is_at_least_as_good_as_the_one_below(seed, kept, ridge, twins):
    x, weight, bias, order = problem(seed, tokens=30)
    if twins:
        x[:, 1], x[:, 2] = x[:, 0], 4.0  # an identical one and a dead one
    weight, bias, order = (torch.from_numpy(v) for v in (weight, bias, order))
    moments = co_moments(torch.from_numpy(x), 1)
    errors = []
    for new, new_bias in rungs(moments, weight, bias, order, kept, ridge).values():
        errors.append(output_error(moments.matrix(), moments.mean, weight, bias, new, new_bias))
        found = torch.from_numpy(x) @ (weight - new).T + bias - new_bias  # the same by its definition
        assert errors[-1] == pytest.approx(found.square().sum(dim=1).mean().item(), rel=1e-8, abs=1e-9)
    zero, mean, least_squares = errors
    assert mean <= zero + 1e-9 and least_squares <= mean + 1e-9
    if 0 < kept < 7 and not twins:
        assert least_squares < 0.999 * mean < mean < zero


def test_identical_dead_and_no_coordinates_at_all_have_finite_solutions():
    x = torch.randn(5, 20, dtype=torch.float64)  # fewer tokens than coordinates
    x[:, 3], x[:, 7] = x[:, 4], 0
    for values in (x, torch.zeros(5, 20, dtype=torch.float64)):
        moments = co_moments(values, 1)
        for ridge in RIDGES:
            new, bias = factorise(moments.matrix(), moments.mean, torch.arange(20), ridge).solve(
                torch.ones(2, 20), torch.zeros(2), 10
            )
            assert torch.isfinite(new).all() and torch.isfinite(bias).all()
            assert new.abs().max() < 1e6


def test_choose_takes_the_smallest_error_and_of_equals_the_more_cautious():
    assert best_ridge((1e-3, 1e-2, 1e-1), lambda ridge: abs(ridge - 1e-2)) == 1e-2
    assert best_ridge(RIDGES, lambda ridge: 1.0) == max(RIDGES)


def sums(x, y, w, parts):
    """Regression of the tokens, added in these parts, the last of them merged in afterwards."""
    cuts = np.array_split(np.arange(len(x)), parts)
    added, apart = Sums(x.shape[1], y.shape[1]), Sums(x.shape[1], y.shape[1])
    for i, rows in enumerate(cuts):
        (apart if i and i + 1 == len(cuts) else added).add(*(torch.from_numpy(v[rows]) for v in (x, y, w)))
    return added.moments().merged(apart.moments())


@given(
    seed=st.integers(0, 10**6), ridge=st.sampled_from(RIDGES), parts=st.integers(1, 6), shift=st.sampled_from((0.0, 1e4)),
    tokens=st.sampled_from((5, 60)),
)  # fmt: skip
@settings(max_examples=40)
def test_weighted_regression_is_scikit_learns_on_the_shifted_target(seed, ridge, parts, shift, tokens):
    """‖xW'ᵀ + b' − y‖² + λ‖W' − W‖² is a ridge regression of y − xWᵀ towards zero."""
    rng = np.random.default_rng(seed)
    x, weight, bias, _ = problem(seed, tokens)
    x += shift
    y = x @ weight.T + bias + rng.normal(size=(tokens, 4))
    w = rng.uniform(0, 2, tokens)
    w[rng.integers(tokens, size=tokens // 3)] = 0  # tokens that do not count at all
    w[0] = 1
    near = weight + rng.normal(size=weight.shape) * 0.3
    found = sums(x, y, w, parts)
    deviation = x - np.average(x, axis=0, weights=w)
    level = ridge * (w[:, None] * deviation**2).sum(0).mean()
    fit = Ridge(alpha=level).fit(x, y - x @ near.T, sample_weight=w)
    new, new_bias = found.ridge(torch.from_numpy(near), ridge)
    np.testing.assert_allclose(new.numpy() - near, fit.coef_, atol=1e-6)
    np.testing.assert_allclose(new_bias, fit.intercept_, atol=1e-6 * (1 + shift))
    residual = ((x @ new.numpy().T + new_bias.numpy() - y) ** 2).sum(1)
    assert found.error(new, new_bias) == pytest.approx(np.average(residual, weights=w), rel=1e-5, abs=1e-6)
    assert found.weight == pytest.approx(w.sum())


def test_the_ridge_is_chosen_on_what_the_candidates_have_not_seen():
    rng = np.random.default_rng(0)
    one, weight = np.ones(12), np.zeros((2, 10))
    x, unseen = rng.normal(size=(12, 10)), rng.normal(size=(500, 10))
    true = rng.normal(size=(2, 10))
    for noise, chosen in ((0.0, min(RIDGES)), (30.0, max(RIDGES))):  # nothing to be cautious about; nothing but noise
        fit = sums(x, x @ true.T + noise * rng.normal(size=(12, 2)), one, 1)
        held_out = sums(unseen, unseen @ true.T, np.ones(500), 1)
        assert fit.best_ridge(held_out, torch.from_numpy(weight)) == chosen
    nothing = Sums(10, 2).moments()
    assert fit.best_ridge(nothing, torch.from_numpy(weight)) == DEFAULT_RIDGE
    assert nothing.best_ridge(fit, torch.from_numpy(weight)) == DEFAULT_RIDGE
    assert nothing.merged(fit) is fit and fit.merged(nothing) is fit


def test_no_inputs_at_all_leave_the_mean_of_the_target():
    y = np.random.default_rng(1).normal(size=(9, 3)) + 2
    w = np.linspace(0.1, 1, 9)
    new, bias = sums(np.zeros((9, 0)), y, w, 2).ridge(torch.zeros(3, 0, dtype=torch.float64), 0.1)
    assert new.shape == (3, 0)
    np.testing.assert_allclose(bias, np.average(y, axis=0, weights=w), rtol=1e-12)


@given(seed=st.integers(0, 10**6), ridge=st.sampled_from(RIDGES), n=st.integers(1, 7))
@settings(max_examples=40)
def test_the_error_on_held_out_inputs_is_that_of_the_solution_on_the_others(seed, ridge, n):
    x, weight, bias, order = (torch.from_numpy(v) for v in problem(seed, n=n))
    seen, unseen = co_moments(x[:60], 1), co_moments(x[60:], 1)
    found = held_out_error((seen.matrix(), seen.mean), (unseen.matrix(), unseen.mean), weight, order)(ridge)
    new, new_bias = factorise(seen.matrix(), seen.mean, order, ridge).solve(weight, bias, round(HELD_OUT_DENSITY * n))
    missed = x[60:] @ (weight - new).T + bias - new_bias
    assert found == pytest.approx(float(missed.square().sum(dim=1).mean()), rel=1e-8)
