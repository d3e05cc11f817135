"""The loss of targets in training: transformers' own loss and gradients, and a teacher's by hand in float64."""

import numpy as np
import pytest
import scribes
import tiny
import torch
from scipy.special import log_softmax

from vp_core.asking.batches import make_batches
from vp_core.ground.errors import VPError
from vp_core.training import words
from vp_core.training.loop import train
from vp_core.training.objectives import with_teacher
from vp_core.training.schedule import Schedule, TextLessons
from vp_core.training.teacher import Teacher
from vp_core.training.words import TargetWords


def lessons(family, **settings):
    """(model, its tokeniser, pairs)"""
    model, tok = tiny.scribe(family, **settings)
    return model, tok, scribes.pairs(model, tok)


def the_batch(data):
    (batch,) = make_batches(data, (0, 1, 2, 3), 10**6)
    assert batch.inputs["decoder_attention_mask"].min() == 0
    return batch


def plain(model):
    return lambda inputs, **more: model(**inputs, **more)


def gradients(model, loss):
    loss.backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("most", [words.MOST_LOGITS, 7 * 420], ids=["whole", "in parts"])
@pytest.mark.parametrize("family", scribes.FAMILIES)
def test_the_loss_and_its_gradients_are_those_of_transformers(family, most, monkeypatch):
    monkeypatch.setattr(words, "MOST_LOGITS", most)
    (mine, _, data), (theirs, _, _) = lessons(family), lessons(family)
    batch, shapes = the_batch(data), []

    def ask(inputs, **more):
        found = mine(**inputs, **more)
        shapes.append(found.logits.shape)
        return found

    loss = TargetWords(data).loss(mine.requires_grad_(True), batch, ask, 0)
    assert tiny.hooks(mine) == 0 and shapes[0][1] == 0  # the head itself runs on nothing
    labels = torch.full_like(batch.inputs["decoder_input_ids"], -100)
    for row, i in enumerate(batch.examples):
        labels[row, : len(data.wanted[i])] = torch.tensor(data.wanted[i])
    source = {name: batch.inputs[name] for name in ("input_ids", "attention_mask")}
    expected = theirs.requires_grad_(True)(**source, labels=labels).loss
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    found, wanted = gradients(mine, loss), gradients(theirs, expected)
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize(("alpha", "temperature", "hidden"), [(0.3, 2.0, 0.0), (0.0, 1.0, 0.7)])
@pytest.mark.parametrize("family", scribes.FAMILIES)
def test_a_teacher_by_a_loop_over_pairs(family, alpha, temperature, hidden):
    """KL of softened outputs, and squared errors of hidden states of both halves, over the tokens that are there."""
    (model, tok, data), (teacher, _, _) = lessons(family), lessons(family, seed=1)
    batch, sums, tokens = the_batch(data), 0.0, 0
    errors = {"encoder": [], "decoder": []}
    for i in batch.examples:
        given = {"input_ids": torch.tensor([data.ids[i]]), "decoder_input_ids": torch.tensor([data.given[i]])}
        with torch.no_grad():
            one, two = (m(**given, output_hidden_states=True) for m in (model, teacher))
        z, t = (found.logits[0].double().numpy() for found in (one, two))
        hard = -log_softmax(z, axis=1)[range(len(z)), data.wanted[i]]
        p, q = (log_softmax(logits / temperature, axis=1) for logits in (t, z))
        sums += (alpha * hard + (1 - alpha) * temperature**2 * (np.exp(p) * (p - q)).sum(axis=1)).sum()
        tokens += len(z)
        for half, found in errors.items():
            states = zip(one[f"{half}_hidden_states"], two[f"{half}_hidden_states"], strict=True)
            found.append(np.stack([(a - b)[0].double().numpy() ** 2 for a, b in states], axis=1))
    expected = sums / tokens
    if hidden:
        expected += hidden * np.mean([np.concatenate(found).mean() for found in errors.values()])
    made = Teacher.make(teacher, tok, model, tok)
    loss = with_teacher(TextLessons(data, tok), made, alpha, temperature, hidden).loss(model, batch, plain(model), 0)
    assert loss.item() == pytest.approx(expected, rel=1e-4)


def test_teachers_that_do_something_else_are_refused():
    model, tok, _ = lessons("bart")
    with pytest.raises(VPError, match="predicts classes, the student target tokens"):
        Teacher.make(tiny.classifier("bart"), tok, model, tok)


def test_what_is_learnt_is_written():
    """A few pairs by heart; two trainings with one seed end in the same weights."""
    found = []
    for _ in range(2):
        model, tok, data = lessons("t5")
        schedule = Schedule(steps=30, batch=7, lr=3e-3, precision="float32")
        found.append((train(model, TextLessons(data, tok), schedule), tiny.sha(model)))
        before, after = scribes.plain_losses(lessons("t5")[0], data)[0].mean(), scribes.plain_losses(model, data)[0].mean()
        assert after < 0.7 * before
    assert found[0] == found[1]
