"""Movement in the order of magnitudes against ranks by scipy; masks that differ against counting."""

import numpy as np
import pytest
import tiny
import torch
from scipy.stats import rankdata

from vp_core.comparing.movement import by_magnitude, movement, movements, order_of, views
from vp_core.ground.errors import VPError
from vp_core.ground.patterns import find_pattern
from vp_core.weights.masks import overlap
from vp_core.weights.matrices import find_matrices

DRAW = np.random.default_rng(3)
BEFORE = DRAW.normal(size=(31, 17)).astype(np.float32)
AFTER = (BEFORE + 0.2 * DRAW.normal(size=(31, 17))).astype(np.float32)


def ranks(values):
    return rankdata(np.abs(values.astype(np.float64)).ravel(), method="ordinal") - 1


def test_movement_is_that_of_ranks():
    found = movement(torch.from_numpy(BEFORE), torch.from_numpy(AFTER))
    moved = np.abs(ranks(AFTER) - ranks(BEFORE)) / BEFORE.size
    assert found.mean == pytest.approx(moved.mean(), rel=1e-12) and found.std == pytest.approx(moved.std(), rel=1e-12)
    assert 0.01 < found.mean < 0.3
    part = np.digitize(ranks(BEFORE), np.linspace(0, BEFORE.size, 21).round()[1:])
    assert found.bin_size.tolist() == [int((part == i).sum()) for i in range(20)]
    assert np.allclose(found.bin_mean, [moved[part == i].mean() for i in range(20)], rtol=1e-12)
    assert np.allclose(found.bin_std, [moved[part == i].std() for i in range(20)], rtol=1e-12)


def test_a_matrix_beside_itself_does_not_move_even_with_ties():
    tied = torch.from_numpy(BEFORE).round(decimals=1)
    found = movement(tied, tied.clone())
    assert (found.mean, found.std) == (0, 0)
    assert movement(tied, -3 * tied).mean == 0  # neither sign nor scale matter
    assert order_of(torch.tensor([[2.0, -1.0], [1.0, 0.0]])).tolist() == [3, 1, 2, 0]


def test_an_order_turned_over_moves_by_a_half():
    n = 1000
    rising = torch.arange(1, n + 1).float()[None]
    assert movement(rising, rising.flip(1)).mean == pytest.approx(0.5, abs=1e-6)


def test_fewer_weights_than_bins():
    found = movement(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[3.0, 2.0, 1.0]]))
    assert found.mean == pytest.approx((2 + 0 + 2) / 9) and found.bin_size.sum() == 3
    assert np.isnan(found.bin_mean[found.bin_size == 0]).all()


@pytest.fixture(scope="module")
def pair():
    one, other = tiny.transformer("bert", 0, torch.float32), tiny.transformer("bert", 1, torch.float32)
    matrices = find_matrices(one)
    return matrices, views(one, matrices), views(other, matrices)


def test_every_matrix_of_a_model(pair):
    matrices, one, other = pair
    found = movements(matrices, one, other)
    assert list(found) == [matrix.name for matrix in matrices]
    assert found["1.key"].mean == movement(one["1.key"], other["1.key"]).mean
    assert found["1.key"].mean == pytest.approx(1 / 3, abs=0.03)  # of independent orders


def test_checkpoints_that_do_not_fit(pair):
    matrices, one, other = pair
    with pytest.raises(VPError, match=r"no matrix 1\.ffn_out: only two of one architecture"):
        movements(matrices, one, {name: weight for name, weight in other.items() if name != "1.ffn_out"})
    with pytest.raises(VPError, match=r"0\.query is 48 × 48 in one checkpoint and 3 × 5 in the other"):
        movements(matrices, other | {"0.query": torch.ones(3, 5)}, one)
    with pytest.raises(VPError, match="cannot be compared"):
        movement(torch.ones(2, 3), torch.ones(3, 2))


@pytest.mark.parametrize("scope", ["per matrix", "global", "per row"])
def test_masks_by_weights_alone(pair, scope):
    matrices, one, other = pair
    first, second = (by_magnitude(matrices, weights, scope=scope).masks(0.3) for weights in (one, other))
    if scope == "global":
        low = np.quantile(np.concatenate([w.abs().numpy().ravel() for w in one.values()]), 0.3)
        assert np.array_equal(first.keep("1.value").numpy(), one["1.value"].abs().numpy() > low)
    agree, chance = overlap(first, second)["1.value"]
    differ = (first.keep("1.value") != second.keep("1.value")).double().mean().item()
    assert agree == pytest.approx(1 - differ) and chance == pytest.approx(0.58, abs=0.05)
    assert abs(agree - chance) < 0.05


def test_masks_of_neighbours(pair):
    matrices, one, _ = pair
    keep = by_magnitude(matrices, one, find_pattern("2:4")).masks(0.5).keep("0.ffn_in").view(-1, 4)
    assert (keep.sum(dim=1) == 2).all()
