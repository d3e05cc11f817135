"""The command `vp`: numbers on stdout, progress on stderr, one sentence and exit code 2 for what the user can mend."""

import json
import subprocess
import sys

import pytest
import tiny

from app.cli.main import main
from app.cli.options import parse_sparsities
from vp_core.ground.errors import VPError
from vp_core.recipes import Recipe


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VP_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_eval_prints_one_object_with_the_librarys_number(capsys, demo):
    assert main(["eval", "demo", "--criterion", "variance", "--sparsity", "0.3", "--json"]) == 0
    output = capsys.readouterr()
    printed = json.loads(output.out)
    expected = demo.score(Recipe(), 0.3)
    assert (printed["metric"], printed["value"], printed["n"], printed["sparsity"]) == ("accuracy", expected.value, 1000, 0.3)
    assert printed["seconds"] > 0 and printed["low"] < printed["value"] < printed["high"]
    assert "n = 64 of 1,000" in output.err


def test_eval_takes_every_choice(capsys, task, study):
    choices = ["--criterion", "magnitude", "--scope", "per layer", "--replacement", "zero", "--types", "ffn_in,query"]
    assert main(["eval", *task, "--sparsity", "0.4", "--precision", "bfloat16", "--json", *choices]) == 0
    printed = json.loads(capsys.readouterr().out)
    recipe = Recipe("magnitude", "per layer", "zero", ("query", "ffn_in"))
    assert printed["value"] == study.score(recipe, 0.4, "bfloat16").value
    assert printed["rows_removed"] == study.plan(recipe, 0.4).rows_removed


def test_curve_is_resumed_and_drawn(capsys, tmp_path, task, study, monkeypatch):
    out, plot = tmp_path / "curve.parquet", tmp_path / "curve.html"
    command = ["curve", *task, "--criteria", "variance,random", "--sparsities", "0,0.5"]
    assert main([*command, "--out", str(out), "--plot", str(plot), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [(p["criterion"], p["sparsity"]) for p in printed] == [
        ("random", 0.0), ("random", 0.5), ("variance", 0.0), ("variance", 0.5)
    ]  # fmt: skip
    assert printed[3]["value"] == study.score(Recipe(), 0.5).value
    html = plot.read_text()
    assert "<script src" not in html and len(html) > 4_000_000  # plotly.js is inside, nothing is fetched

    def nothing_is_left_to_do(*_, **__):
        raise AssertionError("a finished point was computed again")

    monkeypatch.setattr("vp_core.study.evaluate", nothing_is_left_to_do)
    assert main([*command, "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == printed


def test_stats_writes_what_the_library_collects(capsys, tmp_path, task, study):
    from vp_core.measuring.statistics import Statistics

    out = tmp_path / "statistics.safetensors"
    assert main(["stats", *task, "--out", str(out), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    loaded, expected = Statistics.load(out), study.statistics()
    assert printed["tokens"] == expected.tokens == loaded.tokens
    assert all((loaded.variance(name) == expected.variance(name)).all() for name in expected.moments)
    assert len(printed["projections"]) == 6 * tiny.LAYERS


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["eval", "demo", "--sparsity", "1.2"], "'1.2' is not a number between 0 and 1"),
        (["eval", "demo", "--sparsity", "abc"], "'abc' is not a number between 0 and 1"),
        (["eval", "demo", "--criterion", "luck"], "Unknown criterion 'luck'"),
        (["eval", "demo", "--types", "query,nose"], "Unknown projection type 'nose'"),
        (["eval", "demo", "--precision", "float8"], "Unknown precision 'float8'"),
        (["eval", "../../x", "--task", "sst2"], "There is no model '../../x'"),
        (["eval", "demo", "--task", "sst9"], "Unknown task 'sst9'"),
        (["eval", "demo", "--task", "sst2", "--data", "/nowhere"], "There is no dev.tsv for sst2"),
        (["eval", "demo", "--task", "none.tsv"], "Which columns of 'none.tsv' are text?"),
        (["eval", "demo", "--task", "none.tsv", "--text", "t"], "There is no file 'none.tsv'"),
        (["eval", "demo", "--calibration", "few"], "'few' is no whole number"),
        (["curve", "demo", "--sparsities", "0:1"], "'0:1' are not understood"),
        (["curve", "demo", "--out", "/nowhere/c.parquet"], "folder '/nowhere' is not there"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(capsys, arguments, says):
    assert main(arguments) == 2
    output = capsys.readouterr()
    assert output.out == ""
    (sentence,) = [line for line in output.err.splitlines() if line.startswith("vp: ")]
    assert says in sentence and "Traceback" not in output.err


def test_an_interrupted_curve_says_what_is_kept(capsys, tmp_path, task, monkeypatch):
    out = tmp_path / "curve.parquet"
    command = ["curve", *task, "--criteria", "variance", "--sparsities", "0,0.2,0.4", "--out", str(out)]
    monkeypatch.setattr("app.cli.commands.say", interrupt_at_second_point)
    assert main(command) == 2
    assert "Interrupted. What is finished is kept" in capsys.readouterr().err
    from vp_core.curves import Curve

    assert len(Curve.load(out).table) == 2


def interrupt_at_second_point(text: str) -> None:
    if text.startswith("2/3"):
        raise KeyboardInterrupt


def test_every_command_shows_an_example():
    for command in ("app", "stats", "curve", "eval", "prune", "speed"):
        shown = subprocess.run([sys.executable, "-m", "app.cli", command, "--help"], capture_output=True, text=True, check=True)
        assert f"example:\n  vp {command}" in shown.stdout


def test_sparsities_of_a_range_and_a_list():
    assert parse_sparsities("0:0.9:0.1") == [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    with pytest.raises(VPError, match="between 0 and 1"):
        parse_sparsities("0,7")
