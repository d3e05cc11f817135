"""Runs that were stopped or killed go on to the same result."""

import json
from dataclasses import replace

import pytest
import tiny
from snip_runs import QUICK, dense_of, material, plain_rows, settings

from vp_core.ground.errors import VPError
from vp_core.ground.names import AUTO
from vp_core.identity.snip import run_snip as run
from vp_core.squeezing.folder import load_pruned
from vp_core.training import run_folder, schedule
from vp_core.training.run_folder import WEIGHTS, read_log
from vp_core.training.schedule import Schedule

pytestmark = pytest.mark.slow
KILLED = """
import json, sys
sys.path[:0] = ["tests"]
import torch
torch.set_num_threads(1)
import snip_runs as t
from vp_core.identity.snip import run_snip as run
tell, watch = t.killed_at(sys.argv[2], 2)
for row in run(t.material(sys.argv[3]), t.settings(**json.loads(sys.argv[4])), sys.argv[1], tell, watch):
    pass
print("not killed")
"""


def test_a_killed_run_goes_on_to_the_same_result(tmp_path, python):
    """SIGKILL in the middle of training with the gate, and of retraining; then the same call again."""
    cases = (
        ("bert", {}, "iteration 2: training with the gate", 2),
        ("gpt2", {"sn": 4.0}, "blocks leave, retraining", 1),
    )
    killed = [python(KILLED, tmp_path / f, phase, f, json.dumps(others)) for f, others, phase, _ in cases]
    for (family, others, phase, rows_then), process in zip(cases, killed, strict=True):
        whole, folder = list(run(material(family), settings(**others), tmp_path / f"whole {family}")), tmp_path / family
        out, err = process.communicate(timeout=600)
        assert process.returncode == -9 and "not killed" not in out, err
        assert len(read_log(folder)["rows"]) == rows_then
        rows = list(run(material(family), settings(**others), folder))
        assert plain_rows(rows) == plain_rows(whole), phase
        assert tiny.sha(dense_of(folder, family)) == tiny.sha(dense_of(tmp_path / f"whole {family}", family)), phase
        assert tiny.sha(load_pruned(folder / "model")) == tiny.sha(load_pruned(tmp_path / f"whole {family}" / "model"))
        assert list(run(material(family), settings(**others), folder)) == rows  # finished: nothing is done again


class Stop(Exception):
    pass


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """(rows, SHA-256 of the weights) of a run of BERT that nothing stopped."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    rows = list(run(material("bert"), settings(), folder))
    return plain_rows(rows), tiny.sha(dense_of(folder, "bert"))


@pytest.mark.parametrize("phase", ["fine-tuning", "iteration 1: training with the gate", "leave, retraining"])
def test_stopped_in_the_middle_of_a_training(phase, unbroken, tmp_path):
    """By an exception: whatever the process still knows has no say in how it goes on."""
    now = []

    def watch(done, _steps, _loss):
        if phase in now[-1] and done == 2:
            raise Stop

    with pytest.raises(Stop):
        list(run(material("bert"), settings(), tmp_path / "run", now.append, watch))
    rows = list(run(material("bert"), settings(), tmp_path / "run"))
    assert (plain_rows(rows), tiny.sha(dense_of(tmp_path / "run", "bert"))) == unbroken


@pytest.mark.parametrize(("where", "row"), [("Log.add", 1), ("Log.keep", 0), ("Checkpoint.save", 0), ("Checkpoint.save", 1)])
def test_stopped_between_two_writes(where, row, unbroken, tmp_path, monkeypatch):
    """After a row is in the log and before its checkpoint is: the row is made again, not built upon."""
    name, method = where.split(".")
    real = getattr(getattr(run_folder, name), method)

    def stopped(self, *args, **kwargs):
        rows = len(read_log(tmp_path / "run")["rows"]) if (tmp_path / "run" / "run.json").exists() else 0
        if rows >= row + (where != "Log.add"):
            raise Stop
        return real(self, *args, **kwargs)

    monkeypatch.setattr(getattr(run_folder, name), method, stopped)
    with pytest.raises(Stop):
        list(run(material("bert"), settings(), tmp_path / "run"))
    monkeypatch.undo()
    rows = list(run(material("bert"), settings(), tmp_path / "run"))
    assert (plain_rows(rows), tiny.sha(dense_of(tmp_path / "run", "bert"))) == unbroken


def test_more_iterations_of_the_same_run(unbroken, tmp_path):
    first = list(run(material("bert"), settings(iterations=1), tmp_path / "run"))
    more = list(run(material("bert"), settings(iterations=2), tmp_path / "run"))
    assert plain_rows(more[:2]) == plain_rows(first) and len(more) == 3
    assert (plain_rows(more), tiny.sha(dense_of(tmp_path / "run", "bert"))) == unbroken


@pytest.mark.parametrize("begin", [None, replace(QUICK, precision=AUTO, epochs=2)])
def test_a_run_goes_on_in_the_precision_it_was_begun_with(begin, tmp_path, monkeypatch):
    """On a machine that is fast in another one, when none was named; a new run there takes that one."""
    unnamed, said = settings(schedule=replace(QUICK, precision=AUTO), begin=begin, iterations=1), []
    monkeypatch.setattr(schedule, "fast_precision", lambda: "bfloat16")
    list(run(material("bert"), unnamed, tmp_path / "run", said.append))
    monkeypatch.setattr(schedule, "fast_precision", lambda: "float32")
    rows = list(run(material("bert"), replace(unnamed, iterations=2), tmp_path / "run", said.append))
    assert said.count("precision bfloat16") == 2
    kept = read_log(tmp_path / "run")["settings"]
    assert {one["precision"] for one in (kept["schedule"], kept["begin"]) if one} == {"bfloat16"}

    named = replace(QUICK, precision="bfloat16")
    whole = settings(schedule=named, begin=begin and replace(begin, precision="bfloat16"))
    assert plain_rows(rows) == plain_rows(run(material("bert"), whole, tmp_path / "named"))
    assert tiny.sha(dense_of(tmp_path / "run", "bert")) == tiny.sha(dense_of(tmp_path / "named", "bert"))

    list(run(material("bert"), unnamed, tmp_path / "new"))
    assert read_log(tmp_path / "new")["settings"]["schedule"]["precision"] == "float32"
    with pytest.raises(VPError, match="another schedule"):
        list(run(material("bert"), settings(schedule=QUICK, begin=begin), tmp_path / "run"))


def test_another_run_in_the_folder(tmp_path):
    list(run(material("bert"), settings(iterations=1), tmp_path / "run"))
    before = (tmp_path / "run" / WEIGHTS).read_bytes()
    for others, what in (({"theta": 0.5}, "theta"), ({"mode": "ffn"}, "mode"), ({"sn": 2.0}, "sn"),
                         ({"schedule": Schedule(lr=1e-3)}, "schedule")):  # fmt: skip
        with pytest.raises(VPError, match=f"another {what}") as raised:
            list(run(material("bert"), settings(**others), tmp_path / "run"))
        assert "\n" not in str(raised.value)
    with pytest.raises(VPError, match="another model"):
        list(run(material("distilbert"), settings(), tmp_path / "run"))
    assert (tmp_path / "run" / WEIGHTS).read_bytes() == before
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "diary.txt").write_text("dear diary")
    with pytest.raises(VPError, match="not empty"):
        list(run(material("bert"), settings(), tmp_path / "foreign"))
    assert [p.name for p in (tmp_path / "foreign").iterdir()] == ["diary.txt"]
