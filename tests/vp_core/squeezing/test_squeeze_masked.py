"""Models whose single weights are masked: what is wholly zero leaves them, and their outputs stay."""

from functools import cache
from unittest.mock import patch

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vp_core.ground.errors import VPError
from vp_core.model import scatter
from vp_core.model.family.vision import tokens_of
from vp_core.model.precision import in_precision
from vp_core.model.projections import find_layers, find_projections, weight_of
from vp_core.model.scatter import ScatterLinear
from vp_core.squeezing.cost import cost, counted_flops, flops_per_token, query_biases
from vp_core.squeezing.folder import load_pruned, save_pruned
from vp_core.squeezing.squeeze import squeeze, squeeze_masked
from vp_core.weights.dead import OTHERS_NOTE, dead_rows
from vp_core.weights.masks import Masks
from vp_core.weights.matrices import find_matrices
from vp_core.weights.prune import masked, silenced

ALWAYS = {dtype: 0 for dtype in scatter.GATHER_COST}
"""Pick inputs, and put rows in place, however little that saves."""
NEVER = {dtype: 10**9 for dtype in scatter.GATHER_COST}
pytestmark = pytest.mark.usefixtures("exact_norms")
model_of = cache(tiny.transformer)


def random_masks(model, seed=0, weights=0.3, rows=0.3, columns=0.3, types=None):
    """Masks of single weights, of which these shares of rows and columns are wholly gone, a head and an FFN among them."""
    draw, keep = torch.Generator().manual_seed(seed), {}
    for matrix in find_matrices(model):
        if types is not None and matrix.type not in types:
            continue
        mask = torch.rand(matrix.shape, generator=draw) >= weights
        mask[torch.rand(matrix.rows, generator=draw) < rows] = False
        mask[:, torch.rand(matrix.columns, generator=draw) < columns] = False
        if matrix.type == "attention_output" and seed % 2:
            mask[:, : matrix.columns // 2] = False  # nobody reads half of the heads
        if matrix.type == "ffn_out" and seed % 3 == 2 and matrix.layer:
            mask[:] = False
        keep[matrix.name] = mask
    return Masks.of(keep)


def fused(model, masks):
    """Masks in which query, key and value have lost the same columns."""
    keep = {name: masks.keep(name) for name in masks.bits}
    for layer in find_layers(model):
        names = [p.name for t, p in layer.projections.items() if t in ("query", "key", "value") and p.name in keep]
        for name in names:
            keep[name] = keep[name] & keep[names[0]].any(dim=0)
    return Masks.of(keep)


def both(model, masks):
    matrices = [m for m in find_matrices(model) if m.name in masks.bits]
    before = masked(model, matrices, masks)
    return before, squeeze_masked(before, masks)


def sides(family):
    return ("right", "left") if family in ("gpt2", "llama") else ("right",)


def check(family, masks, dtype=torch.float64, tolerance=1e-10):
    """The squeezed model, after comparing its logits with the masked model's."""
    model = model_of(family, dtype=dtype)
    given, squeezed = both(model, masks)
    for side in sides(family):
        inputs = tiny.inputs(family, dtype, side)
        assert tiny.distance(tiny.logits(squeezed, inputs), tiny.logits(given, inputs)) <= tolerance
    assert tiny.hooks(squeezed) == tiny.hooks(given) == 0
    return squeezed


shares = st.sampled_from((0, 0.3, 0.9, 1))


@pytest.mark.parametrize("family", tiny.TRANSFORMERS)
@settings(max_examples=12)
@given(
    seed=st.integers(0, 10**6), rows=shares, columns=shares, together=st.booleans(), costs=st.sampled_from((ALWAYS, NEVER, {}))
)
def test_masked_and_squeezed_agree(family, seed, rows, columns, together, costs):
    model = model_of(family)
    masks = random_masks(model, seed, 0.4, rows, columns)
    masks = fused(model, masks) if together else masks
    with patch.dict(scatter.GATHER_COST, costs), patch.dict(scatter.SCATTER_COST, costs if costs == ALWAYS else {}):
        check(family, masks)


@pytest.mark.parametrize("family", tiny.TRANSFORMERS)
def test_columns_that_nobody_reads_are_not_multiplied(family):
    """Rows are all there, a third of the inputs is read by none of query, key, value and ffn_in: 32 of 48 are left."""
    model, keep = model_of(family), {}
    for matrix in find_matrices(model, ("query", "key", "value", "ffn_in")):
        keep[matrix.name] = torch.ones(matrix.shape, dtype=torch.bool)
        keep[matrix.name][:, ::3] = False
    with patch.dict(scatter.GATHER_COST, ALWAYS):
        squeezed = check(family, Masks.of(keep))
    for layer in find_layers(model):
        for type_, p in layer.projections.items():
            if type_ not in ("query", "key", "value", "ffn_in"):
                continue
            for path in {p.path, p.gate or p.path}:
                module = squeezed.get_submodule(path)
                assert isinstance(module, ScatterLinear) and module.linear.weight.shape[1] == 32
                assert module.in_index.tolist() == [i for i in range(48) if i % 3]
    assert not squeezed.squeezed.notes
    found = squeezed.squeezed.cost
    assert found.parameters_left == sum(
        p.numel() for n, p in squeezed.named_parameters() if n in linear_weights(model, squeezed)
    )
    if family != "deberta-v2":
        assert flops_per_token(squeezed, 11) == found.flops_per_token_left(11) < found.flops_per_token(11)
    with patch.dict(scatter.GATHER_COST, NEVER):
        dear = check(family, Masks.of(keep))
        assert not dear.squeezed.modules and dear.squeezed.cost == found


def linear_weights(model, squeezed):
    """Names of the weights of the projections in a squeezed model."""
    paths = {path for p in find_projections(model) for path in (p.path, p.gate) if path}
    return {
        f"{path}.linear.weight" if isinstance(squeezed.get_submodule(path), ScatterLinear) else f"{path}.weight"
        for path in paths
    }


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "modernbert", "vit"])
def test_the_cost_is_that_of_the_shapes(family, monkeypatch):
    """Of rows and columns that are gone, all that is counted is in the model, and torch counts the same operations."""
    for costs in (scatter.GATHER_COST, scatter.SCATTER_COST):
        for dtype in costs:
            monkeypatch.setitem(costs, dtype, 0)
    model, inputs = model_of(family), tiny.inputs(family)
    length = tokens_of(model.config) if family in tiny.SEEING else 11
    for seed in range(3):
        masks = fused(model, random_masks(model, seed, 0, 0.3, 0.5))
        given, squeezed = both(model, masks)
        layers = find_layers(model)
        expected = cost(layers, dead_rows(layers, masks), query_biases(given, layers))
        here = squeezed.squeezed.cost
        assert counted_flops(squeezed, **inputs) == 3 * length * flops_per_token(squeezed, length)
        assert flops_per_token(squeezed, length) >= here.flops_per_token_left(length)
        assert here.linear_left == expected.linear_left and here.parameters_left <= expected.parameters_left
        weights = sum(int((squeezed.get_parameter(n) != 0).sum()) for n in linear_weights(model, squeezed) if has(squeezed, n))
        assert here.parameters_left == weights


def has(model, name):
    return name in dict(model.named_parameters())


def test_whole_heads_follow():
    """W_O reads nothing of heads 0 and 2: they leave, with query, key and value, whose weights are all there."""
    model = model_of("bert")
    keep = {p.name: torch.ones(48, 48, dtype=torch.bool) for p in find_projections(model) if p.type == "attention_output"}
    for mask in keep.values():
        mask[:, :12] = mask[:, 24:36] = False
    squeezed = check("bert", Masks.of(keep))
    plan = dead_rows(find_layers(model), Masks.of(keep))
    for type_ in ("query", "key", "value"):
        assert plan.keep[f"1.{type_}"].tolist() == ([False] * 12 + [True] * 12) * 2
    attention = squeezed.bert.encoder.layer[0].attention.self
    assert attention.query.weight.shape == (24, 48) and attention.attention_head_size == 12


def test_grouped_values_stay_while_any_copy_is_read():
    """Llama's two heads of key and value serve two heads of the query each."""
    model = model_of("llama")
    keep = {p.name: torch.ones(48, 48, dtype=torch.bool) for p in find_projections(model) if p.type == "attention_output"}
    for mask in keep.values():
        mask[:, 0] = mask[:, 1] = mask[:, 13] = False  # value 0 is read at 0 and 12, value 1 at 1 and 13
    plan = dead_rows(find_layers(model), Masks.of(keep))
    assert (~plan.keep["0.value"]).nonzero().flatten().tolist() == [1]
    check("llama", Masks.of(keep))


@pytest.mark.parametrize("family", ["llama", "modernbert"])
def test_a_gated_neuron_goes_where_both_rows_are_gone(family):
    """Its constant, a product of two biases, joins the bias of the matrix that reads it."""
    flags = {"attention_bias": True, "mlp_bias": True}
    model = tiny.transformer(family, **flags)
    layers, keep = find_layers(model), {}
    for matrix in find_matrices(model, ("ffn_in",)):
        keep[matrix.name] = torch.ones(matrix.shape, dtype=torch.bool)
        keep[matrix.name][:10] = False
        if matrix.name.endswith("gate"):
            keep[matrix.name][5:10] = True  # only one of both is gone
    masks = Masks.of(keep)
    assert (~dead_rows(layers, masks).keep["1.ffn_in"]).nonzero().flatten().tolist() == [*range(5)]
    given, squeezed = both(model, masks)
    inputs = tiny.inputs(family)
    assert tiny.distance(tiny.logits(squeezed, inputs), tiny.logits(given, inputs)) <= 1e-10
    assert squeezed.squeezed.cost.parameters_left < squeezed.squeezed.cost.parameters


def test_columns_of_one_matrix_stay_for_others():
    model, keep = model_of("gpt2"), {}
    for matrix in find_matrices(model, ("query", "key")):
        keep[matrix.name] = torch.ones(matrix.shape, dtype=torch.bool)
        keep[matrix.name][:, ::2] = False
    squeezed = check("gpt2", Masks.of(keep))
    assert squeezed.squeezed.notes == (OTHERS_NOTE,) and not squeezed.squeezed.modules


def test_nothing_wholly_zero_leaves_the_masked_model_as_it_is():
    model = model_of("bert", dtype=torch.float32)
    given, squeezed = both(model, random_masks(model, 0, 0.5, 0, 0))
    assert not squeezed.squeezed.modules and tiny.sha(squeezed) == tiny.sha(given)
    assert torch.equal(*(tiny.logits(m, tiny.inputs("bert", torch.float32)) for m in (squeezed, given)))
    weights = sum(int((weight_of(given, p) != 0).sum()) for p in find_projections(given))
    assert squeezed.squeezed.cost.parameters_left == weights
    assert squeezed.squeezed.cost.linear_left == squeezed.squeezed.cost.linear


def test_in_other_arithmetic_and_in_training():
    model = model_of("bert", dtype=torch.float32)
    _, squeezed = both(model, random_masks(model, 4, 0.2, 0.2, 0.5))
    inputs = tiny.inputs("bert", torch.float32)
    half = in_precision(squeezed, "bfloat16")
    with torch.no_grad():
        assert tiny.distance(half(**inputs).logits.float(), tiny.logits(squeezed, inputs)) < 0.1
        assert tiny.distance(in_precision(squeezed, "int8")(**inputs).logits, tiny.logits(squeezed, inputs)) < 0.2
    squeezed.requires_grad_(True).train()(**inputs).logits.square().mean().backward()


@pytest.mark.parametrize("family", tiny.TRANSFORMERS)
def test_saved_and_loaded_to_the_bit(family, tmp_path):
    model = model_of(family, dtype=torch.float32)
    _, squeezed = both(model, random_masks(model, 5, 0.5, 0.2, 0.6))
    save_pruned(squeezed, tmp_path / "small")
    found = load_pruned(tmp_path / "small")
    assert tiny.sha(found) == tiny.sha(squeezed) and found.squeezed == squeezed.squeezed and found.squeezed.sparse
    inputs = tiny.inputs(family, torch.float32)
    assert torch.equal(tiny.logits(found, inputs), tiny.logits(squeezed, inputs))


def test_squeezing_refuses_columns_that_are_read():
    model = model_of("bert")
    masks = random_masks(model, 0, 0, 0, 0.5)
    layers = find_layers(model)
    plan = dead_rows(layers, masks)
    assert plan.columns
    with pytest.raises(VPError, match="not pruned by this plan"):
        squeeze(silenced(model, layers, plan), plan)
    with pytest.raises(VPError, match="belongs to another model"):
        squeeze(model_of("bert", ffn=60), dead_rows(layers, masks))
