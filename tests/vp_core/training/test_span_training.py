"""The loss of answers in training: transformers' own and a teacher's by hand in float64; new heads; every method."""

import marking
import numpy as np
import pytest
import tiny
import torch
from gradual_runs import QUICK
from scipy.special import log_softmax
from transformers import BertConfig, BertForMaskedLM, BertModel

from vp_core.asking.kinds.spans import targets_of
from vp_core.asking.reading.squad import read_questions
from vp_core.asking.tasks import TASKS
from vp_core.asking.words.paragraphs import windows_of
from vp_core.ground.errors import VPError
from vp_core.opening.study import open_study
from vp_core.recipes import RECIPES
from vp_core.running.finetune import fine_tune
from vp_core.running.lessons import lessons_of
from vp_core.running.run import TrainingMaterial, run_training
from vp_core.running.settings import TrainSettings
from vp_core.training.objectives import with_teacher
from vp_core.training.schedule import Schedule, SpanLessons
from vp_core.training.teacher import Teacher


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with questions, two models that mark answers, and encoders without a head or with another one."""
    base = tmp_path_factory.mktemp("spans")
    marking.folder(base / "data")
    marking.save(base / "model")
    marking.save(base / "teacher", seed=5)
    torch.manual_seed(0)
    config = BertConfig(vocab_size=420, **tiny.sizes("bert", tiny.HIDDEN, tiny.FFN, 2))
    tiny.save(base / "encoder", BertModel(config), tiny.tokenizer("bert"))
    tiny.save(base / "words", BertForMaskedLM(config), tiny.tokenizer("bert"))
    return base


def lessons(tmp_path, family="bert"):
    tokenizer = tiny.tokenizer(family)
    asked = read_questions(marking.write(tmp_path / "q.json", marking.squad(9)), TASKS["squad"]).asked
    data = windows_of(tokenizer, asked, 30)
    return SpanLessons(data, tokenizer, False, (), targets_of(data))


def plain(model):
    return lambda inputs, **more: model(**inputs, **more)


def some_of(found):
    """A batch with padding, with windows that hold their answer and such that do not."""
    batch = found.data.together(range(len(found.data)))
    held = found.targets[batch.examples].any(axis=1)
    assert batch.inputs["attention_mask"].min() == 0 and 0 < held.sum() < len(held)
    return batch


@pytest.mark.parametrize("family", ["bert", "roberta", "bart"])
def test_the_loss_is_that_of_transformers_window_by_window(tmp_path, family):
    """Padding takes no part in it: the mean over windows of what transformers says of each by itself, and its gradients."""
    found = lessons(tmp_path, family)
    batch, mine, theirs = some_of(found), marking.marker(family), marking.marker(family)
    loss = with_teacher(found, None).loss(mine, batch, plain(mine), 1)
    each = []
    for i in range(len(found.data)):
        start, end = torch.from_numpy(found.targets[i : i + 1]).T
        each.append(theirs(**found.data.together([i]).inputs, start_positions=start, end_positions=end).loss)
    expected = torch.stack(each).mean()
    torch.testing.assert_close(loss, expected)
    loss.backward(), expected.backward()
    for (name, one), other in zip(mine.named_parameters(), theirs.parameters(), strict=True):
        if other.grad is not None:
            torch.testing.assert_close(one.grad, other.grad, atol=1e-5, rtol=1e-3, msg=name)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_a_teacher_by_hand(tmp_path, temperature):
    found, alpha = lessons(tmp_path), 0.3
    batch, model, other = some_of(found), marking.marker().double(), marking.marker(seed=5).double()
    teacher = Teacher.make(other, found.tokenizer, model, found.tokenizer)
    loss = with_teacher(found, teacher, alpha, temperature, 0.5).loss(model, batch, plain(model), 1)
    with torch.no_grad():
        answers = [one(**batch.inputs, output_hidden_states=True) for one in (model, other)]
    task, soft = [], []
    for row in range(len(batch.examples)):
        tokens = found.data.length(row)
        for part, name in enumerate(("start_logits", "end_logits")):
            z, t = (getattr(one, name)[row, :tokens].numpy() for one in answers)
            task.append(-log_softmax(z)[found.targets[row, part]])
            q, p = log_softmax(z / temperature), log_softmax(t / temperature)
            soft.append((np.exp(p) * (p - q)).sum())
    real = batch.inputs["attention_mask"].bool()
    hidden = [(a[real] - b[real]).square().mean() for a, b in zip(*(one.hidden_states for one in answers), strict=True)]
    expected = alpha * np.mean(task) + (1 - alpha) * temperature**2 * np.mean(soft) + 0.5 * float(torch.stack(hidden).mean())
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_a_teacher_of_segments_and_a_student_without(tmp_path):
    found = lessons(tmp_path, "distilbert")
    student, other = marking.marker("distilbert"), marking.marker("bert")
    teacher = Teacher.make(other, tiny.tokenizer("bert"), student, found.tokenizer)
    with pytest.raises(VPError, match="segment ids"):
        with_teacher(found, teacher).loss(student, some_of(found), plain(student), 1)


def test_lessons_are_cut_as_what_is_scored(place):
    study = open_study(str(place / "model"), "squad", place / "data", max_length=30, stride=7)
    found = lessons_of(study, "squad", place / "data")
    assert (found.data.max_length, found.data.stride, len(found.data.asked)) == (30, 7, 48) and found.notes == ()
    assert {one.id for one in found.data.asked}.isdisjoint(one.id for one in study.question.data.asked)
    file = place / "data" / "dev-v1.1.json"
    study = open_study(str(place / "model"), "squad", file)
    assert "Statistics are taken on questions of the file that is scored." in study.notes
    (note,) = lessons_of(study, "squad", file).notes
    assert note.startswith("The model learns the questions that it is scored on")


def test_answers_that_are_not_in_their_paragraph_are_not_learnt(place, tmp_path):
    content = marking.squad(9)
    content["data"][0]["paragraphs"][0]["qas"][0]["answers"][0]["answer_start"] += 1
    file = marking.write(tmp_path / "q.json", content)
    study = open_study(str(place / "model"), "squad", file)
    assert any("1 of the 9 questions have an answer that does not stand" in note for note in study.notes)
    with pytest.raises(VPError, match="'0-0'"):
        lessons_of(study, "squad", file)


def test_fine_tuning_learns(place):
    """On the few questions that it is scored on a model comes to know them by heart."""
    file = place / "data" / "dev-v1.1.json"
    study = open_study(str(place / "encoder"), "squad", file, fresh_head=True, max_length=30)
    schedule = Schedule(epochs=80, batch=8, lr=3e-3, precision="float32")
    tuned = fine_tune(study, lessons_of(study, "squad", file), schedule)
    assert tuned.after.value > 0.8 > 0.5 > tuned.before.value


def test_a_new_head_is_the_same_every_time_and_told(place):
    studies = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        studies.append(open_study(str(place / "encoder"), "squad", place / "data", fresh_head=True))
        assert torch.initial_seed() == seed
    assert len({tiny.sha(study.model) for study in studies}) == 1
    assert studies[0].notes[0] == (
        "The head of the model is new (qa_outputs.bias, qa_outputs.weight): it says nothing before it is trained."
    )
    weight = studies[0].model.qa_outputs.weight
    assert weight.shape == (2, tiny.HIDDEN) and 0.01 < float(weight.std()) < 0.04


def test_what_becomes_of_other_heads(place):
    with pytest.raises(VPError, match=r"lacks 2 of the model's weights.*--fresh-head"):
        open_study(str(place / "encoder"), "squad", place / "data")
    with pytest.raises(VPError, match="predicts masked tokens of a text, and marks no answers"):
        open_study(str(place / "words"), "squad", place / "data")
    assert open_study(str(place / "words"), "squad", place / "data", fresh_head=True).model.qa_outputs is not None
    with pytest.raises(VPError, match="has a head for this task already: leave out --fresh-head"):
        open_study(str(place / "model"), "squad", place / "data", fresh_head=True)
    with pytest.raises(VPError, match="does not take --fresh-head"):
        open_study("demo", "demo", fresh_head=True)


METHODS = ("variance", "random", "magnitude", "movement", "block", "hybrid", "hybrid filled", "struct", "none")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("taught", [False, True], ids=["alone", "with a teacher"])
def test_every_method(place, tmp_path, method, taught):
    study = open_study(str(place / "model"), "squad", place / "data", max_length=30)
    other = open_study(str(place / "teacher"), "squad", place / "data").loaded if taught else None
    teacher = Teacher.make(other.model, other.tokenizer, study.model, study.loaded.tokenizer) if other else None
    material = TrainingMaterial(study, lessons_of(study, "squad", place / "data"), teacher, "teacher" if taught else "")
    settings = TrainSettings(method=method, schedule=QUICK, until=0.3, scores=1)
    *_, last = run_training(material, settings, tmp_path / "run")
    assert last["done"] and last["metric"] == "answer_f1" and 0 <= last["exact_match"] <= last["value"] <= 1 and last["n"] == 24
    again = open_study(str(tmp_path / "run"), "squad", place / "data", max_length=30)
    found = again.score(RECIPES["paper"], 0)
    assert (found.value, found.n) == (pytest.approx(last["value"]), 24)
