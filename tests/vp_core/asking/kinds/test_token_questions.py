"""Perplexity, masked loss and what goes with them, against plain loops in float64."""

import copy
from dataclasses import replace

import language
import numpy as np
import pytest
import tiny
import torch
from torch.nn.functional import cross_entropy

from vp_core.asking.batches import encode
from vp_core.asking.evaluate import evaluate, score
from vp_core.asking.kinds.heads import head_of
from vp_core.asking.kinds.question import Question
from vp_core.asking.tasks import TASKS
from vp_core.asking.words.masked_tokens import MaskedTokens
from vp_core.asking.words.masking import mask_batch
from vp_core.asking.words.next_tokens import NextTokens
from vp_core.asking.words.windows import Windows, cut
from vp_core.comparing.losses import loss_and_score
from vp_core.comparing.masked_lm import masked_lm_loss
from vp_core.ground.errors import VPError

TEXT, TASK = language.text(400), TASKS["text"]
MODELS = {family: language.writer(family) for family in ("gpt2", "llama")}


def by_hand(model, tokenizer, text, length, stride):
    """(loss in nats, whether it was the likeliest) of every token that is predicted: one window at a time, float64."""
    before = tokenizer("a")["input_ids"][:-1]
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    room = length - len(before)
    double, done, found = copy.deepcopy(model).double(), 0, []
    for begin in range(0, len(ids), stride or room):
        window = before + ids[begin : begin + room]
        with torch.no_grad():
            said = double(input_ids=torch.tensor([window])).logits[0].log_softmax(dim=-1)
        for place, token in enumerate(window[1:]):
            if begin + place + 1 - len(before) >= done:
                found.append((-said[place, token].item(), said[place].argmax().item() == token))
        done = begin + room
        if done >= len(ids):
            return found


@pytest.mark.parametrize("stride", [None, 7, 1])
@pytest.mark.parametrize("begins", [False, True])
@pytest.mark.parametrize("family", MODELS)
def test_perplexity_is_that_of_a_plain_loop(family, begins, stride):
    text = TEXT[:500] if stride == 1 else TEXT
    tokenizer, model = language.tokenizer(begins), MODELS[family]
    found = score(model, NextTokens.make(tokenizer, text, TASK, 24, stride))
    expected = by_hand(model, tokenizer, text, 24, stride)
    losses, right = zip(*expected, strict=True)
    assert found.metric == "perplexity" and found.n == found.total == len(expected) and found.final
    assert found.value == pytest.approx(np.exp(np.mean(losses)), rel=1e-4)
    assert found.others["token_accuracy"] == pytest.approx(np.mean(right))
    if begins:  # then every byte of the text is predicted
        assert found.others["bits_per_byte"] == pytest.approx(sum(losses) / np.log(2) / len(text.encode()), rel=1e-4)


def test_the_side_of_padding_does_not_matter():
    tokenizer = language.tokenizer(True)
    scores = []
    for side in ("right", "left"):
        tokenizer.padding_side = side
        scores.append(score(MODELS["llama"], NextTokens.make(tokenizer, TEXT, TASK, 24)).value)
    assert scores[0] == scores[1]


def test_the_interval_is_that_of_windows_drawn_again():
    question = NextTokens.make(language.tokenizer(True), TEXT, TASK, 24)
    found = loss_and_score(MODELS["llama"], question)
    losses, tokens = found.losses * question.weights(), question.weights()
    rng = np.random.default_rng(5)
    drawn = rng.integers(len(losses), size=(4000, len(losses)))
    again = np.exp(losses[drawn].sum(axis=1) / tokens[drawn].sum(axis=1))
    low, high = np.percentile(again, [2.5, 97.5])
    assert found.score.low == pytest.approx(low, rel=0.03) and found.score.high == pytest.approx(high, rel=0.03)
    assert found.score.low < found.score.value < found.score.high
    assert found.score.value == pytest.approx(np.exp(found.loss), rel=1e-9)


def test_running_scores_come_to_the_exact_one():
    question = NextTokens.make(language.tokenizer(True), language.text(3000), TASK, 24)
    seen = np.concatenate([part for part, _ in question.chunks()])
    assert sorted(seen.tolist()) == list(range(len(question))) and len(question.chunks()) > 3
    inside = [i for _, batches in question.chunks() for batch in batches for i in batch.examples.tolist()]
    assert sorted(inside) == list(range(len(question)))
    scores = list(evaluate(MODELS["llama"], question))
    assert [s.n for s in scores] == sorted({s.n for s in scores}) and scores[-1].final and not scores[0].final
    assert scores[0].others == {} and set(scores[-1].others) == {"token_accuracy", "bits_per_byte"}


@pytest.mark.parametrize(("precision", "near"), [("bfloat16", 0.1), ("int8", 0.2)])
def test_in_other_arithmetic(precision, near):
    question = NextTokens.make(language.tokenizer(True), TEXT, TASK, 24)
    dense, other = (score(MODELS["llama"], question, kind).value for kind in ("float32", precision))
    assert other != dense and other == pytest.approx(dense, rel=near)


def test_a_loss_that_is_no_number_is_told():
    broken = copy.deepcopy(MODELS["llama"])
    with torch.no_grad():
        broken.model.norm.weight[0] = float("nan")
    with pytest.raises(VPError, match="NaN or infinite"):
        score(broken, NextTokens.make(language.tokenizer(True), TEXT, TASK, 24))


def test_masked_tokens_are_those_of_the_masked_lm_loss():
    model, tokenizer = language.filler(), language.tokenizer(True, masks=True)
    texts = tiny.sentences(30, seed=2)
    data = encode(tokenizer, [(text,) for text in texts], 32)
    question = MaskedTokens.of(tokenizer, Windows(data, np.ones(len(data), int), None), TASK)
    found = score(model, question)
    assert found.metric == "masked_loss" and found.n == sum(len(ids) for ids in question.wanted)
    assert found.value == pytest.approx(masked_lm_loss(model, tokenizer, texts, max_length=32), rel=1e-6)


def test_masked_loss_of_a_text_by_a_plain_loop():
    model, tokenizer = language.filler(), language.tokenizer(True, masks=True)
    question = MaskedTokens.make(tokenizer, TEXT, TASK, 24, seed=3)
    windows = cut(tokenizer, TEXT, 24, ends=True).data
    again, losses, right = copy.deepcopy(model).double(), [], []
    for i, ids in enumerate(windows.ids):
        (batch,) = [b for _, batches in replace(question, data=windows).chunks() for b in batches if i in b.examples]
        masked = mask_batch(tokenizer, windows, batch, 0.15, (3,))
        row = batch.examples.tolist().index(i)
        here = masked.rows == row
        with torch.no_grad():
            said = again(input_ids=masked.batch.inputs["input_ids"][row : row + 1, : len(ids)]).logits[0][masked.columns[here]]
        losses += cross_entropy(said, masked.ids[here], reduction="none").tolist()
        right += (said.argmax(dim=1) == masked.ids[here]).tolist()
    found = score(model, question)
    assert found.n == len(losses)
    assert found.value == pytest.approx(np.mean(losses), rel=1e-4)
    assert found.others == {"token_accuracy": pytest.approx(np.mean(right))}


def test_masks_need_a_mask():
    with pytest.raises(VPError, match="no mask token"):
        MaskedTokens.make(language.tokenizer(True), TEXT, TASK, 24)


def test_what_a_model_puts_out():
    assert [head_of(model) for model in (MODELS["gpt2"], language.filler(), tiny.classifier("bert"))] == [
        "next tokens", "masked tokens", "classes",
    ]  # fmt: skip


def test_a_question_says_all_that_is_asked_of_it():
    wanted = {"outputs", "answers", "blank", "worth", "losses"}
    assert Question.__abstractmethods__ == wanted
    for name in wanted:
        methods = dict.fromkeys(wanted - {name}, lambda *given: None)
        with pytest.raises(TypeError, match=name):
            type("Half", (Question,), methods)()
    assert type("Whole", (Question,), dict.fromkeys(wanted, lambda *given: None))().weights() is None
