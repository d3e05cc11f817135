"""Effects on a language model's outputs: drawn words against every word of the vocabulary, and what they depend on."""

from dataclasses import replace
from functools import cache

import bench_models
import numpy as np
import pytest
import tiny
import torch
from enumerated import fisher

from vp_core.asking.batches import Batch, Encoded, make_batches
from vp_core.asking.kinds import answered
from vp_core.asking.kinds.answered import asked, chosen, divergence, to_differentiate
from vp_core.asking.kinds.heads import head_states
from vp_core.ground.errors import VPError
from vp_core.measuring import measured as rooms
from vp_core.measuring.gradients import FLOOR, collect_gradients
from vp_core.measuring.measured import Measured

pytestmark = pytest.mark.usefixtures("exact_norms")
WORDS = 30
KINDS = {"gpt2": "LMHeadModel", "llama": "ForCausalLM", "gemma2": "ForCausalLM", "bert": "ForMaskedLM"}


@cache
def writer(family):
    """A tiny language model of 2 layers in float64 over 30 words."""
    torch.manual_seed(3)
    settings = tiny.sizes(family, 24, 20, 2) | tiny.NO_DROPOUT | {"vocab_size": WORDS, "pad_token_id": 1}
    if family == "gpt2":
        settings |= {"bos_token_id": 0, "eos_token_id": 0}
    model = tiny.draw_biases(tiny.build(family, KINDS[family], **settings))
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Linear | tiny.Conv1D):
                module.weight.normal_(std=0.3)
        model.get_input_embeddings().weight.normal_(std=0.5)
    return model.double()


def windows(n=3, longest=7, seed=0):
    rng = np.random.default_rng(seed)
    ids = [rng.integers(2, WORDS, longest if i == 0 else rng.integers(3, longest + 1)).tolist() for i in range(n)]
    return Encoded(ids, None, 1, 0, longest)


@cache
def found(family):
    """(the model measured on windows of several lengths, its gradients)"""
    one = Measured(writer(family), windows(), "m", "d")
    return one, one.gradients()


def places(family, ids):
    """Positions that tell a word, said anew: the next one within the window, or every word but the special ends."""
    return range(1, len(ids) - 1) if family == "bert" else range(len(ids) - 1)


NAMES = ("0.activation", "1.context", "0.query", "0.ffn_out")


@cache
def exact(family):
    """Name → (effect (n,), weights of all windows' tokens (tokens,)), by all words of the vocabulary."""
    one, _ = found(family)
    return fisher(one, NAMES, [({"input_ids": torch.tensor([ids])}, places(family, ids)) for ids in one.texts.ids])


@pytest.mark.parametrize("family", KINDS)
def test_drawn_words_tend_to_all_words_as_draws_grow(family, monkeypatch):
    """The Fisher information by enumeration of the vocabulary; the error falls like one over the root of the draws."""
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
                got = {int(i): w for i, w in zip(batch.examples, many, strict=True)}
                row = torch.cat([got[i][: len(ids)] for i, ids in enumerate(one.texts.ids)]).double() - FLOOR
                assert (row - weights / weights.mean()).abs().mean() < 0.15, name
    for name in NAMES:
        assert off[512, name] < 0.08, (name, off)
    assert np.mean([off[512, n] for n in NAMES]) < 0.4 * np.mean([off[8, n] for n in NAMES])


@pytest.mark.parametrize("family", KINDS)
def test_columns_have_the_gradient_of_the_drawn_words_log_probability(family):
    """By finite differences in float64 of Σ log p(y) over the positions that count, y drawn by the window's number."""
    model, data = writer(family), windows()
    (batch,) = make_batches(data, range(len(data)), 10_000)
    states = head_states(model, batch.inputs).detach()
    luck = [np.random.default_rng([1, int(i)]).random((len(places(family, data.ids[i])), 2)) for i in batch.examples]
    head, cap = model.get_output_embeddings(), getattr(model.config, "final_logit_softcapping", None)

    def say(some):
        logits = head(some)
        return (torch.tanh(logits / cap) * cap if cap else logits).log_softmax(-1).detach().numpy()

    own = states.clone().requires_grad_(True)
    found = answered._of_drawn(model, states, asked(model, batch), batch.examples, 2)
    assert found.shape == (2, *own.shape)
    for row, i in enumerate(batch.examples):
        for number, t in enumerate(places(family, data.ids[i])):
            p = np.exp(say(states[row, t]))
            for draw in range(2):
                word = int(np.searchsorted(np.cumsum(p), luck[row][number, draw] * p.sum()))
                direction = torch.randn(states.shape[-1], dtype=torch.float64, generator=torch.Generator().manual_seed(t))
                ends = [say(states[row, t] + step * direction)[word] for step in (1e-5, -1e-5)]
                slope = (found[draw, row, t] @ direction).item() * 2**0.5
                assert slope == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-4, abs=1e-5)
        beyond = [t for t in range(states.shape[1]) if t not in places(family, data.ids[i])]
        assert not found[:, row, beyond].any()  # padding and what no word is told from


@pytest.mark.parametrize("family", KINDS)
def test_numbers_do_not_depend_on_batches_nor_padding(family, monkeypatch):
    one, gradients = found(family)
    (together,) = one.solving_batches()
    monkeypatch.setattr(rooms, "WINDOW_TOKENS", 7)  # every window by itself
    alone = Measured(one.model, one.texts, "m", "d")
    assert len(alone.solving_batches()) == 3
    other = alone.gradients()
    for name, effect in gradients.effect.items():
        torch.testing.assert_close(other.effect[name], effect, rtol=1e-4, atol=1e-7 * effect.max().item())
    for name, (weights,) in gradients.weights.items():
        by_window = {int(b.examples[0]): w[0] for b, w in zip(alone.solving_batches(), other.weights[name], strict=True)}
        for row, i in enumerate(together.examples):
            n = len(one.texts.ids[i])
            torch.testing.assert_close(weights[row, :n], by_window[i], rtol=1e-4, atol=1e-5)
            assert (weights[row, n:] == FLOOR).all()  # padding reaches nobody


def test_the_same_words_are_drawn_whatever_is_left_to_the_right_or_left():
    model, data = writer("llama"), windows()
    (batch,) = make_batches(data, range(3), 10_000)

    def flip(values):
        return torch.stack([v.roll(int((m == 0).sum())) for v, m in zip(values, batch.inputs["attention_mask"], strict=True)])

    flipped = {name: flip(values) for name, values in batch.inputs.items()}
    left = Batch(flipped, batch.examples)
    counts = [len(data.ids[i]) - 1 for i in batch.examples]
    assert asked(model, left).sum(dim=1).tolist() == asked(model, batch).sum(dim=1).tolist() == counts
    assert not asked(model, left)[:, -1].any() and asked(model, left)[:, -2].all()
    some = chosen(model, batch, 3)
    assert some.sum(dim=1).tolist() == [min(3, n) for n in counts] and not (some & ~asked(model, batch)).any()
    (one,) = make_batches(data, [int(batch.examples[2])])
    assert torch.equal(chosen(model, one, 3)[0], some[2, : one.inputs["input_ids"].shape[1]])


def test_divergence_is_that_of_numpy():
    model, draw = writer("gemma2"), torch.Generator().manual_seed(0)
    p, q = (torch.randn(150, 24, generator=draw, dtype=torch.float64) for _ in range(2))

    def say(states):
        z = (states @ model.lm_head.weight.T).detach().numpy()
        cap = model.config.final_logit_softcapping
        z = np.tanh(z / cap) * cap
        return z - np.logaddexp.reduce(z, axis=1, keepdims=True)

    expected = (np.exp(say(p)) * (say(p) - say(q))).sum()
    assert divergence(model, p, q) == pytest.approx(expected, rel=1e-5)
    assert divergence(model, p, p) == 0


def test_outputs_that_are_no_classes_are_refused():
    with pytest.raises(VPError, match=r"neither classes nor the next tokens .*: choose a criterion without gradients") as told:
        answered.of_classes(tiny.transformer("t5"), torch.zeros(2, 3, 4))
    assert "\n" not in str(told.value)


def test_classes_are_differentiated_as_they_are():
    model, data = bench_models.classifier("bert"), bench_models.texts("bert", 5)
    (batch,) = make_batches(data, range(5), 10_000)
    assert torch.equal(to_differentiate(model, batch), model(**batch.inputs).logits)
    assert Measured(model, replace(data, ids=data.ids), "m", "d").solving_batches()[0].inputs["input_ids"].shape[0] == 5
