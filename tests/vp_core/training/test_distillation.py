"""A teacher beside the task: losses against torch's own in float64 and by hand; teachers that are not a student's."""

import copy
from dataclasses import replace

import bench_models
import numpy as np
import pytest
import tiny
import torch
from scipy.special import expit, log_softmax, softmax
from torch.nn import functional
from trainings import SHORT, lessons, model_of

from vp_core.asking.batches import Batch, encode, make_batches
from vp_core.ground.errors import VPError
from vp_core.recipes import Recipe
from vp_core.squeezing.squeeze import squeeze
from vp_core.training.loop import train
from vp_core.training.objectives import Distillation, TaskLoss, towards, with_teacher
from vp_core.training.schedule import Lessons
from vp_core.training.teacher import Teacher

CPU = torch.device("cpu")
KINDS = {"classes": 3, "labels": 3, "value": 1}


def random_logits(outputs, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(7, outputs, generator=draw, dtype=torch.float64)


def taught(kind, family="bert"):
    """Lessons of a kind on the texts of a tiny model in float64."""
    data, n = bench_models.texts(family, 12), 12
    if kind == "value":
        return Lessons(data, torch.linspace(-1, 3, n, dtype=torch.float64), True)
    if kind == "labels":
        return Lessons(data, (torch.arange(3 * n).view(n, 3) % 4 < 2).double(), False, True)
    return Lessons(data, torch.arange(n) % 3, False)


def other(model, seed=3):
    """A model of the same shape with other answers."""
    found = copy.deepcopy(model)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in found.parameters():
            p += 0.1 * torch.randn(p.shape, generator=draw, dtype=p.dtype)
    return found


def plain(model):
    """`ask` without a training around it."""
    return lambda inputs, **more: model(**inputs, **more)


def the_batch(data):
    (batch,) = make_batches(data, range(len(data)), 10**6)
    return batch


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 10.0])
def test_classes_are_torchs_divergence(temperature):
    mine, teacher = random_logits(5), random_logits(5, 1)
    found = towards(mine, teacher, temperature, taught("classes"))
    student, target = (functional.softmax(z / temperature, dim=1) for z in (mine, teacher))
    expected = functional.kl_div(student.log(), target, reduction="batchmean") * temperature**2
    assert found.dtype == torch.float64 and found.item() == pytest.approx(expected.item(), rel=1e-12)
    p, q = (softmax(z.numpy() / temperature, axis=1) for z in (teacher, mine))
    by_hand = temperature**2 * np.mean(
        [sum(a * np.log(a / b) for a, b in zip(*rows, strict=True)) for rows in zip(p, q, strict=True)]
    )
    assert found.item() == pytest.approx(by_hand, rel=1e-12)
    assert towards(teacher, teacher, temperature, taught("classes")).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_several_labels_are_a_divergence_of_each_yes_and_no(temperature):
    mine, teacher = random_logits(4), random_logits(4, 1)
    found = towards(mine, teacher, temperature, taught("labels"))
    p, q = (expit(z.numpy() / temperature) for z in (teacher, mine))
    by_hand = temperature**2 * np.mean(p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q)))
    assert found.item() == pytest.approx(by_hand, rel=1e-12)
    sure = torch.tensor([[200.0, -200.0]], dtype=torch.float64)  # no infinity where a teacher is certain
    assert torch.isfinite(towards(sure, sure, 1.0, taught("labels")))


def test_values_are_squared_errors_whatever_the_temperature():
    mine, teacher = random_logits(1), random_logits(1, 1)
    for temperature in (1.0, 7.0):
        found = towards(mine, teacher, temperature, taught("value"))
        assert found.item() == pytest.approx(np.mean((mine.numpy() - teacher.numpy()) ** 2), rel=1e-14)


def test_the_gradient_does_not_shrink_with_the_temperature():
    """That is what T² is for: at high temperatures it becomes that of half the squared error of centred logits."""
    mine, teacher = random_logits(5).requires_grad_(), random_logits(5, 1)
    towards(mine, teacher, 1000.0, taught("classes")).backward()
    difference = (mine - teacher).detach()
    expected = (difference - difference.mean(dim=1, keepdim=True)) / 5 / len(mine)
    torch.testing.assert_close(mine.grad, expected, rtol=0.02, atol=1e-4)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_the_whole_loss_by_hand(kind, alpha):
    model = bench_models.classifier("bert", torch.float64, KINDS[kind])
    teacher, learnt, temperature = other(model), taught(kind), 2.0
    objective = Distillation(learnt, Teacher(teacher, tuple(range(KINDS[kind]))), alpha, temperature)
    batch = the_batch(learnt.data)
    found = objective.loss(model, batch, plain(model), 0)
    with torch.no_grad():
        z, t = (one(**batch.inputs).logits.numpy() for one in (model, teacher))
    y = learnt.targets.numpy()[batch.examples]
    if kind == "value":
        task, soft = np.mean((z[:, 0] - y) ** 2), np.mean((z - t) ** 2)
    elif kind == "labels":
        task = np.mean(-y * np.log(expit(z)) - (1 - y) * np.log(1 - expit(z)))
        p, q = expit(t / 2), expit(z / 2)
        soft = 4 * np.mean(p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q)))
    else:
        task = -np.mean(log_softmax(z, axis=1)[range(len(y)), y])
        p = softmax(t / 2, axis=1)
        soft = 4 * np.mean(np.sum(p * (np.log(p) - log_softmax(z / 2, axis=1)), axis=1))
    assert found.item() == pytest.approx(alpha * task + (1 - alpha) * soft, rel=1e-5)
    assert soft > 0.01 and task > 0.01
    if alpha == 1:
        assert found.item() == TaskLoss(learnt).loss(model, batch, plain(model), 0).item()


def test_hidden_states_by_a_loop_that_leaves_padding_out():
    model = bench_models.classifier("bert", torch.float64, 3)
    teacher, learnt = other(model), taught("classes")
    batch = the_batch(learnt.data)
    assert (batch.inputs["attention_mask"] == 0).any()
    losses = [
        Distillation(learnt, Teacher(teacher, (0, 1, 2)), 0.5, 2.0, hidden).loss(model, batch, plain(model), 0).item()
        for hidden in (0.0, 3.0)
    ]
    mine, theirs = [], []
    for i in batch.examples:  # each text by itself: there is no padding to leave out
        inputs = {"input_ids": torch.tensor([learnt.data.ids[i]])}
        with torch.no_grad():
            for one, states in ((model, mine), (teacher, theirs)):
                states.append([h[0].numpy() for h in one(**inputs, output_hidden_states=True).hidden_states])
    layers = range(len(mine[0]))
    by_layer = [
        np.mean(np.concatenate([((a[n] - b[n]) ** 2).ravel() for a, b in zip(mine, theirs, strict=True)])) for n in layers
    ]
    assert len(by_layer) == 3 and losses[1] - losses[0] == pytest.approx(3 * np.mean(by_layer), rel=1e-5)


def test_hidden_states_need_equal_shapes():
    small, deep = bench_models.classifier("bert", torch.float32, 3), tiny.classifier("bert", 3)
    objective = Distillation(taught("classes"), Teacher(deep, (0, 1, 2)), hidden=1.0)
    with pytest.raises(VPError, match=r"teacher has 3 layers of width 32, the student 2 of 48: .*\.$"):
        objective.loss(small, the_batch(objective.data), plain(small), 0)


@pytest.mark.parametrize(
    "numbers", [{"alpha": -0.1}, {"alpha": 1.1}, {"alpha": float("nan")}, {"temperature": 0.0}, {"temperature": float("inf")},
                {"temperature": float("nan")}, {"hidden": -1.0}, {"hidden": float("inf")}]
)  # fmt: skip
def test_numbers_that_are_none(numbers):
    with pytest.raises(VPError) as raised:
        Distillation(taught("classes"), Teacher(bench_models.classifier("bert"), (0, 1, 2)), **numbers)
    assert "\n" not in str(raised.value) and str(raised.value).endswith(".")


def test_without_a_teacher_it_is_the_task():
    assert isinstance(with_teacher(taught("classes"), None, 0.5, 2.0), TaskLoss)


def test_a_student_learns_what_its_teacher_says():
    """With α = 0 the labels count for nothing: all of them are wrong here."""
    right = lessons(64)
    wrong = Lessons(right.data, 1 - right.targets, False)
    teacher = model_of()
    train(teacher, right, replace(SHORT, epochs=6))
    student = model_of()
    train(student, Distillation(wrong, Teacher(teacher, (0, 1)), alpha=0.0), replace(SHORT, epochs=6))
    batch = the_batch(right.data)
    with torch.no_grad():
        said = student(**batch.inputs).logits.argmax(dim=1)
    assert (said == right.targets[batch.examples]).float().mean() > 0.95


def test_a_squeezed_student_learns_from_the_model_it_was_cut_from():
    one = bench_models.stage("bert", 12)
    dense = copy.deepcopy(one.measured.model).float()
    pruned = squeeze(one.pruned(Recipe(), 0.4), one.plan(Recipe(), 0.4))
    small = copy.deepcopy(pruned).float().requires_grad_(True)
    learnt, losses = taught("classes"), []
    objective = Distillation(learnt, Teacher(dense, (0, 1, 2)), alpha=0.0, temperature=1.0, hidden=0.1)
    train(small, objective, replace(SHORT, epochs=20), watch=lambda *news: losses.append(news[2]))
    assert np.mean(losses[-4:]) < 0.3 * np.mean(losses[:4])


# teachers -------------------------------------------------------------------------------------------------------------------


def pair(theirs=("negative", "positive"), mine=("negative", "positive"), family="bert", student="bert"):
    """(teacher, its tokeniser, student, its tokeniser)."""
    return *tiny.make(family, theirs, seed=1), *tiny.make(student, mine)


@pytest.mark.parametrize(
    ("theirs", "mine", "order"),
    [
        (("negative", "positive"), ("negative", "positive"), (0, 1)),
        (("positive", "negative"), ("negative", "positive"), (1, 0)),
        (("POS", "NEG"), ("negative", "positive"), (1, 0)),
        (("c", "a", "b"), ("a", "b", "c"), (1, 2, 0)),
        (("LABEL_0", "LABEL_1"), ("negative", "positive"), (0, 1)),
    ],
)
def test_outputs_are_mapped_by_their_names(theirs, mine, order):
    teacher, tokens, student, own = pair(theirs, mine)
    made = Teacher.make(teacher.train(), tokens, student, own)
    assert made.order == order and not made.model.training
    batch = the_batch(bench_models.texts("bert", 6))
    with torch.no_grad():
        said = teacher.eval()(**batch.inputs).logits
    torch.testing.assert_close(made.logits(batch, CPU), said[:, list(order)])


@pytest.mark.parametrize(
    ("theirs", "says"),
    [
        (("yes", "no"), "The teacher's labels are yes, no, the student's are negative, positive"),
        (
            ("negative", "neutral", "positive"),
            "The teacher answers with negative, neutral, positive, the student with negative",
        ),
        (("score",), "The teacher answers with score, the student with negative, positive"),
    ],
)
def test_another_label_set_is_refused(theirs, says):
    with pytest.raises(VPError, match=says) as raised:
        Teacher.make(*pair(theirs))
    assert "\n" not in str(raised.value) and str(raised.value).endswith("take a teacher of the same task.")


def test_several_labels_are_no_classes():
    teacher, tokens, student, own = pair()
    teacher.config.problem_type = "multi_label_classification"
    with pytest.raises(VPError, match="take a teacher of the same task"):
        Teacher.make(teacher, tokens, student, own)


def test_another_tokeniser_is_refused():
    with pytest.raises(VPError, match=r"teacher's tokeniser \(\d+ tokens\) is not the student's \(\d+\): .*\.$"):
        Teacher.make(*pair(family="roberta"))


def test_what_a_teacher_says_is_kept_and_does_not_depend_on_the_batch():
    """So that a training that was stopped and meets its texts in other batches learns the same, to the bit."""
    model, data = bench_models.classifier("bert", torch.float32, 3), bench_models.texts("bert", 12)
    calls: list[int] = []
    model = copy.deepcopy(model)
    model.register_forward_pre_hook(lambda module, given: calls.append(1))
    teacher = Teacher(model, (2, 0, 1))
    whole = teacher.logits(the_batch(data), CPU)
    assert len(calls) == 12
    assert torch.equal(teacher.logits(the_batch(data), CPU), whole) and len(calls) == 12
    fresh = Teacher(model, (2, 0, 1))
    for half in (range(5), range(3, 12)):
        (batch,) = make_batches(data, half, 10**6)
        fresh.logits(batch, CPU)
    assert torch.equal(fresh.logits(the_batch(data), CPU), whole) and len(calls) == 24
    with torch.no_grad():
        together = model(**the_batch(data).inputs).logits[:, [2, 0, 1]]
    torch.testing.assert_close(whole, together, rtol=1e-4, atol=1e-5)
    assert not whole.requires_grad


def test_a_teacher_does_not_drop_out():
    model = model_of().train()
    assert model.config.hidden_dropout_prob > 0
    tokens = tiny.tokenizer("bert")
    teacher = Teacher.make(model, tokens, model_of(), tokens)
    batch = the_batch(lessons(8).data)
    first = teacher.logits(batch, CPU)
    assert torch.equal(Teacher(teacher.model, (0, 1)).logits(batch, CPU), first)


def test_a_teacher_that_has_answered_other_texts_is_refused():
    """It would say of text 3 what it said of another text 3."""
    teacher = Teacher(bench_models.classifier("bert"), (0, 1, 2))
    learnt = taught("classes")
    Distillation(learnt, teacher), Distillation(replace(learnt, targets=1 - learnt.targets), teacher, alpha=1.0)
    with pytest.raises(VPError, match="answered other texts"):
        Distillation(taught("classes"), teacher)


def test_a_teacher_without_segments_and_a_student_without():
    """BERT's and DistilBERT's tokenisers have the same tokens, but only the first says which text is which."""
    bert, bert_tokens = tiny.make("bert")
    distil, distil_tokens = tiny.make("distilbert")
    batch = the_batch(bench_models.texts("bert", 4))
    with_segments = Batch(batch.inputs | {"token_type_ids": torch.zeros_like(batch.inputs["input_ids"])}, batch.examples)
    teacher = Teacher.make(distil, distil_tokens, bert, bert_tokens)
    assert not teacher.segments
    assert torch.equal(teacher.logits(with_segments, CPU), Teacher(distil, (0, 1)).logits(batch, CPU))
    teacher = Teacher.make(bert, bert_tokens, distil, distil_tokens)
    teacher.logits(replace(batch, texts=[("one",)] * 4), CPU)  # of a single text all segments are 0
    with pytest.raises(VPError, match="segment ids"):
        teacher._known.clear()
        teacher.logits(replace(batch, texts=[("one", "two")] * 4), CPU)


def test_the_model_that_teaches_is_left_as_it_was():
    """Hidden states are asked for by hooks of transformers' own, which stay: on a copy."""
    model, tokenizer = tiny.make("bert")
    model.train()
    before = tiny.hooks(model)
    teacher = Teacher.make(model, tokenizer, model, tokenizer)
    batch = make_batches(encode(tokenizer, [("a good film",), ("bad",)], 16), [0, 1])[0]
    teacher.hidden(batch, torch.device("cpu"))
    assert model.training and tiny.hooks(model) == before
