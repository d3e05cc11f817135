"""The figures of speed show the table's numbers, and their limit line what the cost of the plan says."""

import json
import math

import numpy as np
import pytest
from cancelling import until_cancelled

from analysis import speed
from vp_core.ground.work import work
from vp_core.recipes import Recipe
from vp_core.speed import SPARSE_FORMS


def row(sparsity, form, latency, low, high, speedup, limit=1.0):
    """A row as `vp_core.speed.compare` gives it: 4 texts of 16 tokens."""
    return {
        "sparsity": sparsity, "form": form, "precision": "float32", "batch": 4, "length": 16, "latency_ms": latency,
        "low_ms": low, "high_ms": high, "texts_per_second": 4000 / latency, "speedup": speedup, "flop_limit": limit,
        "parameters": 100, "megabytes": 4e-4, "mflops_per_token": 2e-4, "repeats": 7,
    }  # fmt: skip


ROWS = [
    row(0.5, "squeezed", 25.0, 20.0, 40.0, 4.0, 5.0), row(0.5, "dense", 100.0, 90.0, 120.0, 1.0),
    row(0.5, "masked", 80.0, 80.0, 100.0, 1.25), row(0.0, "masked", 60.0, 50.0, 70.0, 1.0),
    row(0.0, "dense", 60.0, 58.0, 64.0, 1.0), row(0.0, "squeezed", 48.0, 40.0, 50.0, 1.25),
]  # fmt: skip


@pytest.fixture(scope="module")
def limits(studies):
    return speed.limit(studies["bert"], Recipe(), 16)


def line(figure, name):
    (found,) = [trace for trace in figure.data if trace.name == name]
    return found


def test_one_row_for_each_sparsity_and_form():
    table = speed.table(ROWS)
    assert tuple(table.columns) == speed.COLUMNS
    assert list(zip(table["sparsity"], table["form"], strict=True)) == [
        (sparsity, form) for sparsity in (0.0, 0.5) for form in speed.FORMS
    ]
    assert tuple(speed.table([]).columns) == speed.COLUMNS


def test_the_limit_is_that_of_the_plans_cost(studies, limits):
    study = studies["bert"]
    assert list(limits["sparsity"]) == [i / 100 for i in range(101)]
    for percent in (0, 20, 50, 77):
        cost = study.cost(Recipe(), percent / 100)
        assert limits["speedup"][percent] == cost.flops_per_token(16) / cost.flops_per_token_left(16)
    assert limits["speedup"][0] == 1.0 and math.isinf(limits["speedup"][100])
    assert list(limits["speedup"]) == sorted(limits["speedup"])


def test_times_by_hand(limits, labelled):
    figure = speed.draw_time(speed.table(ROWS), limits, 0.2).figure
    labelled(figure)
    assert "milliseconds" in figure.layout.yaxis.title.text and "%" in figure.layout.xaxis.title.text
    squeezed = line(figure, "squeezed")
    assert list(squeezed.x) == [0, 50] and list(squeezed.y) == [12.0, 6.25]  # 48 and 25 ms for four texts
    np.testing.assert_allclose(squeezed.error_y.array, [0.5, 3.75])
    np.testing.assert_allclose(squeezed.error_y.arrayminus, [2.0, 1.25])
    limit = line(figure, "FLOP limit")
    # The dense model took 60 and 100 ms: 80 in the middle, 20 for a text.
    np.testing.assert_allclose(limit.y, 20 / limits["speedup"])
    assert figure.layout.yaxis.range == (0, pytest.approx(1.12 * 30))  # 120 ms for four texts


def test_speed_ups_by_hand(limits, labelled):
    figure = speed.draw_speedup(speed.table(ROWS), limits).figure
    labelled(figure)
    squeezed = line(figure, "squeezed")
    assert list(squeezed.y) == [1.25, 4.0]
    np.testing.assert_allclose(squeezed.error_y.array, [60 / 40 - 1.25, 100 / 20 - 4.0])
    np.testing.assert_allclose(squeezed.error_y.arrayminus, [1.25 - 60 / 50, 4.0 - 100 / 40])
    limit = line(figure, "FLOP limit")
    assert limit.y[50] == limits["speedup"][50] and limit.y[100] is None
    assert not [trace for trace in figure.data if trace.name == "slider"]


def test_one_disturbed_repeat_does_not_squeeze_the_figure(limits):
    rows = [*ROWS, row(0.3, "dense", 100.0, 1.0, 9000.0, 1.0), row(0.3, "squeezed", 50.0, 0.1, 9000.0, 2.0)]
    assert speed.draw_time(speed.table(rows), limits).figure.layout.yaxis.range[1] < 60
    assert speed.draw_speedup(speed.table(rows), limits).figure.layout.yaxis.range[1] < 10


def test_unrest_is_what_the_dense_model_varies_by():
    assert speed.unrest(speed.table(ROWS)) == 100 / 60
    assert speed.unrest(speed.table([])) == 1.0


@pytest.mark.parametrize("draw", [speed.draw_time, speed.draw_speedup])
def test_the_marker_follows_the_slider(limits, draw, labelled, same_picture):
    for table in (speed.table(ROWS), speed.table([])):
        live = draw(table, limits, 0.0)
        labelled(live.figure)
        for position in (0, 35, 100):
            assert list(line(live.at(position), "slider").x) == [position] * 2
            same_picture(live.at(position), draw(table, limits, position / 100).figure)
        json.dumps(live.changes_as_json(), allow_nan=False)


def test_before_anything_is_measured_the_limit_is_there(limits):
    time, speedup = speed.draw_time(speed.table([]), limits), speed.draw_speedup(speed.table([]), limits)
    assert [note.text for note in time.figure.layout.annotations] == ["not measured yet"]
    assert line(speedup.figure, "FLOP limit").y[30] == limits["speedup"][30]


def test_measuring_gives_rows_round_by_round(studies):
    study = studies["bert"]
    rounds = list(speed.measure_speeds(study, Recipe(), [0.0, 0.5], batch=2, length=8, repeats=2))
    assert [(rows[0]["sparsity"], rows[0]["repeats"]) for rows in rounds] == [(0.0, 1), (0.0, 2), (0.5, 1), (0.5, 2)]
    table = speed.table([*rounds[1], *rounds[3]])
    assert list(table["form"]) == [*speed.FORMS, *speed.FORMS] and set(table["sparsity"]) == {0.0, 0.5}
    assert table["flop_limit"].iloc[5] == study.cost(Recipe(), 0.5).speed_limit(8)
    with work(cancelled=lambda: True):
        assert until_cancelled(speed.measure_speeds(study, Recipe(), [0.0], 2, 8)) == []


def sparse_row(sparsity, form, latency, speedup):
    """A row as `vp_core.speed.measure_sparse` gives it."""
    return {
        "sparsity": sparsity, "form": form, "batch": 4, "length": 16, "latency_ms": latency, "low_ms": 0.8 * latency,
        "high_ms": 1.25 * latency, "speedup": speedup, "megabytes": 7.0, "disk_megabytes": 3.5, "repeats": 7,
    }  # fmt: skip


ZEROS = [
    sparse_row(0.9, "CSR", 20.0, 2.0), sparse_row(0.9, "zeros", 40.0, 1.0), sparse_row(0.5, "rows", 20.0, 2.0),
    sparse_row(0.5, "dense", 40.0, 1.0), sparse_row(0.5, "CSR", 200.0, 0.2), sparse_row(0.5, "zeros", 40.0, 1.0),
]  # fmt: skip


def test_what_single_zeros_save_by_hand(labelled, same_picture):
    table = speed.sparse_table(ZEROS)
    assert tuple(table.columns) == speed.SPARSE_COLUMNS
    assert list(table["form"]) == ["dense", "zeros", "CSR", "rows", "zeros", "CSR"]
    live = speed.draw_sparse(table, 0.3)
    labelled(live.figure)
    csr = line(live.figure, speed.SPARSE_NAMES["CSR"])
    assert list(csr.x) == [50, 90] and list(csr.y) == [0.2, 2.0]
    np.testing.assert_allclose(csr.customdata, [[40 / 250, 40 / 160, 3.5], [40 / 25, 40 / 16, 3.5]])
    low, high = live.figure.layout.yaxis.range
    assert 10**low < 0.2 and 10**high > 2.0 and live.figure.layout.yaxis.type == "log"
    assert list(live.figure.layout.yaxis.tickvals) == [0.2, 0.5, 1, 2]
    for position in (0, 35, 100):
        same_picture(live.at(position), speed.draw_sparse(table, position / 100).figure)
    json.dumps(live.changes_as_json(), allow_nan=False)
    assert set(speed.SPARSE_NAMES) == set(SPARSE_FORMS) and speed.SPARSE_TITLE in live.figure.layout.title.text


def test_no_zeros_measured_yet():
    figure = speed.draw_sparse(speed.sparse_table([])).figure
    assert [note.text for note in figure.layout.annotations] == ["not measured yet"]


@pytest.mark.parametrize("units", ["rows", "weights", "2:4"])
def test_zeros_are_measured_as_the_recipe_takes_them(studies, units):
    how = {"criterion": "magnitude", "scope": "per matrix", "replacement": "zero"} if units != "rows" else {}
    study, recipe = studies["bert"], Recipe(units=(units,), **how)
    rounds = list(speed.measure_zeros(study, recipe, [0.5, 0.8], 1, 4, repeats=1))
    assert [rows[0]["sparsity"] for rows in rounds] == [0.5, 0.8]
    assert set(speed.sparse_table([*rounds[0], *rounds[1]])["form"]) <= set(SPARSE_FORMS)


def test_the_limit_of_single_weights_is_what_is_wholly_zero(studies):
    study = studies["bert"]
    for units, expected in (("weights", [i / 10 for i in range(11)]), ("2:4", [0, 0.5])):
        recipe = Recipe("magnitude", "per matrix", "zero", units=(units,))
        limits = speed.limit(study, recipe, 16)
        assert limits["sparsity"].tolist() == expected and limits["speedup"][0] == 1
        assert limits["speedup"][expected.index(0.5)] == study.cost(recipe, 0.5).speed_limit(16)
