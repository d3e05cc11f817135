"""Decoder language models of every family: where their rows are, what is measured, pruned, squeezed, kept and written."""

import copy
from functools import cache
from itertools import product
from unittest.mock import patch

import bench_models
import numpy as np
import pytest
import tiny
import torch
import transformers

from vp_core.asking.batches import Batch
from vp_core.asking.kinds.heads import head_states
from vp_core.asking.words.tokens import losses_of_tokens
from vp_core.ground.errors import VPError
from vp_core.identity import spectral
from vp_core.measuring.statistics import collect
from vp_core.model import scatter
from vp_core.model.families import (
    FAMILIES,
    families_for,
    family_of,
    longest_input,
)
from vp_core.model.family.stack import COUNTED_NOTE, NORM_NOTE, ROTARY_NOTE
from vp_core.model.projections import bias_of, find_layers, find_projections, gate_weight_of, weight_of
from vp_core.model.units import unit_groups
from vp_core.movement.scores import Scores
from vp_core.movement.shapes import PRESETS, find_groups
from vp_core.ranking.plan import Plan
from vp_core.replacing.prune import prune
from vp_core.squeezing import survivors
from vp_core.squeezing.cost import flops_per_token
from vp_core.squeezing.dense_form import check_dense_form, export_transformers
from vp_core.squeezing.folder import load_pruned, save_pruned
from vp_core.squeezing.squeeze import squeeze, squeeze_masked
from vp_core.weights.masks import Masks
from vp_core.weights.matrices import find_matrices, view
from vp_core.weights.prune import masked

pytestmark = pytest.mark.usefixtures("exact_norms")
model_of = cache(tiny.transformer)
HEADED = ("query", "key", "value")
GATED = [f for f in tiny.WRITERS if f not in ("gpt2", "phi", "gpt_neox", "opt")]
NORMED = ("qwen3", "gemma3_text")


def parts_of(family, layer):
    """By hand: from a type to what its module puts out there, (…, rows of the module) → (…, d_out), and the module."""
    if family == "gpt2":
        fused = {t: (layer.attn.c_attn, lambda y, i=i: y[..., 48 * i : 48 * i + 48]) for i, t in enumerate(HEADED)}
        rest = {"attention_output": layer.attn.c_proj, "ffn_in": layer.mlp.c_fc, "ffn_out": layer.mlp.c_proj}
    elif family == "gpt_neox":  # as its own forward does: heads, then three of 12 in each
        fused = {
            t: (layer.attention.query_key_value, lambda y, i=i: y.unflatten(-1, (4, 36)).chunk(3, dim=-1)[i].flatten(-2))
            for i, t in enumerate(HEADED)
        }
        mlp = layer.mlp
        rest = {"attention_output": layer.attention.dense, "ffn_in": mlp.dense_h_to_4h, "ffn_out": mlp.dense_4h_to_h}
    elif family == "phi3":
        fused = {t: (layer.self_attn.qkv_proj, lambda y, i=i: y.split((48, 24, 24), dim=-1)[i]) for i, t in enumerate(HEADED)}
        fused["ffn_in"] = (layer.mlp.gate_up_proj, lambda y: y.chunk(2, dim=-1)[1])
        rest = {"attention_output": layer.self_attn.o_proj, "ffn_out": layer.mlp.down_proj}
    else:
        own, fused = layer.self_attn, {}
        rest = {"query": own.q_proj, "key": own.k_proj, "value": own.v_proj}
        if family == "opt":
            rest |= {"attention_output": own.out_proj, "ffn_in": layer.fc1, "ffn_out": layer.fc2}
        elif family == "phi":
            rest |= {"attention_output": own.dense, "ffn_in": layer.mlp.fc1, "ffn_out": layer.mlp.fc2}
        else:
            rest |= {"attention_output": own.o_proj, "ffn_in": layer.mlp.up_proj, "ffn_out": layer.mlp.down_proj}
    return fused | {type_: (module, lambda y: y) for type_, module in rest.items()}


def layers_of(model):
    base = model.base_model
    return base.h if hasattr(base, "h") else base.decoder.layers if hasattr(base, "decoder") else base.layers


def test_what_families_do():
    assert families_for("next tokens") == tuple(sorted(tiny.WRITERS))
    assert all(FAMILIES[f].writes_text for f in tiny.WRITERS) and not FAMILIES["bert"].writes_text
    assert set(families_for("masked tokens")) == {
        "albert", "bert", "camembert", "deberta-v2", "distilbert", "electra", "modernbert", "mpnet", "roberta", "xlm-roberta"
    }  # fmt: skip
    for model_type in families_for("masked tokens"):
        config = transformers.AutoConfig.for_model(model_type)
        assert type(config) in transformers.AutoModelForMaskedLM._model_mapping
    for model_type in families_for("next tokens"):
        assert type(transformers.AutoConfig.for_model(model_type)) in transformers.AutoModelForCausalLM._model_mapping
    assert set(families_for("classes")) == set(tiny.FAMILIES)
    with pytest.raises(
        VPError, match=r"'mixtral' is not supported \(its layers .* each\): .* language model of one of .*qwen3"
    ):
        family_of("mixtral")


@pytest.mark.parametrize("family", tiny.WRITERS)
def test_weights_are_those_that_make_the_output(family):
    """W x + b of a projection is the part of its module's output that the model goes on with as query, key, …"""
    model, x = model_of(family), torch.randn(5, 48, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert longest_input(model.config) == tiny.POSITIONS
    found = find_layers(model)
    assert [layer.queries_per_key for layer in found] == [1 if family in ("gpt2", "phi", "gpt_neox", "opt") else 2] * 2
    for layer, module in zip(found, layers_of(model), strict=True):
        for type_, (inner, part) in parts_of(family, module).items():
            p = layer.projections[type_]
            given = x if p.d_in == 48 else torch.randn(5, p.d_in, dtype=torch.float64)
            expected = part(inner(given))
            assert expected.shape[1] == p.d_out
            torch.testing.assert_close(given @ weight_of(model, p).T + bias_of(model, p), expected, rtol=0, atol=1e-12)
        assert (layer.projections["ffn_in"].gate is not None) == (family in GATED)
    if family == "phi3":
        p, mlp = found[0].projections["ffn_in"], layers_of(model)[0].mlp
        torch.testing.assert_close(x @ gate_weight_of(model, p).T, mlp.gate_up_proj(x).chunk(2, dim=-1)[0])


def seen(family, model, given):
    """By name, what passes at every neuron for real tokens, (tokens, neurons): plain hooks on one text at a time."""
    caught, handles = {}, []
    for number, layer in enumerate(layers_of(model)):
        for type_, (module, part) in parts_of(family, layer).items():

            def keep(values, name=f"{number}.{type_}"):
                caught[name] = values.detach().flatten(0, -2).numpy()

            if type_ == "ffn_in" and family in GATED:  # the neuron is the product, which down_proj reads
                handles.append(layer.mlp.down_proj.register_forward_pre_hook(lambda _m, args, keep=keep: keep(args[0])))
            else:
                handles.append(module.register_forward_hook(lambda _m, _a, y, keep=keep, part=part: keep(part(y))))
    rows = {}
    for text in range(3):
        one = {name: value[[text]] for name, value in given.items()}
        tiny.logits(model, one)
        for name, values in caught.items():
            rows.setdefault(name, []).append(values[one["attention_mask"][0].bool().numpy()])
    for handle in handles:
        handle.remove()
    return {name: np.concatenate(parts) for name, parts in rows.items()}


@pytest.mark.parametrize("family", tiny.WRITERS)
def test_statistics_are_numpys(family):
    model = model_of(family)
    for side in ("right", "left"):
        given = tiny.inputs(family, side=side)
        expected, found = seen(family, model, given), collect(model, [Batch(given, np.arange(3))])
        assert set(expected) == {p.name for p in find_projections(model)} and found.tokens == 22
        for name, rows in expected.items():
            np.testing.assert_allclose(found.mean(name), rows.mean(0), rtol=1e-10, atol=1e-12)
            np.testing.assert_allclose(found.variance(name), rows.var(0, ddof=1), rtol=1e-10)


@pytest.mark.parametrize("family", tiny.WRITERS)
def test_squeezed_is_pruned(family):
    model = model_of(family)
    always = {dtype: 0 for dtype in scatter.SCATTER_COST}
    told = () if family in ("gpt2", "opt") else (NORM_NOTE if family in NORMED else ROTARY_NOTE,)
    for (share, scattered), side in product(((0.3, True), (0.3, False), (0.7, False), (1.0, True)), ("right", "left")):
        plan, given = tiny.random_plan(model, share, seed=3), tiny.inputs(family, side=side)
        with patch.dict(scatter.SCATTER_COST, always if scattered else {}):
            pruned = prune(model, plan, tiny.random_constants(model))
            squeezed = squeeze(pruned, plan)
        expected = tiny.logits(pruned, given)
        assert tiny.distance(expected, tiny.logits(model, given)) > 0.1
        assert tiny.distance(tiny.logits(squeezed, given), expected) <= 1e-10
        # with all rows gone nothing is left that could keep its width; only Phi-3's heads keep places
        assert squeezed.squeezed.notes == (told if share < 1 else (COUNTED_NOTE,) if family == "phi3" else ())
        assert flops_per_token(squeezed, 11) < flops_per_token(model, 11)
    assert tiny.hooks(model) == 0


@pytest.mark.parametrize("family", tiny.WRITERS)
def test_heads_that_leave(family):
    """A head of keys and values goes with all the heads of queries that read it: what is left computes no more of them."""
    model = model_of(family)
    layer, (group, _) = find_layers(model)[0], unit_groups(find_layers(model), ("heads",))
    shared, width, heads = layer.queries_per_key, layer.projections["value"].head_width, 4 // layer.queries_per_key
    assert len(group) == heads and group.consumer == layer.projections["attention_output"]
    assert [rows.shape for _, rows in group.rows] == [(heads, shared * width), (heads, width), (heads, width)]
    assert sorted(group.columns[-1].tolist()) == list(range(4 * width - shared * width, 4 * width))
    ranking = bench_models.random_ranking(model, ("heads",))
    plan = ranking.plan(0.5)
    pruned = prune(model, plan, {p.name: torch.zeros(p.d_out, dtype=torch.float64) for p in find_projections(model)})
    squeezed, given = squeeze(pruned, plan), tiny.inputs(family)
    assert tiny.distance(tiny.logits(squeezed, given), tiny.logits(pruned, given)) <= 1e-10
    for p in find_projections(model):
        if p.head_width and p.path in squeezed.squeezed.modules and family not in ("gpt2", "phi3", "gpt_neox"):
            assert squeezed.squeezed.modules[p.path].rows == p.d_out // 2


@pytest.mark.parametrize("family", [f for f in tiny.WRITERS if f not in ("gpt2", "opt", "llama", *NORMED)])
def test_heads_that_turn_by_frequencies_of_their_own(family, monkeypatch, tmp_path):
    """Each head loses other pairs, one of four all its values: whatever module the rows are in, and if half a head turns."""
    monkeypatch.setattr(survivors, "ALIGNMENT", 2)
    model = model_of(family)
    layers = find_layers(model)
    half = family in ("phi", "gpt_neox")
    assert all(layer.turned == (layer.projections["key"].head_width or 0) // (2 if half else 1) for layer in layers)
    keep = {p.name: torch.ones(p.d_out, dtype=torch.bool) for p in find_projections(model)}
    for group in unit_groups(layers, ("pairs", "values")):
        width = (group.projection.head_width or 0) // (2 if group.kind == "pairs" else 1)
        for unit in range(len(group)):
            head, within = divmod(unit, width)
            if within % 5 in (0, 2 + head % 2, 4) or (group.kind == "values" and head == 1 and group.layer == 1):
                for p, rows in group.rows:
                    keep[p.name][rows[unit]] = False
    plan = Plan(keep, "by hand", "by hand", 0.5)
    pruned = prune(model, plan, {name: torch.zeros(len(mask), dtype=torch.float64) for name, mask in keep.items()})
    squeezed = squeeze(pruned, plan)
    assert len(squeezed.squeezed.turning) == 2 and squeezed.squeezed.notes == ((COUNTED_NOTE,) if family == "phi3" else ())
    for side in ("right", "left"):
        given = tiny.inputs(family, side=side)
        expected = tiny.logits(pruned, given)
        assert tiny.distance(tiny.logits(squeezed, given), expected) <= 1e-10
        assert tiny.distance(expected, tiny.logits(model, given)) > 0.01
    how = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    again = load_pruned(save_pruned(squeezed, tmp_path / "small"))
    assert torch.equal(tiny.logits(again, given), tiny.logits(squeezed, given))
    assert torch.equal(again.generate(**given, **how), pruned.generate(**given, **how))


@pytest.mark.parametrize("family", tiny.WRITERS)
def test_a_squeezed_one_is_kept_and_writes_what_the_pruned_one_writes(family, tmp_path):
    model = tiny.transformer(family, tie_word_embeddings=family in ("gemma", "qwen3", "opt"))
    tied = model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert tied == (family in ("gemma", "qwen3", "opt"))
    plan = tiny.random_plan(model, 0.4)
    pruned = prune(model, plan, tiny.random_constants(model))
    squeezed = squeeze(pruned, plan)
    again = load_pruned(save_pruned(squeezed, tmp_path / "small"))
    given = tiny.inputs(family, side="left")
    assert torch.equal(tiny.logits(again, given), tiny.logits(squeezed, given))
    assert again.squeezed == squeezed.squeezed and type(again) is type(model)
    assert tied == (again.get_input_embeddings().weight is again.get_output_embeddings().weight)
    how = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    with torch.no_grad():
        expected = pruned.generate(**given, **how)
        assert torch.equal(again.generate(**given, **how), expected)
        assert torch.equal(again.generate(**given, **how, use_cache=False), expected)
    assert expected.shape == (3, 17)


@pytest.mark.parametrize("family", tiny.WRITERS)
def test_the_dense_form(family, tmp_path):
    """Written where there is a place for every constant; else refused in one sentence."""
    model = tiny.transformer(family, dtype=torch.float32)
    plan = tiny.random_plan(model, 0.4)
    pruned = prune(model, plan, tiny.random_constants(model))
    if family in ("gpt2", "llama", "phi", "gpt_neox", "opt"):
        check_dense_form(model)
        export_transformers(pruned, tmp_path / "plain")
        found = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "plain")
        given = tiny.inputs(family, torch.float32)
        assert torch.equal(tiny.logits(found, given), tiny.logits(pruned, given))
        return
    for call in (lambda: check_dense_form(model), lambda: export_transformers(pruned, tmp_path / "plain")):
        with pytest.raises(VPError, match=rf"a {family} model there has no .*bias: save it squeezed instead\.$"):
            call()


@pytest.mark.parametrize("family", tiny.WRITERS)
def test_losses_of_tokens_are_those_of_the_whole_model(family):
    """Whatever comes between the last layer and the words: a cap on logits, a bias, a projection."""
    more = {"word_embed_proj_dim": 24} if family == "opt" else {"final_logit_softcapping": 2.0} if family == "gemma2" else {}
    model, ids = tiny.transformer(family, **more), tiny.inputs(family)["input_ids"][:1]
    with torch.no_grad():
        found, _ = losses_of_tokens(model, head_states(model, {"input_ids": ids})[0, :-1], ids[0, 1:])
        expected = torch.nn.functional.cross_entropy(model(input_ids=ids).logits[0, :-1].float(), ids[0, 1:], reduction="none")
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", ["phi3", "gpt_neox"])
def test_single_weights_norms_and_scores_where_one_module_holds_three(family):
    """Parts that are not equal, or take turns: each matrix is masked, brought to a norm, and scored, by itself."""
    model, draw = model_of(family), torch.Generator().manual_seed(2)
    matrices = find_matrices(model)
    keep = {m.name: torch.rand(m.shape, generator=draw) > 0.5 for m in matrices}
    keep["1.key"][:12] = False  # rows that nothing is left of
    masks = Masks.of(keep, criterion="any", scope="any", units="weights", sparsity=0.5)
    pruned = masked(model, matrices, masks)
    for m in matrices:
        assert torch.equal(view(pruned, m), view(model, m) * keep[m.name]) and view(model, m).all()
    given = tiny.inputs(family)
    expected = tiny.logits(pruned, given)
    assert tiny.distance(tiny.logits(squeeze_masked(pruned, masks), given), expected) <= 1e-10
    rescaled_, plain = spectral.rescaled(model), find_projections(model)
    trained = copy.deepcopy(model)
    spectral.normalise(trained)
    assert tiny.distance(tiny.logits(trained, given), tiny.logits(rescaled_, given)) <= 1e-10
    for p in plain:
        assert torch.linalg.matrix_norm(weight_of(rescaled_, p), 2).item() == pytest.approx(5, rel=1e-6), p.name
        assert torch.linalg.matrix_norm(weight_of(trained, p), 2).item() == pytest.approx(5, rel=1e-6), p.name
    scored = copy.deepcopy(model)
    groups = find_groups(find_layers(model), matrices, PRESETS["movement"].shapes)
    scores = Scores.put_on(scored, groups, 1.0)
    for name, place in scores.places.items():
        place.mask = keep[name].double()
    assert tiny.distance(tiny.logits(scored, given), expected) <= 1e-12
    scores.write(scored, "0.key", scores.trained(scored, "0.key").data, ~keep["0.key"], torch.full(keep["0.key"].shape, 7.0))
    scores.take_off(scored)
    for p in plain:  # what was written is masked: had it been written elsewhere, it would be seen
        assert torch.equal(weight_of(scored, p), weight_of(pruned, p)), p.name


def test_norms_after_the_sum_and_heads_without_positions_too():
    """OPT-350m's layer norms come after the sum; Phi may have norms over its heads, with which they keep their width."""
    after = tiny.transformer("opt", do_layer_norm_before=False)
    normed = tiny.transformer("phi", qk_layernorm=True)
    for family, model in (("opt", after), ("phi", normed)):
        plan, given = tiny.random_plan(model, 0.5), tiny.inputs(family)
        pruned = prune(model, plan, tiny.random_constants(model))
        squeezed = squeeze(pruned, plan)
        assert tiny.distance(tiny.logits(squeezed, given), tiny.logits(pruned, given)) <= 1e-10
        assert squeezed.squeezed.notes == ((NORM_NOTE,) if family == "phi" else ())
    assert family_of("opt").switched[0].pre_norm and not family_of("opt").stacks[0].pre_norm
