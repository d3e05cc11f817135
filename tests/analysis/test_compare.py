"""The comparison of recipes: lines, points, interpolation and areas by hand, and what is drawn."""

import numpy as np
import pandas as pd
import pytest

from analysis import compare, ladder
from vp_core.curves import CurveStore
from vp_core.recipes import RECIPES, Recipe


def made(**lines):
    """A table of (share, value) points by line; sparsity is the share."""
    rows = [
        {"line": name, "sparsity": s, "share": s, "metric": "accuracy", "value": v, "low": v - 0.02, "high": v + 0.02, "n": 100,
         "seed": 0}
        for name, points in lines.items()
        for s, v in points
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=list(compare.COLUMNS))


def test_summary_by_hand():
    # 0.90 until 0.4, then down by 0.04 each tenth: 0.86 at 0.5, 0.78 at 0.7. The range ends before 0.8.
    table = made(
        mine=[(0.0, 0.90), (0.2, 0.90), (0.4, 0.90), (0.7, 0.78)], flat=[(0.0, 0.90), (0.3, 0.90), (0.6, 0.90), (0.8, 0.895)]
    )
    mine, flat = compare.summary(table).to_dict("records")
    assert [mine[at] for at in (0.3, 0.5, 0.7)] == pytest.approx([0.90, 0.86, 0.78]) and np.isnan(mine[0.8])
    # 0.4 · 0.90 + 0.3 · 0.84 = 0.612, over 0.7 and over 0.90.
    assert mine["area"] == pytest.approx(0.612 / 0.7 / 0.90)
    # 0.89 lies a twelfth of the way from 0.4 to 0.7.
    assert mine["within a point"] == pytest.approx(0.4 + 0.3 / 12)
    assert flat["within a point"] == flat["measured to"] == 0.8


def test_nothing_is_made_up_over_a_wide_gap():
    (row,) = compare.summary(made(mine=[(0.0, 0.9), (0.5, 0.8), (0.8, 0.6)])).to_dict("records")
    assert np.isnan([row[0.3], row["area"], row["within a point"]]).all()
    assert [row[at] for at in (0.5, 0.7, 0.8)] == pytest.approx([0.8, 0.8 - 0.2 * 2 / 3, 0.6])


def test_only_the_first_fall_counts():
    share, value = np.array([0, 0.2, 0.4, 0.6]), np.array([0.9, 0.8, 0.9, 0.9])
    assert compare.within(share, value, 0.9) == pytest.approx(0.02)


def test_a_line_that_begins_late_has_no_dense_score():
    (row,) = compare.summary(made(mine=[(0.5, 0.8), (0.7, 0.7)])).to_dict("records")
    assert np.isnan(row["area"]) and np.isnan(row["within a point"]) and np.isnan(row[0.3])
    assert row[0.5] == 0.8


def test_lines_of_names_of_seeds_and_of_ones_own():
    lines = compare.lines_of(["best", "paper", compare.RANDOM], Recipe("fisher"), "mine")
    assert list(lines) == ["best", "paper", "mine", compare.RANDOM]
    assert lines["best"] == [RECIPES["best"]] and [one.seed for one in lines[compare.RANDOM]] == [0, 1, 2]
    assert "mine" not in compare.lines_of(["paper"], Recipe(), "mine")  # it has a name among them already


def test_sparsities_that_units_cannot_meet_are_left_out(studies):
    study, ffn = studies["bert"], Recipe(units=("ffn neurons",), budget="parameters")
    most = study.most_saved(ffn)
    assert 0.3 < most < 0.6 and most == pytest.approx(study.cost(Recipe(units=("ffn neurons",)), 1.0).share_removed)
    assert study.reachable(ffn, [0.0, 0.3, most, 0.7]) == [0.0, 0.3, most]
    assert study.most_saved(Recipe()) == 1.0
    grids = {
        name: [s for line, _, s in compare.points_of(study, {"a": [ffn], "b": [Recipe()]}) if line == name] for name in "ab"
    }
    assert max(grids["a"]) < most + 0.01 and sorted(grids["b"]) == list(compare.GRID)


def test_points_are_kept_and_found_again(study, tmp_path):
    lines = compare.lines_of(["paper", "units mean", compare.RANDOM])
    store, told = CurveStore(tmp_path / "points.parquet"), []
    asked = compare.measure_lines(study, lines, store, tell=told.append)
    first = [next(asked) for _ in range(8)]
    asked.close()
    assert {row["line"] for row in first} == {"paper", "units mean", compare.RANDOM}
    assert "paper at 0%" in told[0] and told[-1].endswith("90%")
    again = CurveStore(tmp_path / "points.parquet")
    known = compare.known(study, lines, again)
    assert len(known) == 8  # sparsity 0 is one point for all
    pd.testing.assert_frame_equal(compare.table(known), compare.table(first), check_dtype=False)
    table = compare.table(list(compare.measure_lines(study, lines, again)))
    assert len(table) == 5 * len(compare.GRID) == len(compare.points_of(study, lines))
    units = table[(table["line"] == "units mean") & (table["sparsity"] > 0)]
    np.testing.assert_allclose(units["share"], units["sparsity"], atol=0.02)  # its budget is parameters
    paper = table[(table["line"] == "paper") & table["sparsity"].between(0.1, 0.9)]
    assert (paper["share"] > paper["sparsity"]).all()  # a row takes a column along


def test_seeds_are_a_band_around_their_mean(study, labelled):
    table = made(mine=[(0.0, 0.9), (0.5, 0.8)], other=[(0.0, 0.9), (0.5, 0.6)])
    second = table[table["line"] == "other"].assign(seed=1, value=[0.9, 0.4])
    table = pd.concat([table, second], ignore_index=True)
    (row,) = compare.means(table).query("line == 'other' and sparsity == 0.5").to_dict("records")
    assert (row["value"], row["worst"], row["best"], row["seeds"]) == (0.5, 0.4, 0.6, 2)
    figure = compare.draw(table, "accuracy")
    labelled(figure)
    (band,) = [t for t in figure.data if t.fill == "toself"]
    assert band.legendgroup == "other" and list(band.y) == [0.9, 0.6, 0.4, 0.9]
    shown = {t.name: t for t in figure.data if t.mode == "lines+markers"}
    assert list(shown["mine"].x) == [0, 50] and list(shown["mine"].y) == [0.9, 0.8]
    assert shown["mine"].error_y.visible and not shown["other"].error_y.visible
    assert figure.layout.shapes[0].y0 == pytest.approx(0.89)


def test_before_the_first_point(labelled):
    figure = compare.draw(compare.table([]), "spearman")
    labelled(figure)
    assert "nothing measured yet" in figure.layout.annotations[0].text
    assert len(compare.summary(compare.table([]))) == 0


def test_the_ladder_and_its_lines():
    best = RECIPES["best"]
    rungs = ladder.lines(best, "replacement")
    assert [one.replacement for name in ladder.RUNGS for one in rungs[name]] == list(ladder.RUNGS)
    (random,) = rungs["random"]
    assert random.scope == "per type" and random.replacement != "refit" and random.budget == "parameters"
    assert ladder.own_line(best, "replacement") in rungs and ladder.own_line(best, "criteria") in ladder.lines(best, "criteria")
    assert list(ladder.lines(Recipe(), "criteria")) == ["variance", "random", "magnitude"]


def test_perplexities_are_compared_by_their_logarithm():
    # log2 of perplexity over 20: 0, 1, 2 at shares 0, 0.3, 0.6; a tenth above dense is at 0.3 · log2(1.1)
    table = made(mine=[(0.0, 20.0), (0.3, 40.0), (0.6, 80.0)]).assign(metric="perplexity")
    (row,) = compare.summary(table).to_dict("records")
    assert row[0.3] == pytest.approx(40) and row[0.5] == pytest.approx(20 * 2 ** (0.5 / 0.3)) and np.isnan(row[0.8])
    assert row["times dense"] == pytest.approx(2.0)  # the geometric mean
    assert row["within a tenth"] == pytest.approx(0.3 * np.log2(1.1))
    losses = table.assign(metric="masked_loss", value=np.log(table["value"]))
    (same,) = compare.summary(losses).to_dict("records")
    assert same["times dense"] == pytest.approx(2.0) and same["within a tenth"] == pytest.approx(row["within a tenth"])
    assert same[0.3] == pytest.approx(np.log(40))
    seeds = pd.concat([table, table.assign(seed=1, value=table["value"] * 2)])
    assert compare.means(seeds)[["worst", "best"]].iloc[0].tolist() == [40.0, 20.0]


def test_the_picture_of_perplexities_is_logarithmic_and_marks_a_tenth_above_dense():
    table = made(mine=[(0.0, 20.0), (0.3, 40.0), (0.6, 80.0)]).assign(metric="perplexity")
    figure = compare.draw(table, "perplexity")
    assert figure.layout.yaxis.type == "log" and figure.layout.yaxis.title.text == "perplexity"
    (level,) = figure.layout.shapes
    assert level.y0 == level.y1 == pytest.approx(22.0)
    low, high = figure.layout.yaxis.range
    assert 10**low < 19.98 and 10**high > 80.02
