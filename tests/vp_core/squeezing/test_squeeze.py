"""Squeezed models have the logits of the pruned ones they come from, and what the plan removed is gone from them."""

from functools import cache
from itertools import cycle, product
from unittest.mock import patch

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import XLNetConfig, XLNetForSequenceClassification

from vp_core.ground.errors import VPError
from vp_core.ground.names import TYPES
from vp_core.model import scatter
from vp_core.model.attending.dropout import LEAN
from vp_core.model.family.stack import FIXED_NOTE, ROTARY_NOTE
from vp_core.model.projections import find_layers, find_projections, weight_of
from vp_core.ranking.plan import Plan
from vp_core.replacing.prune import prune
from vp_core.squeezing.squeeze import squeeze

FLOAT64, FLOAT32 = (torch.float64, 1e-10), (torch.float32, 1e-4)
"""What models compute in, and how far logits may be from each other."""
ALWAYS = {dtype: 0 for dtype in scatter.SCATTER_COST}  # put rows in place, however few weights that saves
pytestmark = pytest.mark.usefixtures("exact_norms")
model_of = cache(tiny.transformer)


def sides(family):
    return ("right", "left") if family in ("gpt2", "llama") else ("right",)


def squeezed_equals_pruned(family, dtype, tolerance, plan, constants):
    """The squeezed model, after comparing its logits with the pruned model's."""
    model = model_of(family, dtype=dtype)
    pruned = prune(model, plan, constants)
    before = tiny.sha(model), tiny.sha(pruned)
    squeezed = squeeze(pruned, plan)
    for side in sides(family):
        inputs = tiny.inputs(family, dtype, side)
        assert tiny.distance(tiny.logits(squeezed, inputs), tiny.logits(pruned, inputs)) <= tolerance
    assert (tiny.sha(model), tiny.sha(pruned)) == before
    assert tiny.hooks(model) == tiny.hooks(pruned) == tiny.hooks(squeezed) == 0
    return squeezed


@pytest.mark.parametrize("family", tiny.TRANSFORMERS)
def test_the_tiny_models_need_every_projection(family):
    """Otherwise equal logits would say nothing."""
    expected = tiny.logits(model_of(family), tiny.inputs(family))
    for p in find_projections(model_of(family)):
        broken = tiny.transformer(family)
        with torch.no_grad():
            weight_of(broken, p).zero_()
        assert tiny.distance(tiny.logits(broken, tiny.inputs(family)), expected) > 0.01, p.name


plans = given(
    shares=st.lists(st.sampled_from((0, 0.2, 0.6, 0.95, 1)), min_size=32, max_size=32),
    seed=st.integers(0, 10**6),
    zeros=st.booleans(),
    scattered=st.booleans(),
)


@pytest.mark.parametrize("family", tiny.TRANSFORMERS)
@settings(max_examples=25)
@plans
def test_any_plan(family, shares, seed, zeros, scattered):
    check_plan(family, *FLOAT64, shares, seed, zeros, scattered)


@pytest.mark.parametrize("family", tiny.TRANSFORMERS)
@settings(max_examples=10)
@plans
def test_any_plan_in_float32(family, shares, seed, zeros, scattered):
    check_plan(family, *FLOAT32, shares, seed, zeros, scattered)


def check_plan(family, dtype, tolerance, shares, seed, zeros, scattered):
    """A plan that removes these shares of the projections' rows, with constants or zeros, put in place in either way."""
    model, draw = model_of(family, dtype=dtype), torch.Generator().manual_seed(seed)
    keep = {p.name: torch.rand(p.d_out, generator=draw) >= s for p, s in zip(find_projections(model), shares, strict=False)}
    constants = tiny.random_constants(model, seed)
    if zeros:
        constants = {name: torch.zeros_like(values) for name, values in constants.items()}
    with patch.dict(scatter.SCATTER_COST, ALWAYS if scattered else {}):
        squeezed_equals_pruned(family, dtype, tolerance, Plan(keep, "any", "global", 0.5), constants)


HALF = slice(None, None, 2)
CASES = {
    "everything": lambda p: slice(None),
    **{f"all of {type_}": lambda p, type_=type_: slice(None) if p.type == type_ else None for type_ in TYPES},
    **{f"half of {type_}": lambda p, type_=type_: HALF if p.type == type_ else None for type_ in TYPES},
    "queries and ffn_in only": lambda p: HALF if p.type in ("query", "ffn_in") else None,
    "values of a head": lambda p: slice(0, p.head_width) if p.type == "value" else None,
    "a whole head": lambda p: slice(0, p.head_width) if p.head_width else None,
    "the output of one ffn": lambda p: slice(None) if p.name == "1.ffn_out" else None,
    "one row each": lambda p: 3 + p.layer,
    "all rows but one": lambda p: slice(1, None),
}
"""Name of a case: which rows of a projection go (None: it is not in the plan)."""


def case(model, name):
    keep = {}
    for p in find_projections(model):
        gone = CASES[name](p)
        if gone is not None:
            keep[p.name] = torch.ones(p.d_out, dtype=torch.bool)
            keep[p.name][gone] = False
    return Plan(keep, name, "by hand", 0.5)


BOTH = ("bert", "gpt2", "llama")
"""Families whose named plans are tried with rows put in place in both ways: separate, joined and grouped queries."""


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(
    ("family", "scattered"), [*product(BOTH, (False, True)), *zip(sorted({*tiny.TRANSFORMERS} - {*BOTH}), cycle((False, True)))]
)
def test_named_plans(family, name, scattered):
    model = model_of(family)
    with patch.dict(scatter.SCATTER_COST, ALWAYS if scattered else {}):
        for constants in (tiny.random_constants(model), {p.name: torch.zeros(p.d_out) for p in find_projections(model)}):
            squeezed_equals_pruned(family, *FLOAT64, case(model, name), constants)


@pytest.mark.parametrize("family", tiny.TRANSFORMERS)
def test_wide_ffns_are_filled_up_with_zeros(family):
    """From 64 rows on, up to a multiple of 16: 75 of 96 become 80; with a gate beside them in the same module twice as many."""
    model = tiny.transformer(family, ffn=96)
    keep = {p.name: torch.arange(96) < 75 for p in find_projections(model) if p.type == "ffn_in"}
    pruned = prune(model, Plan(keep, "by hand", "by hand", 0.2), tiny.random_constants(model))
    squeezed = squeeze(pruned, Plan(keep, "by hand", "by hand", 0.2))
    path = find_layers(model)[0].projections["ffn_in"].path
    assert squeezed.get_submodule(path).weight.shape == (160 if family == "modernbert" else 80, 48)
    assert tiny.distance(tiny.logits(squeezed, tiny.inputs(family)), tiny.logits(pruned, tiny.inputs(family))) <= 1e-10


@pytest.mark.parametrize("family", tiny.TRANSFORMERS)
def test_nothing_removed_is_bit_equal(family):
    model = model_of(family, dtype=torch.float32)
    for plan in (tiny.random_plan(model, 0), Plan({}, "", "", 0)):
        squeezed = squeeze(prune(model, plan, tiny.random_constants(model)), plan)
        inputs = tiny.inputs(family, torch.float32)
        assert torch.equal(tiny.logits(squeezed, inputs), tiny.logits(model, inputs))
        assert not squeezed.squeezed.modules and not squeezed.squeezed.notes
        shared = {p.data_ptr() for p in model.parameters()}
        assert {p.data_ptr() for p in squeezed.parameters()} == shared


def rows_left(squeezed, projection):
    return squeezed.squeezed.modules[projection.path].rows


@pytest.mark.parametrize("family", tiny.TRANSFORMERS)
def test_a_dead_attention_output_takes_query_key_and_value_along(family):
    """Paper, section 6.1; and a dead ffn_out takes ffn_in along."""
    model = model_of(family)
    for type_, fed_by in (("attention_output", ("query", "key", "value")), ("ffn_out", ("ffn_in",))):
        squeezed = squeezed_equals_pruned(family, *FLOAT64, case(model, f"all of {type_}"), tiny.random_constants(model))
        for p in find_projections(model):
            module = squeezed.get_submodule(p.path)
            if p.type in (*fed_by, type_):
                assert isinstance(module, scatter.ScatterLinear) and not list(module.parameters()), p.name
            else:
                assert module is model.get_submodule(p.path) or torch.equal(module.weight, model.get_submodule(p.path).weight)


@pytest.mark.parametrize("family", tiny.TRANSFORMERS)
def test_a_head_whose_values_are_constant_goes(family):
    """One of four heads of 12, under grouped queries two of four: 3 · 12 rows of query, key and value stay, or 2 · 12."""
    model = model_of(family)
    squeezed = squeezed_equals_pruned(family, *FLOAT64, case(model, "values of a head"), tiny.random_constants(model))
    for layer in find_layers(model):
        left = {type_: rows_left(squeezed, p) for type_, p in layer.projections.items() if not type_.startswith("ffn")}
        if family == "llama":
            assert left == {"query": 24, "key": 12, "value": 12, "attention_output": 48}
        elif family in ("gpt2", "modernbert"):
            assert left == dict.fromkeys(("query", "key", "value"), 3 * 36) | {"attention_output": 48}
        else:
            assert left == dict.fromkeys(("query", "key", "value"), 36) | {"attention_output": 48}
        assert squeezed.squeezed.modules[layer.projections["attention_output"].path].columns == (
            24 if family == "llama" else 48 if family in tiny.ALL_HEADS else 36  # a place that stays, of zeros
        )


@pytest.mark.parametrize("family", ["bert", *tiny.ALL_HEADS])
def test_heads_that_keep_their_places_are_told(family):
    model = model_of(family)
    for plan, told in ((case(model, "values of a head"), family in tiny.ALL_HEADS), (tiny.random_plan(model, 0.5), False)):
        pruned = prune(model, plan, tiny.random_constants(model))
        assert squeeze(pruned, plan).squeezed.notes == ((FIXED_NOTE,) if told else ())


def test_widths_by_hand():
    keep = {f"0.{type_}": torch.ones(48, dtype=torch.bool) for type_ in ("query", "key", "value")}
    keep["0.query"][3:12] = False  # head 0: 3 scores and one coordinate for the 9 removed queries: 4
    keep["0.key"][12:17] = False  # head 1: 7 scores
    keep["0.value"][24:36] = False  # head 2: gone
    keep["0.key"][36:48] = False  # head 3: no scores, ...
    keep["0.value"][5:] &= torch.arange(5, 48) % 12 < 5  # 5 values each in heads 0, 1 and 3
    plan = Plan(keep, "by hand", "by hand", 0.5)
    squeezed = squeezed_equals_pruned("bert", *FLOAT64, plan, {name: torch.ones(48) for name in keep})
    layer = squeezed.bert.encoder.layer[0]
    modules = [layer.attention.self.query, layer.attention.self.key, layer.attention.self.value, layer.attention.output.dense]
    assert [(m.shape.rows if hasattr(m, "shape") else m.out_features) for m in modules] == [10, 11, 15, 48]
    assert layer.attention.self.attention_head_size == 8  # 7, up to a multiple of 8; three heads of that
    assert modules[3].in_features == 24


def test_single_rows_of_llama_keep_the_width_of_queries_and_keys(monkeypatch):
    for dtype in scatter.GATHER_COST:
        monkeypatch.setitem(scatter.GATHER_COST, dtype, 0)
    model = model_of("llama")
    plan = tiny.random_plan(model, 0.5)
    squeezed = squeezed_equals_pruned("llama", *FLOAT64, plan, tiny.random_constants(model))
    assert squeezed.squeezed.notes == (ROTARY_NOTE,)
    for p in find_projections(model):
        shape = squeezed.squeezed.modules[p.path]
        assert shape.rows == plan.keep[p.name].sum()
        assert shape.width == (None if p.type == "ffn_in" else p.d_out)
    for number, layer in enumerate(squeezed.model.layers):
        ffn, values = plan.keep[f"{number}.ffn_in"].sum(), plan.keep[f"{number}.value"].sum()
        assert layer.mlp.gate_proj.weight.shape == layer.mlp.up_proj.weight.shape == (ffn, 48)
        assert layer.mlp.down_proj.linear.in_features == ffn
        assert layer.self_attn.o_proj.linear.in_features == 2 * values  # two heads share a head of values
    only_ffn = case(model, "half of ffn_in")
    assert squeezed_equals_pruned("llama", *FLOAT64, only_ffn, tiny.random_constants(model)).squeezed.notes == ()


@pytest.mark.parametrize("family", tiny.TRANSFORMERS)
def test_an_eager_model_and_frozen_weights(family):
    model = tiny.transformer(family)
    model.set_attn_implementation("eager")
    model.requires_grad_(False)
    plan = tiny.random_plan(model)
    pruned = prune(model, plan, tiny.random_constants(model))
    squeezed = squeeze(pruned, plan)
    # Eager attention of some families computes its softmax in float32 whatever the model is in.
    assert tiny.distance(tiny.logits(squeezed, tiny.inputs(family)), tiny.logits(pruned, tiny.inputs(family))) <= 1e-5
    own = family in ("mpnet", "deberta-v2")  # whose attention is their own
    assert own or squeezed.config._attn_implementation == LEAN  # which is faster
    assert model.config._attn_implementation == pruned.config._attn_implementation == "eager"
    assert not any(p.requires_grad for p in squeezed.parameters())
    again = squeeze(prune(model.requires_grad_(True), plan, tiny.random_constants(model)), plan)
    assert all(p.requires_grad for p in again.parameters())


def test_refusals_leave_the_model_as_it_was():
    model, inputs = tiny.transformer("bert"), tiny.inputs("bert")
    plan, constants = tiny.random_plan(model), tiny.random_constants(model)
    pruned = prune(model, plan, constants)
    squeezed, expected = squeeze(pruned, plan), tiny.logits(pruned, inputs)
    xlnet = XLNetForSequenceClassification(XLNetConfig(vocab_size=99, d_model=16, n_layer=1, n_head=2, d_inner=8))
    for call, says in (
        (lambda: squeeze(pruned, tiny.random_plan(tiny.transformer("bert", ffn=60))), "belongs to another model"),
        (lambda: squeeze(pruned, Plan({"9.query": torch.ones(48, dtype=torch.bool)}, "", "", 0)), "belongs to another model"),
        (lambda: squeeze(model, plan), "not pruned by this plan"),
        (lambda: squeeze(pruned, tiny.random_plan(model, seed=1)), "not pruned by this plan"),
        (lambda: squeeze(squeezed, plan), "squeezed already"),
        (lambda: prune(squeezed, plan, constants), "squeezed already"),
        (lambda: squeeze(xlnet, plan), "'xlnet' is not supported"),
    ):
        with pytest.raises(VPError, match=says) as caught:
            call()
        assert "\n" not in str(caught.value) and str(caught.value).endswith(".")
    assert torch.equal(tiny.logits(pruned, inputs), expected)
    assert tiny.distance(tiny.logits(squeezed, inputs), expected) <= 1e-10
