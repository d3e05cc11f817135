"""Moments against numpy in float64, in any split, order and merge."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler

from vp_core.measuring.moments import Moments, batch_moments, ewmv_update


def close(moments, rows):
    """Equal to numpy's two-pass values to 1e-10, relative to the spread and size of the data."""
    rows = np.asarray(rows, dtype=np.float64)
    assert moments.count == len(rows)
    np.testing.assert_allclose(moments.mean.numpy(), rows.mean(0), rtol=1e-10, atol=1e-10 * rows.std(0).max() + 1e-300)
    expected = rows.var(0, ddof=1) if len(rows) > 1 else np.zeros(rows.shape[1])
    np.testing.assert_allclose(moments.variance().numpy(), expected, rtol=1e-10)


def test_by_hand():
    # Neuron A sees 2, 4 in one batch and 9 in another: mean 15/3 = 5; (2-5)² + (4-5)² + (9-5)² = 9 + 1 + 16 = 26; 26/2 = 13.
    # Neuron B sees 1, 1, 1: mean 1, variance 0. The row (100, 100) is padding.
    moments = Moments.empty(2)
    moments.update(torch.tensor([[2.0, 1.0], [4.0, 1.0], [100.0, 100.0]]), torch.tensor([1, 1, 0]))
    assert moments.mean.tolist() == [3.0, 1.0]  # (2 + 4) / 2
    assert moments.variance().tolist() == [2.0, 0.0]  # (1 + 1) / 1
    moments.update(torch.tensor([[9.0, 1.0]]))
    assert (moments.count, moments.mean.tolist(), moments.m2.tolist()) == (3, [5.0, 1.0], [26.0, 0.0])
    assert moments.variance().tolist() == [13.0, 0.0]
    moments.reset()
    assert (moments.count, moments.mean.tolist(), moments.m2.tolist()) == (0, [0.0, 0.0], [0.0, 0.0])


@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.integers(0, 30), min_size=1, max_size=8).filter(lambda sizes: sum(sizes) > 1),
    padding=st.integers(0, 40),
    mean=st.sampled_from([0.0, 1.0, -1e4, 1e8]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
@settings(max_examples=120)
def test_any_split_order_merge_and_padding(seed, sizes, padding, mean, dtype):
    rng = np.random.default_rng(seed)
    neurons, real_rows, parts = 5, [], []
    for size in sizes:
        y = torch.from_numpy(rng.normal(mean, 1, (size + padding, neurons))).to(dtype)
        real = np.zeros(size + padding, dtype=np.int64)
        real[rng.permutation(size + padding)[:size]] = 1
        y[real == 0] = 1e6  # what stands in padding must not matter
        real_rows.append(y[real == 1].double().numpy())
        parts.append(batch_moments(y, torch.from_numpy(real)))
    rows = np.concatenate(real_rows)
    if dtype is torch.float64 or abs(mean) < 1e8:  # in float32, 1e8 ± 1 is one number: see the next test
        order = rng.permutation(len(parts))
        total = Moments.empty(neurons)
        for i in order:
            total.merge(parts[i])
        close(total, rows)
        # A tree of merges gives the same as a chain.
        left, right = Moments.empty(neurons), Moments.empty(neurons)
        for i, part in enumerate(parts):
            (left if i % 2 else right).merge(part)
        left.merge(right)
        close(left, rows)


def test_mean_1e8_variance_1_over_many_tokens():
    rng = np.random.default_rng(0)
    rows = 1e8 + rng.standard_normal((20_000, 3))
    total = Moments.empty(3)
    for part in np.array_split(rows, 77):
        total.update(torch.from_numpy(part))
    close(total, rows)
    np.testing.assert_allclose(total.variance().numpy(), 1, rtol=0.05)


def test_first_token_far_from_the_rest():
    """The first token of a sentence is an outlier in real models; it must not spoil what is left."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((700, 4))
    rows[0] = [1e3, -1e4, 1e5, 0]
    close(batch_moments(torch.from_numpy(rows)), rows)


def test_neurons_near_and_far_from_0_together():
    """Only those whose mean is many deviations from 0 are shifted; on either side of the bound all are right."""
    rng = np.random.default_rng(0)
    means = np.array([0, 3, -50, 90, 99, 101, 110, 1e3, -1e5, 1e8, 7])
    rows = rng.normal(means, 1, (5_000, 11))
    rows[:, -1] = 7  # never moves
    found = batch_moments(torch.from_numpy(rows), torch.from_numpy((np.arange(5_000) % 3 > 0).astype(np.int64)))
    close(found, rows[np.arange(5_000) % 3 > 0])
    assert found.mean[-1].item() == 7 and found.m2[-1].item() == 0


def test_chunks_inside_a_batch_change_nothing():
    rng = np.random.default_rng(0)
    rows = rng.normal(3, 2, (2_000, 300))  # 600,000 numbers: many chunks
    close(batch_moments(torch.from_numpy(rows)), rows)


def test_sklearn_agrees():
    rng = np.random.default_rng(1)
    scaler, moments = StandardScaler(), Moments.empty(6)
    for size in (3, 1, 40, 7):
        part = rng.normal(5, 3, (size, 6))
        scaler.partial_fit(part)
        moments.update(torch.from_numpy(part))
    np.testing.assert_allclose(moments.mean, scaler.mean_, rtol=1e-12)
    np.testing.assert_allclose(moments.m2 / moments.count, scaler.var_, rtol=1e-12)  # sklearn's variance is the biased one


def test_nothing_and_one_token():
    empty = Moments.empty(2)
    empty.merge(Moments.empty(2))
    assert empty.count == 0
    all_padding = batch_moments(torch.full((4, 2), 7.0), torch.zeros(4, dtype=torch.long))
    assert (all_padding.count, all_padding.mean.tolist()) == (0, [0.0, 0.0])
    one = batch_moments(torch.tensor([[3.0, -1.0]]))
    assert (one.mean.tolist(), one.variance().tolist()) == ([3.0, -1.0], [0.0, 0.0])


def test_a_neuron_that_never_moves_has_variance_exactly_zero():
    y = torch.full((501, 1), 0.1)
    assert batch_moments(y).variance().item() == 0.0


def test_merge_and_update_leave_the_other_and_the_input_alone():
    y = torch.randn(10, 2, dtype=torch.float64)
    before = y.clone()
    first, second = batch_moments(y), batch_moments(y + 1)
    saved = (second.count, second.mean.clone(), second.m2.clone())
    first.merge(second)
    assert torch.equal(y, before)
    assert (second.count, second.mean.tolist(), second.m2.tolist()) == (saved[0], saved[1].tolist(), saved[2].tolist())


@given(seed=st.integers(0, 2**32 - 1), alpha=st.floats(0, 1), batches=st.integers(1, 6))
@settings(max_examples=40)
def test_moving_variance_is_the_papers_equation_4(seed, alpha, batches):
    rng = np.random.default_rng(seed)
    parts = [rng.normal(rng.normal(), rng.random() + 0.1, (rng.integers(2, 9), 3)) for _ in range(batches)]
    ours = None
    for part in parts:
        ours = ewmv_update(ours, batch_moments(torch.from_numpy(part)), alpha)
    for neuron in range(3):
        sigma_hat = None
        for part in parts:
            y = part[:, neuron]
            m = len(y)
            mu = sum(y) / m
            sigma2 = sum((y[j] - mu) ** 2 for j in range(m)) / (m - 1)  # eq. 3
            sigma_hat = sigma2 if sigma_hat is None else alpha * sigma2 + (1 - alpha) * sigma_hat  # eq. 4
        np.testing.assert_allclose(ours[neuron].item(), sigma_hat, rtol=1e-10)
