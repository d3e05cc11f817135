"""Effects on a tagger's outputs: drawn tags of words against all tags by enumeration, at the first tokens of words alone."""

from functools import cache

import numpy as np
import pytest
import taggers
import tiny
import torch
from enumerated import fisher

from vp_core.asking.batches import Encoded, make_batches
from vp_core.asking.kinds.answered import asked, divergence, to_differentiate
from vp_core.asking.kinds.heads import head_of, head_states, logits_of, path_of_head
from vp_core.asking.tagging.aligned import align
from vp_core.measuring.gradients import collect_gradients
from vp_core.measuring.measured import Measured
from vp_core.model.families import families_for

pytestmark = pytest.mark.usefixtures("exact_norms")
NAMES = ("0.activation", "1.context", "0.query", "0.ffn_out")
FAMILIES = ("bert", "roberta", "t5")


@cache
def found(family):
    """(a tagger in float64 measured on six sentences, the words they are)"""
    model = taggers.tagger(family, **tiny.NO_DROPOUT).double()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):
                module.weight.normal_(std=0.3, generator=torch.Generator().manual_seed(1))
    words = [words for words, _ in taggers.tagged(4, 1, longest=5)]
    return Measured(model, align(tiny.tokenizer(family), words, 32), "m", "d"), words


@pytest.mark.parametrize("family", families_for("tags"))
def test_the_head_is_the_map_from_states_to_tags(family):
    model, data = taggers.tagger(family), align(tiny.tokenizer(family), [w for w, _ in taggers.tagged(3)], 32)
    (batch,) = make_batches(data, range(3), 10**6)
    assert (head_of(model), path_of_head(model)) == ("tags", "classifier")
    with torch.no_grad():
        logits = logits_of(model, head_states(model, batch.inputs))
        torch.testing.assert_close(logits, model(**batch.inputs).logits)


@pytest.mark.parametrize("family", FAMILIES)
def test_first_tokens_of_words_are_asked(family):
    one, words = found(family)
    tok = tiny.tokenizer(family)
    for batch in make_batches(one.texts, range(len(words)), 40):
        where = asked(one.model, batch)
        for row, i in zip(where, batch.examples, strict=True):
            ids = tok(words[i], is_split_into_words=True).word_ids(0)
            firsts = [place for place, word in enumerate(ids) if word is not None and ids.index(word) == place]
            assert row.nonzero().squeeze(1).tolist() == firsts and len(firsts) == len(words[i])
    plain = Encoded(one.texts.ids, None, 0, 0, 32)  # nobody says which: all words but the special ends
    (batch,) = make_batches(plain, [0])
    assert asked(one.model, batch)[0].tolist() == [False, *[True] * (len(plain.ids[0]) - 2), False]


@cache
def exact(family):
    """Name → effect (n,), by every word and all tags."""
    one, words = found(family)
    tok, examples = tiny.tokenizer(family), []
    for spoken in words:
        inputs = tok(spoken, is_split_into_words=True, return_tensors="pt")
        ids = inputs.word_ids(0)
        examples.append((inputs, [ids.index(word) for word in range(len(spoken))]))
    return {name: effect for name, (effect, _) in fisher(one, NAMES, examples).items()}


@pytest.mark.parametrize("family", FAMILIES)
def test_drawn_tags_tend_to_all_tags_as_draws_grow(family, monkeypatch):
    one, _ = found(family)
    off = {}
    for draws in (8, 512):
        monkeypatch.setattr(to_differentiate, "__defaults__", (draws,))
        gradients = collect_gradients(one.model, one.solving_batches(), one.statistics(), one.covariances())
        for name in NAMES:
            expected = exact(family)[name]
            off[draws, name] = ((gradients.effect[name] - expected).abs().sum() / expected.sum()).item()
    assert max(off[512, name] for name in NAMES) < 0.12, off
    assert np.mean([off[512, n] for n in NAMES]) < 0.5 * np.mean([off[8, n] for n in NAMES]), off


def test_how_far_two_answers_are_apart():
    """KL(dense ‖ other) over words in nats, by numpy."""
    one, _ = found("bert")
    draw = torch.Generator().manual_seed(0)
    dense, other = (torch.randn(9, tiny.HIDDEN, dtype=torch.float64, generator=draw) for _ in range(2))
    head = one.model.classifier
    p, q = (head(states).log_softmax(1).detach().numpy() for states in (dense, other))
    assert divergence(one.model, dense, other) == pytest.approx((np.exp(p) * (p - q)).sum(), rel=1e-5)
