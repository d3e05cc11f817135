"""A text token by token: losses, likeliest tokens and continuations, against plain forward passes and `generate`."""

import numpy as np
import pytest
import tiny
import torch

from vp_core.comparing.tokens import go_on, read
from vp_core.ground.errors import VPError
from vp_core.ground.work import Cancelled, work

TEXT = "the film was never dull\nand we liked every scene of it"
TOKENIZER = tiny.tokenizer("gpt2")
MARKED = tiny.tokenizer("bert")


def writer(family):
    return tiny.transformer(family, dtype=torch.float32, vocab_size=len(TOKENIZER))


@pytest.fixture(scope="module")
def filler():
    torch.manual_seed(0)
    return tiny.build("bert", "ForMaskedLM", vocab_size=420, **tiny.sizes("bert", 32, 56, 2), initializer_range=0.25)


def log_probabilities(model, ids):
    """(tokens, vocabulary) of a plain pass, in numpy's float64."""
    with torch.no_grad():
        z = model(input_ids=torch.tensor([ids])).logits[0].double().numpy()
    return z - z.max(axis=1, keepdims=True) - np.log(np.exp(z - z.max(axis=1, keepdims=True)).sum(axis=1, keepdims=True))


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])  # Gemma 2 caps its logits
def test_losses_and_likeliest_tokens_are_those_of_a_plain_pass(family):
    model, ids = writer(family), TOKENIZER(TEXT)["input_ids"]
    found, logs = read(model, TOKENIZER, TEXT, 40), log_probabilities(model, ids)
    assert "".join(found.pieces) == TEXT and len(found.pieces) == len(ids) == len(found.losses) == len(found.guesses) - 1
    assert np.isnan(found.losses[0]) and found.guesses[0] == () and not found.cut  # nothing stands before the first
    np.testing.assert_allclose(found.losses[1:], -logs[np.arange(len(ids) - 1), ids[1:]], rtol=1e-4)
    for place in (1, 7, len(ids)):
        best = np.argsort(-logs[place - 1])[:5]
        assert [word for word, _ in found.guesses[place]] == [TOKENIZER.decode([token]) for token in best]
        np.testing.assert_allclose([share for _, share in found.guesses[place]], np.exp(logs[place - 1][best]), rtol=1e-4)


def test_what_stands_before_every_text_predicts_its_first_token():
    tokenizer = tiny.tokenizer("roberta")  # <s> … </s>
    model = tiny.transformer("llama", dtype=torch.float32, vocab_size=len(tokenizer))
    ids = tokenizer(TEXT)["input_ids"][:-1]
    found, logs = read(model, tokenizer, TEXT, 40), log_probabilities(model, ids)
    np.testing.assert_allclose(found.losses, -logs[np.arange(len(ids) - 1), ids[1:]], rtol=1e-4)
    assert len(found.guesses[0]) == 5


def test_a_long_text_is_cut_and_said_to_be():
    found = read(writer("llama"), TOKENIZER, TEXT, 9)
    assert len(found.pieces) == 9 and found.cut and TEXT.startswith("".join(found.pieces))


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "opt"])
def test_it_goes_on_as_generate_does(family):
    model, ids = writer(family), TOKENIZER(TEXT)["input_ids"]
    kept = tiny.sha(model)
    with torch.no_grad():
        long = model.generate(torch.tensor([ids]), max_new_tokens=8, do_sample=False, eos_token_id=None, pad_token_id=0)[0]
    ends = {model.config.eos_token_id, TOKENIZER.eos_token_id}
    new = [token for token in long[len(ids) :].tolist()]
    new = new[: next((i for i, token in enumerate(new) if token in ends), len(new))]
    assert go_on(model, TOKENIZER, TEXT, 40, 8) == TOKENIZER.decode([*ids, *new], skip_special_tokens=True)[len(TEXT) + 1 :]
    assert tiny.sha(model) == kept and tiny.hooks(model) == 0


def test_it_ends_where_the_model_ends_its_text_and_where_there_are_no_more_positions():
    model, ids = writer("gpt2"), TOKENIZER(TEXT)["input_ids"]
    first = int(log_probabilities(model, ids)[-1].argmax())
    room = tiny.POSITIONS - len(ids)
    model.config.eos_token_id = None
    assert 0 < len(TOKENIZER(go_on(model, TOKENIZER, TEXT, 40, 100))["input_ids"]) <= room + 2
    model.config.eos_token_id = first
    assert go_on(model, TOKENIZER, TEXT, 40) == ""


def test_a_mask_is_guessed_from_both_sides(filler):
    text = "the [MASK] was never [MASK] and quick"
    ids = MARKED(text)["input_ids"]
    found, logs = read(filler, MARKED, text, 40), log_probabilities(filler, ids)
    masks = [i for i, token in enumerate(ids) if token == MARKED.mask_token_id]
    assert [i for i, guesses in enumerate(found.guesses) if guesses] == [i - 1 for i in masks]  # [CLS] stands before
    assert np.isnan(found.losses).all() and "".join(found.pieces) == text
    for i in masks:
        best = np.argsort(-logs[i])[:5]
        assert [word for word, _ in found.guesses[i - 1]] == [MARKED.decode([token]) for token in best]


def test_what_cannot_be_read_is_one_sentence(filler):
    classifier, model = tiny.classifier("bert"), writer("llama")
    for ask, says in [
        (lambda: read(model, TOKENIZER, " \n", 40), "There is nothing to read"),
        (lambda: read(filler, MARKED, "no mask here", 40), r"write \[MASK\] in the place of a word"),
        (lambda: read(classifier, MARKED, TEXT, 40), "predicts no tokens"),
        (lambda: go_on(filler, MARKED, TEXT, 40), "does not go on with a text"),
    ]:
        with pytest.raises(VPError, match=says):
            ask()
    with torch.no_grad():
        model.lm_head.weight[3] = float("nan")
    for ask in (read, go_on):
        with pytest.raises(VPError, match="NaN or infinite"):
            ask(model, TOKENIZER, TEXT, 40)


def test_it_can_be_cancelled():
    with work(cancelled=lambda: True), pytest.raises(Cancelled):
        go_on(writer("llama"), TOKENIZER, TEXT, 40)
