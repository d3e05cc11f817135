"""Effects on what a model writes about a text: drawn words of targets against every word, and KL against plain loops."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import scribes
import tiny
import torch
from enumerated import fisher

from vp_core.asking.batches import Batch, make_batches
from vp_core.asking.kinds.answered import asked, to_differentiate
from vp_core.asking.kinds.heads import head_of, head_states, logits_of
from vp_core.asking.sequences.pairs import Pairs, shifted
from vp_core.carry_out import Stage
from vp_core.measuring import measured as rooms
from vp_core.measuring.gradients import FLOOR, collect_gradients
from vp_core.measuring.layerwise import Walk
from vp_core.measuring.measured import Measured
from vp_core.model.units import unit_groups
from vp_core.ranking import allocation
from vp_core.ranking.allocation import counts
from vp_core.recipes import Recipe

pytestmark = pytest.mark.usefixtures("exact_norms")
WORDS = 30
NAMES = ("0.activation", "0.query", "1.activation", "1.context", "2.context", "2.query", "2.value")
"""Of the encoder, of the decoder's own attention and network, and of its cross attention, which reads the source."""


@cache
def writer(family, layers=1):
    """A tiny model in float64 over 30 words."""
    torch.manual_seed(3)
    settings = tiny.sizes(family, 24, 20, layers) | tiny.NO_DROPOUT | {"vocab_size": WORDS}
    model = tiny.draw_biases(tiny.build(family, "ForConditionalGeneration", **settings))
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):
                module.weight.normal_(std=0.3)
        model.get_input_embeddings().weight.normal_(std=0.5)
        if getattr(model, "final_logits_bias", None) is not None:
            model.final_logits_bias.normal_()
    return model.double()


def pairs(model, n=3, longest=6):
    rng = np.random.default_rng(0)
    ids, wanted = ([rng.integers(3, WORDS, longest if i == 0 else rng.integers(3, longest)).tolist() for i in range(n)]
                   for _ in range(2))  # fmt: skip
    return Pairs(ids, [shifted(model, row) for row in wanted], wanted, 1, 0, longest)


@cache
def found(family):
    one = Measured(writer(family), pairs(writer(family)), "m", "d")
    return one, one.gradients()


def one_pair(data, i):
    return {"input_ids": torch.tensor([data.ids[i]]), "decoder_input_ids": torch.tensor([data.given[i]])}


@pytest.mark.parametrize("family", scribes.FAMILIES)
def test_logits_are_made_of_the_states_before_the_head(family):
    """BART adds a bias to its logits, T5 may scale what its head reads."""
    for model in {writer(family), writer(family, 2)}:
        for scaled in (False, True) if family == "t5" else (False,):
            model.config.scale_decoder_outputs = scaled
            (batch,) = make_batches(pairs(model), range(3), 10**6)
            with torch.no_grad():
                expected = model(**batch.inputs).logits
                states = head_states(model, batch.inputs)
                torch.testing.assert_close(logits_of(model, states).double(), expected, rtol=1e-5, atol=1e-5)
        model.config.scale_decoder_outputs = False
        assert head_of(model) == "target tokens"


@cache
def exact(family):
    """Name → (effect (n,), weights of all pairs' tokens), by every target position and all words of the vocabulary."""
    one, _ = found(family)
    return fisher(one, NAMES, [(one_pair(one.texts, pair), None) for pair in range(len(one.texts))])


@pytest.mark.parametrize("family", scribes.FAMILIES)
def test_drawn_words_tend_to_all_words_as_draws_grow(family, monkeypatch):
    one, _ = found(family)
    off = {}
    for draws in (8, 512):
        monkeypatch.setattr(to_differentiate, "__defaults__", (draws,))
        gradients = collect_gradients(one.model, one.solving_batches(), one.statistics(), one.covariances())
        for name in NAMES:
            effect, weights = exact(family)[name]
            off[draws, name] = ((gradients.effect[name] - effect).abs().sum() / effect.sum()).item()
            if draws == 512 and name in gradients.weights:
                (batch,), (many,) = one.solving_batches(), gradients.weights[name]
                rows = {int(i): w for i, w in zip(batch.examples, many, strict=True)}
                target = len(weights) == sum(map(len, one.texts.given)) and name[0] != "0" and name != "2.value"
                lengths = map(len, one.texts.given if target else one.texts.ids)
                row = torch.cat([rows[i][:n] for i, n in enumerate(lengths)]).double() - FLOOR
                assert (row - weights / weights.mean()).abs().mean() < 0.2, name
    for name in NAMES:
        assert off[512, name] < 0.1, (name, off)
    assert np.mean([off[512, n] for n in NAMES]) < 0.4 * np.mean([off[8, n] for n in NAMES])


@pytest.mark.parametrize("family", scribes.FAMILIES)
def test_numbers_do_not_depend_on_batches_nor_padding(family, monkeypatch):
    one, gradients = found(family)
    assert len(one.solving_batches()) == 1
    monkeypatch.setattr(rooms, "WINDOW_TOKENS", 8)  # every pair by itself
    alone = Measured(one.model, one.texts, "m", "d")
    assert len(alone.solving_batches()) == 3
    for name, effect in gradients.effect.items():
        torch.testing.assert_close(alone.gradients().effect[name], effect, rtol=1e-4, atol=1e-7 * effect.max().item())


def test_which_positions_count():
    model = writer("bart")
    (batch,) = make_batches(pairs(model), range(3), 10**6)
    assert torch.equal(asked(model, batch), batch.inputs["decoder_attention_mask"].bool())
    bare = {name: values for name, values in batch.inputs.items() if name != "decoder_attention_mask"}
    assert asked(model, Batch(bare, batch.examples)).all()
    source = {name: batch.inputs[name] for name in ("input_ids", "attention_mask")}
    assert torch.equal(asked(model, Batch(source, batch.examples)), batch.inputs["attention_mask"].bool())


def plain(data, dense, model, places):
    """Mean KL of the next word at these positions of each target, one pair at a time, by numpy."""
    total, positions = 0.0, 0
    for i, where in places.items():
        with torch.no_grad():
            p, q = (m(**one_pair(data, i)).logits[0].double().numpy() for m in (dense, model))
        p, q = (z - np.logaddexp.reduce(z, axis=1, keepdims=True) for z in (p, q))
        total += sum((np.exp(p[t]) * (p[t] - q[t])).sum() for t in where)
        positions += len(where)
    return total / positions


@pytest.mark.parametrize("family", scribes.FAMILIES)
def test_a_measured_loss_is_that_of_a_plain_loop(family, monkeypatch):
    """With units gone from the encoder, from the decoder and from its cross attention."""
    monkeypatch.setattr(allocation, "PLACES", 3)
    model, kinds = writer(family, 2), ("ffn neurons", "values")
    data = pairs(model, 8)
    one = Stage(Measured(model, data, "m", "d"))
    recipe = Recipe(units=kinds, replacement="mean", scope="measured", budget="parameters", criterion="weighted variance")
    own, groups = one.ranking(replace(recipe, scope="per layer")), unit_groups(one.measured.layers, kinds)
    batches, before = make_batches(data, range(8), 30), tiny.sha(model)
    assert len(batches) > 2 and len(groups) == 10
    places = {}
    for batch in batches:
        for i, row in zip(batch.examples, allocation.chosen(model, batch, 3), strict=True):
            places[int(i)] = row.nonzero().squeeze(1).tolist()
            assert len(places[int(i)]) == min(3, len(data.given[i])) and max(places[int(i)]) < len(data.given[i])
    losses = dict(
        allocation.measure_losses(
            Walk(model, batches), groups, lambda group, n: one.closed_form(recipe, own.only(group.name, n), {group.name: n})
        )
    )
    for group in groups:
        assert losses[group.name].removed.tolist() == [0, *counts(len(group))]
        n, loss = losses[group.name].removed[3], losses[group.name].loss[3]
        other = one.closed_form(recipe, own.only(group.name, int(n)), {group.name: int(n)})
        assert loss == pytest.approx(plain(data, model, other, places), rel=1e-4, abs=1e-7), group.name
    assert (tiny.sha(model), tiny.hooks(model)) == (before, 0)
