"""Spectral norms by power iteration against torch's SVD, with and without a warm start."""

import copy
from functools import cache

import pytest
import tiny
import torch
from drawn import draw, exact
from hypothesis import example, given
from hypothesis import strategies as st

from vp_core.ground.errors import VPError
from vp_core.identity import spectral
from vp_core.measuring.spectral_norms import SpectralNorms, spectral_norm, spectral_norms
from vp_core.model.projections import find_projections, weight_of

model_of = cache(tiny.transformer)


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 10**6), st.sampled_from([1e-30, 1e-3, 1.0, 1e3, 1e30]))
@example(1, 50, 0, 1.0)
@example(50, 1, 0, 1.0)
@example(1, 1, 0, 1.0)
def test_random_matrices(rows, columns, seed, scale):
    matrix = draw(rows, columns, seed) * scale
    sigma, vectors = spectral_norm(matrix)
    assert sigma == pytest.approx(exact(matrix), rel=1e-4)
    assert vectors.shape == (columns, min(4, rows, columns))
    single = matrix.float()
    assert spectral_norm(single)[0] == pytest.approx(exact(single), rel=1e-4)


@pytest.mark.parametrize(("rows", "columns"), [(384, 384), (384, 1536), (768, 768)])
def test_matrices_of_real_size(rows, columns):
    """Whose top singular values are close together."""
    matrix = draw(rows, columns, dtype=torch.float32) * 0.02
    assert spectral_norm(matrix)[0] == pytest.approx(exact(matrix), rel=1e-4)


@pytest.mark.parametrize("gap", [0.5, 0.01, 1e-3, 1e-4])
@pytest.mark.parametrize("equal", [1, 2, 5, 20])
def test_equal_and_nearly_equal_top_values(equal, gap):
    """`equal` of them on top, thirty just below."""
    u, v = (torch.linalg.qr(draw(80, 80, seed))[0] for seed in (1, 2))
    values = torch.cat([torch.full((equal,), 3.0), torch.linspace(3 * (1 - gap), 3 * (1 - 2 * gap), 30)]).double()
    values = torch.cat([values, torch.rand(80 - len(values), dtype=torch.float64)])
    assert spectral_norm(u * values @ v.T)[0] == pytest.approx(3, rel=1e-4)


def test_orthogonal_matrices_and_zeros():
    q = torch.linalg.qr(draw(40, 40))[0]
    assert spectral_norm(q * 7)[0] == pytest.approx(7, rel=1e-9)
    for shape in ((3, 5), (1, 4), (6, 1)):
        sigma, vectors = spectral_norm(torch.zeros(shape))
        assert sigma == 0 and torch.isfinite(vectors).all()
        assert spectral_norm(torch.ones(shape), vectors)[0] == pytest.approx((shape[0] * shape[1]) ** 0.5)
    one = torch.zeros(30, 50)
    one[4, 9] = -2.0
    assert spectral_norm(one)[0] == pytest.approx(2, rel=1e-9)


def test_weights_that_are_no_numbers():
    with pytest.raises(VPError, match="NaN or infinite") as raised:
        spectral_norm(torch.tensor([[1.0, float("nan")]]))
    assert "\n" not in str(raised.value)


def steps(monkeypatch, matrix, start=None):
    """(σ, right vectors, how many steps it took)"""
    taken, qr = [], torch.linalg.qr
    monkeypatch.setattr(spectral.torch.linalg, "qr", lambda *args: taken.append(1) or qr(*args))
    found = spectral_norm(matrix, start)
    monkeypatch.undo()
    return *found, len(taken)


def test_a_warm_start_takes_fewer_steps(monkeypatch):
    matrix = draw(100, 200)
    _, vectors, cold = steps(monkeypatch, matrix)
    changed = matrix + 1e-4 * draw(100, 200, 1)
    sigma, _, warm = steps(monkeypatch, changed, vectors)
    assert sigma == pytest.approx(exact(changed), rel=1e-4) and warm < cold / 2
    other = draw(30, 20)
    assert spectral_norm(other, vectors)[0] == pytest.approx(exact(other), rel=1e-4)  # vectors of another shape: not used


@pytest.mark.parametrize("family", tiny.TRANSFORMERS)
def test_norms_of_all_projections(family):
    model = model_of(family)
    found = spectral_norms(model)
    assert found.keys() == {p.name for p in find_projections(model)}
    again = SpectralNorms()
    changed = copy.deepcopy(model)
    for _ in range(2):
        for p in find_projections(changed):
            assert again(changed)[p.name] == pytest.approx(exact(weight_of(changed, p)), rel=1e-4)
            break
        assert all(
            again(changed)[p.name] == pytest.approx(exact(weight_of(changed, p)), rel=1e-4) for p in find_projections(changed)
        )
        with torch.no_grad():
            for parameter in changed.parameters():
                parameter.add_(0.01 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
