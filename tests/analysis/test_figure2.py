"""The paper's figure 2: means and ranges over seeds by hand, and what is kept of the run in docs."""

import json
from pathlib import Path

import pytest

from analysis import figure2

KEPT = Path(__file__).parents[2] / "docs" / "figure2.json"


def point(task, criterion, seed, sparsity, value, other=None):
    others = json.dumps({} if other is None else {"exact_match": other})
    facts = {"task": task, "criterion": criterion, "seed": seed, "sparsity": sparsity, "metric": "answer_f1", "value": value}
    return facts | {"low": value - 0.1, "high": value + 0.1, "n": 50, "others": others}


POINTS = [
    point("squad", "variance", 0, 0.0, 0.8, 0.7), point("squad", "variance", 0, 0.5, 0.6, 0.4),
    point("squad", "random", 0, 0.5, 0.2, 0.1), point("squad", "random", 1, 0.5, 0.5, 0.3),
    point("squad", "random", 2, 0.5, 0.2, 0.2),
    point("mrpc", "variance", 0, 0.0, 0.9),
]  # fmt: skip


def test_means_over_seeds_and_their_range_by_hand():
    made = figure2.table(POINTS).set_index(["task", "criterion", "sparsity"])
    random = made.loc["squad", "random", 0.5]
    assert random["value"] == pytest.approx(0.3) and random["second"] == pytest.approx(0.2)
    assert (random["low"], random["high"], random["seeds"], random["n"]) == (0.2, 0.5, 3, 50)
    single = made.loc["squad", "variance", 0.5]
    assert (single["low"], single["high"]) == pytest.approx((0.5, 0.7)) and single["second_metric"] == "exact_match"
    assert made.loc["mrpc", "variance", 0.0]["second_metric"] == ""


def test_a_panel_for_each_task_that_there_is():
    figure = figure2.draw(figure2.table(POINTS), {"mrpc": "MRPC", "qnli": "QNLI", "squad": "SQuAD"})
    assert [note.text for note in figure.layout.annotations] == ["MRPC", "SQuAD"]
    (random,) = [t for t in figure.data if t.name == "random" or t.legendgroup == "random"]
    assert list(random.y) == pytest.approx([0.3]) and random.line.dash is None
    dotted = [t for t in figure.data if t.line.dash == "dot" and t.mode == "lines+markers"]
    assert sorted(len(t.y) for t in dotted) == [1, 2]


def test_what_was_measured_is_whole():
    kept = json.loads(KEPT.read_text(encoding="utf-8"))
    made = figure2.table(kept["points"])
    assert set(made["task"]) == set(kept["tasks"]) == {"mrpc", "stsb", "squad"}
    counts = made.groupby(["task", "criterion"])["seeds"].agg(["size", "min"])
    assert (counts["size"] == 10).all() and set(counts["min"]) == {1, 3}
