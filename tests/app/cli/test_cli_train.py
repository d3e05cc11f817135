"""`vp train` on tiny models: runs that end, are stopped and go on, and what is refused in one sentence."""

import signal
import time

import pytest
from commands import printed

from app.cli.main import main
from vp_core.training.run_folder import read_log

TEN = ["--steps", "10", "--batch", "8", "--precision", "float32", "--lr", "1e-3", "--scores", "1"]


def test_a_run_and_what_is_left(capsys, tmp_path, task):
    """Its folder opens as any model does, with what the record says."""
    plot = tmp_path / "run.html"
    found = printed(capsys, "train", *task, "--method", "variance", *TEN, "--out", tmp_path / "run", "--plot", plot)
    rows = read_log(tmp_path / "run")["rows"]
    assert {k: v for k, v in found.items() if k != "out"} == rows[-1] and found["done"]
    assert [row["sparsity"] for row in rows if "sparsity" in row] == [0.1, 0.2, 0.3, 0.4, 0.5]
    again = printed(capsys, "eval", tmp_path / "run", *task[1:])
    assert (again["value"], again["params_removed"]) == (found["value"], found["share_pruned"])
    assert "<script src" not in plot.read_text()


def test_for_people(capsys, tmp_path, task):
    assert main(["train", *task, "--method", "magnitude", "--until", "0.6", *TEN, "--out", str(tmp_path / "run")]) == 0
    output = capsys.readouterr()
    assert "before" in output.out and "60.0% of the encoder's linear parameters gone" in output.out
    assert "step 5 of 10" in output.err and "weights are gone after step 5" in output.err


def test_a_teacher(capsys, tmp_path, task):
    whole = ["--method", "none", *TEN, "--teacher", task[0]]
    one, other = (printed(capsys, "train", *task, *whole, "--alpha", alpha, "--out", tmp_path / alpha) for alpha in ("0", "1"))
    losses = [[row["loss"] for row in read_log(tmp_path / alpha)["rows"] if "loss" in row] for alpha in ("0", "1")]
    assert one["done"] and other["done"] and losses[0] != losses[1]
    assert losses[0][0] < 0.1 < losses[1][0]  # a model agrees with itself but for dropout


def test_a_run_that_was_interrupted_goes_on(capsys, tmp_path, task, vp):
    """Ctrl-C waits for the step; the same command with --resume gives what an unbroken run gives."""
    how = [*task, "--method", "variance", "--steps", "400", "--batch", "8", "--precision", "float32", "--scores", "0"]
    process = vp("train", *how, "--out", tmp_path / "run")
    end = time.monotonic() + 120
    while not (tmp_path / "run" / "run.json").exists() or len(read_log(tmp_path / "run")["rows"]) < 20:
        assert time.monotonic() < end
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2 and err.strip().endswith("the same command with --resume goes on from there.")
    reached = read_log(tmp_path / "run")["rows"][-1]["step"]
    assert 0 < reached < 400
    assert main(["train", *how, "--out", str(tmp_path / "run")]) == 2
    assert "--resume" in capsys.readouterr().err
    resumed = printed(capsys, "train", *how, "--out", tmp_path / "run", "--resume")
    whole = printed(capsys, "train", *how, "--out", tmp_path / "whole")
    assert {k: v for k, v in resumed.items() if k not in ("out", "seconds")} == {
        k: v for k, v in whole.items() if k not in ("out", "seconds")
    }


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (["--method", "luck"], "Unknown method 'luck'"),
        (["--until", "1.5"], "between 0 and 1"),
        (["--until", "half"], "no number"),
        (["--first", "500", "--every", "500", "--share", "0.1"], "the training ends after 10 steps"),
        (["--method", "hybrid", "--ramp", "cubic"], "Cuts"),
        (["--method", "hybrid", "--until", "0.999"], "nothing would be left"),
        (["--ramp", "steep"], "Unknown ramp"),
        (["--teacher", "nowhere/at-all"], "nowhere/at-all"),
        (["--alpha", "2"], "weight α"),
        (["--temperature", "0"], "temperature"),
        (["--steps", "0"], "number of steps"),
        (["--resume"], "no run"),
        (["--squeeze", "--method", "block"], "squeezed out"),
    ],
)
def test_what_is_refused(capsys, tmp_path, task, wrong, says):
    """One sentence, exit code 2, and nothing is left on disk."""
    assert main(["train", *task, *TEN, "--out", str(tmp_path / "run"), *wrong]) == 2
    err = capsys.readouterr().err
    line = [line for line in err.splitlines() if line.startswith("vp: ")]
    assert len(line) == 1 and says in line[0] and line[0].endswith(".") and "Traceback" not in err
    assert not (tmp_path / "run" / "model").exists()
