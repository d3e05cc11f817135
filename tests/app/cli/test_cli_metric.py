"""`--metric`: another of the task's metrics is the headline, in the number, its interval and the key of the point."""

import pytest
import tiny
from commands import printed

from app.cli.main import main


@pytest.fixture
def pairs(folders, tmp_path):
    rows = [(0, text, text[::-1]) for text in tiny.sentences(20, 1)] + [(1, text, text) for text in tiny.sentences(20, 2)]
    for split in ("dev", "train"):
        tiny.write_tsv(tmp_path / "mrpc" / f"{split}.tsv", ("Quality", "#1 String", "#2 String"), rows)
    return [
        folders["bert"],
        "--task",
        "mrpc",
        "--data",
        tmp_path,
        "--calibration",
        "8",
        "--labels",
        "not_equivalent,equivalent",
    ]


def test_f1_of_mrpc_heads_its_scores(capsys, pairs, tmp_path):
    usual, by_f1 = printed(capsys, "eval", *pairs), printed(capsys, "eval", *pairs, "--metric", "f1")
    assert (usual["metric"], by_f1["metric"]) == ("accuracy", "f1")
    assert (by_f1["value"], by_f1["accuracy"]) == (usual["f1"], usual["value"]) and "tokens" not in by_f1
    assert by_f1["low"] <= by_f1["value"] <= by_f1["high"]
    out, chart = tmp_path / "points.parquet", tmp_path / "chart.html"
    sweep = (*pairs, "--criteria", "variance", "--sparsities", "0", "--out", out, "--plot", chart)
    assert [point["metric"] for point in printed(capsys, "curve", *sweep)] == ["accuracy"]
    assert [point["metric"] for point in printed(capsys, "curve", *sweep, "--metric", "f1")] == ["f1"]  # no kept point is taken
    assert "accuracy (dotted)" in chart.read_text(encoding="utf-8")


def test_a_metric_that_the_task_does_not_have(capsys, pairs):
    assert main(["eval", *map(str, pairs), "--metric", "os:system"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == "vp: The task mrpc has no metric 'os:system': choose one of accuracy, f1 (--metric)."
