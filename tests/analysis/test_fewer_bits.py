"""Fewer bits: six rows, speeds first, scores one after the other."""

import pytest
from cancelling import until_cancelled

from analysis import precision
from vp_core.asking.evaluate import evaluate
from vp_core.ground.names import PRECISIONS
from vp_core.ground.work import work
from vp_core.model.precision import bytes_of
from vp_core.recipes import Recipe


def test_rows_fill_in(studies):
    study, asked = studies["bert"], []

    def ask(model, form, bits):
        asked.append((form, bits))
        *_, last = evaluate(model, study.question, bits)
        return last

    steps = list(precision.measure_precisions(study, Recipe(), 0.4, batch=2, length=8, ask=ask, repeats=2))
    pairs = [(form, bits) for form in precision.FORMS for bits in PRECISIONS]
    assert len(steps) == 2 + len(pairs) and asked == pairs
    for number, rows in enumerate(steps):
        assert [(row["form"], row["precision"]) for row in rows] == pairs
        assert [("score" in row) for row in rows] == [i < number - 1 for i in range(6)]
    table = precision.table(steps[-1])
    assert tuple(table.columns) == precision.COLUMNS and not table.isna().any().any()
    scores = dict(zip(pairs, table["score"], strict=True))
    assert scores["dense", "float32"] == study.score(Recipe(), 0.0).value
    assert scores["squeezed", "float32"] == study.score(Recipe(), 0.4).value
    assert table["speedup"][0] == 1.0
    assert table["megabytes"][0] == bytes_of(study.model) / 1e6
    assert table["megabytes"][1] == pytest.approx(table["megabytes"][0] / 2, rel=0.05)
    assert table["megabytes"][3] < table["megabytes"][0]


def test_cancelling(studies):
    def ask(*_):
        raise AssertionError("nobody is asked after a cancellation")

    with work(cancelled=lambda: True):
        assert until_cancelled(precision.measure_precisions(studies["bert"], Recipe(), 0.4, 2, 8, ask, repeats=2)) == []
    rounds = []
    with work(cancelled=lambda: bool(rounds)):
        until_cancelled(
            rounds.append(one) for one in precision.measure_precisions(studies["bert"], Recipe(), 0.4, 2, 8, ask, repeats=1)
        )
    (rows,) = rounds
    assert precision.table(rows)["score"].isna().all()
