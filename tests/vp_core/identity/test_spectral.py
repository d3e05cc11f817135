"""Spectral normalisation against its formula, in training, folded and saved."""

import copy
from functools import cache

import numpy as np
import pytest
import tiny
import torch
import transformers
from drawn import draw, exact
from torch import nn
from torch.nn.utils import parametrize
from transformers.pytorch_utils import Conv1D

from vp_core.ground.errors import VPError
from vp_core.ground.names import TYPES
from vp_core.identity.spectral import fold, is_normalised, normalise, normalise_left, put_norm, rescaled
from vp_core.model.blocks import Block
from vp_core.model.projections import find_projections, linear_map, weight_of
from vp_core.model.scatter import ScatterLinear
from vp_core.model.sharing import share
from vp_core.squeezing.blocks_off import without

model_of = cache(tiny.transformer)
LAMBDA = 5.0


def matrices(model, types=TYPES):
    """Every matrix that is normalised by itself, gates too."""
    found = {p.name: weight_of(model, p) for p in find_projections(model) if p.type in types}
    gates = {
        f"{p.name} gate": model.get_submodule(p.gate).weight[p.gate_start : p.gate_start + p.d_out]
        for p in find_projections(model)
        if p.gate and p.type in types
    }
    return found | gates


@pytest.mark.parametrize("family", tiny.TRANSFORMERS)
def test_normalised_trained_and_folded(family):
    """Each projection by itself, GPT-2's three in one matrix too; SGD steps in between keep σ at λ."""
    model = tiny.transformer(family, dtype=torch.float32)
    given = tiny.inputs(family, torch.float32)
    before = {n: p.shape for n, p in model.named_parameters()}
    normalise(model, LAMBDA)
    assert is_normalised(model)
    for name, matrix in matrices(model).items():
        assert exact(matrix) == pytest.approx(LAMBDA, rel=1e-4), name
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3)
    model.train()
    for _ in range(5):
        optimiser.zero_grad()
        with parametrize.cached():
            model(**given).logits.square().mean().backward()
        optimiser.step()
    with torch.no_grad():
        for _ in range(60):
            with parametrize.cached():
                model(**given)
    model.eval()
    for name, matrix in matrices(model).items():
        assert exact(matrix) == pytest.approx(LAMBDA, rel=1e-4), name
    expected = tiny.logits(model, given)
    fold(model)
    assert not is_normalised(model) and not any(hasattr(m, "parametrizations") for m in model.modules())
    assert {type(m) for m in model.modules()} == {type(m) for m in tiny.transformer(family).modules()}
    assert torch.equal(tiny.logits(model, given), expected)
    assert {n: p.shape for n, p in model.named_parameters()} == before
    assert all(p.is_contiguous() and p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
def test_only_the_chosen_types(family):
    model, dense = tiny.transformer(family), model_of(family)
    normalise(model, 2.0, ("value", "ffn_in"))
    for name, matrix in matrices(model).items():
        if name.split()[0].endswith(("value", "ffn_in")):
            assert exact(matrix) == pytest.approx(2, rel=1e-4)
        else:
            assert torch.equal(matrix, matrices(dense)[name])


def training_norm(weight, scale=LAMBDA, steps=200):
    """A Linear with the norm on it, its vectors converged, in training mode."""
    module = nn.Linear(weight.shape[1], weight.shape[0]).to(weight.dtype)
    module.weight = nn.Parameter(weight.clone())
    put_norm(module, scale)
    module.train()
    with torch.no_grad():
        for _ in range(steps):
            module.weight  # noqa: B018 (a step of power iteration)
    return module


@pytest.mark.parametrize("shape", [(7, 5), (5, 7), (1, 6), (6, 1), (1, 1)])
def test_the_gradient_goes_through_sigma(shape):
    """Against autograd through λ·W/σ(W) with torch's own σ."""
    weight, flow = draw(*shape, 3), draw(*shape, 4)
    module = training_norm(weight)
    found = module.weight
    (found * flow).sum().backward()
    plain = weight.clone().requires_grad_()
    expected = plain * LAMBDA / torch.linalg.matrix_norm(plain, 2)
    (expected * flow).sum().backward()
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(module.parametrizations.weight.original.grad, plain.grad, rtol=1e-8, atol=1e-10)


def test_steps_go_on_in_training_only():
    module = training_norm(draw(20, 30), steps=0)
    with torch.no_grad():
        module.parametrizations.weight.original.copy_(draw(20, 30, 9))
    module.eval()
    stale = [module.weight.detach().clone() for _ in range(3)]
    assert torch.equal(stale[0], stale[2]) and exact(stale[0]) > LAMBDA * 1.01
    module.train()
    with torch.no_grad():
        for _ in range(300):
            module.weight  # noqa: B018
    assert exact(module.weight) == pytest.approx(LAMBDA, rel=1e-4)


def test_folding_takes_no_further_step():
    """In training mode too it is what evaluation computes with, however far σ is from λ."""
    module = training_norm(draw(20, 30), steps=0)
    with torch.no_grad():
        module.parametrizations.weight.original.copy_(draw(20, 30, 9))
    expected = module.eval().weight.detach().clone()
    fold(module.train())
    assert torch.equal(module.weight, expected) and type(module) is nn.Linear


@pytest.mark.parametrize("scale", [1e-14, 1e-8, 1e8, 1e18])
def test_tiny_and_huge_weights_in_float32(scale):
    module = training_norm(draw(9, 6, dtype=torch.float32) * scale)
    assert exact(module.weight) == pytest.approx(LAMBDA, rel=1e-4)


def test_zeros_stay_zeros_and_may_become_something():
    module = training_norm(torch.zeros(4, 3))
    assert torch.equal(module.weight, torch.zeros(4, 3))
    (module.weight * draw(4, 3, dtype=torch.float32)).sum().backward()
    gradient = module.parametrizations.weight.original.grad
    assert torch.isfinite(gradient).all() and gradient.any()
    with torch.no_grad():
        module.parametrizations.weight.original.copy_(draw(4, 3, 5))
        for _ in range(200):
            module.weight  # noqa: B018
    assert exact(module.weight) == pytest.approx(LAMBDA, rel=1e-4)


def test_sigma_is_not_rounded_by_autocast():
    module = training_norm(draw(40, 40, dtype=torch.float32))
    with torch.autocast("cpu", torch.bfloat16):
        weight = module.weight
    assert weight.dtype == torch.float32 and exact(weight) == pytest.approx(LAMBDA, rel=1e-5)


@pytest.mark.parametrize("family", ["bert", "gpt2", "albert"])
def test_copies(family):
    """deepcopy has weights of its own, `share` the same ones; both are normalised, and folding one leaves the other alone."""
    model, given = tiny.transformer(family), tiny.inputs(family)
    normalise(model)
    expected = tiny.logits(model, given)
    deep, shared = copy.deepcopy(model), share(model)
    for one in (deep, shared):
        assert is_normalised(one) and torch.equal(tiny.logits(one, given), expected)
    with torch.no_grad():
        for p in deep.parameters():
            p.mul_(2)
    assert torch.equal(tiny.logits(model, given), expected)
    fold(deep)
    assert is_normalised(model) and is_normalised(shared) and not is_normalised(deep)
    own = {p.data_ptr() for p in model.parameters()}
    assert {p.data_ptr() for p in shared.parameters()} == own


@pytest.mark.parametrize("family", tiny.TRANSFORMERS)
def test_rescaled(family):
    model = model_of(family)
    before, dense = tiny.sha(model), matrices(model)
    found = matrices(rescaled(model, 3.0))
    for name, matrix in found.items():
        torch.testing.assert_close(matrix, dense[name] * (3 / exact(dense[name])), rtol=1e-4, atol=0)
    some = matrices(rescaled(model, 3.0, ("query",)))
    assert all(torch.equal(some[n], dense[n]) for n in some if not n.endswith("query"))
    assert tiny.sha(model) == before and not is_normalised(model)


@pytest.mark.parametrize("family", tiny.TRANSFORMERS)
def test_what_is_left_of_a_model(family):
    """Heads, an attention block and a feed-forward network are gone: every matrix still there has σ = λ, fused ones by part."""
    dense = model_of(family)
    last = max(p.layer for p in find_projections(dense))
    gone = [Block(0, "head", 0)] + ([Block(0, "ffn"), Block(last, "attention")] if last else [])
    small, given = without(dense, gone), tiny.inputs(family)
    normalise_left(small, dense, LAMBDA)
    heads = 1 if family == "llama" else 3
    for p in find_projections(dense):
        paths = [p.path, *([p.gate] if p.gate else [])]
        for path in paths:
            module = small.get_submodule(path)
            linear = module.linear if isinstance(module, ScatterLinear) else module
            if linear is None:
                assert (p.layer, p.type.startswith("ffn")) in ((0, True), (last, False))
                continue
            weight = linear.weight.T if isinstance(linear, Conv1D) else linear.weight
            if family == "modernbert" and p.gate:
                weight = weight[p.gate_start :][: p.d_out]
            if family in ("gpt2", "modernbert") and p.type in ("query", "key", "value"):
                rows = (heads if p.layer == 0 else 4) * 12
                weight = weight[TYPES.index(p.type) * rows :][:rows]
            assert exact(weight) == pytest.approx(LAMBDA, rel=1e-4), (p.name, path)
    expected = tiny.logits(small, given)
    fold(small)
    assert torch.equal(tiny.logits(small, given), expected) and not is_normalised(small)


@pytest.mark.parametrize("bad", [0, -5, float("nan"), float("inf"), "five", None])
def test_lambda_must_be_above_zero(bad):
    for refused in (normalise, rescaled):
        with pytest.raises(VPError, match="λ of spectral normalisation must be a number above 0") as raised:
            refused(tiny.transformer("bert"), bad)
        assert "\n" not in str(raised.value)


def test_what_cannot_be():
    model = tiny.transformer("bert")
    with pytest.raises(VPError, match="Unknown projection type"):
        normalise(model, 5, ("nose",))
    assert not is_normalised(model)
    normalise(model, 5, ("query",))
    with pytest.raises(VPError, match="normalised already"):
        normalise(model)


class Words(torch.utils.data.Dataset):
    def __init__(self, n=24):
        rng = np.random.default_rng(0)
        self.rows = [{"input_ids": torch.tensor(rng.integers(5, 99, 9)), "labels": int(rng.integers(2))} for _ in range(n)]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.rows[i]


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_in_the_trainer(family, tmp_path):
    """A few steps of Hugging Face's own Trainer, checkpoints off; the folded model is a plain one that loads again."""
    if family == "bert":
        model = tiny.transformer(family, dtype=torch.float32, num_labels=2)
    else:
        torch.manual_seed(0)
        settings_ = tiny.sizes("gpt2", 48, 56, 2) | {"vocab_size": 99, "num_labels": 2, "pad_token_id": 0}
        model = tiny.build("gpt2", "ForSequenceClassification", **settings_)
    normalise(model, LAMBDA)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path / "out"), max_steps=6, per_device_train_batch_size=8, learning_rate=1e-4, report_to=[],
        save_strategy="no", use_cpu=True, disable_tqdm=True, logging_strategy="no",
    )  # fmt: skip
    transformers.Trainer(model=model, args=arguments, train_dataset=Words()).train()
    trained = [n for n, p in model.named_parameters() if not torch.equal(p, before[n])]
    assert any("original" in n for n in trained)
    model.eval()
    for name, matrix in matrices(model).items():
        assert exact(matrix) == pytest.approx(LAMBDA, rel=2e-3), name  # one step of power iteration behind the weights
    ids = torch.stack([row["input_ids"] for row in Words(4).rows])
    expected = model(input_ids=ids).logits
    fold(model)
    model.save_pretrained(tmp_path / "m")
    loaded = type(model).from_pretrained(tmp_path / "m")
    assert torch.equal(loaded(input_ids=ids).logits, expected)
    assert all(exact(weight_of(loaded, p)) == pytest.approx(LAMBDA, rel=2e-3) for p in find_projections(loaded))
    assert type(linear_map(loaded, find_projections(loaded)[0].path)) in (nn.Linear, Conv1D)
