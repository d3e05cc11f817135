"""`vp snip` on a tiny model: its log, what it leaves, stopped, resumed, on two processes, refused."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, replace

import pytest
import torch
from commands import SHORT, printed
from safetensors.torch import load_file

from app.cli.main import _parser, main
from app.cli.trainings.identity_commands import _settings
from vp_core.identity.readings import PAPER
from vp_core.identity.settings import SnipSettings
from vp_core.loading.load import load_model
from vp_core.squeezing.folder import load_pruned
from vp_core.training.run_folder import read_log
from vp_core.training.schedule import Schedule

ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}
"""For processes of their own: matrices this small only wait for a second thread."""
SNIP = ["--at-least", "3", *SHORT, "--lr", "0.001"]


def without_seconds(folder):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in read_log(folder)["rows"]]


def test_snip_prints_its_log_and_leaves_a_smaller_model(capsys, tmp_path, task):
    folder, plot = tmp_path / "run", tmp_path / "curve.html"
    rows = printed(capsys, "snip", *task, "--iterations", "2", *SNIP, "--out", folder, "--plot", plot)
    assert rows == read_log(folder)["rows"] and [row["iteration"] for row in rows] == [0, 1, 2]
    assert [len(row["went"]) >= 3 for row in rows] == [False, True, True]
    model = load_pruned(folder / "model")
    assert sum(p.numel() for p in model.parameters()) < sum(p.numel() for p in load_model(task[0]).model.parameters())
    assert printed(capsys, "eval", folder / "model", *task[1:])["value"] == rows[-1]["value"]
    assert "share of the linear parameters pruned" in plot.read_text()
    assert main(["snip", *task, "--iterations", "2", *SNIP, "--out", str(folder)]) == 0  # finished: shown again
    output = capsys.readouterr()
    assert [line.split()[0] for line in output.out.splitlines()] == ["iteration", "0", "1", "2"]
    assert "2/2" in output.err and "training" not in output.err


def test_more_iterations_go_on_from_the_last(capsys, tmp_path, task):
    printed(capsys, "snip", *task, "--iterations", "1", *SNIP, "--sn", "3", "--out", tmp_path / "a")
    rows = printed(capsys, "snip", *task, "--iterations", "2", *SNIP, "--sn", "3", "--out", tmp_path / "a")
    assert len(rows) == 3
    printed(capsys, "snip", *task, "--iterations", "2", *SNIP, "--sn", "3", "--out", tmp_path / "b")
    assert without_seconds(tmp_path / "a") == without_seconds(tmp_path / "b")


def test_the_first_fine_tuning_may_be_longer(capsys, tmp_path, task):
    command = ["snip", *task, "--iterations", "1", *SNIP, "--begin-epochs", "3", "--begin-lr", "0.0005"]
    printed(capsys, *command, "--begin-examples", "8", "--out", tmp_path / "run")
    settings = read_log(tmp_path / "run")["settings"]
    assert (settings["begin"]["epochs"], settings["begin"]["lr"], settings["begin"]["examples"]) == (3, 0.0005, 8)
    assert (settings["schedule"]["epochs"], settings["schedule"]["lr"]) == (1, 0.001)


@pytest.mark.slow
def test_an_interrupted_run_goes_on_to_the_same_end(tmp_path, task, vp):
    schedule = ["--examples", "40", "--batch", "4", "--precision", "float32"]
    command = ["snip", *task, "--iterations", "3", "--at-least", "1", *schedule]
    stopped = vp(*command, "--out", tmp_path / "stopped")
    for line in stopped.stderr:
        if "iteration 2: training" in line:  # its first iteration is kept, the second has begun
            stopped.send_signal(signal.SIGINT)
            break
    said, errors = stopped.communicate(timeout=600)
    assert stopped.returncode == 2 and said == ""
    folder = str(tmp_path / "stopped")
    assert f"vp: Interrupted. What is finished is kept in {folder!r}: the same command goes on from there." in errors
    assert "Traceback" not in errors and len(read_log(folder)["rows"]) == 2

    outputs = []
    for name in ("stopped", "unbroken"):
        finished = vp(*command, "--out", tmp_path / name)
        said, errors = finished.communicate(timeout=600)
        assert finished.returncode == 0, errors
        outputs.append(said)
    assert outputs[0] == outputs[1]
    assert without_seconds(tmp_path / "stopped") == without_seconds(tmp_path / "unbroken")
    for file in ("checkpoint.safetensors", "model/pruned.safetensors"):
        mine, other = (load_file(tmp_path / name / file) for name in ("stopped", "unbroken"))
        assert mine.keys() == other.keys() and all(torch.equal(mine[key], other[key]) for key in mine)


@pytest.mark.slow
def test_two_processes_speak_with_one_voice(tmp_path, task):
    out = tmp_path / "run"
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "-m", "app.cli"]
    command = ["snip", *task, "--iterations", "1", *SNIP, "--out", str(out), "--json"]
    finished = subprocess.run([*launch, *command], env=ONE_THREAD, capture_output=True, text=True, timeout=600, check=False)
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout) == read_log(out)["rows"]
    assert finished.stderr.count("1/1 ") == 1
    bad = subprocess.run(
        [*launch, "norms", *task, "--sn", "none"], env=ONE_THREAD, capture_output=True, text=True, timeout=600, check=False
    )
    assert bad.returncode != 0 and bad.stderr.count("vp: λ of spectral normalisation must be a number above 0") == 1


def test_the_papers_readings_in_one_option(capsys, tmp_path, task):
    """What is said beside it counts, even where it is this project's own default."""
    parse = _parser().parse_args
    given = _settings(parse(["snip", "demo", "--sn", "5", "--readings", "paper", "--epochs", "3", "--out", "x"]))
    schedule = Schedule(epochs=3, lr=1e-4, layer_decay=0.8, epsilon=1e-6)
    assert given == SnipSettings(sn=5.0, schedule=schedule, readings=PAPER) and given.k == (1, 1)
    said = ["--lr", "5e-5", "--layer-decay", "1", "--identity", "max", "--start", "nearest", "--sn", "5"]
    given = _settings(parse(["snip", "demo", "--readings", "paper", *said, "--out", "x"]))
    assert given.schedule == Schedule(epsilon=1e-6) and given.readings == replace(PAPER, identity="max", start="nearest")
    rows = printed(capsys, "snip", *task, *SNIP, "--iterations", "1", "--readings", "paper", "--out", tmp_path / "run")
    kept = json.loads((tmp_path / "run" / "run.json").read_text())["settings"]
    assert kept["readings"] == asdict(PAPER) and kept["schedule"]["layer_decay"] == 0.8 and rows[1]["flops"] > 0
    assert main([str(part) for part in ["snip", *task, *SNIP, "--out", tmp_path / "run"]]) == 2
    assert "other readings" in capsys.readouterr().err


def test_another_run_and_squeezed_models_are_refused(capsys, tmp_path, task, folders):
    run = tmp_path / "run"
    printed(capsys, "snip", *task, "--iterations", "1", *SNIP, "--out", run)
    kept = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    other = [str(folders["roberta"]), *task[1:]]
    for command, says in (
        (["snip", *task, *SNIP, "--mode", "ffn", "--out", run], "holds a run with another mode"),
        (["snip", *task, *SNIP, "--seed", "1", "--out", run], "holds a run with another schedule"),
        (["snip", *other, *SNIP, "--out", run], "holds a run with another model"),
        (["finetune", *task, "--out", run], "is not empty"),
        (["snip", run / "model", *task[1:], "--out", tmp_path / "x"], "squeezed already"),
        (["finetune", run / "model", *task[1:], "--sn", "3", "--out", tmp_path / "x"], "squeezed already"),
        (["finetune", run / "model", *task[1:], "--plot", tmp_path / "x.html", "--out", tmp_path / "x"], "leave --plot out"),
        (["norms", run / "model", *task[1:]], "squeezed already"),
    ):
        assert main([str(part) for part in command]) == 2
        assert says in capsys.readouterr().err
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == kept
    assert not (tmp_path / "x").exists()
