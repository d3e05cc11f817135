"""The pruned model against hooks that overwrite outputs in the dense one; and the dense one stays as it is."""

import copy
from itertools import cycle, product

import pytest
import tiny
import torch

from vp_core.asking.batches import encode, make_batches
from vp_core.ground.errors import VPError
from vp_core.ground.names import TYPES
from vp_core.measuring.statistics import collect
from vp_core.model.projections import find_projections
from vp_core.model.sharing import share
from vp_core.ranking.criteria import score_neurons
from vp_core.ranking.plan import Plan, rank
from vp_core.replacing.ladder import constants
from vp_core.replacing.prune import prune, rewritten

pytestmark = pytest.mark.usefixtures("exact_norms")


def padded_batch(tok):
    """Twelve texts of 2 to 24 words in one batch: the short ones are mostly padding."""
    data = encode(tok, [(t,) for t in tiny.sentences(12, seed=5)], tiny.POSITIONS - 2)
    (batch,) = make_batches(data, range(12), max_tokens=10**6)
    assert (batch.inputs["attention_mask"] == 0).sum() > 20
    return batch.inputs


def overwritten(model, plan, values, inputs):
    """Logits of the dense model whose removed outputs are overwritten by a constant, by hooks."""
    handles = []
    for p in find_projections(model):
        if p.name in plan.keep:
            rows = range(p.d_out) if p.gate else range(p.start, p.start + p.d_out)

            def hook(_module, _inputs, output, rows=rows, gone=~plan.keep[p.name], value=values[p.name]):
                output = output.clone()
                output[..., rows.start : rows.stop][..., gone] = value[gone].to(output.dtype)
                return output

            if p.gate:  # a gated neuron is what its consumer reads
                reader = model.get_submodule(p.consumer)
                handles.append(reader.register_forward_pre_hook(lambda m, given, hook=hook: (hook(m, None, given[0]),)))
            else:
                handles.append(model.get_submodule(p.path).register_forward_hook(hook))
    logits = tiny.logits(model, inputs)
    for handle in handles:
        handle.remove()
    return logits


def setup(loaded, dtype):
    model = copy.deepcopy(loaded.model).to(dtype)
    data = encode(loaded.tokenizer, [(t,) for t in tiny.sentences(30, seed=6)], tiny.POSITIONS - 2)
    return model, collect(model, make_batches(data, range(30)))


PLANS = ("per type", "per layer", "global")


@pytest.mark.parametrize(  # a plan is a plan: all scopes with one family, one scope with each of the others
    ("family", "scope"), [*product(["bert"], PLANS), *zip([f for f in tiny.FAMILIES if f != "bert"], cycle(PLANS))]
)
@pytest.mark.parametrize("replacement", ["mean", "zero"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_logits_are_those_of_overwritten_outputs(loaded, family, replacement, dtype, tolerance, scope):
    model, statistics = setup(loaded[family], dtype)
    inputs = padded_batch(loaded[family].tokenizer)
    dense = model(**inputs).logits.detach()
    values = constants(replacement, statistics)
    ranking = rank(score_neurons("variance", model, statistics, find_projections(model)), find_projections(model), scope)
    changed = []
    for sparsity in (0.1, 0.5, 0.9, 1.0):
        plan = ranking.plan(sparsity)
        expected = overwritten(model, plan, values, inputs)
        with torch.no_grad():
            found = prune(model, plan, values)(**inputs).logits
        assert ((found - expected).abs().max() / expected.abs().max()).item() <= tolerance
        changed.append((expected - dense).abs().max().item())
    assert min(changed) > 1e-3  # the oracle does something


@pytest.mark.parametrize("family", tiny.TRANSFORMERS)
@pytest.mark.parametrize("share", [0.3, 1.0])
def test_other_uses_of_the_families(family, share):
    """Pictures, language models, gated feed-forward networks, maps that have no bias."""
    model = tiny.transformer(family)
    values, plan = tiny.random_constants(model), tiny.random_plan(model, share)
    before = tiny.sha(model)
    for side in ("right", "left") if family in ("gpt2", "llama") else ("right",):
        inputs = tiny.inputs(family, side=side)
        expected = overwritten(model, plan, values, inputs)
        found = tiny.logits(prune(model, plan, values), inputs)
        assert tiny.distance(found, expected) <= 1e-10
        assert tiny.distance(expected, tiny.logits(model, inputs)) > 0.1
    assert tiny.sha(model) == before


def rows_of(model, p):
    """Weight (neurons, inputs) and bias of a projection: GPT-2 keeps three of them in one module, turned round."""
    module = model.get_submodule(p.path)
    weight = module.weight.T if model.config.model_type == "gpt2" else module.weight
    bias = torch.zeros(len(weight), dtype=weight.dtype) if module.bias is None else module.bias
    return weight[p.start : p.start + p.d_out], bias[p.start : p.start + p.d_out]


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("type_", TYPES)
def test_one_type_alone(loaded, family, type_):
    model, statistics = setup(loaded[family], torch.float64)
    inputs = padded_batch(loaded[family].tokenizer)
    projections = [p for p in find_projections(model) if p.type == type_]
    plan = rank(score_neurons("variance", model, statistics, projections), projections).plan(0.5)
    values = constants("mean", statistics)
    pruned = prune(model, plan, values)
    with torch.no_grad():
        torch.testing.assert_close(pruned(**inputs).logits, overwritten(model, plan, values, inputs), rtol=1e-10, atol=1e-10)
    # Exactly the removed rows are zero with the mean in the bias; all else is the very same storage.
    touched = {f"{p.path}.{part}" for p in projections for part in ("weight", "bias")}
    for p in projections:
        (old, old_bias), (new, new_bias), keep = rows_of(model, p), rows_of(pruned, p), plan.keep[p.name]
        if keep.all():
            touched -= {f"{p.path}.weight", f"{p.path}.bias"}
            continue
        assert (new[~keep] == 0).all() and torch.equal(new[keep], old[keep])
        mean = torch.zeros(p.d_out, dtype=torch.float64) if p.gate else statistics.mean(p.name)  # a gated one is moved on
        assert torch.equal(new_bias[~keep], mean[~keep]) and torch.equal(new_bias[keep], old_bias[keep])
        if p.gate:
            touched |= {f"{p.consumer}.weight", f"{p.consumer}.bias"}
    shared = dict(pruned.named_parameters())
    for name, parameter in model.named_parameters():
        assert (shared[name].data_ptr() == parameter.data_ptr()) == (name not in touched), name


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_sparsity_0_is_bit_equal(loaded, family):
    one = loaded[family]
    model, statistics = setup(one, torch.float32)
    inputs = padded_batch(one.tokenizer)
    plan = rank(score_neurons("variance", model, statistics, one.projections), one.projections).plan(0)
    with torch.no_grad():
        assert torch.equal(prune(model, plan, constants("mean", statistics))(**inputs).logits, model(**inputs).logits)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_the_dense_model_is_not_changed(loaded, family):
    one = loaded[family]
    model, statistics = setup(one, torch.float32)
    before, inputs = tiny.sha(model), padded_batch(one.tokenizer)
    dense = model(**inputs).logits.detach()
    plan = rank(score_neurons("variance", model, statistics, one.projections), one.projections).plan(0.6)
    pruned = prune(model, plan, constants("mean", statistics))
    cast = share(pruned, cast=torch.bfloat16)
    cast(**inputs), pruned(**inputs)
    assert tiny.sha(model) == before
    assert tiny.hooks(model) == tiny.hooks(pruned) == 0
    assert torch.equal(model(**inputs).logits, dense)
    assert {p.dtype for p in cast.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in pruned.parameters()} == {torch.float32}
    # Modules are new: a hook on the copy is not on the original.
    handle = pruned.base_model.register_forward_hook(lambda *_: None)
    assert tiny.hooks(model) == 0
    handle.remove()


def test_shared_copy_keeps_ties_flags_and_trainable_state(loaded):
    model = copy.deepcopy(loaded["bert"].model)
    model.requires_grad_(True)
    model.classifier.bias.requires_grad_(False)
    made = share(model, {"classifier.weight": torch.zeros_like(model.classifier.weight)})
    assert made.training == model.training
    assert [p.requires_grad for p in made.parameters()] == [p.requires_grad for p in model.parameters()]
    assert (made.classifier.weight == 0).all() and not (model.classifier.weight == 0).all()
    model.bert.embeddings.word_embeddings.weight.data[5, 0] = 123.0
    assert made.bert.embeddings.word_embeddings.weight[5, 0] == 123.0  # one storage, no copy


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_rewritten_weights_are_read_and_the_rest_is_shared(loaded, family):
    model = copy.deepcopy(loaded[family].model)
    chosen = [p for p in find_projections(model) if p.type in ("key", "ffn_out")]
    solved = {p.name: (torch.rand(p.d_out, p.d_in).double(), torch.rand(p.d_out).double()) for p in chosen}
    before, new = tiny.sha(model), rewritten(model, solved)
    for p in find_projections(model):
        weight, bias = solved[p.name] if p in chosen else rows_of(model, p)
        found, found_bias = rows_of(new, p)
        assert torch.equal(found, weight.float()) and torch.equal(found_bias, bias.float()), p.name
    rewrote = {f"{p.path}.{part}" for p in chosen for part in ("weight", "bias")}
    shared = dict(new.named_parameters())
    for name, parameter in model.named_parameters():
        assert (shared[name].data_ptr() == parameter.data_ptr()) == (name not in rewrote), name
    assert tiny.sha(model) == before


def test_a_plan_of_another_model_is_refused(loaded):
    keep = {"0.query": torch.zeros(tiny.HIDDEN + 1, dtype=torch.bool)}
    for wrong in (keep, {"17.query": torch.zeros(tiny.HIDDEN, dtype=torch.bool)}):
        with pytest.raises(VPError, match="another model"):
            prune(loaded["bert"].model, Plan(wrong, "variance", "global", 1.0), {})
