"""Covariances of a large model, a layer at a time and packed: those of one pass, rounded to float32; what is solved by them."""

import bench_models
import pytest
import tiny
import torch

from vp_core.asking.batches import make_batches
from vp_core.carry_out import Stage
from vp_core.ground.errors import VPError
from vp_core.measuring import measured
from vp_core.measuring.covariance import collect_covariances, pack, unpack
from vp_core.measuring.layerwise import collect_by_layer
from vp_core.measuring.measured import Measured
from vp_core.model.projections import find_layers
from vp_core.recipes import RECIPES
from vp_core.replacing import ladder

LANGUAGE = ("gpt2", "qwen3")
FAMILIES = ("bert", "bart", "deberta-v2", "llama", "modernbert")


def material(family):
    """(model, batches, held-out batches)"""
    model = tiny.transformer(family) if family in LANGUAGE else bench_models.classifier(family)
    texts = bench_models.texts(family, 24)
    return model, make_batches(texts, range(0, 18), 60), make_batches(texts, range(18, 24), 60)


@pytest.mark.parametrize("family", (*FAMILIES, *LANGUAGE))
def test_a_layer_at_a_time_is_one_pass_rounded(family):
    model, batches, held_out = material(family)
    expected = collect_covariances(model, batches, held_out)
    found = collect_by_layer(model, batches, held_out, find_layers(model))
    for got, wanted in ((found.all, expected.all), (found.held_out, expected.held_out)):
        assert set(got) == set(wanted)
        for name, moments in wanted.items():
            assert got[name].count == moments.count and torch.equal(got[name].mean, moments.mean)
            assert torch.equal(got[name].m2.triu(), moments.m2.float().double().triu())
            assert torch.equal(got[name].m2, got[name].m2.transpose(1, 2)) and got[name].m2.dtype == torch.float64
    assert found.fitted("1.context").count == sum(int(batch.inputs["attention_mask"].sum()) for batch in batches)


def test_shared_layers_and_nothing_at_all_are_refused():
    model, batches, _ = material("albert")
    with pytest.raises(VPError, match="runs the same layer several times"):
        collect_by_layer(model, batches, [], find_layers(model))
    model, *_ = material("bert")
    with pytest.raises(VPError, match="no tokens"):
        collect_by_layer(model, [], [], find_layers(model))


@pytest.mark.parametrize("width", [1, 5])
def test_triangles(width):
    upper = torch.randn(3, width, width).triu()
    assert torch.equal(unpack(pack(upper), width), upper.double()) and pack(upper).shape == (3, width * (width + 1) // 2)


@pytest.mark.parametrize("name", ["units least squares", "units mean", "best"])
@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_a_large_model_is_solved_alike(family, name, monkeypatch):
    model, texts, recipe = bench_models.classifier(family), bench_models.texts(family), RECIPES[name]
    plain = Stage(Measured(model, texts, "m", "d")).pruned(recipe, 0.3)
    for module in (measured, ladder):
        monkeypatch.setattr(module, "LARGE", 0)
    stage = Stage(Measured(model, texts, "m", "d"))
    assert stage.measured.large
    batches = make_batches(texts, range(len(texts)))
    expected = bench_models.outputs(plain, batches)
    for _ in range(2):  # the second time by what was kept
        torch.testing.assert_close(bench_models.outputs(stage.pruned(recipe, 0.3), batches), expected, rtol=1e-3, atol=1e-3)
