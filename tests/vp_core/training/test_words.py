"""The loss of next words in training: transformers' own loss and gradients, and a teacher's by hand in float64."""

from dataclasses import replace

import language
import numpy as np
import pytest
import tiny
import torch
from gradual_runs import QUICK, Each, trained
from scipy.special import log_softmax
from two_processes import on_two

from vp_core.asking.batches import make_batches
from vp_core.asking.evaluate import score
from vp_core.asking.tasks import TASKS
from vp_core.asking.words.next_tokens import NextTokens
from vp_core.asking.words.windows import cut
from vp_core.gradual.cuts import Cuts
from vp_core.gradual.rows import GradualRows
from vp_core.ground.errors import VPError
from vp_core.replacing.prune import prune
from vp_core.squeezing.squeeze import squeeze
from vp_core.training import words
from vp_core.training.loop import train
from vp_core.training.objectives import with_teacher
from vp_core.training.schedule import Schedule, TextLessons
from vp_core.training.teacher import Teacher
from vp_core.training.words import MaskedWords, NextWords

TOKENIZER = language.tokenizer(True)
DATA = cut(TOKENIZER, language.text(200), 24).data
LAST = len(DATA) - 1
"""The last window is shorter: a batch with it has padding."""


def the_batch(examples=(0, 1, LAST)):
    (batch,) = make_batches(DATA, examples, 10**6)
    assert batch.inputs["attention_mask"].min() == 0
    return batch


def plain(model):
    return lambda inputs, **more: model(**inputs, **more)


def gradients(model, loss):
    loss.backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("most", [words.MOST_LOGITS, 7 * language.VOCABULARY], ids=["whole", "in parts"])
@pytest.mark.parametrize("family", tiny.WRITERS)
def test_the_loss_and_its_gradients_are_those_of_transformers(family, most, monkeypatch):
    """Whole or made some tokens at a time, and made again for the gradient; the head itself runs on nothing."""
    monkeypatch.setattr(words, "MOST_LOGITS", most)
    batch, shapes = the_batch(), []
    mine, theirs = (language.writer(family).requires_grad_(True) for _ in range(2))

    def ask(inputs, **more):
        found = mine(**inputs, **more)
        shapes.append(found.logits.shape)
        return found

    loss = NextWords(DATA).loss(mine, batch, ask, 0)
    assert tiny.hooks(mine) == 0 and shapes[0][1] == 0
    labels = batch.inputs["input_ids"].masked_fill(batch.inputs["attention_mask"] == 0, -100)
    expected = theirs(**batch.inputs, labels=labels).loss
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    found, wanted = gradients(mine, loss), gradients(theirs, expected)
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize("most", [words.MOST_LOGITS, 7 * language.VOCABULARY], ids=["whole", "in parts"])
@pytest.mark.parametrize(("alpha", "temperature"), [(0.3, 2.0), (0.0, 1.0)])
def test_a_teacher_by_a_loop_over_windows(alpha, temperature, most, monkeypatch):
    monkeypatch.setattr(words, "MOST_LOGITS", most)
    model, teacher = language.writer("llama"), language.writer("gpt2", seed=1)
    batch = the_batch()
    objective = NextWords(DATA, Teacher(teacher, ()), alpha, temperature)
    loss = objective.loss(model, batch, plain(model), 0).item()
    hard, soft = [], []
    for i in batch.examples:  # each by itself: there is no padding
        ids = torch.tensor([DATA.ids[i]])
        with torch.no_grad():
            mine, theirs = (one.double()(input_ids=ids).logits[0, :-1].numpy() for one in (model, teacher))
        hard += list(-log_softmax(mine, axis=1)[np.arange(len(mine)), DATA.ids[i][1:]])
        p, q = (log_softmax(z / temperature, axis=1) for z in (theirs, mine))
        soft += list((np.exp(p) * (p - q)).sum(axis=1))
    assert loss == pytest.approx(alpha * np.mean(hard) + (1 - alpha) * temperature**2 * np.mean(soft), rel=1e-4)


def test_hidden_states_count_without_padding():
    model, teacher = language.writer("llama"), language.writer("llama", seed=1)
    batch = the_batch()
    losses = [
        NextWords(DATA, Teacher(teacher, ()), 0.5, 2.0, hidden).loss(model, batch, plain(model), 0).item() for hidden in (0, 3)
    ]
    mine, theirs = [], []
    for i in batch.examples:
        for one, states in ((model, mine), (teacher, theirs)):
            with torch.no_grad():
                found = one(input_ids=torch.tensor([DATA.ids[i]]), output_hidden_states=True).hidden_states
            states.append([h[0].numpy() for h in found])
    by_layer = [
        np.mean(np.concatenate([((a[n] - b[n]) ** 2).ravel() for a, b in zip(mine, theirs, strict=True)]))
        for n in range(len(mine[0]))
    ]
    assert losses[1] - losses[0] == pytest.approx(3 * np.mean(by_layer), rel=1e-4)


def test_words_that_one_of_two_vocabularies_has_are_left_out():
    model, wide = language.writer("llama"), language.writer("llama", vocab_size=language.VOCABULARY + 8)
    batch = the_batch()
    loss = NextWords(DATA, Teacher(wide, ()), 0.0, 1.0).loss(model, batch, plain(model), 0)
    assert torch.isfinite(loss) and loss > 0


def test_masked_words_of_a_teacher():
    """A model that teaches itself has nothing to learn but the task."""
    tokenizer, model = language.tokenizer(True, masks=True), language.filler()
    data = cut(tokenizer, language.text(200), 24, ends=True).data
    (batch,) = make_batches(data, range(4), 10**6)
    alone = MaskedWords(data, tokenizer).loss(model, batch, plain(model), 3).item()
    taught = MaskedWords(data, tokenizer, teacher=Teacher(language.filler(), ()), alpha=0.25, hidden=1.0)
    assert taught.loss(model, batch, plain(model), 3).item() == pytest.approx(0.25 * alone, rel=1e-5)
    other = MaskedWords(data, tokenizer, teacher=Teacher(language.filler(seed=1), ()), alpha=0.25)
    assert other.loss(model, batch, plain(model), 3).item() > 0.25 * alone + 0.1


def test_it_learns_and_rows_may_go_meanwhile():
    lessons, question = TextLessons(DATA, TOKENIZER), NextTokens.make(TOKENIZER, language.text(200), TASKS["text"], 24)
    model, losses, pruner = language.writer("llama").requires_grad_(True), [], GradualRows(Cuts(3, 3, 0.1, 0.3))
    before = score(model.eval(), question).value
    trained(model, [pruner, Each(lambda run: losses.append(run.loss))], replace(QUICK, epochs=6), with_teacher(lessons, None))
    after = score(model, question).value
    assert after < 0.3 * before and np.mean(losses[-4:]) < np.mean(losses[:4]) - 1
    small = pruner.compact(model.eval().requires_grad_(False))
    assert score(small, question).value == pytest.approx(after, rel=1e-4)


def test_a_squeezed_model_learns_from_the_one_it_was_cut_from():
    dense = language.writer("llama")
    plan = tiny.random_plan(dense, 0.4)
    small = squeeze(prune(dense, plan, {n: c.float() for n, c in tiny.random_constants(dense).items()}), plan)
    losses = []
    objective = NextWords(DATA, Teacher(dense, ()), alpha=0.0)
    trained(small.requires_grad_(True), [Each(lambda run: losses.append(run.loss))], replace(QUICK, epochs=6), objective)
    assert hasattr(small, "squeezed") and np.mean(losses[-4:]) < 0.75 * np.mean(losses[:4])


def test_teachers_that_are_none():
    model = language.writer("llama")
    with pytest.raises(VPError, match=r"teacher predicts masked tokens, the student next tokens: .*\.$"):
        Teacher.make(language.filler(), TOKENIZER, model, TOKENIZER)
    with pytest.raises(VPError, match=r"teacher's tokeniser .* is not the student's"):
        Teacher.make(model, language.tokenizer(True, masks=True), model, TOKENIZER)
    made = Teacher.make(language.writer("gpt2"), TOKENIZER, model, TOKENIZER)
    assert made.order == ()
    with pytest.raises(VPError, match="not between 0 and 1"):
        NextWords(DATA, made, alpha=2.0)
    with pytest.raises(VPError, match="predicts no tokens"):
        NextWords(DATA).loss(tiny.classifier("bert"), the_batch(), None, 0)


TWO = """
import json, sys
from pathlib import Path
sys.path[:0] = [{root!r}, {root!r} + "/tests"]
import torch
torch.set_num_threads(1)
import language
import tiny
from vp_core.asking.words.windows import cut
from vp_core.training import words
from vp_core.training.loop import new_accelerator, train
from vp_core.training.schedule import Schedule
from vp_core.training.teacher import Teacher

words.MOST_LOGITS = 50 * language.VOCABULARY
accelerator, found = new_accelerator(), {{}}
data = cut(language.tokenizer(True), language.text(200), 24).data
for tied in (False, True):
    model = language.writer("llama", tie_word_embeddings=tied).requires_grad_(True)
    objective = words.NextWords(data, Teacher(language.writer("gpt2"), ()))
    schedule = Schedule(steps=3, batch=4, lr=1e-3, precision="float32")
    found[str(tied)] = [train(model, objective, schedule, accelerator=accelerator), tiny.sha(model)]
found["ranks"] = accelerator.num_processes
(Path(sys.argv[1]) / f"{{accelerator.process_index}}.json").write_text(json.dumps(found))
"""


@pytest.mark.slow
def test_two_processes_learn_next_words_together(tmp_path):
    """Though the head runs on nothing in the pass that they share, its gradient is there on both."""
    _, (first, second) = on_two(tmp_path, TWO)
    assert first == second and first["ranks"] == 2
    for tied in (False, True):
        model = language.writer("llama", tie_word_embeddings=tied).requires_grad_(True)
        objective = NextWords(DATA, Teacher(language.writer("gpt2"), ()))
        alone = train(model, objective, Schedule(steps=3, batch=4, lr=1e-3, precision="float32"))
        assert first[str(tied)][0] == pytest.approx(alone, rel=0.02)
