"""Costs predicted by formula, worked out by hand, and counted in the models that come out."""

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BertConfig, BertForSequenceClassification

from vp_core.ground.names import TYPES
from vp_core.model.family.vision import tokens_of
from vp_core.model.projections import find_layers, find_projections, weight_of
from vp_core.model.scatter import SCATTER_COST
from vp_core.ranking.plan import Plan, rank
from vp_core.recipes import Recipe
from vp_core.replacing.prune import prune
from vp_core.squeezing.cost import Cost, cost, counted_flops, flops_per_token, parameters
from vp_core.squeezing.squeeze import squeeze


@pytest.fixture(scope="module")
def base():
    with torch.device("meta"):  # BERT-base without its memory
        return BertForSequenceClassification(BertConfig())


def removed(projections, rows):
    """A plan that removes the rows of a projection that `rows(projection)` names."""
    keep = {p.name: torch.ones(p.d_out, dtype=torch.bool) for p in projections}
    for p in projections:
        keep[p.name][rows(p)] = False
    return Plan(keep, "by hand", "by hand", 0.5)


def test_bert_base_by_hand(base):
    # A layer: query, key, value, output 768·768 each, feed-forward 768·3072 twice: 4·589,824 + 2·2,359,296 = 7,077,888.
    # Twelve of them: 84,934,656 weights. Rows: 12·(4·768 + 3072 + 768) = 82,944.
    layers, projections = find_layers(base), find_projections(base)
    nothing = cost(layers, removed(projections, lambda p: []))
    assert (nothing.parameters, nothing.rows) == (84_934_656, 82_944)
    assert (nothing.parameters_removed, nothing.rows_removed, nothing.share_removed) == (0, 0, 0.0)
    assert nothing.flops_per_token() == nothing.flops_per_token_left() == 169_869_312
    # Attention over 128 tokens: 2·128·(768 + 768) in each of 12 layers: 4,718,592 more.
    assert nothing.flops_per_token(128) == nothing.flops_per_token_left(128) == 174_587_904
    assert nothing.speed_limit() == nothing.speed_limit(128) == 1
    assert nothing.parameters == sum(m.weight.numel() for m in base.bert.encoder.modules() if isinstance(m, torch.nn.Linear))
    everything = cost(layers, removed(projections, lambda p: slice(None)))
    assert (everything.parameters_removed, everything.rows_removed, everything.share_removed) == (84_934_656, 82_944, 1.0)
    assert everything.flops_per_token_left(128) == 0 and everything.speed_limit(128) == float("inf")


def test_bert_base_squeezed_by_hand(base):
    layers, projections = find_layers(base), find_projections(base)
    # ffn_in alone, half of the units: a layer keeps 2·1536·768 of 2·3072·768, and its attention: 12·(2,359,296 + 2,359,296).
    ffn = cost(layers, removed(projections, lambda p: slice(1536) if p.type == "ffn_in" else []))
    assert (ffn.rows_removed, ffn.parameters_left) == (12 * 1536, 56_623_104)
    # Values of half the heads: query, key, value and output keep half: 12·(4·384·768 + 2·2,359,296). Widths 384 + 384.
    heads = cost(layers, removed(projections, lambda p: slice(384) if p.type == "value" else []))
    assert (heads.rows_removed, heads.parameters_left) == (12 * 384, 70_778_880)
    assert heads.flops_per_token_left(128) == 2 * 70_778_880 + 2 * 128 * 12 * 768
    # 16 queries of each head's 64: key keeps 48 rows and one for the 16 that were merged, per head; query 48. Widths 49 + 64.
    # 12·(12·(48 + 49)·768 + 2·589,824 + 2·2,359,296) = 81,506,304; were their constants 0, 96 rows for 97: 110,592 fewer.
    sixteen = removed(projections, lambda p: [i for i in range(768) if i % 64 < 16] if p.type == "query" else [])
    queries, zeros = cost(layers, sixteen), cost(layers, sixteen, [torch.zeros(768)] * 12)
    assert (queries.rows_removed, queries.parameters_left, zeros.parameters_left) == (12 * 192, 81_506_304, 81_395_712)
    assert (queries.attention_left, zeros.attention_left) == (12 * 12 * (49 + 64), 12 * 12 * (48 + 64))
    # A dead attention output takes query, key and value along, a dead ffn_out ffn_in: nothing is left.
    outputs = cost(layers, removed(projections, lambda p: slice(None) if p.type in ("attention_output", "ffn_out") else []))
    assert (outputs.rows_removed, outputs.parameters_left, outputs.attention_left) == (12 * 1536, 0, 0)


@pytest.mark.parametrize("type_", TYPES)
def test_rows_of_one_type(base, type_):
    # 10 %: round(0.1·12·3072) = 3,686 rows of ffn_in, round(0.1·12·768) = 922 of the others.
    chosen = [p for p in find_projections(base) if p.type == type_]
    scores = {p.name: torch.rand(p.d_out, generator=torch.Generator().manual_seed(p.layer)) for p in chosen}
    found = cost(find_layers(base), rank(scores, chosen).plan(0.1))
    rows = 3_686 if type_ == "ffn_in" else 922
    # A value or unit takes its column of the reader along, a key its query's row (768 weights each); a query leaves a merged
    # row in its head, unless there was none removed in it.
    weights = rows * {"ffn_out": 3072, "attention_output": 768}.get(type_, 2 * 768)
    if type_ == "query":
        gone = torch.stack([scores[p.name] for p in chosen])
        lowest = torch.zeros(12 * 768, dtype=torch.bool).index_fill(0, gone.flatten().argsort()[:rows], True)
        weights = rows * 2 * 768 - int(lowest.view(144, 64).any(dim=1).sum()) * 768
    assert (found.rows_removed, found.parameters_removed) == (rows, weights)


def weights_left(model, squeezed):
    """Weights of the projections that are not zero: what fills up heads and rows is."""
    total = 0
    for path in {path for p in find_projections(model) for path in (p.path, p.gate) if path}:
        total += sum(int((w != 0).sum()) for w in squeezed.get_submodule(path).parameters() if w.dim() == 2)
    return total


@pytest.mark.parametrize("family", tiny.TRANSFORMERS)
@settings(max_examples=10)
@given(seed=st.integers(0, 10**6), shares=st.lists(st.sampled_from((0, 0.1, 0.5, 0.9, 1)), min_size=6, max_size=6))
def test_weights_left_are_those_of_the_squeezed_model(family, seed, shares):
    model = tiny.transformer(family)
    plan = tiny.random_plan(model, seed=seed, **dict(zip(TYPES, shares, strict=True)))
    constants = tiny.random_constants(model, seed)
    squeezed = squeeze(prune(model, plan, constants), plan)
    found, layers = squeezed.squeezed.cost, find_layers(model)
    assert found.parameters == sum(weight_of(model, p).numel() * (2 if p.gate else 1) for p in find_projections(model))
    assert found.parameters_left == weights_left(model, squeezed)
    assert found.rows_removed == plan.rows_removed
    assert found == cost(layers, plan, [constants[layer.projections["query"].name] for layer in layers])
    assert found.parameters_left <= cost(layers, plan).parameters_left  # which does not know that some constants are 0
    assert flops_per_token(squeezed, 20) >= found.flops_per_token_left(20)
    if not any(shares):
        assert parameters(squeezed) == parameters(model)


@pytest.mark.parametrize("family", tiny.TRANSFORMERS)
@pytest.mark.parametrize("scattered", [False, True])
def test_formula_is_what_torch_counts(family, scattered, monkeypatch):
    for dtype in SCATTER_COST:
        if scattered:
            monkeypatch.setitem(SCATTER_COST, dtype, 0)
    model, inputs = tiny.transformer(family), tiny.inputs(family)
    inputs.pop("decoder_input_ids", None)  # the formula is for one length
    if family == "t5":
        inputs["decoder_input_ids"] = inputs["input_ids"]
    length = tokens_of(model.config) if family in tiny.SEEING else 11
    plan = tiny.random_plan(model)
    squeezed = squeeze(prune(model, plan, tiny.random_constants(model)), plan)
    counted = [counted_flops(m, **inputs) for m in (model, squeezed)]
    if family == "deberta-v2":  # what query, key and 8 relative positions cost on top is not in the formula
        positions = 2 * 2 * 8 * 2 * 48 * 48 + 2 * 3 * 2 * 2 * length * 8 * 48
        assert counted[0] == 3 * length * flops_per_token(model, length) + positions
        return
    assert counted == [3 * length * flops_per_token(m, length) for m in (model, squeezed)]
    nothing = cost(find_layers(model), tiny.random_plan(model, 0))
    assert counted[0] == 3 * length * nothing.flops_per_token_left(length)
    found = cost(find_layers(model), plan)
    assert counted[0] == 3 * length * found.flops_per_token(length)
    assert counted[1] >= 3 * length * squeezed.squeezed.cost.flops_per_token_left(length)
    assert tiny.hooks(model) == tiny.hooks(squeezed) == 0


def test_a_squeezed_study_and_its_plan(studies):
    """A study's cost is that of the model it would squeeze, whatever the recipe; with mean or zero for the removed rows."""
    for study in studies.values():
        for recipe in (Recipe(), Recipe(scope="global", replacement="zero"), Recipe(types=("value", "ffn_in"))):
            found = study.cost(recipe, 0.37)
            assert found == study.squeezed(recipe, 0.37).squeezed.cost
            assert found.rows_removed == study.plan(recipe, 0.37).rows_removed
            assert 0 < found.share_removed < 1 < found.speed_limit()


def test_nothing_left_is_infinitely_fast():
    assert Cost(1, 1, 1, 0, 1, 0, 1, 0).speed_limit(5) == float("inf")
