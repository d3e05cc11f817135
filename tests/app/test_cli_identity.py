"""`vp norms`, `vp finetune` and `vp snip` on tiny models and files."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import tiny
import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from analysis.function_norms import KIND_NAMES, norm_table
from app.cli import main
from vp_core.batches import make_batches
from vp_core.function_norms import FunctionNorms, collect_norms
from vp_core.models import load_model
from vp_core.pruned import load_pruned
from vp_core.runs import read_log
from vp_core.spectral import rescaled, spectral_norms
from vp_core.study import open_study
from vp_core.threshold import Threshold, running_scores

SHORT = ["--examples", "16", "--batch", "8", "--precision", "float32"]
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}
"""For processes of their own: matrices this small only wait for a second thread."""
SNIP = ["--at-least", "3", *SHORT, "--lr", "0.001"]


@pytest.fixture
def task(folders, data):
    """The arguments that name the tiny BERT and its task."""
    return [str(folders["bert"]), "--task", "sst2", "--data", str(data)]


def printed(capsys, command, *arguments):
    assert main([command, *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def same(found, norms):
    """Printed rows against the library's table, digit by digit."""
    table = norm_table(norms)
    assert len(found) == len(table) == len(norms.blocks)
    for mine, (_, row), block in zip(found, table.iterrows(), norms.blocks, strict=True):
        assert (mine["layer"], mine["kind"], mine["head"]) == (block.layer, block.kind, block.head)
        numbers = set(table.columns) - {"layer", "kind", "head"}
        assert {"mean", "max", "q05", "q99"} < numbers
        assert {name: mine[name] for name in numbers} == {name: float(row[name]) for name in numbers}


def without_seconds(folder):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in read_log(folder)["rows"]]


def test_norms_are_the_librarys(capsys, tmp_path, task, study):
    out, plot = tmp_path / "norms.safetensors", tmp_path / "norms.html"
    found = printed(capsys, "norms", *task, "--out", out, "--plot", plot)
    norms = study.bench().norms()
    same(found["blocks"], norms)
    assert found["tokens"] == int(norms.sketch.count[0]) and found["texts"] == len(study.calibration)
    assert (found["weights"], found["sn"], found["model"]) == ("as given", None, task[0])
    assert torch.equal(FunctionNorms.load(out).sketch.counts, norms.sketch.counts)
    html = plot.read_text()
    assert "<script src" not in html and KIND_NAMES["ffn"] in html
    row = found["blocks"][-1]
    assert (row["layer"], row["kind"], row["head"]) == (tiny.LAYERS - 1, "ffn", None)


def test_norms_for_people(capsys, task):
    assert main(["norms", *task]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "as given" in lines[0] and lines[1].split()[:3] == ["layer", "kind", "head"]
    assert len(lines) == 2 + tiny.LAYERS * (tiny.HEADS + 2)


def test_the_demos_twin_stands_for_the_demo_under_normalisation(capsys):
    found = printed(capsys, "norms", "demo", "--sn", "5", "--calibration", "32")
    twin = open_study("demo-sn", calibration=32)
    same(found["blocks"], twin.bench().norms())
    assert (found["model"], found["weights"], found["sn"]) == ("demo-sn", "fine-tuned with SN", 5.0)
    same(printed(capsys, "norms", "demo-sn", "--sn", "5", "--calibration", "32")["blocks"], twin.bench().norms())


def test_rescaled_weights_are_called_what_they_are(capsys, task, study):
    found = printed(capsys, "norms", *task, "--sn", "2", "--rescaled")
    model = rescaled(study.model, 2)
    expected = collect_norms(model, make_batches(study.calibration, range(len(study.calibration))))
    same(found["blocks"], expected)
    assert found["weights"] == "rescaled only"
    assert main(["norms", *task, "--sn", "2", "--rescaled"]) == 0
    output = capsys.readouterr()
    assert "rescaled only" in output.out and "nothing is trained" in output.err


def test_norms_of_a_normalised_model_come_from_training(capsys, tmp_path, task, folders, data):
    found = printed(capsys, "norms", *task, "--sn", "2", *SHORT)
    assert found["weights"] == "fine-tuned with SN"
    printed(capsys, "finetune", *task, "--sn", "2", *SHORT, "--out", tmp_path / "tuned")
    tuned = open_study(str(tmp_path / "tuned"), "sst2", data)
    same(found["blocks"], tuned.bench().norms())  # the same training, then the same measurement
    assert max(abs(s - 2) for s in spectral_norms(tuned.model).values()) < 0.01
    only_rescaled = printed(capsys, "norms", *task, "--sn", "2", "--rescaled")["blocks"]
    assert [row["mean"] for row in only_rescaled] != [row["mean"] for row in found["blocks"]]


def test_thresholds_say_which_blocks_are_off(capsys, task, study):
    norms = study.bench().norms()
    means = norms.means()
    epsilon = (
        1.5 * max(m for b, m in means.items() if b.kind == "head"),
        1.2 * min(m for b, m in means.items() if b.kind == "ffn"),
    )
    found = printed(capsys, "norms", *task, "--epsilon", ",".join(map(str, epsilon)), "--theta", "0.5")
    threshold = Threshold(*epsilon, 0.5)
    *_, last = running_scores(study, threshold)
    assert found["off"] == [block.name for block in threshold.off(norms)] and found["off"]
    assert found["value"] == last.value
    assert [row["identity"] for row in found["blocks"]] == norms.identity_share(threshold.epsilon).tolist()


def test_finetune_writes_a_plain_checkpoint(capsys, tmp_path, task, study):
    folder, plot = tmp_path / "tuned", tmp_path / "sigma.html"
    command = [*task, "--epochs", "2", *SHORT, "--lr", "0.001", "--seed", "3", "--out", folder, "--plot", plot]
    said = printed(capsys, "finetune", *command)
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert type(model) is transformers.BertForSequenceClassification
    assert tokenizer("the film was great")["input_ids"] == study.loaded.tokenizer("the film was great")["input_ids"]
    scored = printed(capsys, "eval", folder, *task[1:])
    assert scored["value"] == said["after"]["value"] and said["before"]["value"] == study.score(tiny_recipe(), 0.0).value
    kept = json.loads((folder / "training.json").read_text())
    assert {key: kept[key] for key in said if key != "out"} == {key: said[key] for key in said if key != "out"}
    assert kept["schedule"]["epochs"] == 2 and kept["rows"] == 40 and kept["loss"] > 0
    steps = [point["step"] for point in kept["sigmas"]]
    assert steps == [0, 1, 2, 3, 4]  # four mini-batches
    assert kept["sigmas"][0]["sigma"] == pytest.approx(dict(spectral_norms(study.model)), rel=1e-5)
    assert kept["sigmas"][-1]["sigma"] == pytest.approx(dict(spectral_norms(model.eval())), rel=1e-5)
    assert kept["sigmas"][0]["sigma"] != kept["sigmas"][-1]["sigma"]
    assert "training step" in plot.read_text()
    assert tiny.sha(load_model(task[0]).model) == tiny.sha(study.model)  # what came in is as it was


def tiny_recipe():
    from vp_core.study import Recipe

    return Recipe()


def test_finetune_under_normalisation_holds_the_norms(capsys, tmp_path, task):
    printed(capsys, "finetune", *task, "--sn", "3", *SHORT, "--out", tmp_path / "tuned")
    kept = json.loads((tmp_path / "tuned" / "training.json").read_text())
    sigmas = np.array([list(point["sigma"].values()) for point in kept["sigmas"]])
    assert kept["sn"] == 3 and np.abs(sigmas - 3).max() < 0.01
    assert not any("parametrizations" in name for name in load_file(tmp_path / "tuned" / "model.safetensors"))


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


def test_an_interrupted_run_goes_on_to_the_same_end(tmp_path, task):
    command = [*task, "--iterations", "3", "--at-least", "1", "--examples", "40", "--batch", "4", "--precision", "float32"]

    def start(folder):
        whole = [sys.executable, "-m", "app.cli", "snip", *command, "--out", str(folder)]
        # whoever runs the tests in the background has Ctrl-C ignored by all that it starts
        listen = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(whole, env=ONE_THREAD, preexec_fn=listen, **pipes)  # noqa: PLW1509

    stopped = start(tmp_path / "stopped")
    for line in stopped.stderr:
        if "iteration 2: training" in line:  # its first iteration is kept, the second has begun
            stopped.send_signal(signal.SIGINT)
            break
    said, errors = stopped.communicate(timeout=300)
    assert stopped.returncode == 2 and said == ""
    folder = str(tmp_path / "stopped")
    assert f"vp: Interrupted. What is finished is kept in {folder!r}: the same command goes on from there." in errors
    assert "Traceback" not in errors and len(read_log(folder)["rows"]) == 2

    outputs = []
    for name in ("stopped", "unbroken"):
        finished = start(tmp_path / name)
        said, errors = finished.communicate(timeout=300)
        assert finished.returncode == 0, errors
        outputs.append(said)
    assert outputs[0] == outputs[1]
    assert without_seconds(tmp_path / "stopped") == without_seconds(tmp_path / "unbroken")
    for file in ("checkpoint.safetensors", "model/pruned.safetensors"):
        mine, other = (load_file(tmp_path / name / file) for name in ("stopped", "unbroken"))
        assert mine.keys() == other.keys() and all(torch.equal(mine[key], other[key]) for key in mine)


def test_two_processes_speak_with_one_voice(tmp_path, task):
    out = tmp_path / "run"
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "-m", "app.cli"]
    command = ["snip", *task, "--iterations", "1", *SNIP, "--out", str(out), "--json"]
    finished = subprocess.run([*launch, *command], env=ONE_THREAD, capture_output=True, text=True, timeout=300, check=False)
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout) == read_log(out)["rows"]
    assert finished.stderr.count("1/1 ") == 1
    bad = subprocess.run(
        [*launch, "norms", *task, "--sn", "none"], env=ONE_THREAD, capture_output=True, text=True, timeout=300, check=False
    )
    assert bad.returncode != 0 and bad.stderr.count("vp: λ of spectral normalisation must be a number above 0") == 1


@pytest.fixture
def places(tmp_path, folders, data):
    """Things that are wrong, by name."""
    tok = tiny.tokenizer("bert")
    torch.manual_seed(0)
    settings = tiny.sizes("bert", 32, 56, 2) | {"vocab_size": 420}
    model = transformers.MPNetForSequenceClassification(transformers.MPNetConfig(**settings))
    tiny.save(tmp_path / "mpnet", model, tok)
    tiny.write_tsv(tmp_path / "one" / "sst2" / "train.tsv", ("sentence", "label"), [("a great film", 1)])
    (tmp_path / "one" / "sst2" / "dev.tsv").write_bytes((data / "sst2" / "dev.tsv").read_bytes())
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a file").touch()
    return {"here": tmp_path, "bert": folders["bert"], "data": data}


TASK = ["--task", "sst2", "--data", "{data}"]
RUN = ["--out", "{here}/x"]
WRONG = {
    "λ no number": (["norms", "demo", "--sn", "abc"], "must be a number above 0, not 'abc'"),
    "λ zero": (["finetune", "demo", "--sn", "0", *RUN], "must be a number above 0, not '0'"),
    "λ negative": (["snip", "demo", "--sn=-5", *RUN], "must be a number above 0, not '-5'"),
    "rescaled to what": (["norms", "demo", "--rescaled"], "add --sn 5"),
    "ε zero": (["norms", "demo", "--epsilon", "0,1"], "ε must be a number above 0, not '0'"),
    "ε three": (["norms", "demo", "--epsilon", "1,2,3"], "give one ε, or two"),
    "θ above 1": (["snip", "demo", "--theta", "1.5", *RUN], "θ must be between 0 and 1, not '1.5'"),
    "θ no number": (["norms", "demo", "--theta", "x"], "θ must be between 0 and 1, not 'x'"),
    "k zero": (["snip", "demo", "--k", "0,1", *RUN], "The rank k '0' is no whole number above 0"),
    "k three": (["snip", "demo", "--k", "1,1,1", *RUN], "give one k, or two"),
    "mode": (["snip", "demo", "--mode", "all", *RUN], "Unknown mode 'all': choose one of heads, ffn, joint"),
    "iterations": (["snip", "demo", "--iterations", "0", *RUN], "The number of iterations '0' is no whole number above 0"),
    "at least": (["snip", "demo", "--at-least=-1", *RUN], "The least number of blocks '-1' is no whole number"),
    "least share": (["snip", "demo", "--least-share", "2", *RUN], "is not between 0 and 1"),
    "l1": (["snip", "demo", "--l1", "much", *RUN], "The L1 factor 'much' is no number"),
    "lr": (["finetune", "demo", "--lr", "3", *RUN], "The learning rate 3.0 is not between 0 and 1"),
    "precision": (["finetune", "demo", "--precision", "int8", *RUN], "Unknown precision 'int8'"),
    "first fine-tuning": (["snip", "demo", "--begin-epochs", "0", *RUN], "The number of epochs '0' is no whole number above 0"),
    "seed": (["finetune", "demo", "--seed=-1", *RUN], "The seed '-1' is no whole number"),
    "examples": (["finetune", "demo", "--examples", "few", *RUN], "The number of examples 'few' is no whole number"),
    "batch": (["snip", "demo", "--batch", "1.5", *RUN], "The batch '1.5' is no whole number above 0"),
    "family": (["snip", "{here}/mpnet", *TASK, *RUN], "The model type 'mpnet' is not supported"),
    "one row": (["snip", "{bert}", "--task", "sst2", "--data", "{here}/one", *RUN], "train.tsv' has a single row"),
    "one row, fine-tuned": (["finetune", "{bert}", "--task", "sst2", "--data", "{here}/one", *RUN], "has a single row"),
    "no task": (["snip", "{bert}", *RUN], "Which task?"),
    "other things": (["snip", "{bert}", *TASK, "--out", "{here}/full"], "is not empty and holds no run"),
    "other things, fine-tuned": (["finetune", "{bert}", *TASK, "--out", "{here}/full"], "is not empty: choose a new one"),
    "no folder": (["snip", "{bert}", *TASK, "--out", "{here}/no/where"], "make it first"),
    "a file": (["snip", "{bert}", *TASK, "--out", "{here}/full/a file"], "is a file"),
    "no folder for norms": (["norms", "{bert}", *TASK, "--out", "{here}/no/where"], "make it first"),
    "a folder for a chart": (["norms", "{bert}", *TASK, "--plot", "{here}/full"], "is a folder: name a file"),
}


@pytest.mark.parametrize("what", WRONG)
def test_one_sentence_for_what_is_wrong(capsys, monkeypatch, places, what):
    def too_late(*_, **__):
        raise AssertionError("training has begun")

    monkeypatch.setattr("vp_core.snip.train", too_late)
    monkeypatch.setattr("vp_core.tuning.train", too_late)
    before = sorted(str(path) for path in places["here"].rglob("*"))
    command, says = WRONG[what]
    assert main([part.format(**places) for part in command]) == 2
    output = capsys.readouterr()
    (sentence,) = [line for line in output.err.splitlines() if line.startswith("vp: ")]
    assert says in sentence and output.out == "" and "Traceback" not in output.err
    assert sorted(str(path) for path in places["here"].rglob("*")) == before


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
        (["finetune", run / "model", *task[1:], "--out", tmp_path / "x"], "squeezed already"),
        (["norms", run / "model", *task[1:]], "squeezed already"),
    ):
        assert main([str(part) for part in command]) == 2
        assert says in capsys.readouterr().err
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == kept
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("command", ["norms", "finetune", "snip"])
def test_help_shows_an_example(capsys, command):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert f"example:\n  vp {command} demo" in capsys.readouterr().out
