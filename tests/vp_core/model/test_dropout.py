"""Lean dropout: what it puts out, its derivative, its draws, and what it keeps."""

from unittest.mock import patch

import pytest
import tiny
import torch
from torch.nn import functional as F

from vp_core.model.attending import dropout as attention
from vp_core.model.attending.dropout import LEAN, dropped_attention
from vp_core.replacing.prune import prune
from vp_core.squeezing.cut.shapes import install
from vp_core.squeezing.squeeze import squeeze

TEXTS, HEADS, TOKENS, WIDTH, P = 2, 3, 7, 5, 0.25


def parts(seed=0, heads=HEADS, dtype=torch.float64):
    """Query, key and value, whose gradients are wanted."""
    generator = torch.Generator().manual_seed(seed)
    sizes = ((HEADS, WIDTH), (heads, WIDTH), (heads, WIDTH + 1))
    return [torch.randn(TEXTS, h, TOKENS, w, generator=generator, dtype=dtype).requires_grad_() for h, w in sizes]


def masks(kind):
    """What is looked at, by kind; the second text's last two tokens are padding, and its first query sees nothing."""
    seen = torch.ones(TEXTS, 1, TOKENS, TOKENS, dtype=torch.bool)
    seen[1, :, :, -2:] = False
    seen[1, :, 0] = False
    return {"none": None, "seen": seen, "added": torch.randn(1, HEADS, TOKENS, TOKENS, dtype=torch.float64)}.get(kind)


def stays(query, key, mask, causal):
    """Where a weight stays, by what the same seed makes of values that are the unit matrix."""
    unit = torch.eye(TOKENS, dtype=torch.float64).expand(TEXTS, HEADS, TOKENS, TOKENS)
    torch.manual_seed(5)
    return dropped_attention(query, key, unit, mask, P, causal) != 0


@pytest.mark.parametrize("kind", ["none", "seen", "added", "causal"])
@pytest.mark.parametrize("block", [1, 2 * TOKENS**2, 2**19])
def test_output_and_derivative_are_those_of_the_formula_with_the_same_draws(kind, block):
    query, key, value = parts()
    mask, causal = masks(kind), kind == "causal"
    with patch.object(attention, "_BLOCK", block):
        kept = stays(query, key, mask, causal)
        torch.manual_seed(5)
        found = dropped_attention(query, key, value, mask, P, causal)
        gradient = torch.randn(found.shape, dtype=torch.float64)
        derivative = torch.autograd.grad(found, (query, key, value), gradient)
    scores = query @ key.mT / WIDTH**0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    if causal:
        scores = scores + torch.full((TOKENS, TOKENS), -torch.inf, dtype=torch.float64).triu(1)
    blind = (scores == -torch.inf).all(-1, keepdim=True)
    weights = scores.masked_fill(blind, 0).softmax(-1).masked_fill(blind, 0)
    expected = (weights * kept / (1 - P)) @ value
    assert 0.6 < kept[weights > 0].double().mean() < 0.9
    assert torch.allclose(found, expected, rtol=1e-12, atol=1e-12)
    for one, other in zip(derivative, torch.autograd.grad(expected, (query, key, value), gradient), strict=True):
        assert torch.allclose(one, other, rtol=1e-11, atol=1e-12)


def test_few_heads_of_the_key_are_shared():
    query, key, value = parts(heads=1)
    wide = [part.expand(-1, HEADS, -1, -1) for part in (key, value)]
    torch.manual_seed(1)
    shared = dropped_attention(query, key, value, None, P, enable_gqa=True)
    torch.manual_seed(1)
    assert torch.equal(shared, dropped_attention(query, *wide, None, P))


@pytest.mark.parametrize("p", [0.1, 0.5, 1.0])
def test_as_many_are_dropped_as_asked_for_whatever_their_place(p):
    query, key = (torch.zeros(8, 4, 64, 2) for _ in range(2))
    torch.manual_seed(0)
    found = dropped_attention(query, key, torch.eye(64).expand(8, 4, 64, 64), None, p)
    stayed = (found > 0).double()
    sigma = (p * (1 - p) / stayed.numel()) ** 0.5
    assert abs(stayed.mean() - (1 - p)) <= 4 * sigma
    assert p == 1 or torch.allclose(found[found > 0], torch.tensor(1 / 64 / (1 - p)), rtol=2e-5)
    for sums in (stayed.mean((0, 1, 2)), stayed.mean((0, 1, 3)), stayed.mean((1, 2, 3))):
        assert (sums - (1 - p)).abs().max() <= 5 * sigma * (stayed.numel() / (stayed.numel() / len(sums))) ** 0.5
    pairs = (stayed[..., 1:] - stayed.mean()) * (stayed[..., :-1] - stayed.mean())
    assert abs(pairs.mean()) <= 5 * sigma  # neighbours say nothing of each other


def test_draws_come_from_the_generator_of_torch():
    query, key, value = parts()

    def drawn(seed):
        torch.manual_seed(seed)
        return dropped_attention(query, key, value, None, P), dropped_attention(query, key, value, None, P)

    (first, second), again = drawn(3), drawn(3)
    assert torch.equal(first, again[0]) and torch.equal(second, again[1])
    assert not torch.equal(first, second) and not torch.equal(first, drawn(4)[0])


def small(family="bert", dtype=torch.float64, **settings):
    """A squeezed tiny model whose attention drops weights in training, and nothing else does."""
    model = tiny.transformer(family, dtype=dtype, **settings)
    plan = tiny.random_plan(model)
    return squeeze(prune(model, plan, tiny.random_constants(model)), plan)


def test_a_squeezed_model_trains_with_it_and_is_as_before_in_evaluation():
    model, inputs = small(attention_probs_dropout_prob=0.2), tiny.inputs("bert")
    calls = []
    with patch.object(
        attention, "dropped_attention", lambda *args, **named: calls.append(1) or dropped_attention(*args, **named)
    ):
        lean = tiny.logits(model, inputs)
        assert not calls
        model.train()(**inputs).logits.sum().backward()
    assert len(calls) == model.config.num_hidden_layers == 2
    model.eval().set_attn_implementation("sdpa")
    assert torch.equal(lean, tiny.logits(model, inputs))
    read = tiny.transformer("bert")
    install(read, model.squeezed)
    assert read.config._attn_implementation == LEAN


def test_nothing_as_large_as_the_weights_is_kept():
    query, key, value = (torch.randn(1, 2, 64, 4, requires_grad=True) for _ in range(3))

    def kept(attend):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            attend(query, key, value, None, P)
        return max(sizes)

    assert kept(dropped_attention) == query.numel() < kept(F.scaled_dot_product_attention) == 2 * 64 * 64


def test_under_autocast_it_is_float32_within_as_torchs_is():
    query, key, value = parts(dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        torch.manual_seed(2)
        found = dropped_attention(query, key, value, None, P)
        derivative = torch.autograd.grad(found.sum(), query)[0]
    torch.manual_seed(2)
    exact = dropped_attention(query.float(), key.float(), value.float(), None, P)
    assert found.dtype == derivative.dtype == torch.bfloat16
    assert torch.equal(found, exact.bfloat16())


@pytest.mark.parametrize(("family", "settings"), [
    ("llama", {"attention_dropout": 0.2}), ("gpt2", {"attn_pdrop": 0.2}), ("t5", {"dropout_rate": 0.2}),
    ("bart", {"attention_dropout": 0.2}), ("vit", {"attention_probs_dropout_prob": 0.2}),
])  # fmt: skip
def test_other_families_train(family, settings):
    model, inputs = small(family, **settings), tiny.inputs(family)
    assert model.config._attn_implementation == LEAN
    torch.manual_seed(0)
    first = model.train()(**inputs).logits
    torch.manual_seed(0)
    assert torch.equal(first, model(**inputs).logits) and not torch.equal(first, model(**inputs).logits)
    first.sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
