"""Heads under rotary positions that kept frequencies of their own: masked and squeezed are one model, in whatever it does."""

import copy
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import pytest
import tiny
import torch

from vp_core.model.family.stack import COUNTED_NOTE, NORM_NOTE, ROTARY_NOTE
from vp_core.model.precision import in_precision
from vp_core.model.projections import find_layers
from vp_core.model.sharing import share
from vp_core.model.units import unit_groups
from vp_core.ranking.plan import Plan, masks
from vp_core.replacing.prune import prune
from vp_core.squeezing import survivors
from vp_core.squeezing.cost import counted_flops, flops_per_token
from vp_core.squeezing.folder import FORMAT_TURNING, _read_facts, load_pruned, save_pruned
from vp_core.squeezing.squeeze import squeeze

pytestmark = pytest.mark.usefixtures("exact_norms", "any_width")
model_of = cache(tiny.transformer)


@pytest.fixture
def any_width(monkeypatch):
    """Heads of every even width: the tiny ones have 12 coordinates only."""
    monkeypatch.setattr(survivors, "ALIGNMENT", 2)


def gone(model, kinds, choose):
    """The plan that takes of every group the units for which `choose(kind, layer, unit, pairs of a head)`."""
    groups, half = unit_groups(find_layers(model), kinds), find_layers(model)[0].projections["key"].head_width // 2
    goes = [[choose(g.kind, g.layer, unit, half) for unit in range(len(g))] for g in groups]
    keep = masks((g, torch.tensor(which).numpy()) for g, which in zip(groups, goes, strict=True))
    return Plan(keep, "by hand", "by hand", 0.5)


KEPT = ([], [4], [1, 3], [0, 2, 5])
"""The pairs of a head that stay: in the first layer none of the first, one of the second and so on."""


def unequal(kind, layer, unit, half):
    """Pairs by KEPT; of values and neurons every third stays."""
    if kind != "pairs":
        return unit % 3 > 0
    head, pair = divmod(unit, half)
    return pair not in KEPT[(head + layer) % 4]


def both(family, plan=None, **settings):
    """(masked, squeezed) models."""
    model = model_of(family, **settings)
    plan = gone(model, ("ffn neurons", "values", "pairs"), unequal) if plan is None else plan
    pruned = prune(model, plan, {p.name: torch.zeros(p.d_out) for one in find_layers(model) for p in one.projections.values()})
    return pruned, squeeze(pruned, plan)


def attention(squeezed, number=0):
    path = list(squeezed.squeezed.turning)[number]
    return squeezed.get_submodule(path)


def same(family, masked, squeezed, tolerance=1e-10):
    for side in ("right", "left"):
        inputs = tiny.inputs(family, masked.dtype, side)
        expected = tiny.logits(masked, inputs)
        assert tiny.distance(tiny.logits(squeezed, inputs), expected) <= tolerance
    return expected


@pytest.mark.parametrize("family", tiny.ROTARY)
@pytest.mark.parametrize("kinds", [("pairs",), ("values", "pairs"), ("ffn neurons", "values", "pairs")], ids="+".join)
def test_heads_with_unequal_numbers_of_pairs(family, kinds):
    """Among them one without any: all its scores are 0, so it attends to every token alike."""
    model = model_of(family)
    masked, squeezed = both(family, gone(model, kinds, unequal))
    expected = same(family, masked, squeezed)
    assert tiny.distance(expected, tiny.logits(model, tiny.inputs(family, side="left"))) > 0.01
    found = squeezed.squeezed
    assert not found.notes and found.cost.parameters_removed > 0
    for layer in find_layers(model):
        p, module = layer.projections, squeezed.get_submodule(layer.attention)
        full = p["key"].head_width
        heads = p["key"].d_out // full
        kept = [KEPT[(head + p["key"].layer) % 4] for head in range(heads)]
        values = max(sum(unit % 3 == 0 for unit in range(head * full, (head + 1) * full)) for head in range(heads))
        width = max(2 * max(map(len, kept)), values + values % 2) if "values" in kinds else full
        assert getattr(module, layer.head_size) == width
        assert (layer.attention in found.turning) == (width < full)
        if width < full:
            assert found.turning[layer.attention] == (heads, width // 2) == tuple(module.own_frequencies.shape)
    length = tiny.inputs(family)["input_ids"].shape[1]
    assert flops_per_token(squeezed, length) >= found.cost.flops_per_token_left(length)
    assert counted_flops(squeezed, **tiny.inputs(family)) == 3 * length * flops_per_token(squeezed, length)


@pytest.mark.parametrize("family", tiny.ROTARY)
def test_what_each_head_turns_by(family):
    """Of four frequencies the first head of the first layer keeps none, the second one 4, and so on."""
    _, squeezed = both(family)
    half = find_layers(model_of(family))[0].turned // 2
    for number in range(2):
        index = attention(squeezed, number).own_frequencies
        for head, row in enumerate(index.tolist()):
            wanted = [pair for pair in KEPT[(head + number) % 4] if pair < half]
            assert row == wanted + [half] * (index.shape[1] - len(wanted))  # half: the rest stands still
    before = tiny.logits(squeezed, tiny.inputs(family))
    other, index = share(squeezed), attention(squeezed).own_frequencies
    attention(other).own_frequencies = torch.where(index < half, (index + 1) % half, index)
    assert tiny.distance(tiny.logits(other, tiny.inputs(family)), before) > 1e-4  # it matters by which


@pytest.mark.parametrize("family", tiny.ROTARY)
def test_whole_heads_leave_with_their_group(family):
    """Rows of query, key and value, columns of the output; as many heads of the query for each of the key as before."""
    model = model_of(family)
    first = gone(model, ("heads",), lambda _kind, _layer, unit, _half: unit == 0)
    masked, squeezed = both(family, first)
    same(family, masked, squeezed)
    if family == "phi3":
        assert squeezed.squeezed.notes == (COUNTED_NOTE,)
        return
    assert not squeezed.squeezed.notes and not squeezed.squeezed.turning
    for layer in find_layers(model):
        p = layer.projections
        width = p["key"].head_width
        heads = p["key"].d_out // width - 1
        rows = {t: heads * width * (layer.queries_per_key if t == "query" else 1) for t in ("query", "key", "value")}
        for path in {p[t].path for t in rows}:
            assert squeezed.squeezed.modules[path].rows == sum(n for t, n in rows.items() if p[t].path == path)
        assert squeezed.squeezed.modules[p["attention_output"].path].columns == rows["query"]
    assert squeezed.squeezed.cost.attention_left == squeezed.squeezed.cost.attention * heads // (heads + 1)
    with_rest = gone(model, ("ffn neurons", "heads"), lambda kind, _layer, unit, _half: unit == 0 or kind != "heads")
    same(family, *both(family, with_rest))


@pytest.mark.parametrize("family", tiny.ROTARY)
def test_single_rows_beside_pairs_keep_their_constants_and_are_told(family):
    """Rows that go by themselves stay constants, which turn; a pair whose queries are silent in both rows goes."""
    model = model_of(family)
    plan = gone(model, ("values", "pairs"), unequal)
    constants = {p.name: torch.zeros(p.d_out) for one in find_layers(model) for p in one.projections.values()}
    for layer in find_layers(model):
        for type_ in ("query", "key"):
            p = layer.projections[type_]
            alone = plan.keep[p.name].nonzero().flatten()[::3]
            plan.keep[p.name][alone], constants[p.name][alone] = False, 0.7
    pruned = prune(model, plan, constants)
    squeezed = squeeze(pruned, plan)
    same(family, pruned, squeezed)
    assert squeezed.squeezed.notes == (ROTARY_NOTE,) and len(squeezed.squeezed.turning) == 2


def test_positions_that_begin_elsewhere():
    masked, squeezed = both("llama")
    inputs = tiny.inputs("llama")
    inputs["position_ids"] = torch.arange(7, 18).expand(3, -1).clone()
    inputs["position_ids"][1] += torch.arange(11)  # and are no neighbours
    moved = tiny.logits(masked, inputs)
    assert tiny.distance(tiny.logits(squeezed, inputs), moved) <= 1e-10
    assert tiny.distance(moved, tiny.logits(masked, tiny.inputs("llama"))) > 1e-6


@pytest.mark.parametrize("family", tiny.ROTARY)
def test_saved_copied_shared_and_in_threads(family, tmp_path):
    masked, squeezed = both(family)
    inputs = tiny.inputs(family)
    expected = tiny.logits(squeezed, inputs)
    loaded = load_pruned(save_pruned(squeezed, tmp_path / "small"))
    assert _read_facts(tmp_path / "small")["format"] == FORMAT_TURNING
    assert loaded.squeezed == squeezed.squeezed
    for other in (loaded, copy.deepcopy(squeezed), share(squeezed)):
        assert torch.equal(tiny.logits(other, inputs), expected)
        assert type(attention(other)) is type(attention(squeezed)) and isinstance(
            attention(other), type(masked.get_submodule(next(iter(squeezed.squeezed.turning))))
        )
    shorter = {name: value[:, :6] for name, value in inputs.items()}
    alone = tiny.logits(squeezed, shorter)
    with ThreadPoolExecutor(4) as pool:  # one module, several threads, texts of two lengths
        found = list(pool.map(lambda i: tiny.logits(squeezed, shorter if i % 2 else inputs), range(40)))
    assert all(torch.equal(one, alone if i % 2 else expected) for i, one in enumerate(found))


@pytest.mark.parametrize("family", tiny.ROTARY)
def test_eager_attention_and_bfloat16(family):
    masked, squeezed = both(family)
    inputs, expected = tiny.inputs(family), tiny.logits(masked, tiny.inputs(family))
    eager = share(squeezed)
    eager.set_attn_implementation("eager")
    assert tiny.distance(tiny.logits(eager, inputs), expected) <= 1e-5  # whose softmax is in float32
    coarse, full = in_precision(squeezed, "bfloat16"), in_precision(masked, "bfloat16")
    assert attention(coarse).own_frequencies.dtype == torch.long
    own, theirs = (tiny.logits(m, inputs).double() for m in (coarse, full))
    assert tiny.distance(own, expected) <= 2 * tiny.distance(theirs, expected) + 0.05


@pytest.mark.parametrize("family", tiny.ROTARY)
def test_gradients_are_those_of_the_masked_model(family):
    masked, squeezed = both(family)
    plan = gone(model_of(family), ("ffn neurons", "values", "pairs"), unequal)
    models, inputs = [copy.deepcopy(m).train().requires_grad_(True) for m in (masked, squeezed)], tiny.inputs(family)
    for m in models:
        m(**inputs).logits.square().mean().backward()
    for layer in find_layers(models[0]):
        for type_ in ("query", "key"):
            p = layer.projections[type_]
            theirs = models[0].get_submodule(p.path).weight.grad[p.start : p.start + p.d_out][plan.keep[p.name]]
            small = models[1].get_submodule(p.path)
            own = small.linear.weight.grad
            assert own.flatten().norm() > 0
            # rows are in another order inside of a head: what they are, not where
            lengths = own.norm(dim=1)
            if len({q.path for q in layer.projections.values() if q.type in ("query", "key")}) == 2:
                assert torch.allclose(lengths[lengths > 0].sort().values, scaled(theirs.norm(dim=1)), rtol=1e-9)


def scaled(lengths):
    return lengths[lengths > 0].sort().values


@pytest.mark.parametrize("family", tiny.NORMED)
def test_a_norm_over_each_head_keeps_its_width(family):
    """What it makes of a query depends on all of its coordinates: rows save their own products; whole heads go all the same."""
    model = model_of(family)
    masked, squeezed = both(family)
    same(family, masked, squeezed)
    assert squeezed.squeezed.notes == (NORM_NOTE,) and not squeezed.squeezed.turning
    for layer in find_layers(model):
        queries = layer.projections["query"]
        shape, goes = squeezed.squeezed.modules[queries.path], sum(masked.get_submodule(queries.path).weight.any(dim=1) == 0)
        assert goes > 0 and (shape.rows, shape.width) == (queries.d_out - goes, queries.d_out)
    masked, squeezed = both(family, gone(model, ("heads",), lambda _kind, _layer, unit, _half: unit == 0))
    same(family, masked, squeezed)
    assert not squeezed.squeezed.notes
    for layer in find_layers(model):
        assert squeezed.get_submodule(layer.projections["key"].path).out_features == 16


def test_norms_that_a_configuration_has():
    """Phi's norm subtracts a mean: a query of zeros does not come out of it as zeros."""
    masked, squeezed = both("phi", qk_layernorm=True)
    same("phi", masked, squeezed)
    assert squeezed.squeezed.notes == (NORM_NOTE,) and not squeezed.squeezed.turning


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("family", [*(f for f in tiny.ROTARY if f != "modernbert"), "heads"])
def test_it_writes_what_the_masked_model_writes(family, cached):
    """A batch padded on the left; heads that left have left the cache too."""
    family, kinds = ("llama", ("heads",)) if family == "heads" else (family, ("ffn neurons", "values", "pairs"))
    model = model_of(family)
    choose = unequal if "pairs" in kinds else lambda _kind, layer, unit, _half: unit == layer
    masked, squeezed = both(family, gone(model, kinds, choose))
    inputs = tiny.inputs(family, side="left")
    settings = {"do_sample": False, "max_new_tokens": 20, "min_new_tokens": 20, "use_cache": cached, "pad_token_id": 0}
    settings["no_repeat_ngram_size"] = 1
    expected = masked.generate(**inputs, **settings)
    assert torch.equal(squeezed.generate(**inputs, **settings), expected)
    assert expected.shape == (3, 31) and len(set(expected[:, 11:].flatten().tolist())) > 5
    if cached:
        layer, cache_ = find_layers(model)[0], squeezed(**inputs, use_cache=True).past_key_values
        heads = layer.projections["key"].d_out // layer.projections["key"].head_width - (kinds == ("heads",))
        width = getattr(squeezed.get_submodule(layer.attention), layer.head_size)
        keys = cache_.layers[0].keys
        assert keys.shape == (3, heads, 7 if family == "gemma2" else 11, width)  # Gemma-2 sees a window in its first layer
        assert width < layer.projections["key"].head_width or kinds == ("heads",)
