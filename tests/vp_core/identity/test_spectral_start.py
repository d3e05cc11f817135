"""Where spectral normalisation begins: σ = λ exactly, the same mean outputs, and nearer to the model than dividing by σ/λ."""

from functools import cache

import bench_models
import pytest
import tiny
import torch
from drawn import exact
from hypothesis import given
from hypothesis import strategies as st

from vp_core.asking.batches import make_batches
from vp_core.ground.errors import VPError
from vp_core.ground.names import TYPES
from vp_core.identity.spectral import rescaled
from vp_core.identity.spectral_start import nearest, with_norm
from vp_core.measuring.covariance import CoMoments, co_moments, moments_at
from vp_core.model.projections import find_projections, linear_map, weight_of
from vp_core.model.sites import Site
from vp_core.opening.study import open_study
from vp_core.replacing.ladder import weight_and_bias

pytestmark = pytest.mark.usefixtures("exact_norms")
FAMILIES = [*tiny.TRANSFORMERS]


@cache
def setting(family):
    """(model, batches)"""
    if family in tiny.SEEING:
        model, batch = bench_models.batch_of(family)
        return model, [batch]
    return bench_models.classifier(family), make_batches(bench_models.texts(family, 60), range(60))


@pytest.mark.parametrize("scale", [1.5, 3.0, 9.0, 40.0])
@pytest.mark.parametrize("family", FAMILIES)
def test_nearer_than_rescaled(family, scale):
    """Each projection's outputs, on what it reads in the model: λ below all σ (they are cut), between them, above all."""
    model, batches = setting(family)
    before = tiny.sha(model)
    found, divided = nearest(model, batches, scale), rescaled(model, scale)
    moments = moments_at(model, sites_of(model), batches)
    for p in find_projections(found):
        assert exact(weight_of(found, p)) == pytest.approx(scale, rel=1e-6), p.name
        errors = [output_error(model, other, p, moments[p.name]) for other in (found, divided)]
        assert errors[0] < errors[1], p.name
    assert tiny.sha(model) == before and tiny.hooks(model) == 0


def test_the_demo_stays_nearer_to_its_answers():
    """A trained model at the paper's λ, all attention blocks at once."""
    study = open_study("demo", calibration=64)
    batches, asked = (make_batches(d, range(64)) for d in (study.calibration, study.question.data))
    models = study.model, nearest(study.model, batches, 5.0, TYPES[:4]), rescaled(study.model, 5.0, TYPES[:4])
    dense, ours, divided = (bench_models.outputs(m, asked) for m in models)
    assert (ours - dense).square().mean() < 0.7 * (divided - dense).square().mean()


def sites_of(model):
    return {Site(p.name, p.path, True, 0, p.d_in, p.decoder, p.tokens_of): 1 for p in find_projections(model)}


def output_error(model, other, p, inputs):
    """Mean squared distance of a projection's outputs in both models, for inputs with these moments."""
    (w, b), (new, new_b) = weight_and_bias(model, p), weight_and_bias(other, p)
    off = (new - w) @ inputs.mean + new_b - b
    return float(((new - w) @ inputs.matrix() * (new - w)).sum() + off.square().sum())


@pytest.mark.parametrize("family", FAMILIES)
def test_each_projection_keeps_its_mean(family):
    model, batches = setting(family)
    means = {name: m.mean for name, m in moments_at(model, sites_of(model), batches).items()}
    for scale in (1.5, 40.0):
        found = nearest(model, batches, scale)
        assert found.state_dict().keys() == model.state_dict().keys()  # no biases that transformers has no place for
        for p in (p for p in find_projections(model) if linear_map(model, p.path).bias is not None):
            (w, b), (new, new_b) = weight_and_bias(model, p), weight_and_bias(found, p)
            torch.testing.assert_close(new @ means[p.name] + new_b, w @ means[p.name] + b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("family", ["modernbert", "t5", "llama"])
def test_without_a_bias_the_least_energy_is_stretched(family):
    """λ above all σ: no other direction of the input would have changed the outputs, means included, by less."""
    model, batches = setting(family)
    found, moments = nearest(model, batches, 40.0), moments_at(model, sites_of(model), batches)
    for p in (p for p in find_projections(model) if linear_map(model, p.path).bias is None):
        change = (weight_of(found, p) - weight_of(model, p)).detach()
        energy = torch.linalg.eigvalsh(moments[p.name].second_moment()[0])
        off = float((change @ moments[p.name].second_moment()[0] * change).sum())
        assert off == pytest.approx(float(energy[0]) * float(change.square().sum()), rel=1e-6, abs=1e-9), p.name


def test_only_the_chosen_types():
    model, batches = setting("gpt2")
    found = nearest(model, batches, 2.0, ("key", "ffn_out"))
    for p in find_projections(model):
        if p.type in ("key", "ffn_out"):
            assert exact(weight_of(found, p)) == pytest.approx(2, rel=1e-6)
        else:
            assert torch.equal(weight_of(found, p), weight_of(model, p))


@given(st.integers(1, 9), st.integers(2, 9), st.floats(0.01, 100), st.integers(0, 1000))
def test_any_shape(rows, columns, scale, seed):
    """Wide matrices too, where no direction is free; what is changed is what varies least."""
    draw = torch.Generator().manual_seed(seed)
    w, b = torch.randn(rows, columns, generator=draw).double(), torch.randn(rows, generator=draw).double()
    x = torch.randn(50, columns, generator=draw).double() * torch.linspace(0.1, 1, columns) + 1
    new, new_b = with_norm(w, b, co_moments(x, 1), scale)
    assert exact(new) == pytest.approx(scale, rel=1e-9)
    torch.testing.assert_close((x @ new.T + new_b).mean(0), (x @ w.T + b).mean(0), rtol=1e-9, atol=1e-9)
    if scale > exact(w):  # every other direction of the input goes where it went
        directions = torch.linalg.eigh(torch.cov(x.T, correction=0))[1]
        torch.testing.assert_close(new @ directions[:, 1:], w @ directions[:, 1:], rtol=1e-8, atol=1e-8)


def test_a_direction_without_variance_costs_nothing():
    """Layer norms leave one: what λ needs is put there, and no output changes."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(40, 6, generator=draw).double()
    x = x - x.mean(dim=1, keepdim=True)
    w, b = torch.randn(4, 6, generator=draw).double(), torch.zeros(4).double()
    moments: CoMoments = co_moments(x, 1)
    new, new_b = with_norm(w, b, moments, 20.0)
    torch.testing.assert_close(x @ new.T + new_b, x @ w.T + b, rtol=1e-8, atol=1e-8)
    assert exact(new) == pytest.approx(20)


def test_bad_input():
    model, batches = setting("bert")
    with pytest.raises(VPError, match="no tokens"):
        nearest(model, [])
    for bad in (0, -1, float("nan")):
        with pytest.raises(VPError, match="above 0"):
            nearest(model, batches, bad)
    with pytest.raises(VPError, match="Unknown projection type"):
        nearest(model, batches, 5.0, (*TYPES, "nose"))
