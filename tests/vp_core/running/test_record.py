"""Scalars for TensorBoard: what is written when, and that a training is the same without."""

import importlib.util
import sys
import types

import pytest
import tiny
from trainings import SHORT, lessons, model_of

from vp_core.gradual.cuts import Cuts
from vp_core.gradual.rows import GradualRows
from vp_core.ground.errors import VPError
from vp_core.running.record import Record, require_tensorboard
from vp_core.training.callbacks import Callback
from vp_core.training.checkpoint import Saved
from vp_core.training.loop import train, training


class Writer:
    """What Record uses of torch's writer."""

    made: list = []  # noqa: RUF012

    def __init__(self, folder, purge_step=None):
        self.folder, self.purge, self.rows, self.open = folder, purge_step, [], True
        Writer.made.append(self)

    def add_scalar(self, name, value, step):
        assert self.open
        self.rows.append((name, step, value))

    def flush(self):
        pass

    def close(self):
        self.open = False


@pytest.fixture
def written(monkeypatch):
    """The writers that are made; tensorboard need not be there."""
    module = types.ModuleType("torch.utils.tensorboard.writer")
    module.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", types.ModuleType("torch.utils.tensorboard"))
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard.writer", module)
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True if name == "tensorboard" else real(name))
    monkeypatch.setattr(Writer, "made", [])
    return Writer.made


def pruner():
    return GradualRows(Cuts(2, 2, 0.2, 0.6))


def test_what_is_written(tmp_path, written):
    losses, ours = [], pruner()
    record = Record(tmp_path, ours, every=3)
    train(model_of(), lessons(), SHORT, callbacks=[ours, record], watch=lambda *news: losses.append(news[2]))
    record.row({"step": 8, "metric": "accuracy", "value": 0.75, "sparsity": 0.6})
    record.close()
    (writer,) = written
    assert (writer.folder, writer.purge, writer.open) == (str(tmp_path), None, False)
    rates = [SHORT.lr * SHORT.factor(step - 1, 8) for step in (1, 3, 6, 8)]
    by_name = {name: [(step, value) for n, step, value in writer.rows if n == name] for name, *_ in writer.rows}
    assert by_name == {
        "loss": [(step, losses[step - 1]) for step in (1, 3, 6, 8)],
        "learning rate": list(zip((1, 3, 6, 8), rates, strict=True)),
        "share gone": [(2, 0.2), (4, 0.4), (6, 0.6)],
        "score/accuracy": [(8, 0.75)],
    }


def test_rows_of_a_run(tmp_path, written):
    """The first comes before the training begins; without a pruner they say what is gone."""
    record = Record(tmp_path)
    record.row({"step": 0, "metric": "f1", "value": 0.5})
    for run in training(model_of(), lessons(), SHORT, callbacks=[record]):
        if run.step == 4:
            record.row({"step": 4, "sparsity": 0.3, "removed": {}})
    assert [row for row in written[0].rows if row[0] not in ("loss", "learning rate")] == [
        ("score/f1", 0, 0.5), ("share gone", 4, 0.3),
    ]  # fmt: skip


def test_a_training_is_the_same_with_it_and_goes_on_without_it(tmp_path, written):
    whole = model_of()
    train(whole, lessons(), SHORT, callbacks=[pruner()])
    ours = pruner()
    job = training(model_of(), lessons(), SHORT, callbacks=[Record(tmp_path / "x", ours), ours], saved=Saved(tmp_path, {}))
    for run in job:
        if run.step == 5:
            break
    job.close()
    ours, other = pruner(), model_of()
    record = Record(tmp_path / "x", ours, every=1)
    record.row({"step": 0, "metric": "f1", "value": 0.5})
    train(other, lessons(), SHORT, callbacks=[ours, record], saved=Saved(tmp_path, {}))
    assert tiny.sha(other) == tiny.sha(whole) and len(written) == 2
    assert written[1].purge == 6 and {step for _, step, _ in written[1].rows} == {6, 7, 8}
    assert [row for row in written[1].rows if row[0] == "share gone"] == [("share gone", 6, 0.6)]


def test_another_callback_is_not_passed_over(tmp_path):
    job = training(model_of(), lessons(), SHORT, callbacks=[Callback()], saved=Saved(tmp_path, {}))
    next(job), job.close()
    with pytest.raises(VPError, match="other methods"):
        train(model_of(), lessons(), SHORT, saved=Saved(tmp_path, {}))


def test_without_tensorboard(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(VPError, match=r"^Scalars need tensorboard: install the extra, pip install -r requirements-tensorboard"):
        Record(tmp_path)


def test_a_real_event_file(tmp_path):
    try:
        require_tensorboard()
    except VPError:
        pytest.skip("the extra tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    ours = pruner()
    record = Record(tmp_path / "events", ours)
    train(model_of(), lessons(), SHORT, callbacks=[ours, record])
    record.row({"step": 8, "metric": "accuracy", "value": 0.75})
    record.close()
    found = EventAccumulator(str(tmp_path / "events")).Reload()
    assert set(found.Tags()["scalars"]) == {"loss", "learning rate", "share gone", "score/accuracy"}
    assert [round(one.value, 6) for one in found.Scalars("share gone")] == [0.2, 0.4, 0.6]
