"""Histograms against numpy on the values themselves: the same bins, exact sums, quantiles to within a bin."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vp_core.measuring.histogram import BINS, Histogram, bins_of, edges

GRID = edges().numpy()
numbers = st.floats(0, 2.0**30, width=32) | st.floats(0, 8, width=32) | st.sampled_from([0.0, 1.0, 2.0**-24, 2.0**24, 2.0**-30])
rows = st.integers(1, 3).flatmap(
    lambda n: st.integers(1, 40).flatmap(lambda m: st.lists(st.lists(numbers, min_size=m, max_size=m), min_size=n, max_size=n))
)


def histogram(values, *parts):
    """One of all `values` (n, m), added in these parts of the columns."""
    found = Histogram.empty(len(values))
    for part in parts or (range(values.shape[1]),):
        found.add(range(len(values)), values[:, list(part)])
    return found


def same(a, b):
    assert torch.equal(a.counts, b.counts) and torch.equal(a.low, b.low) and torch.equal(a.high, b.high)
    torch.testing.assert_close(a.total, b.total, rtol=1e-14, atol=0)


def width_at(value):
    """The width of the bin that a value is in (the last one has no end: twice the value)."""
    i = min(int(np.searchsorted(GRID, value, side="right")) - 1, BINS - 1)
    return GRID[i + 1] - GRID[i] if i < BINS - 1 else np.inf


def test_the_edges():
    """1/32 of the octave's lower end apart, all of them float32 numbers."""
    assert len(GRID) == BINS + 1 and GRID[0] == 0 and np.isinf(GRID[-1])
    inner = GRID[1:-1]
    assert np.array_equal(inner, inner.astype(np.float32)) and (np.diff(inner) > 0).all()
    assert (np.diff(inner) <= inner[:-1] / 32).all()
    assert np.array_equal(GRID[24 * 32 : 25 * 32], 1 + np.arange(32) / 32)


def test_an_edge_belongs_to_the_bin_above_it():
    inner = edges()[1:-1].float()
    assert torch.equal(bins_of(inner), torch.arange(1, BINS))
    assert torch.equal(bins_of(torch.nextafter(inner, torch.zeros(()))), torch.arange(BINS - 1))


@given(rows)
def test_bins_are_numpys_and_the_rest_is_exact(values):
    x = np.array(values, dtype=np.float32)
    found = histogram(torch.from_numpy(x))
    for i, row in enumerate(x.astype(np.float64)):
        assert np.array_equal(found.counts[i], np.histogram(row, GRID)[0])
        np.testing.assert_allclose(found.mean()[i], row.mean(), rtol=1e-14)
        assert (found.low[i], found.high[i], found.count[i]) == (row.min(), row.max(), len(row))


@given(rows, st.randoms(use_true_random=False))
def test_any_split_and_any_order_are_equal(values, random):
    x = torch.tensor(values, dtype=torch.float32)
    whole, columns = histogram(x), list(range(x.shape[1]))
    random.shuffle(columns)
    cut = random.randint(0, len(columns))
    same(histogram(x, columns[:cut], columns[cut:]), whole)
    one, other = histogram(x, columns[:cut]), histogram(x, columns[cut:])
    kept = copy.deepcopy(other)
    forward, backward = copy.deepcopy(one), copy.deepcopy(other)
    forward.merge(other), backward.merge(one)
    same(forward, whole), same(backward, whole), same(other, kept)
    forward.merge(Histogram.empty(len(x)))
    same(forward, whole)


def test_variables_are_added_by_their_number():
    found, x = Histogram.empty(4), torch.tensor([[1.0, 2.0], [3.0, 5.0]])
    found.add([3, 1], x)
    assert found.count.tolist() == [0, 2, 0, 2] and found.mean().tolist() == [0, 4, 0, 1.5]
    found.add([1], torch.tensor([[0.5]]))
    assert found.low[1] == 0.5 and found.high[1] == 5 and found.low[3] == 1


@settings(max_examples=60)
@given(rows, st.floats(0, 1))
def test_quantiles_to_within_a_bin(values, q):
    """At least a share q of all values is at or below it, and the q-quantile by rank is in the bin that ends with it."""
    x = np.array(values, dtype=np.float32)
    found = histogram(torch.from_numpy(x)).quantile(q)
    for i, row in enumerate(np.sort(x.astype(np.float64))):
        exact = np.quantile(row, q, method="inverted_cdf")
        assert exact <= found[i] <= min(exact + width_at(exact), row.max())
        assert row.min() <= found[i]


@settings(max_examples=60)
@given(rows, numbers)
def test_shares_to_within_a_bin(values, threshold):
    x = np.array(values, dtype=np.float32)
    found = histogram(torch.from_numpy(x)).share_below(threshold)
    bin_ = np.searchsorted(GRID, threshold, side="right") - 1
    for i, row in enumerate(x.astype(np.float64)):
        inside = ((row >= GRID[bin_]) & (row < GRID[bin_ + 1])).mean()
        assert abs(float(found[i]) - (row < threshold).mean()) <= inside + 1e-12


def test_shares_are_exact_at_edges_and_outside():
    x = torch.rand(1, 5000, generator=torch.Generator().manual_seed(0)) * 3 + 0.1
    found, row = histogram(x), x[0].double().numpy()
    for edge in GRID[24 * 32 - 60 : 24 * 32 + 50 : 7]:
        assert float(found.share_below(edge)[0]) == (row < edge).mean()
    assert [float(found.share_below(v)[0]) for v in (0.0, row.min(), row.max() + 1, -1.0)] == [0, 0, 1, 0]
    shares = [float(found.share_below(v)[0]) for v in np.linspace(0, 4, 300)]
    assert shares == sorted(shares)


@pytest.mark.parametrize("q", [0.05, 0.5, 0.95])
def test_a_smooth_distribution(q):
    x = torch.randn(1, 20000, generator=torch.Generator().manual_seed(1)).abs()
    exact = np.quantile(x[0].numpy(), q)
    assert abs(float(histogram(x).quantile(q)[0]) - exact) <= exact / 32 + 1e-3


def test_nothing_seen():
    empty = Histogram.empty(2)
    empty.add([0, 1], torch.empty(2, 0))
    assert empty.count.tolist() == empty.mean().tolist() == empty.quantile(0.5).tolist() == [0, 0]
    assert empty.share_below(1.0).tolist() == [0, 0]
    assert empty.counts.shape == (2, BINS)
