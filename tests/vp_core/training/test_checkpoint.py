"""A training that was stopped, however and wherever, goes on to the same bits; what does not belong to it is refused."""

import copy
import json
import signal
from dataclasses import replace

import pytest
import tiny
import torch
from cancelling import after
from trainings import SHORT, lessons, model_of

from vp_core.ground.errors import VPError
from vp_core.ground.store import load_tensors, save_tensors
from vp_core.ground.work import Cancelled, work
from vp_core.training.callbacks import Callback
from vp_core.training.checkpoint import FILE, KIND, Saved
from vp_core.training.loop import train, training
from vp_core.training.objectives import Distillation
from vp_core.training.teacher import Teacher

STEPS = 8
SETTINGS = {"method": "none", "seed": 0}


class Drawing(Callback):
    """Moves weights by what it draws and counts: neither can be lost without the weights being others."""

    def __init__(self):
        self.sum, self.steps = torch.zeros(3), []

    def after_step(self, run):
        self.steps.append(run.step)
        self.sum += torch.rand(3)
        with torch.no_grad():
            run.model.classifier.bias += 0.01 * self.sum[:2]

    def state(self):
        return {"sum": self.sum}, {"steps": self.steps}

    def restore(self, run, tensors, facts):
        self.sum, self.steps = tensors["sum"].clone(), list(facts["steps"])


def at(folder, every=0, **changed):
    """Where a training keeps its state: at every step, or only when it is stopped."""
    return Saved(folder, SETTINGS | changed, every=every, seconds=0)


def begin(model, saved=None, precision="float32", callbacks=None, objective=None, epochs=2):
    """Eight steps with dropout."""
    assert model.config.hidden_dropout_prob > 0
    schedule = replace(SHORT, precision=precision, epochs=epochs)
    callbacks = [Drawing()] if callbacks is None else callbacks
    return training(model, objective or lessons(), schedule, callbacks=callbacks, saved=saved)


def finished(model, *arguments, **more):
    """(sha of the weights, loss and total of the last step) at the end."""
    *_, run = begin(model, *arguments, **more)
    return tiny.sha(model), run.loss, run.total


@pytest.fixture(scope="module")
def unbroken():
    return {precision: finished(model_of(), precision=precision) for precision in ("float32", "bfloat16")}


def close(folder, step, precision):
    job = begin(model_of(), at(folder), precision)
    for run in job:
        if run.step == step:
            break
    job.close()


def cancel(folder, step, precision):
    with work(cancelled=after(step)), pytest.raises(Cancelled):
        list(begin(model_of(), at(folder), precision))


def interrupt(folder, step, precision):
    """Ctrl-C in the middle of a step: what was written after the one before is gone on with."""

    class Interrupted(Drawing):
        def after_step(self, run):
            super().after_step(run)
            if run.step == step + 1:
                raise KeyboardInterrupt

    Interrupted.__name__ = "Drawing"
    with pytest.raises(KeyboardInterrupt):
        list(begin(model_of(), at(folder, every=1), precision, callbacks=[Interrupted()]))


@pytest.mark.parametrize("step", [1, 3, 4, 7])  # in the first epoch, at its end, in the second, before the end
@pytest.mark.parametrize("stop", [close, cancel, interrupt])
def test_stopped_at_any_step(tmp_path, unbroken, stop, step):
    stop(tmp_path, step, "float32")
    assert json.loads(load_tensors(tmp_path / FILE, KIND)[1]["state"])["step"] == step
    torch.manual_seed(99)  # whatever was drawn in between
    assert finished(model_of(), at(tmp_path)) == unbroken["float32"]


@pytest.mark.parametrize("stop", [close, cancel])
def test_stopped_in_bfloat16(tmp_path, unbroken, stop):
    stop(tmp_path, 5, "bfloat16")
    assert finished(model_of(), at(tmp_path), "bfloat16") == unbroken["bfloat16"] != unbroken["float32"]


def test_stopped_after_every_step(tmp_path, unbroken):
    for step in range(1, STEPS):
        close(tmp_path, step, "float32")
    assert finished(model_of(), at(tmp_path)) == unbroken["float32"]


def test_stopped_when_only_the_end_was_left(tmp_path, unbroken):
    close(tmp_path, STEPS, "float32")
    model = model_of()
    mean = train(model, lessons(), SHORT, callbacks=[Drawing()], saved=at(tmp_path))
    assert tiny.sha(model) == unbroken["float32"][0] and mean == unbroken["float32"][2] / STEPS and not model.training


def test_what_is_not_restored_would_be_seen(tmp_path, monkeypatch, unbroken):
    """Without the random state the rest is another training."""
    close(tmp_path, 4, "float32")
    monkeypatch.setattr(torch, "set_rng_state", lambda state: None)
    assert finished(model_of(), at(tmp_path)) != unbroken["float32"]


KILLED = """
import sys
import time
sys.path[:0] = ["tests"]
import torch
torch.set_num_threads(1)
import trainings as t
from vp_core.training.checkpoint import Saved
from vp_core.training.loop import training
for run in training(t.model_of(), t.lessons(), t.SHORT, saved=Saved(sys.argv[1], {"method": "none", "seed": 0}, 1, 0)):
    print(run.step, flush=True)
    if run.step == 3:
        time.sleep(600)
"""


def test_killed(tmp_path, python):
    """By a signal that nobody can catch."""
    process = python(KILLED, tmp_path)
    assert [process.stdout.readline().strip() for _ in range(3)] == ["1", "2", "3"]
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL
    resumed, steps = model_of(), []
    train(resumed, lessons(), SHORT, saved=at(tmp_path), watch=lambda step, *news: steps.append(step))
    other = model_of()
    train(other, lessons(), SHORT)
    assert steps == [4, 5, 6, 7, 8] and tiny.sha(resumed) == tiny.sha(other)


def test_a_teachers_answers_are_the_same_after_a_stop(tmp_path):
    """In the second epoch texts come in other batches than in the first, in which their answers were kept."""
    teacher = model_of(seed=5).eval()
    results = []
    for stopped in (False, True):
        if stopped:
            learnt = lessons()
            job = begin(model_of(), at(tmp_path), objective=Distillation(learnt, Teacher(teacher, (0, 1))))
            [next(job) for _ in range(6)]
            job.close()
        learnt = lessons()
        saved = at(tmp_path) if stopped else None
        results.append(finished(model_of(), saved, objective=Distillation(learnt, Teacher(teacher, (0, 1)))))
    assert results[0] == results[1]


def test_it_is_written_now_and_then_and_at_no_other_time(tmp_path):
    times = []
    saved = at(tmp_path, every=3)
    for run in begin(model_of(), saved):
        times.append((run.step, saved.written))
    assert times == [(1, 0), (2, 0), (3, 3), (4, 3), (5, 3), (6, 6), (7, 6), (8, 6)]
    saved.forget()
    saved.forget()
    assert list(tmp_path.iterdir()) == []
    slow = Saved(tmp_path, SETTINGS, every=1, seconds=1000)
    assert all(slow.written == 0 for _ in begin(model_of(), slow))


# what does not belong to it ---------------------------------------------------------------------------------------------------


class Other(Drawing):
    pass


def wider():
    return model_of(vocab_size=61)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model": wider}, "belongs to another model"),
        ({"model": lambda: model_of().double()}, "belongs to another model"),
        ({"callbacks": []}, "made by other methods"),
        ({"callbacks": [Other()]}, "made by other methods"),
        ({"callbacks": [Drawing(), Drawing()]}, "made by other methods"),
        ({"epochs": 3}, "is of a training of 8 steps, not of 12"),
        ({"settings": {"method": "movement"}}, "belongs to a training with another method"),
        ({"settings": {"seed": 1}}, "belongs to a training with another seed"),
        ({"settings": {"teacher": "x"}}, "belongs to a training with another teacher"),
    ],
)
def test_another_training_is_refused(tmp_path, unbroken, change, says):
    close(tmp_path, 4, "float32")
    before = (tmp_path / FILE).read_bytes()
    more = {key: change[key] for key in ("callbacks", "epochs") if key in change}
    with pytest.raises(VPError, match=says) as raised:
        list(begin(change.get("model", model_of)(), at(tmp_path, **change.get("settings", {})), **more))
    assert "\n" not in str(raised.value) and str(raised.value).endswith("choose a new folder (--out).")
    assert (tmp_path / FILE).read_bytes() == before  # nothing is lost: what it belongs to goes on
    assert finished(model_of(), at(tmp_path)) == unbroken["float32"]


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path):
    path.write_bytes(b"")


def no_state(path):
    save_tensors(path, load_tensors(path, KIND)[0], KIND, {})


def odd_state(path):
    save_tensors(path, load_tensors(path, KIND)[0], KIND, {"state": "[1"})


def part_of_a_state(path):
    save_tensors(path, load_tensors(path, KIND)[0], KIND, {"state": json.dumps({"settings": SETTINGS})})


def another_kind(path):
    save_tensors(path, {}, "weight masks", {})


def without(start):
    def change(path):
        tensors, about = load_tensors(path, KIND)
        save_tensors(path, {name: t for name, t in tensors.items() if not name.startswith(start)}, KIND, about)

    change.__name__ = f"without {start}"
    return change


BROKEN = (cut, emptied, no_state, odd_state, part_of_a_state, another_kind, without("model|bert.pooler"), without("random"))


@pytest.mark.parametrize("breaks", BROKEN)
def test_a_broken_file(tmp_path, breaks):
    close(tmp_path, 4, "float32")
    breaks(tmp_path / FILE)
    with pytest.raises(VPError) as raised:
        list(begin(model_of(), at(tmp_path)))
    assert "\n" not in str(raised.value) and str(raised.value).endswith(".")


FULL = """
import resource, signal, sys
sys.path[:0] = ["tests"]
import torch
torch.set_num_threads(1)
import trainings as t
from vp_core.ground.errors import VPError
from vp_core.training.checkpoint import Saved
from vp_core.training.loop import training
said = []
try:
    saved = Saved(sys.argv[1], {"method": "none", "seed": 0}, 2, 0)
    for run in training(t.model_of(), t.lessons(), t.SHORT, saved=saved, tell=said.append):
        if run.step == 5:  # from here on a write of more bytes fails as on a full disk, here with EFBIG
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        if run.step == 5 and "close" in sys.argv:
            raise ZeroDivisionError("what the caller does")
except (VPError, ZeroDivisionError) as error:
    print(error)
print(*said, sep="\\n")
"""


@pytest.mark.parametrize("how", ["go on", "close"])
def test_a_full_disk_keeps_the_last_checkpoint(tmp_path, python, how):
    """One sentence; and an error of the caller is not hidden by it."""
    process = python(FULL, tmp_path, how)
    said, errors = process.communicate()
    assert process.returncode == 0, errors
    full = f"{str(tmp_path / FILE)!r} could not be written (File too large); what was there is as before."
    assert said.split("\n")[:-1] == ([full, ""] if how == "go on" else ["what the caller does", full])
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    assert json.loads(load_tensors(tmp_path / FILE, KIND)[1]["state"])["step"] == 4
    resumed, other = model_of(), model_of()
    train(resumed, lessons(), SHORT, saved=at(tmp_path))
    train(other, lessons(), SHORT)
    assert tiny.sha(resumed) == tiny.sha(other)


# a loss that is no number -----------------------------------------------------------------------------------------------------


class Spoilt:
    """The task's loss; at one step its value, or only its gradient, is no number."""

    def __init__(self, step, how):
        self.lessons, self.step, self.how = lessons(), step, how
        self.data = self.lessons.data

    def loss(self, model, batch, ask, step):
        logits = ask(batch.inputs).logits
        loss = torch.nn.functional.cross_entropy(logits, self.lessons.targets[torch.from_numpy(batch.examples)])
        if step == self.step:
            if self.how == "gradient":  # √0: a value, and an infinite slope
                return loss + (logits - logits.detach()).square().sum().sqrt()
            return loss * float(self.how)
        return loss


@pytest.mark.parametrize("how", ["nan", "inf", "gradient"])
@pytest.mark.parametrize("step", [0, 4])
def test_a_loss_that_is_no_number_stops_before_the_step(tmp_path, how, step):
    """The weights are those of the last good step, in the model and in the checkpoint, and its random state as well."""
    good, run = model_of(), None
    for run in begin(good, objective=Spoilt(99, how)):
        if run.step == step:
            break
    expected, random = (copy.deepcopy(good), torch.get_rng_state()) if step else (model_of(), None)
    model, saved = model_of(), at(tmp_path)
    what = "gradient" if how == "gradient" else "loss"
    with pytest.raises(VPError, match=f"The {what} is NaN or infinite at step {step + 1}: ") as raised:
        list(begin(model, saved, objective=Spoilt(step, how)))
    assert "\n" not in str(raised.value) and str(raised.value).endswith(".")
    assert tiny.sha(model) == tiny.sha(expected) and all(torch.isfinite(p).all() for p in model.parameters())
    if step:
        tensors, about = load_tensors(tmp_path / FILE, KIND)
        assert json.loads(about["state"])["step"] == step and torch.equal(tensors["random"][0], random)
        assert all(torch.equal(tensors[f"model|{name}"], p) for name, p in expected.named_parameters())
    else:
        assert list(tmp_path.iterdir()) == []


def test_a_training_that_runs_away(tmp_path):
    """It ends in a sentence, never in weights that are no numbers."""
    model = model_of()
    with pytest.raises(VPError, match=r"NaN or infinite at step \d+: choose a smaller learning rate") as raised:
        train(model, lessons(), replace(SHORT, epochs=40, lr=0.999, warm_up=0, weight_decay=1.0), callbacks=[Blown()],
              saved=at(tmp_path))  # fmt: skip
    step = int(str(raised.value).split("step ")[1].split(":")[0])
    tensors, about = load_tensors(tmp_path / FILE, KIND)
    assert json.loads(about["state"])["step"] == step - 1 > 0
    assert all(torch.isfinite(t).all() for name, t in tensors.items() if name.startswith("model|"))
    assert all(torch.isfinite(p).all() for p in model.parameters())


class Blown(Callback):
    """Layer norms keep a tiny model's outputs small whatever the rate: its head grows here as the steps go on."""

    def after_step(self, run):
        with torch.no_grad():
            run.model.classifier.weight *= 1e4
