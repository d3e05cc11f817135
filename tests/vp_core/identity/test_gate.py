"""The gate against its formula, and models with gates against models without the blocks: the same bits."""

import copy
from functools import cache

import brute_norms
import numpy as np
import pytest
import tiny
import torch

from vp_core.asking.batches import Batch
from vp_core.ground.chosen import check_epsilon, check_theta
from vp_core.ground.errors import VPError
from vp_core.identity.gate import Gated, HeadNorms, gate, gated, ungate
from vp_core.identity.l1 import penalty
from vp_core.measuring.function_norms import collect_norms
from vp_core.model.blocks import Block, find_blocks, find_sublayers
from vp_core.model.projections import find_layers
from vp_core.squeezing.blocks_off import masked_without, without

pytestmark = pytest.mark.usefixtures("exact_norms")
L = 1e5
model_of = cache(tiny.transformer)
BELOW = dict.fromkeys(("head", "attention", "ffn"), 1e-12)


def formula(v, epsilon, slope=L):
    """t_ε(v) of one vector as the paper writes it, coordinate by coordinate."""
    inner = max(max(abs(x) - epsilon, 0) for x in v)
    return 1 - max(1 - slope * inner, 0)


@pytest.mark.parametrize("top", [0.1, 0.5, 0.5 + 3e-6, 0.5 + 9.9e-6, 0.5 + 2e-5, 7.0])
@pytest.mark.parametrize("sign", [1, -1])
def test_value_and_gradient(top, sign):
    """S_ε(v) = t·v; inside the ramp 0 < L(max − ε) < 1 its slope is L·sign at the largest coordinate alone."""
    v = torch.tensor([0.05, sign * top, -0.09, 0.0], dtype=torch.float64, requires_grad=True)
    t = gate(v.abs().amax(), 0.5)
    expected = formula(v.tolist(), 0.5)
    assert t.item() == pytest.approx(expected, abs=1e-12)
    (slope,) = torch.autograd.grad(t, v, retain_graph=True)
    ramp = L * sign if 0 < L * (top - 0.5) < 1 else 0
    assert slope.tolist() == [0, ramp, 0, 0]
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    (total,) = torch.autograd.grad((t * v * weights).sum(), v)
    by_hand = expected * weights
    by_hand[1] += ramp * (v * weights).sum().item()  # t rises with the largest coordinate
    torch.testing.assert_close(total, by_hand, rtol=1e-9, atol=1e-12)
    if top <= 0.5:
        assert expected == 0
    if top > 0.5 + 1e-5:
        assert expected == 1


def test_gates_of_many():
    norms = torch.rand(50, 7, dtype=torch.float64)
    expected = [[formula([x], 0.4, 3.0) for x in row] for row in norms.tolist()]
    np.testing.assert_allclose(gate(norms, 0.4, 3.0), expected, atol=1e-12)


def plain(context, weight, heads):
    width = context.shape[1] // heads
    parts = [context[:, h * width : (h + 1) * width] @ weight[:, h * width : (h + 1) * width].T for h in range(heads)]
    return torch.stack([part.abs().amax(dim=1) for part in parts])


@pytest.mark.parametrize(("tokens", "heads", "width", "d"), [(1, 1, 1, 1), (6, 3, 4, 7), (9, 2, 1, 5), (4, 4, 3, 1)])
def test_head_norms_have_the_gradient_of_the_plain_formula(tokens, heads, width, d):
    draw = torch.Generator().manual_seed(tokens)
    context = torch.randn(tokens, heads * width, generator=draw, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(d, heads * width, generator=draw, dtype=torch.float64, requires_grad=True)
    found, expected = HeadNorms.apply(context, weight, heads), plain(context, weight, heads)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    flow = torch.randn(heads, tokens, generator=draw, dtype=torch.float64)
    for a, b in zip(
        torch.autograd.grad(found, (context, weight), flow), torch.autograd.grad(expected, (context, weight), flow), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)
    assert torch.autograd.gradcheck(lambda c, w: HeadNorms.apply(c, w, heads), (context, weight))


def norms_of(model, family):
    found = collect_norms(model, [Batch(inputs_of(family, model.dtype), np.arange(3))])
    both = zip(found.histogram.low.tolist(), found.histogram.high.tolist(), strict=True)
    return dict(zip(found.blocks, both, strict=True))


def inputs_of(family, dtype):
    """Without padding, whose tokens would have norms as well."""
    if family in tiny.SEEING:
        return tiny.inputs(family, dtype)
    draw = torch.Generator().manual_seed(3)
    ids = torch.randint(5, 99, (3, 9), generator=draw)
    written = {"decoder_input_ids": torch.randint(5, 99, (3, 6), generator=draw)} if family in tiny.READS_END else {}
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)} | written


def raw(model, inputs):
    with torch.no_grad():
        return model(**inputs).logits


def weakened(model, blocks, by=1e-6):
    """A copy in which these blocks put out next to nothing: their last matrix (or a head's columns) and its bias are small."""
    model = copy.deepcopy(model)
    places = {one.layer: one for one in find_sublayers(model)}
    with torch.no_grad():
        for block in blocks:
            one = places[block.layer]
            module = model.get_submodule(one.ffn if block.kind == "ffn" else one.attention)
            if block.kind == "head":
                columns = slice(block.head * one.width, (block.head + 1) * one.width)
                conv = type(module).__name__ == "Conv1D"
                (module.weight[columns] if conv else module.weight[:, columns]).mul_(by)
            else:
                module.weight.mul_(by)
                if module.bias is not None:
                    module.bias.mul_(by)
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["head", "attention", "ffn"])
@pytest.mark.parametrize("family", tiny.TRANSFORMERS)
def test_a_block_below_epsilon_is_as_good_as_gone(family, kind, dtype):
    """Bit for bit, in evaluation and with gradients on, whether one such block goes or all of a kind."""
    model, inputs = model_of(family, dtype=dtype), inputs_of(family, dtype)
    all_ = find_blocks(model, (kind,))
    for weak in ([all_[1 % len(all_)]], list(all_)):
        weak_model = weakened(model, weak)
        norms = norms_of(weak_model, family)
        assert max(norms[b][1] for b in weak) < 1e-3 < 2e-3 < min([norms[b][0] for b in all_ if b not in weak], default=1)
        with_gate = gated(weak_model, find_sublayers(weak_model), {kind: 1e-3})
        expected = raw(masked_without(weak_model, weak), inputs)
        assert torch.equal(raw(with_gate, inputs), expected)
        with_gradients = with_gate(**inputs).logits.detach()
        if family in ("t5", "beit"):  # whose position bias asks for gradients, with which attention takes another kernel
            assert tiny.distance(with_gradients, expected) <= 1e-5
        else:
            assert torch.equal(with_gradients, expected)
        assert not torch.equal(expected, raw(weak_model, inputs))


@pytest.mark.parametrize("family", tiny.TRANSFORMERS)
def test_epsilon_above_everything_shuts_everything(family):
    model, inputs = model_of(family), inputs_of(family, torch.float64)
    for kind in ("head", "attention", "ffn"):
        found = raw(gated(model, find_sublayers(model), {kind: 1e9}), inputs)
        assert torch.equal(found, raw(masked_without(model, find_blocks(model, (kind,))), inputs))


@pytest.mark.parametrize("family", tiny.TRANSFORMERS)
def test_epsilon_below_everything_changes_no_bit(family):
    for dtype in (torch.float32, torch.float64):
        model, inputs = model_of(family, dtype=dtype), tiny.inputs(family, dtype)
        before = tiny.sha(model)
        for epsilon in (BELOW, {"head": 1e-12, "ffn": 1e-12}, {"attention": 1e-12}, {}):
            copy_ = gated(model, find_sublayers(model), epsilon)
            assert torch.equal(raw(copy_, inputs), raw(model, inputs))
            assert torch.equal(copy_(**inputs).logits, model(**inputs).logits)
        assert tiny.sha(model) == before and not any(isinstance(m, Gated) for m in model.modules())
        ungate(copy_)
        assert [n for n, _ in copy_.named_parameters()] == [n for n, _ in model.named_parameters()]


@pytest.mark.parametrize("family", tiny.TRANSFORMERS)
def test_token_by_token(family):
    """ε in the middle of a block's norms: the outputs are those of hooks that apply the formula to what the block put out."""
    model, inputs = model_of(family), inputs_of(family, torch.float64)
    found = collect_norms(model, [Batch(inputs, np.arange(3))])
    place = find_sublayers(model)[0]
    for path, kind in ((place.ffn, "ffn"), (place.attention, "attention")):
        epsilon = float(found.histogram.quantile(0.5)[found.blocks.index(Block(0, kind))])

        end = find_layers(model)[0].projections["ffn_out" if kind == "ffn" else "attention_output"]
        scale = brute_norms.scale_of(model, end)

        def hook(_module, _args, output, epsilon=epsilon, scale=scale):
            norms = (output * torch.as_tensor(scale)).abs().amax(dim=-1, keepdim=True)
            return torch.where(norms <= epsilon, 0.0, output)

        oracle = copy.deepcopy(model)
        oracle.get_submodule(path).register_forward_hook(hook)
        with_gate = gated(model, (place,), {kind: epsilon})
        assert tiny.distance(raw(with_gate, inputs), raw(oracle, inputs)) <= 1e-6
        assert tiny.distance(raw(with_gate, inputs), raw(model, inputs)) > 1e-4


@pytest.mark.parametrize("family", tiny.TRANSFORMERS)
def test_gates_on_what_is_left(family):
    """A model that heads have left meets the same gates as the masked one."""
    model, inputs = model_of(family), inputs_of(family, torch.float64)
    gone = [Block(0, "head", 0), Block(1, "head", 1), Block(0, "ffn")] if family != "albert" else [Block(0, "head", 1)]
    small, masked = without(model, gone), masked_without(model, gone)
    left = tuple(one.without(gone) for one in find_sublayers(model))
    found = collect_norms(model, [Batch(inputs, np.arange(3))])
    middle = {k: float(found.histogram.quantile(0.5)[found.of(k)].median()) for k in ("head", "ffn")}
    expected = raw(gated(masked, find_sublayers(masked), middle), inputs)
    for grad in (torch.no_grad(), torch.enable_grad()):
        with grad:
            result = gated(small, left, middle)(**inputs).logits.detach()
        assert tiny.distance(result, expected) <= 1e-9
    assert tiny.distance(expected, raw(masked, inputs)) > 1e-4


@pytest.mark.parametrize("family", ["bert", "gpt2", "albert", "llama"])
def test_penalty_by_hand(family):
    """Every gated block's mean norm over real tokens, of the last pass, before the gates; padding is left out."""
    model, given = model_of(family), tiny.inputs(family)
    place = find_sublayers(model)
    last = collect_norms(model, [Batch(given, np.arange(3))])
    means = last.means()
    for epsilon in ({"head": 1e-9, "ffn": 1e-9}, {"attention": 1e-9}):
        trained = gated(model, place, epsilon).train()
        trained(**given)
        found = penalty(trained, given["attention_mask"].flatten().double().float())
        assert found.item() == pytest.approx(sum(v for b, v in means.items() if b.kind in epsilon), rel=1e-5)
        trained(**given)  # once more: only the last pass counts, and of ALBERT both uses of a block
        assert penalty(trained, given["attention_mask"].flatten().float()).item() == pytest.approx(found.item(), rel=1e-6)
        found.backward()
        grads = [p for n, p in trained.named_parameters() if p.grad is not None]
        assert grads
        for p in trained.parameters():
            p.grad = None
    shut = gated(model, place, {"ffn": 1e9}).train()
    shut(**given)
    norm = penalty(shut, None)
    assert norm.item() > 0 and torch.autograd.grad(norm, shut.get_submodule(place[0].ffn).inner.weight)[0].any()
    assert penalty(model, None).item() == 0
    trained.eval()
    trained(**given)
    assert not any(m.seen for m in trained.modules() if isinstance(m, Gated))


@pytest.mark.parametrize("bad", [0, -1.0, float("nan"), float("inf"), "much", None])
def test_epsilon_must_be_above_zero(bad):
    model = model_of("bert")
    for refused in (lambda: check_epsilon(bad), lambda: gated(model, find_sublayers(model), {"ffn": bad})):
        with pytest.raises(VPError, match="above 0") as raised:
            refused()
        assert str(raised.value).endswith(".") and "\n" not in str(raised.value)
    assert check_epsilon("0.5") == 0.5


@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan"), "often", None])
def test_theta_is_a_share(bad):
    with pytest.raises(VPError, match="between 0 and 1"):
        check_theta(bad)
    assert [check_theta(v) for v in (0, "0.95", 1)] == [0, 0.95, 1]


def test_unknown_kinds():
    model = model_of("bert")
    with pytest.raises(VPError, match="no blocks 'nose'"):
        gated(model, find_sublayers(model), {"ffn": 1.0, "nose": 1.0})
