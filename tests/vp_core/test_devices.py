"""Everything that computes follows the model's device: on a second one (`elsewhere`) the processor's numbers come out.

A tensor that is made on the wrong device raises there, as on CUDA; that it does is shown by mutations at the end.
"""

import bench_models
import numpy as np
import pytest
import tiny
import torch
from elsewhere import DEVICE, elsewhere, moved

from vp_core.asking.batches import make_batches
from vp_core.asking.evaluate import score
from vp_core.asking.kinds.classification import Classification
from vp_core.asking.tasks import find_task
from vp_core.carry_out import Stage
from vp_core.comparing.features import similarity
from vp_core.ground.errors import VPError
from vp_core.measuring import statistics
from vp_core.measuring.function_norms import collect_norms
from vp_core.measuring.measured import Measured
from vp_core.model import precision
from vp_core.model.precision import find_device
from vp_core.recipes import RECIPES, Recipe
from vp_core.squeezing.squeeze import squeeze, squeeze_masked
from vp_core.squeezing.timing import time_forward
from vp_core.weights.stage import WeightStage

BY_INDEX = ("gpt2", "llama", "bart")
"""Families whose classifier reads a token by its index: `elsewhere` cannot follow the gradient of that."""
FAMILIES = ("bert", "gpt2", "llama", "albert", "bart")


@pytest.fixture(autouse=True)
def second_device():
    with elsewhere():
        yield


def both(family, n=20):
    """A tiny float64 classifier measured on the processor and on the second device."""
    model, texts = bench_models.classifier(family), bench_models.texts(family, n)
    return [Measured(one, texts, "m", "d") for one in (model, moved(model))]


def close(found, expected):
    assert found.device.type == "cpu"
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def answers(model, texts):
    batches = make_batches(texts, range(len(texts)))
    with torch.no_grad():
        on = [{k: v.to(precision.device_of(model)) for k, v in batch.inputs.items()} for batch in batches]
        return torch.cat([model(**one).logits.cpu() for one in on])


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_measured(family):
    here, there = both(family)
    for name, expected in here.statistics().moments.items():
        close(there.statistics().moments[name].mean, expected.mean)
        close(there.statistics().variance(name), here.statistics().variance(name))
    for name, expected in here.covariances().all.items():
        close(there.covariances()[name].m2, expected.m2)
    if family in BY_INDEX:
        return
    for name, expected in here.gradients().effect.items():
        close(there.gradients().effect[name], expected)
    for name, expected in here.weight_effects().items():
        close(there.weight_effects()[name], expected)


def test_function_norms():
    here, there = both("bert")
    found, expected = (collect_norms(one.model, one.solving_batches()) for one in (there, here))
    close(found.histogram.total, expected.histogram.total)
    close(found.maxima, expected.maxima)


RECIPES_RUN = {
    "paper": Recipe(),
    "units least squares": RECIPES["units least squares"],
    "best": RECIPES["best"],
    "refit": RECIPES["units refit"],
    "magnitude": Recipe("magnitude", units=("heads", "ffn neurons"), budget="parameters", replacement="mean"),
    "fisher": Recipe("fisher", units=("ffn neurons",), budget="parameters", replacement="zero"),
}


@pytest.mark.parametrize("name", RECIPES_RUN)
@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
def test_pruned_and_squeezed(family, name):
    recipe = RECIPES_RUN[name]
    if family in BY_INDEX and name in ("refit", "fisher"):
        pytest.skip("the gradient of an index is made by autograd itself, outside of what `elsewhere` sees")
    here, there = both(family)
    if name == "best" and family in BY_INDEX:  # the same but for what needs gradients
        recipe = Recipe("surgeon", units=("ffn neurons", "values"), replacement="least squares", budget="parameters")
    pair = [Stage(here), Stage(there)]
    plans = [stage.plan(recipe, 0.3) for stage in pair]
    assert all(torch.equal(plans[0].keep[name], keep) for name, keep in plans[1].keep.items())
    old, new = (stage.pruned(recipe, 0.3) for stage in pair)
    assert precision.device_of(new) == DEVICE
    expected = answers(old, here.texts)
    close(answers(new, here.texts), expected)
    small = squeeze(new, plans[1])
    assert {t.device for t in (*small.parameters(), *small.buffers())} == {DEVICE}
    torch.testing.assert_close(answers(small, here.texts), expected, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("name", ["weights", "wanda", "2:4", "coreset"])
@pytest.mark.parametrize("family", ["bert", "llama"])
def test_single_weights(family, name):
    recipe = RECIPES[name]
    stages = [WeightStage(one) for one in both(family)]
    share = recipe.pattern.sparsity or 0.5
    old, new = (stage.pruned(recipe, share) for stage in stages)
    expected = answers(old, stages[0].measured.texts)
    close(answers(new, stages[0].measured.texts), expected)
    small = squeeze_masked(new, stages[1].masks(recipe, share))
    torch.testing.assert_close(answers(small, stages[0].measured.texts), expected, rtol=1e-7, atol=1e-8)


def test_score_precision_similarity_and_speed(monkeypatch):
    here, there = both("bert")
    task = find_task("mnli")
    question = Classification(here.texts, np.arange(20) % 3, task, (0, 1, 2))
    expected, found = (score(one.model, question) for one in (here, there))
    assert (found.value, found.right.tolist()) == (expected.value, expected.right.tolist())
    assert 0 <= score(there.model, question, "bfloat16").value <= 1
    with pytest.raises(VPError, match="int8 is arithmetic of the processor"):
        score(there.model, question, "int8")
    close(similarity(there.model, there.model, there.solving_batches()), torch.ones(2, dtype=torch.float64))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    *_, times = time_forward({"dense": there.model}, 2, 8, repeats=1)
    assert times["dense"].median > 0


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen3"])
def test_language_models(family):
    model = tiny.transformer(family)
    here, there = (Measured(one, bench_models.texts(family, 12), "m", "d") for one in (model, moved(model)))
    for name in here.statistics().moments:
        close(there.statistics().variance(name), here.statistics().variance(name))
    recipe = RECIPES["units least squares"]
    old, new = (Stage(one).pruned(recipe, 0.3) for one in (here, there))
    close(answers_of_tokens(new, here.texts), answers_of_tokens(old, here.texts))
    small = squeeze(new, Stage(there).plan(recipe, 0.3))
    close(answers_of_tokens(small, here.texts), answers_of_tokens(old, here.texts))


def answers_of_tokens(model, texts):
    (batch, *_) = make_batches(texts, range(len(texts)))
    with torch.no_grad():
        return model(**{k: v.to(precision.device_of(model)) for k, v in batch.inputs.items()}).logits.cpu()[:, 0]


def test_a_device_that_is_not_there():
    assert find_device("cpu") == torch.device("cpu")
    with pytest.raises(VPError, match=r"The device 'cuda:7' is not there: choose auto, or one of those that are, cpu"):
        find_device("cuda:7")
    for name in ("gpu", "cuda:x", "cpu:1", ""):
        with pytest.raises(VPError, match="Unknown device"):
            find_device(name)


def test_auto_takes_the_first_accelerator(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert find_device() == torch.device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert find_device() == torch.device("cuda") and find_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(VPError, match="cpu, cuda:0, cuda:1, mps"):
        find_device("cuda:2")


def test_a_tensor_made_on_the_wrong_device_fails(monkeypatch):
    """A batch's own inputs, the mask of real tokens, and zeros that are added up to, left on the processor."""
    _, there = both("bert")
    batch = there.solving_batches()[0]
    with pytest.raises(RuntimeError, match="same device"):
        there.model(**batch.inputs)
    with pytest.raises(RuntimeError, match="same device"):
        torch.zeros(3) + torch.zeros(3, device="cuda:0")
    right = statistics.batch_moments
    for wrong in (lambda y, real: right(y, real.cpu()), lambda y, real: right(y + torch.zeros(y.shape[1]), real)):
        monkeypatch.setattr(statistics, "batch_moments", wrong)
        with pytest.raises(VPError, match="same device"):
            both("bert")[1].statistics()
