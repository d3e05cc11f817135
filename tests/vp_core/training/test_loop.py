"""Fine-tuning: it learns, it is repeatable to the bit, and it says in one sentence what it cannot do."""

import copy
import gc
from dataclasses import replace
from types import SimpleNamespace

import bench_models
import numpy as np
import pytest
import tiny
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from trainings import model_of, toy

from vp_core.asking.batches import Encoded, make_batches
from vp_core.asking.tasks import TASKS, Task
from vp_core.ground.errors import VPError
from vp_core.ground.names import AUTO
from vp_core.identity.gate import gated
from vp_core.identity.l1 import TowardsIdentity
from vp_core.model.blocks import Block, find_sublayers
from vp_core.squeezing.blocks_off import without
from vp_core.training import loop, schedule
from vp_core.training.loop import train
from vp_core.training.schedule import Lessons, Schedule

SST2, STSB = TASKS["sst2"], TASKS["stsb"]
THREE = Task("three", ("t",), "y", ("a", "b", "c"), ("accuracy",))
gc.freeze()  # what is there now need not be looked at after each training
QUICK = Schedule(epochs=6, batch=8, lr=3e-3, precision="float32")


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_every_process_has_as_many_passes(processes):
    """Texts with another number of end tokens are batches of their own, and there is one of each kind for everybody."""
    ids = [[5, 2], [6, 7, 2], [5, 2, 2], [8, 2], [9, 9, 9, 2], [7, 2]]
    data, examples = Encoded(ids, None, 0, 0, 12, end_id=2), np.array([5, 0, 2, 3, 1])
    parts = [loop._mine(data, examples, SimpleNamespace(process_index=i, num_processes=processes)) for i in range(processes)]
    for mine in parts:
        assert [{ids[i].count(2) for i in batch.examples} for batch in mine] == [{1}, {2}]
    ordinary = [i for mine in parts for i in mine[0].examples]
    assert sorted(ordinary) == [0, 1, 3, 5]  # each in one place
    assert [list(mine[1].examples) for mine in parts] == [[2]] * processes


def right(model, data, labels, order=None):
    said = np.zeros(len(data), dtype=int)
    for batch in make_batches(data, range(len(data))):
        with torch.no_grad():
            said[batch.examples] = model(**batch.inputs).logits.argmax(dim=1).numpy()
    return (np.array(order or range(model.config.num_labels))[said] == labels).mean()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", ["bert", "distilbert", "gpt2"])
def test_it_learns(family, precision):
    data, labels = toy()
    model = model_of(family)
    losses = []
    mean = train(
        model, Lessons.make(data, labels, SST2, (0, 1)), replace(QUICK, precision=precision),
        watch=lambda step, steps, loss: losses.append((step, steps, loss)),
    )  # fmt: skip
    assert [(step, steps) for step, steps, _ in losses] == [(i, 48) for i in range(1, 49)]
    assert mean == pytest.approx(np.mean([loss for *_, loss in losses]))
    assert np.mean([loss for *_, loss in losses[-8:]]) < 0.3 * np.mean([loss for *_, loss in losses[:8]])
    assert right(model, *toy(seed=9)) > 0.95 and not model.training
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_the_order_of_the_outputs_counts():
    """Output j means class order[j]: what is learnt is right when read that way, and wrong when read plainly."""
    data, labels = toy(96, 3)
    order = (1, 2, 0)
    lessons = Lessons.make(data, labels, THREE, order)
    assert all(order[int(target)] == label for target, label in zip(lessons.targets, labels, strict=True))
    model = model_of(outputs=3)
    train(model, lessons, QUICK)
    assert right(model, *toy(96, 3, seed=5), order) > 0.95 and right(model, *toy(96, 3, seed=5)) < 0.1


def test_regression():
    data, labels = toy()
    lessons = Lessons.make(data, labels * 4.0 - 1, STSB, (0,))
    assert lessons.regression and lessons.targets.dtype == torch.float32
    model = model_of(outputs=1)
    losses = []
    train(model, lessons, QUICK, watch=lambda *news: losses.append(news[2]))
    assert losses[0] > 4 and np.mean(losses[-8:]) < 0.7
    (batch,) = make_batches(data, range(4), 10**6)
    with torch.no_grad():
        found = model(**batch.inputs).logits[:, 0]
    np.testing.assert_allclose(found, labels[batch.examples] * 4.0 - 1, atol=1)


def test_several_labels_are_learnt_each_by_itself_in_the_order_of_the_outputs():
    """A text has the label of its first word and, when that is 6, the last one too; output j is label order[j]."""
    data, first = toy(96, 3)
    labels = np.eye(3, dtype=int)[first]
    labels[first == 1, 2] = 1
    order = (1, 2, 0)
    lessons = Lessons.make(
        data, labels, Task("several", ("t",), "y", ("a", "b", "c"), ("subset_accuracy",), multi_label=True), order
    )
    assert lessons.targets.tolist() == labels[:, order].tolist()
    model = model_of(outputs=3)
    losses: list[float] = []
    train(model, lessons, replace(QUICK, epochs=10), watch=lambda *news: losses.append(news[2]))
    for batch in make_batches(data, range(len(data)), 10**6):
        logits = model(**batch.inputs).logits.detach()
        assert ((logits > 0).numpy() == labels[batch.examples][:, order]).mean() > 0.95
    assert losses[0] == pytest.approx(np.log(2), abs=0.1) and losses[-1] < 0.3  # −log σ(0) at the start, for each output


def weights_after(seed=0, model=None, **settings):
    data, labels = toy(40)
    model = model or model_of()
    train(model, Lessons.make(data, labels, SST2, (0, 1)), replace(QUICK, epochs=1, **settings), seed=seed)
    return model


def test_the_same_seed_gives_the_same_bits():
    """Dropout, order, everything; whatever was drawn before. Another seed, of the call or of the schedule, gives others."""
    found = tiny.sha(weights_after())
    torch.manual_seed(123), np.random.seed(5)
    torch.rand(7)
    assert tiny.sha(weights_after()) == found
    assert len({found, tiny.sha(weights_after(seed=1)), tiny.sha(weights_after(**{}, model=model_of(), seed=2))}) == 3
    other = model_of()
    data, labels = toy(40)
    train(other, Lessons.make(data, labels, SST2, (0, 1)), replace(QUICK, epochs=1, seed=1))
    assert tiny.sha(other) != found


@pytest.fixture
def accelerate_in_bfloat16():
    """As a Trainer with bf16 leaves it, for the whole process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    Accelerator(mixed_precision="bf16", cpu=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def test_the_schedule_says_the_precision(accelerate_in_bfloat16):
    assert Accelerator().mixed_precision == "bf16"
    found = [tiny.sha(weights_after(precision=precision)) for precision in ("float32", "bfloat16")]
    AcceleratorState._reset_state(reset_partial_state=True)
    assert found == [tiny.sha(weights_after(precision=precision)) for precision in ("float32", "bfloat16")]
    assert found[0] != found[1]


def test_mini_batches():
    data, labels = toy(100)
    lessons = Lessons.make(data, labels, SST2, (0, 1))
    steps = lessons.mini_batches(replace(QUICK, epochs=2), 0)
    assert [len(s) for s in steps].count(8) == 24 and sorted(len(s) for s in steps)[:2] == [4, 4]
    for epoch in (steps[:13], steps[13:]):
        assert sorted(np.concatenate(epoch)) == list(range(100))
    assert not np.array_equal(steps[0], steps[13])
    some = lessons.mini_batches(replace(QUICK, epochs=1, examples=30), 0)
    assert len(set(np.concatenate(some).tolist())) == 30
    again = lessons.mini_batches(replace(QUICK, epochs=1, examples=30), 0)
    assert all(np.array_equal(a, b) for a, b in zip(some, again, strict=True))
    assert set(np.concatenate(lessons.mini_batches(replace(QUICK, epochs=1, examples=30), 1))) != set(np.concatenate(some))


def test_what_is_frozen_stays():
    model = model_of()
    model.bert.embeddings.requires_grad_(False)
    before = {n: p.clone() for n, p in model.named_parameters()}
    weights_after(model=model)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) == ("embeddings" in name), name


def test_a_squeezed_and_gated_model():
    """What is left learns; the L1 term makes the blocks' norms smaller than training without it."""
    data, labels = toy()
    lessons = Lessons.make(data, labels, SST2, (0, 1))
    model = model_of()
    gone = [Block(0, "head", 1), Block(1, "ffn")]
    left = tuple(one.without(gone) for one in find_sublayers(model))
    norms = []
    for l1 in (0.0, 0.1):
        small = gated(copy.deepcopy(without(model, gone)), left, {"head": 1e-6, "ffn": 1e-6})
        losses = []
        train(small, lessons, QUICK, callbacks=[TowardsIdentity(l1)], watch=lambda *news, losses=losses: losses.append(news[2]))
        assert right(small, *toy(seed=9)) > 0.9
        norms.append(small.get_submodule(left[0].ffn).inner.weight.norm().item())
    assert norms[1] < norms[0]


def test_nothing_is_held_on_to():
    """An Accelerator keeps what it prepares; a run of many trainings would keep every optimiser."""
    accelerator = Accelerator()
    data, labels = toy(16)
    for _ in range(3):
        train(model_of(), Lessons.make(data, labels, SST2, (0, 1)), replace(QUICK, epochs=1), accelerator=accelerator)
    assert not accelerator._models and not accelerator._optimizers


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("epochs", 0, "at least 1 for epochs"),
        ("batch", 0, "at least 1 for batch"),
        ("examples", 0, "at least 1 for examples"),
        ("lr", 0.0, "learning rate"),
        ("lr", float("nan"), "learning rate"),
        ("lr", 1.5, "learning rate"),
        ("weight_decay", -0.1, "weight decay"),
        ("warm_up", 1.5, "warm-up"),
        ("precision", "int3", "precision 'int3'"),
    ],
)
def test_a_schedule_that_cannot_be(field, value, says):
    with pytest.raises(VPError, match=says) as raised:
        replace(QUICK, **{field: value})
    assert "\n" not in str(raised.value) and str(raised.value).endswith((".", "."))


def test_the_precision_that_is_taken(monkeypatch):
    """The fast one here, or the one a run was begun with, unless one was named; it trains as if it had been named."""
    assert Schedule().precision == AUTO
    for fast, other in (("bfloat16", "float32"), ("float32", "bfloat16")):
        monkeypatch.setattr(schedule, "fast_precision", lambda fast=fast: fast)
        assert Schedule(lr=1e-3).settled() == Schedule(lr=1e-3, precision=fast)
        assert Schedule().settled(other).precision == Schedule(precision=other).settled().precision == other
        assert Schedule(precision=other).settled(fast).precision == other
        assert tiny.sha(weights_after(precision=AUTO)) == tiny.sha(weights_after(precision=fast))


def test_a_training_file_with_one_row():
    data, labels = toy(1)
    with pytest.raises(VPError, match="single row"):
        Lessons.make(data, labels, SST2, (0, 1))


def test_a_loss_that_is_no_number():
    data, labels = toy(16)
    model = model_of()
    with torch.no_grad():
        model.classifier.bias[0] = float("nan")
    with pytest.raises(VPError, match="loss is NaN or infinite") as raised:
        train(model, Lessons.make(data, labels, SST2, (0, 1)), QUICK)
    assert "\n" not in str(raised.value)


def test_classifiers_of_every_family_can_be_trained():
    for family in ("roberta", "electra", "albert", "bart"):
        data, labels = toy(16)
        ends = [[*row, 2] for row in data.ids]  # what BART's classifier reads
        model = tiny.classifier(family)
        before = tiny.sha(model)
        lessons = Lessons.make(Encoded(ends, None, 1, 0, 12), labels, SST2, (0, 1))
        train(model, lessons, replace(QUICK, epochs=1, lr=1e-4))
        assert tiny.sha(model) != before
    assert bench_models.CLASSIFIERS
