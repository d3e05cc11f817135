"""Statistics of a model's neurons against numpy on outputs caught without padding."""

import copy
from functools import partial
from itertools import cycle, repeat

import numpy as np
import pytest
import tiny
import torch

from vp_core.asking.batches import Batch, encode, make_batches
from vp_core.ground.errors import VPError
from vp_core.measuring.statistics import Statistics, collect
from vp_core.model.family.vision import tokens_of
from vp_core.model.projections import find_projections

TEXTS = [(t,) for t in tiny.sentences(24, seed=11)]


def catching(model, caught):
    """Hooks that add (tokens, neurons) of each use of each projection to `caught`; the names of modules are spelt out here."""
    handles = []
    for p in find_projections(model):
        rows = slice(p.start, p.start + p.d_out)  # GPT-2's query, key and value come out of one module, side by side

        turns = cycle((True, False)) if p.tokens_of else repeat(True)

        def keep(values, name=p.name, rows=rows, turns=turns):
            if next(turns):  # DeBERTa's query and key run on the text first, and then on positions
                caught.setdefault(name, []).append(values[..., rows].flatten(0, -2).double().numpy())

        module = model.get_submodule(p.path)
        if p.path.endswith("mlp.up_proj"):  # a gated neuron is what `down_proj` reads
            reader = model.get_submodule(p.path.replace("up_proj", "down_proj"))
            handles.append(reader.register_forward_pre_hook(lambda _m, inputs, keep=keep: keep(inputs[0])))
        elif p.path.endswith("mlp.Wi"):  # and here `Wo`
            keep = partial(keep, rows=slice(None))
            reader = model.get_submodule(p.path.replace("Wi", "Wo"))
            handles.append(reader.register_forward_pre_hook(lambda _m, inputs, keep=keep: keep(inputs[0])))
        else:
            handles.append(module.register_forward_hook(lambda _m, _i, output, keep=keep: keep(output)))
    return handles


def outputs_one_by_one(model, tok, texts):
    """projection name → a list of (tokens, neurons) float64, each text alone, so without any padding."""
    caught = {}
    handles = catching(model, caught)
    tiny.answers(model, tok, texts)
    for handle in handles:
        handle.remove()
    return caught


def with_padding(data, order, size, extra):
    """Batches of `size` texts in the given order, each with `extra` columns of padding more than it needs."""
    batches = []
    for start in range(0, len(order), size):
        (batch,) = make_batches(data, order[start : start + size], max_tokens=10**9)
        inputs = {
            key: torch.nn.functional.pad(value, (0, extra), value=data.pad_id if key == "input_ids" else 0)
            for key, value in batch.inputs.items()
        }
        batches.append(Batch(inputs, batch.examples))
    return batches


def setup(loaded, family):
    model = copy.deepcopy(loaded[family].model).double()
    return model, loaded[family].tokenizer, encode(loaded[family].tokenizer, TEXTS, 30)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_exact_is_numpys_for_any_split_order_and_padding(exact_norms, loaded, family):
    model, tok, data = setup(loaded, family)
    expected = {name: np.concatenate(rows) for name, rows in outputs_one_by_one(model, tok, TEXTS).items()}
    assert set(expected) == set(tiny.names(family))
    uses = tiny.LAYERS if family == "albert" else 1  # of its one layer
    rng = np.random.default_rng(0)
    for size, extra in ((1, 0), (5, 6), (24, 2), (7, 0)):
        statistics = collect(model, with_padding(data, rng.permutation(24), size, extra))
        assert statistics.tokens == uses * sum(len(ids) for ids in data.ids)
        for name, rows in expected.items():
            np.testing.assert_allclose(statistics.mean(name), rows.mean(0), rtol=1e-10, atol=1e-12)
            np.testing.assert_allclose(statistics.variance(name), rows.var(0, ddof=1), rtol=1e-10)


def test_albert_is_measured_over_all_uses_of_its_layer():
    """By hand: the value map of a shared layer, fed with what each of its three uses is fed with."""
    model = tiny.classifier("albert").double()
    inner, given = model.albert.encoder.albert_layer_groups[0].albert_layers[0], tiny.inputs("bert")
    real = given["attention_mask"].bool()
    with torch.no_grad():
        states = model.albert(**given, output_hidden_states=True).hidden_states
        values = torch.cat([inner.attention.value(state)[real] for state in states[: tiny.LAYERS]]).numpy()
    found = collect(model, [Batch(given, np.arange(3))])
    assert found.tokens == tiny.LAYERS * 22
    np.testing.assert_allclose(found.mean("0.value"), values.mean(0), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(found.variance("0.value"), values.var(0, ddof=1), rtol=1e-10)


@pytest.mark.parametrize("family", [*tiny.SEEING, "llama"])
def test_what_is_not_a_text_classifier(family):
    """Images have no padding; a gated neuron is the product of two rows."""
    model = tiny.transformer(family)
    batches = [Batch(tiny.inputs(family), np.arange(3)), Batch(tiny.inputs(family, side="left"), np.arange(3))]
    expected = {}
    for batch in batches:
        for row in range(3):
            one = {key: value[[row]] for key, value in batch.inputs.items()}
            caught = {}
            handles = catching(model, caught)
            tiny.logits(model, one)
            for handle in handles:
                handle.remove()
            real = one["attention_mask"][0].bool().numpy() if family == "llama" else slice(None)
            for name, (values,) in caught.items():
                expected.setdefault(name, []).append(values[real])
    found = collect(model, batches)
    assert found.tokens == (44 if family == "llama" else 6 * tokens_of(model.config))
    assert found.moments.keys() == expected.keys()
    for name, rows in expected.items():
        np.testing.assert_allclose(found.mean(name), np.concatenate(rows).mean(0), rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(found.variance(name), np.concatenate(rows).var(0, ddof=1), rtol=1e-10)
    gated = model.model.layers[0].mlp.gate_proj.weight if family == "llama" else None
    assert gated is None or found.mean("0.ffn_in").shape == (len(gated),)


def test_barts_decoder_counts_its_own_tokens(tmp_path):
    """Encoder and decoder see 22 and 12 real tokens; the cross attention's query and output see the decoder's."""
    model, given = tiny.transformer("bart"), tiny.inputs("bart")
    written = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0]])
    found = collect(model, [Batch(given | {"decoder_attention_mask": written}, np.arange(3))])
    found.save(tmp_path / "s.safetensors")
    assert Statistics.load(tmp_path / "s.safetensors") == found
    caught = {}
    handles = catching(model, caught)
    tiny.logits(model, given | {"decoder_attention_mask": written})
    for handle in handles:
        handle.remove()
    masks = {11 * 3: given["attention_mask"].flatten().bool().numpy(), 6 * 3: written.flatten().bool().numpy()}
    tokens = {}
    for name, (values,) in caught.items():
        rows = values[masks[len(values)]]
        tokens[name] = found.moments[name].count
        assert tokens[name] == len(rows)
        np.testing.assert_allclose(found.mean(name), rows.mean(0), rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(found.variance(name), rows.var(0, ddof=1), rtol=1e-10)
    assert [tokens[n] for n in ("0.query", "1.value", "0.ffn_in", "2.query", "1.ffn_out", "3.key")] == [22, 22, 22, 12, 22, 12]
    assert [tokens[f"4.{type_}"] for type_ in ("query", "key", "value", "attention_output")] == [12, 22, 22, 12]


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_moving_variance_is_the_papers_loop(loaded, family):
    model, tok, data = setup(loaded, family)
    caught = outputs_one_by_one(model, tok, TEXTS)
    alpha, size = 0.7, 5
    statistics = collect(model, with_padding(data, range(24), size, 3), "ewmv", alpha)
    for name, texts in caught.items():
        moving = None
        for start in range(0, 24, size):
            y = np.concatenate(texts[start : start + size])
            mu = y.sum(0) / len(y)
            sigma2 = ((y - mu) ** 2).sum(0) / (len(y) - 1)  # eq. 3
            moving = sigma2 if moving is None else alpha * sigma2 + (1 - alpha) * moving  # eq. 4
        np.testing.assert_allclose(statistics.variance(name), moving, rtol=1e-10)
        np.testing.assert_allclose(statistics.mean(name), np.concatenate(texts).mean(0), rtol=1e-10, atol=1e-12)


def test_halves_merge_to_the_whole(loaded):
    model, _, data = setup(loaded, "bert")
    whole = collect(model, make_batches(data, range(24)), model_id="m", data_id="d")
    parts = [collect(model, make_batches(data, part), model_id="m", data_id="d") for part in (range(9), range(9, 24))]
    for merged in (parts[0].merge(parts[1]), parts[1].merge(parts[0])):
        assert merged.tokens == whole.tokens
        for name in whole.moments:
            torch.testing.assert_close(merged.variance(name), whole.variance(name), rtol=1e-10, atol=0)
    assert parts[0].tokens + parts[1].tokens == whole.tokens  # merging changed neither


def test_merging_what_does_not_belong_together(loaded):
    model, _, data = setup(loaded, "bert")
    batches = make_batches(data, range(24))
    exact, other = collect(model, batches, model_id="m"), collect(model, batches, model_id="another")
    moving = collect(model, batches, "ewmv", model_id="m")
    with pytest.raises(VPError, match="different models"):
        exact.merge(other)
    with pytest.raises(VPError, match="ewmv"):
        exact.merge(moving)


def test_bad_input(loaded):
    model, _, data = setup(loaded, "bert")
    with pytest.raises(VPError, match="no tokens"):
        collect(model, [])
    with pytest.raises(VPError, match="exact, ewmv"):
        collect(model, make_batches(data, range(2)), "median")
    broken = copy.deepcopy(model)
    broken.bert.encoder.layer[1].attention.self.key.bias.data[3] = float("inf")
    with pytest.raises(VPError, match="key in layer 1 is not finite"):
        collect(broken, make_batches(data, range(5)))
    assert tiny.hooks(broken) == 0


@pytest.mark.parametrize("estimator", ["exact", "ewmv"])
def test_saved_and_loaded(loaded, tmp_path, estimator):
    model, _, data = setup(loaded, "electra")
    saved = collect(model, make_batches(data, range(24), 100), estimator, model_id="m", data_id="d")
    saved.save(tmp_path / "s.safetensors")
    found = Statistics.load(tmp_path / "s.safetensors")
    assert (found.tokens, found.estimator, found.model, found.data) == (saved.tokens, estimator, "m", "d")
    assert set(found.moments) == set(saved.moments)
    for name in saved.moments:
        assert torch.equal(found.mean(name), saved.mean(name)) and torch.equal(found.variance(name), saved.variance(name))
        assert torch.equal(found.moments[name].m2, saved.moments[name].m2)
        assert found.variance(name).dtype == torch.float64
    assert [p.name for p in tmp_path.iterdir()] == ["s.safetensors"]


def test_the_model_keeps_its_weights_and_gets_no_hooks(loaded):
    one = loaded["bert"]
    before = tiny.sha(one.model)
    collect(one.model, make_batches(encode(one.tokenizer, TEXTS, 30), range(24)))
    assert (tiny.sha(one.model), tiny.hooks(one.model)) == (before, 0)
