"""Labels on the command line: several a text through every command, and `--labels`."""

import json

import pytest
import tiny
from commands import SHORT, printed

from app.cli.main import main

TEXTS = tiny.sentences(40, 4)
NAMES = ("angry", "calm", "sad")


@pytest.fixture
def several(tmp_path):
    """A multi-label model, and a CSV file with a column of 0 and 1 for each label: what the model says."""
    model, tok = tiny.make("bert", NAMES)
    model.config.problem_type = "multi_label_classification"
    folder = tiny.save(tmp_path / "model", model, tok)
    said = (tiny.answers(model, tok, TEXTS) > 0).int().numpy()
    rows = [f"{text},{','.join(map(str, row))}" for text, row in zip(TEXTS, said[:, ::-1], strict=True)]
    path = tmp_path / "own.csv"
    path.write_text("\n".join(["text,sad,calm,angry", *rows]), encoding="utf-8")
    return [folder, "--task", path, "--text", "text", "--label", "sad,calm,angry"]


def test_several_labels_are_scored_drawn_and_trained(capsys, tmp_path, several):
    task = several
    row = printed(capsys, "eval", *task, "--sparsity", "0")
    assert (row["metric"], row["value"], row["n"], row["micro_f1"], row["macro_f1"]) == ("subset_accuracy", 1.0, 40, 1.0, 1.0)
    curve = printed(capsys, "curve", *task, "--criteria", "variance", "--sparsities", "0,0.5", "--plot", tmp_path / "c.html")
    assert curve[0]["value"] == 1.0 > curve[1]["value"]
    assert "subset accuracy" in (tmp_path / "c.html").read_text(encoding="utf-8").lower()
    tuned = printed(capsys, "finetune", *task, *SHORT, "--out", tmp_path / "tuned")
    assert tuned["before"]["value"] == 1.0 and tuned["after"]["metric"] == "subset_accuracy"
    config = json.loads((tmp_path / "tuned" / "config.json").read_text())
    assert config["problem_type"] == "multi_label_classification"
    again = printed(capsys, "eval", tmp_path / "tuned", *task[1:], "--sparsity", "0")
    assert again["value"] == tuned["after"]["value"] and again["macro_f1"] == tuned["after"]["macro_f1"]
    assert main(["snip", *map(str, task), "--iterations", "1", "--at-least", "1", *SHORT, "--out", str(tmp_path / "run")]) == 0
    assert "subset_accuracy" in (tmp_path / "run" / "run.json").read_text()
    capsys.readouterr()
    printed(capsys, "prune", *task, "--sparsity", "0.3", "--recipe", "units mean", "--out", tmp_path / "small")
    small = printed(capsys, "eval", tmp_path / "small", *task[1:], "--sparsity", "0")
    squeezed = printed(capsys, "eval", *task, "--sparsity", "0.3", "--recipe", "units mean")
    assert (small["value"], small["micro_f1"]) == (squeezed["value"], squeezed["micro_f1"])


def test_names_that_a_terminal_would_obey_are_shown_without(capsys, tmp_path):
    model, tok = tiny.make("bert", ("\x1b[31mlow", "high"))
    folder = tiny.save(tmp_path / "model", model, tok)
    task = [str(folder), "--task", str(tmp_path / "own.tsv"), "--text", "text"]
    for labels, code in ((("\x1b[32mno", "yes"), 2), (("\x1b[31mlow", "high"), 0)):
        tiny.write_tsv(tmp_path / "own.tsv", ("text", "label"), zip(TEXTS, labels * 20, strict=True))
        assert main(["check", *task]) == code
        shown = capsys.readouterr()
        assert "[31mlow" in shown.out and "\x1b" not in shown.out + shown.err
    assert main(["eval", *task, "--sparsity", "0", "--labels", "high,\x1b[31mlow"]) == 0
    shown = capsys.readouterr()
    assert "by --labels they are high" in shown.err and "\x1b" not in shown.out + shown.err


def test_labels_name_the_outputs_and_what_refuses_names_them(capsys, tmp_path):
    model, tok = tiny.make("bert", ("LABEL_0", "LABEL_1"))
    folder = tiny.save(tmp_path / "model", model, tok)
    said = tiny.answers(model, tok, TEXTS).argmax(dim=1).tolist()
    tiny.write_tsv(tmp_path / "own.tsv", ("text", "label"), zip(TEXTS, [("1", "-1")[i] for i in said], strict=True))
    task = [str(folder), "--task", str(tmp_path / "own.tsv"), "--text", "text"]
    assert main(["eval", *task, "--sparsity", "0", "--json"]) == 2
    told = capsys.readouterr().err
    assert "(--labels 1,-1 or --labels=-1,1)" in told
    assert printed(capsys, "eval", *task, "--sparsity", "0", "--labels", "1,-1")["value"] == 1.0
    assert printed(capsys, "eval", *task, "--sparsity", "0", "--labels=-1,1")["value"] == 0.0
    assert printed(capsys, "eval", *task, "--sparsity", "0", "--labels", "-1,1")["value"] == 0.0
