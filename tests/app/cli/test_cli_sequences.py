"""Commands of `vp` with models that write about a text, at their smallest."""

import pytest
import scribes
import tiny
from commands import SHORT, printed

from app.cli.main import main


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """The question about a model: its folder, and a folder of two tables."""
    base = tmp_path_factory.mktemp("sequences")
    made = {family: tiny.save(base / family, *scribes.scribe(family)) for family in scribes.FAMILIES}
    scribes.write_table(base / "pairs" / "train.tsv", tiny.sentences(30, 5, 12), tiny.sentences(30, 6, 7))
    scribes.write_table(base / "pairs" / "dev.tsv")
    return lambda name, *more: [
        made.get(name, name), "--task", "sequences", "--data", base / "pairs", "--text", "source", "--label", "target", *more,
    ]  # fmt: skip


@pytest.mark.parametrize("family", scribes.FAMILIES)
def test_eval(capsys, asked, family):
    row = printed(capsys, "eval", *asked(family, "--sparsity", "0.3"))
    assert (row["metric"], row["task"], row["n"]) == ("rougeL", "sequences", 14) and row["low"] <= row["value"] <= row["high"]
    assert {"rouge1", "rouge2", "perplexity", "token_accuracy"} < row.keys() and "tokens" not in row
    other = printed(capsys, "eval", *asked(family, "--sparsity", "0.3", "--metric", "perplexity"))
    assert (other["metric"], other["n"]) == ("perplexity", 14) and "rouge1" not in other and "tokens" not in other
    assert other["value"] == pytest.approx(row["perplexity"], rel=1e-6)


def test_prune_tune_and_open_again(capsys, asked, tmp_path):
    pruned = printed(capsys, "eval", *asked("t5", "--recipe", "best", "--sparsity", "0.3"))["value"]
    printed(capsys, "prune", *asked("t5", "--recipe", "best", "--sparsity", "0.3", "--out", tmp_path / "small"))
    assert printed(capsys, "eval", *asked(tmp_path / "small"))["value"] == pytest.approx(pruned, rel=1e-6)
    short = [*SHORT, "--lr", "3e-3", "--teacher", asked("t5")[0], "--metric", "perplexity"]
    row = printed(capsys, "finetune", *asked(tmp_path / "small", *short, "--out", tmp_path / "tuned"))
    assert row["rows"] == 30 and row["after"]["value"] < row["before"]["value"]
    again = printed(capsys, "eval", *asked(tmp_path / "tuned", "--metric", "perplexity"))
    assert again["value"] == pytest.approx(row["after"]["value"], rel=1e-5)


def test_train_curve_and_stats(capsys, asked, tmp_path):
    short = ["--steps", "4", "--batch", "8", "--precision", "float32", "--scores", "0", "--lr", "1e-3"]
    row = printed(capsys, "train", *asked("bart", *short, "--method", "variance", "--out", tmp_path / "run"))
    assert (
        row["done"] and row["metric"] == "rougeL" and printed(capsys, "eval", *asked(tmp_path / "run"))["value"] == row["value"]
    )
    curve = ["--criteria", "variance", "--sparsities", "0,0.5", "--out", tmp_path / "points.parquet"]
    assert [point["metric"] for point in printed(capsys, "curve", *asked("bart", *curve))] == ["rougeL"] * 2
    assert printed(capsys, "stats", *asked("bart"))["tokens"] > 100
    assert (
        main(["speed", *map(str, asked("bart", "--length", "8", "--batch", "1", "--sparsities", "0.5", "--repeats", "1"))]) == 0
    )


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--format", "onnx", "--out", "none"], "token by token"),
        (["--labels", "a,b", "--out", "none"], "does not take --labels"),
        (["--text", "source,target", "--out", "none"], "Which columns"),
    ],
)
def test_what_is_refused(capsys, asked, more, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["prune", *map(str, asked("bart", *more))]) == 2
    error = capsys.readouterr().err
    assert says in error and "Traceback" not in error and not (tmp_path / "none").exists()
