"""What is left of a squeezed model trains as it does in the masked one: the same gradients, the same path of SGD."""

import copy

import pytest
import tiny
import torch
from transformers.pytorch_utils import Conv1D

from vp_core.model.projections import find_layers
from vp_core.model.scatter import SCATTER_COST, ScatterLinear
from vp_core.replacing.prune import prune
from vp_core.squeezing.squeeze import squeeze

pytestmark = pytest.mark.usefixtures("exact_norms")
TOLERANCE = 1e-9  # relative, in float64: gradients add up more rounding than logits do


@pytest.fixture(params=[False, True], ids=["zero rows", "scattered"])
def scattered(request, monkeypatch):
    """Both forms of putting rows in their place."""
    for dtype in SCATTER_COST:
        if request.param:
            monkeypatch.setitem(SCATTER_COST, dtype, 0)


def loss_of(model, inputs):
    """Squared distance of the logits from targets that are drawn once."""
    logits = model(**inputs).logits
    if model.config.model_type in ("gpt2", "llama"):
        logits = logits[inputs["attention_mask"].bool()]
    return (logits - torch.randn(logits.shape, generator=torch.Generator().manual_seed(9), dtype=logits.dtype)).square().mean()


def both(plan, model, constants):
    """(masked, squeezed) in training mode, neither sharing anything with the other."""
    masked = prune(model, plan, constants)
    return copy.deepcopy(masked).train(), copy.deepcopy(squeeze(masked, plan)).train()


def grad(module, start=0, rows=None):
    """Gradients of weight (neurons, inputs) and bias (neurons,) of a dense module, zeros for a bias it does not have."""
    weight = module.weight.grad.T if isinstance(module, Conv1D) else module.weight.grad
    bias = weight.new_zeros(len(weight)) if module.bias is None else module.bias.grad
    return weight[start:][:rows], bias[start:][:rows]


def grad_left(module):
    """The same of the rows that a squeezed module has; whatever else it multiplies gets no gradient."""
    if not isinstance(module, ScatterLinear):
        return grad(module)
    if module.linear is None:
        assert not module.shape.rows or not module.shape.columns
        return torch.zeros(module.shape.rows, 0), module.bias.grad if module.shape.rows else torch.zeros(0)
    weight, bias = grad(module.linear)
    rows = module.out_index if module.shape.wide else torch.arange(module.shape.rows)
    assert not weight.index_fill(0, rows, 0).any() and not bias.index_fill(0, rows, 0).any()
    return weight[rows], bias[rows]


def heads_left(layer, plan, constants):
    """By head that is left: (rows of query and key, merged rows of key, rows of value); see docs/method.md#squeezing."""
    keep = {type_: plan.keep[p.name] for type_, p in layer.projections.items()}
    width, found = layer.projections["query"].head_width, []
    for start in range(0, len(keep["query"]), width):
        rows = range(start, start + width)
        scores = [i for i in rows if keep["query"][i] and keep["key"][i]]
        query = constants[layer.projections["query"].name]
        merged = [i for i in rows if keep["key"][i] and not keep["query"][i] and query[i] != 0]
        values = [i for i in rows if keep["value"][i]]
        if values and keep["attention_output"].any():
            found.append((scores, merged, values))
        elif layer.fixed_heads:
            found.append(([], [], []))
    return found


def near(found, expected, scale):
    assert found.shape == expected.shape
    assert not found.numel() or (found - expected).abs().max() <= TOLERANCE * scale


def compare_heads(layer, plan, constants, masked, squeezed, scale):
    """Gradients of query, key and value; a merged row's gradient g makes c_i·g for every key row i in it."""
    p, heads = layer.projections, heads_left(layer, plan, constants)
    dense = {t: grad(masked.get_submodule(p[t].path), p[t].start, p[t].d_out) for t in ("query", "key", "value")}
    if layer.split_size:
        weight, bias = grad_left(squeezed.get_submodule(p["query"].path))
        n, m = sum(len(s) for s, _, _ in heads), sum(len(s) + bool(merged) for s, merged, _ in heads)
        left = {t: (weight[a:b], bias[a:b]) for t, a, b in (("query", 0, n), ("key", n, n + m), ("value", n + m, None))}
    else:
        left = {t: grad_left(squeezed.get_submodule(p[t].path)) for t in dense}
    narrow, wide = getattr(squeezed.get_submodule(layer.attention), layer.head_size), p["query"].head_width
    rescaled = (narrow / wide) ** 0.5 if layer.scales_by_width else 1
    row = 0
    for scores, merged, _ in heads:
        near(left["key"][0][row : row + len(scores)], dense["key"][0][scores], scale)
        near(left["key"][1][row : row + len(scores)], dense["key"][1][scores], scale)
        row += len(scores)
        if merged:
            constant = constants[p["query"].name][merged]
            near(constant[:, None] * left["key"][0][row], dense["key"][0][merged], scale)
            row += 1
    assert row == len(left["key"][0])
    for part in (0, 1):
        near(rescaled * left["query"][part], dense["query"][part][[i for s, _, _ in heads for i in s]], scale)
        near(left["value"][part], dense["value"][part][[i for _, _, v in heads for i in v]], scale)
    return [(number, i) for number, (_, _, v) in enumerate(heads) for i in v]


def compare_readers(layer, plan, values, masked, squeezed, scale):
    """Gradients of the attention's output (`values`: number of the head left, column) and of the feed-forward network."""
    p = layer.projections
    rows = {type_: plan.keep[q.name].nonzero().squeeze(1) for type_, q in p.items()}
    weight, bias = grad_left(squeezed.get_submodule(p["attention_output"].path))
    dense_weight, dense_bias = grad(masked.get_submodule(p["attention_output"].path))
    near(bias, dense_bias[rows["attention_output"]], scale)
    near(weight[:, weight.abs().sum(0) > 0], dense_weight[rows["attention_output"]][:, [i for _, i in values]], scale)
    if "ffn_in" not in p:
        return
    units = rows["ffn_in"] if len(rows["ffn_out"]) else rows["ffn_in"][:0]
    for path in filter(None, (p["ffn_in"].path, p["ffn_in"].gate)):
        for found, expected in zip(grad_left(squeezed.get_submodule(path)), grad(masked.get_submodule(path)), strict=True):
            near(found, expected[units], scale)
    weight, bias = grad_left(squeezed.get_submodule(p["ffn_out"].path))
    dense_weight, dense_bias = grad(masked.get_submodule(p["ffn_out"].path))
    near(bias, dense_bias[rows["ffn_out"]], scale)
    near(weight, dense_weight[rows["ffn_out"]][:, units], scale)


@pytest.mark.parametrize("share", [0.2, 0.6])
@pytest.mark.parametrize("family", [f for f in tiny.TRANSFORMERS if f not in (*tiny.ROTARY, "deberta-v2")])
def test_gradients_are_those_of_the_masked_model(family, share, scattered):
    model, inputs = tiny.transformer(family), tiny.inputs(family)
    plan, constants = tiny.random_plan(model, share, seed=3), tiny.random_constants(model)
    plan.keep["0.value"][:12] = False  # a head of the first layer goes
    masked, squeezed = both(plan, model, constants)
    losses = [loss_of(m, inputs) for m in (masked, squeezed)]
    for loss in losses:
        loss.backward()
    assert abs(losses[0] - losses[1]) <= TOLERANCE * losses[0]
    cut = tuple(squeezed.squeezed.modules)
    named = dict(masked.named_parameters())
    scale = max(p.grad.abs().max() for p in named.values() if p.grad is not None)
    for name, parameter in squeezed.named_parameters():
        if not name.startswith(cut) and named[name].grad is not None:
            near(parameter.grad, named[name].grad, scale)
    for layer in find_layers(masked):
        values = compare_heads(layer, plan, constants, masked, squeezed, scale)
        compare_readers(layer, plan, values, masked, squeezed, scale)


def freeze_what_is_gone(masked, plan):
    """Zero the gradients of what a squeezed model does not have: removed rows, and columns that read their constants."""
    for layer in find_layers(masked):
        p = layer.projections
        for type_, q in p.items():
            gone = ~plan.keep[q.name]
            module = masked.get_submodule(q.path)
            weight, bias = grad(module, q.start, q.d_out)
            weight[gone], bias[gone] = 0, 0
            if q.gate:
                for part in grad(masked.get_submodule(q.gate), q.gate_start, q.d_out):
                    part[gone] = 0
            if type_ in ("value", "ffn_in"):
                columns = gone.view(-1, q.head_width or 1).repeat_interleave(layer.queries_per_key if q.head_width else 1, 0)
                reader = p["attention_output" if type_ == "value" else "ffn_out"]
                grad(masked.get_submodule(reader.path))[0][:, columns.flatten()] = 0


@pytest.mark.parametrize("family", [f for f in tiny.TRANSFORMERS if f != "mpnet"])
def test_training_goes_the_same_way(family, scattered):
    """Eight steps of SGD, without merged coordinates (they stand for several rows, so their steps are not those rows').

    MPNet's queries are rescaled where heads become narrower, so their steps are others.
    """
    model, inputs = tiny.transformer(family), tiny.inputs(family)
    plan, constants = tiny.random_plan(model, 0.4, seed=5), tiny.random_constants(model)
    for layer in find_layers(model):
        query, key = (plan.keep[layer.projections[t].name] for t in ("query", "key"))
        if not layer.rotary:
            key &= query
    masked, squeezed = both(plan, model, constants)
    rate = 1e-5 if family == "clip" else 0.02  # whose head reads the stream itself, without a norm
    optimisers = [torch.optim.SGD(m.parameters(), lr=rate) for m in (masked, squeezed)]
    losses = []
    for _ in range(8):
        losses.append([loss_of(m, inputs) for m in (masked, squeezed)])
        for loss, optimiser in zip(losses[-1], optimisers, strict=True):
            optimiser.zero_grad()
            loss.backward()
        freeze_what_is_gone(masked, plan)
        for optimiser in optimisers:
            optimiser.step()
        assert abs(losses[-1][0] - losses[-1][1]) <= 1e-7 * losses[-1][0]
    assert losses[-1][1] < (0.995 if family == "t5" else 0.9) * losses[0][1]  # T5 scales its outputs down
    masked.eval(), squeezed.eval()
    assert tiny.distance(tiny.logits(squeezed, inputs), tiny.logits(masked, inputs)) <= 1e-7


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
def test_constants_and_zeros_stay_in_training(family, scattered):
    """Zeros fill up rows (64 and more up to a multiple of 16), heads, and places of removed rows; none gets a gradient."""
    model, inputs = tiny.transformer(family, ffn=96), tiny.inputs(family)
    plan = tiny.random_plan(model, 0.25)
    _, squeezed = both(plan, model, tiny.random_constants(model))
    constants = {name: buffer.clone() for name, buffer in squeezed.named_buffers()}
    zeros = {name: parameter == 0 for name, parameter in squeezed.named_parameters()}
    if family == "llama":  # whose dense form has no biases: those that squeezing made start at 0, and train
        zeros = {name: gone for name, gone in zeros.items() if not name.endswith("bias")}
    assert sum(int(gone.sum()) for gone in zeros.values()) > 1000
    optimiser = torch.optim.AdamW(squeezed.parameters(), lr=1e-2)
    for _ in range(3):
        optimiser.zero_grad()
        loss_of(squeezed, inputs).backward()
        optimiser.step()
    assert all(torch.equal(constants[name], buffer) for name, buffer in squeezed.named_buffers())
    for name, gone in zeros.items():
        assert not squeezed.get_parameter(name)[gone].any(), name
