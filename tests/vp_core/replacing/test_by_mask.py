"""Rows solved again for their masks: numpy's least squares for every subset, and what the ladder's rungs promise."""

from itertools import product

import numpy as np
import pytest
import torch

from vp_core.ground.errors import VPError
from vp_core.measuring.covariance import co_moments
from vp_core.replacing.by_mask import damped, inverse_diagonal, replaced, ridge_of, solve_rows
from vp_core.replacing.solve import DEFAULT_RIDGE, RIDGES


def drawn(n, d, tokens=400, seed=0):
    """(inputs (tokens, n) that depend on each other, weight (d, n), bias (d,)), float64."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(tokens, n)) @ rng.normal(size=(n, n)) + rng.normal(size=n)
    return tuple(torch.from_numpy(one) for one in (x, rng.normal(size=(d, n)), rng.normal(size=d)))


def brute(x, weight, keep, ridge):
    """The same minimum by numpy.linalg.lstsq on the centred inputs with √λ·I below them."""
    x = (x - x.mean(dim=0)).numpy()
    lam = ridge * x.var(axis=0).mean() * len(x)
    stacked = np.vstack([x, np.sqrt(lam) * np.eye(x.shape[1])])
    new = np.zeros(weight.shape)
    for row, (w, mask) in enumerate(zip(weight.numpy(), keep.numpy(), strict=True)):
        if mask.any():
            new[row, mask] = np.linalg.lstsq(stacked[:, mask], stacked @ w, rcond=None)[0]
    return torch.from_numpy(new)


@pytest.mark.parametrize("n", [1, 2, 5, 7])
def test_every_subset_is_least_squares(n):
    masks = torch.tensor(list(product([True, False], repeat=n)))
    x, weight, _ = drawn(n, len(masks))
    found = solve_rows(damped(co_moments(x, 1), 1e-3), weight, masks)
    assert torch.allclose(found, brute(x, weight, masks, 1e-3), rtol=1e-8, atol=1e-8)
    assert torch.equal(found != 0, masks)


@pytest.mark.parametrize("n", [60, 200])  # in float64 to the end, in float32 to a part of a per mille of the error
@pytest.mark.parametrize("share", [0.3, 0.8])
def test_wide_matrices(n, share):
    x, weight, _ = drawn(n, 30, tokens=2000)
    keep = torch.from_numpy(np.random.default_rng(1).random((30, n)) >= share)
    h = damped(co_moments(x, 1), 1e-2)
    found, exact = solve_rows(h, weight, keep), brute(x, weight, keep, 1e-2)
    error = lambda new: float((((weight - new) @ h) * (weight - new)).sum())  # noqa: E731
    assert error(exact) * (1 - 1e-9) <= error(found) <= error(exact) * (1 + (1e-9 if n < 100 else 1e-3))
    assert error(found) < 0.9 * error(weight * keep)


def test_one_weight_by_hand():
    """Two inputs with covariance [[1, ½], [½, 1]]: without the second weight the first takes over half of it."""
    h = torch.tensor([[1.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
    found = solve_rows(h, torch.tensor([[3.0, 2.0]], dtype=torch.float64), torch.tensor([[True, False]]))
    assert found.tolist() == [[pytest.approx(3 + 2 * 0.5), 0.0]]
    # what that costs is w²/[H⁻¹]_jj, the surgeon's score (Hassibi and Stork): 2²/(4/3) = 3
    assert float(inverse_diagonal(h)[1]) == pytest.approx(4 / 3)
    rest = torch.tensor([[3.0, 2.0]], dtype=torch.float64) - found
    assert float(((rest @ h) * rest).sum()) == pytest.approx(2**2 / (4 / 3))


def test_each_rung_is_nearer_to_the_dense_outputs():
    x, weight, bias = drawn(20, 8)
    keep = torch.from_numpy(np.random.default_rng(2).random((8, 20)) >= 0.5)
    moments, dense, errors = co_moments(x, 1), x @ weight.T + bias, {}
    for rung in ("zero", "mean", "least squares"):
        new, new_bias = replaced(rung, weight, bias, keep, moments, None)
        assert not new[~keep].any()
        errors[rung] = float((x @ new.T + new_bias - dense).square().mean())
    assert errors["least squares"] < errors["mean"] < errors["zero"]
    new, new_bias = replaced("mean", weight, bias, keep, moments, None)
    assert torch.equal(new, weight * keep)
    assert torch.allclose((x @ new.T + new_bias).mean(dim=0), dense.mean(dim=0))
    with pytest.raises(VPError, match="Unknown replacement 'hope'"):
        replaced("hope", weight, bias, keep, moments, None)


def test_nothing_kept_and_everything_kept():
    x, weight, bias = drawn(6, 3)
    moments = co_moments(x, 1)
    for rung in ("mean", "least squares"):
        new, new_bias = replaced(rung, weight, bias, torch.zeros(3, 6, dtype=torch.bool), moments, None)
        assert not new.any() and torch.allclose(new_bias, (x @ weight.T + bias).mean(dim=0))
        new, new_bias = replaced(rung, weight, bias, torch.ones(3, 6, dtype=torch.bool), moments, None)
        assert torch.allclose(new, weight) and torch.allclose(new_bias, bias)


def test_inputs_that_never_vary_are_solved_too():
    x, weight, bias = drawn(6, 3)
    x[:, 2], x[:, 4] = 5.0, x[:, 3]
    keep = torch.tensor([[True, False, True, False, True, True]] * 3)
    new, _ = replaced("least squares", weight, bias, keep, co_moments(x, 1), None)
    assert torch.isfinite(new).all()
    assert torch.isfinite(solve_rows(damped(co_moments(torch.ones(4, 6), 1)), weight, keep)).all()


def test_the_ridge_is_chosen_on_texts_it_was_not_fitted_on():
    x, weight, bias = drawn(30, 5, tokens=40)
    keep = torch.from_numpy(np.random.default_rng(3).random((5, 30)) >= 0.5)
    seen, unseen = co_moments(x[:33], 1), co_moments(x[33:], 1)
    assert ridge_of(weight, bias, keep, (seen, unseen)) in RIDGES
    assert ridge_of(weight, bias, keep, None) == DEFAULT_RIDGE == ridge_of(weight, bias, keep, (seen, co_moments(x[:0], 1)))
