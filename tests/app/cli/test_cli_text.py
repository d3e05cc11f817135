"""Commands of `vp` with models that predict tokens, at their smallest."""

import json

import language
import pytest
from commands import SHORT, printed

from app.cli.main import main

NAMES = ("gpt2", "llama", "bert")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return language.save_all(tmp_path_factory.mktemp("language"))


@pytest.fixture(scope="module")
def asked(made):
    """The question about a model: its folder, and the folder of two texts."""
    return lambda name, *more: [made.get(name, name), "--task", "text", "--data", made["texts"], "--max-length", 24, *more]


@pytest.mark.parametrize("name", NAMES)
def test_eval(capsys, asked, name):
    row = printed(capsys, "eval", *asked(name, "--sparsity", "0.3"))
    assert row["metric"] == ("masked_loss" if name == "bert" else "perplexity") and row["low"] < row["value"] < row["high"]
    assert row["tokens"] == row["n"] > 100 and row["task"] == "text" and 0 <= row["token_accuracy"] <= 1


@pytest.mark.parametrize("name", NAMES)
def test_prune_and_open_again(capsys, asked, name, tmp_path):
    pruned = printed(capsys, "eval", *asked(name, "--sparsity", "0.5"))["value"]
    for format_ in ("pruned", "transformers"):
        row = printed(capsys, "prune", *asked(name, "--sparsity", "0.5", "--format", format_, "--out", tmp_path / format_))
        assert row["parameters"] <= row["parameters_dense"] + 1000
        assert printed(capsys, "eval", *asked(tmp_path / format_))["value"] == pytest.approx(pruned, rel=1e-3)
    check = {row["name"]: row for row in printed(capsys, "check", tmp_path / "pruned")}
    assert check["load"]["can"] and "squeezed already" in check["statistics"]["why"] + check["load"]["why"]


def test_the_demo_text_knows_its_task(capsys, tmp_path):
    short = ["--most-tokens", "1000", "--calibration", "4"]
    printed(capsys, "prune", "demo-text", "--calibration", "4", "--sparsity", "0.5", "--out", tmp_path / "small")
    row = printed(capsys, "eval", tmp_path / "small", *short)
    assert row["task"] == "demo-text" and row["tokens"] < 1200
    assert row["value"] == pytest.approx(printed(capsys, "eval", "demo-text", "--sparsity", "0.5", *short)["value"], rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_onnx(asked, name, tmp_path):
    """The file was held against torch before it was kept."""
    assert main(["prune", *map(str, asked(name, "--format", "onnx", "--out", tmp_path / "made"))]) == 0
    assert (tmp_path / "made" / "model.onnx").is_file()


@pytest.mark.parametrize("name", NAMES)
def test_finetune(capsys, asked, name, tmp_path):
    tuned = tmp_path / "tuned"
    row = printed(capsys, "finetune", *asked(name, *SHORT, "--lr", "3e-3", "--teacher", asked(name)[0], "--out", tuned))
    assert row["rows"] > 40 and row["after"]["value"] < row["before"]["value"]
    assert printed(capsys, "eval", *asked(tuned))["value"] == pytest.approx(row["after"]["value"], rel=1e-5)


@pytest.mark.parametrize("method", ["variance", "magnitude", "movement", "struct"])
def test_train_prunes_meanwhile(capsys, asked, method, tmp_path):
    short = ["--steps", "6", "--batch", "8", "--precision", "float32", "--scores", "0", "--lr", "1e-3"]
    row = printed(capsys, "train", *asked("llama", *short, "--method", method, "--out", tmp_path / "run"))
    assert row["done"] and row["metric"] == "perplexity"
    assert printed(capsys, "eval", *asked(tmp_path / "run"))["value"] == pytest.approx(row["value"], rel=1e-4)


def test_what_is_left_of_the_demo_text_learns_again(capsys, tmp_path):
    """The loss falls within twenty steps."""
    printed(capsys, "prune", "demo-text", "--calibration", "4", "--sparsity", "0.5", "--out", tmp_path / "small")
    short = [
        "--steps",
        "20",
        "--batch",
        "4",
        "--precision",
        "float32",
        "--lr",
        "1e-3",
        "--most-tokens",
        "1000",
        "--scores",
        "0",
    ]
    row = printed(capsys, "train", tmp_path / "small", *short, "--method", "none", "--out", tmp_path / "run")
    rows = json.loads((tmp_path / "run" / "run.json").read_text())["rows"]
    losses = [one["loss"] for one in rows if "loss" in one]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5]) and row["value"] < 0.8 * rows[0]["value"]
    assert printed(capsys, "eval", tmp_path / "run", "--most-tokens", "1000")["value"] == pytest.approx(row["value"], rel=1e-5)


def test_snip(capsys, asked, tmp_path):
    rows = printed(capsys, "snip", *asked("gpt2", *SHORT, "--iterations", "1", "--at-least", "1", "--out", tmp_path / "run"))
    assert [len(row["went"]) for row in rows] == [0, 1] and rows[1]["metric"] == "perplexity"


def test_curve_with_a_chart(capsys, asked, tmp_path):
    options = [
        "--criteria",
        "variance,random",
        "--sparsities",
        "0,0.4",
        "--out",
        tmp_path / "c.parquet",
        "--plot",
        tmp_path / "c.html",
    ]
    rows = printed(capsys, "curve", *asked("llama", *options))
    assert {row["tokens"] for row in rows} == {rows[0]["n"]} and len(rows) == 4 and (tmp_path / "c.html").is_file()


@pytest.mark.parametrize("name", NAMES)
def test_looking(capsys, asked, name):
    assert printed(capsys, "stats", *asked(name))["tokens"] > 500
    assert printed(capsys, "norms", *asked(name))["texts"] > 40
    speeds = printed(capsys, "speed", asked(name)[0], "--batch", "1", "--length", "16", "--repeats", "1", "--sparsities", "0.5")
    assert [row["form"] for row in speeds] == ["dense", "masked", "squeezed"]
    weights = printed(capsys, "weights", *asked(name))
    assert weights


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["eval", "{llama}"], "(--task text --data FILE)"),
        (["eval", "{llama}", "--task", "text", "--data", "{text}", "--max-length", "24", "--sentences", "3"], "--sentences"),
        (["eval", "{llama}", "--task", "sst2", "--data", "{texts}"], "and is no text classifier"),
        (["finetune", "{gpt2}", "--task", "text", "--data", "{texts}", "--max-length", "24", "--teacher", "{bert}", "--out",
          "{texts}/new"], "The teacher"),
        (["eval", "{text}", "--task", "text", "--data", "{text}"], "is a file"),
    ],
)  # fmt: skip
def test_one_sentence(capsys, made, options, says):
    places = {name: str(place) for name, place in made.items()}
    assert main([word.format(**places) for word in options]) == 2
    err = capsys.readouterr().err
    assert says in err and "Traceback" not in err
