"""The lowest scores, exact to one unit, against sorting in numpy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vp_core.movement import lowest as module
from vp_core.movement.lowest import lowest


def by_sorting(scores, sizes, budget):
    order = np.argsort(np.concatenate(scores), kind="stable")
    freed = np.cumsum(np.concatenate(sizes)[order])
    gone = np.zeros(len(order), dtype=bool)
    gone[order[: np.searchsorted(freed, budget, side="right")]] = True
    return np.split(gone, np.cumsum([len(one) for one in scores])[:-1])


@given(st.integers(0, 10**6), st.integers(1, 4), st.booleans(), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_against_sorting(seed, groups, ties, share):
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 30, groups)
    scores = [rng.integers(0, 4, n).astype(np.float32) if ties else rng.normal(size=n).astype(np.float32) for n in counts]
    sizes = [rng.integers(1, 50, n) for n in counts]
    budget = round(share * sum(int(one.sum()) for one in sizes))
    tensors = [torch.from_numpy(one) for one in scores], [torch.from_numpy(one) for one in sizes]
    found = lowest(*tensors, budget)
    assert all(np.array_equal(one.numpy(), two) for one, two in zip(found, by_sorting(scores, sizes, budget), strict=True))


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.75, 0.999, 1.0])
@pytest.mark.parametrize("ties", [False, True])
def test_many_units_are_not_all_sorted(monkeypatch, share, ties):
    """The same answer from those around the cut, also where all scores are equal and no sample tells them apart."""
    monkeypatch.setattr(module, "_SORTED", 100)
    monkeypatch.setattr(module, "_SAMPLE", 1 << 10)
    rng = np.random.default_rng(1)
    scores = [
        np.zeros(9000, np.float32) if ties else rng.normal(size=9000).astype(np.float32),
        rng.normal(size=500).astype(np.float32),
    ]
    sizes = [np.ones(9000, np.int64), rng.integers(1, 40, 500)]
    budget = round(share * sum(int(one.sum()) for one in sizes))
    as_number = torch.ones(1, dtype=torch.int64).expand(9000)
    found = lowest([torch.from_numpy(one) for one in scores], [as_number, torch.from_numpy(sizes[1])], budget)
    assert all(np.array_equal(one.numpy(), two) for one, two in zip(found, by_sorting(scores, sizes, budget), strict=True))


def test_few_are_looked_at():
    """Where scores differ a sample leaves few to be sorted; that is what makes single weights cheap."""
    draw = torch.Generator().manual_seed(0)
    scores, sizes = [torch.randn(1 << 19, generator=draw)], [torch.ones(1, dtype=torch.int64).expand(1 << 19)]
    low, high = module._bracket(scores, sizes, 1 << 18, 1 << 19)
    assert low < scores[0].median() < high and ((scores[0] >= low) & (scores[0] <= high)).float().mean() < 0.05
