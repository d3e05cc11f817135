"""The curve's figure shows the table's numbers, and its marker what the curve says."""

import json

import numpy as np
import pytest

from analysis import curves


def line(figure, name):
    (found,) = [t for t in figure.data if t.name == name and t.mode == "lines+markers"]
    return found


def test_lines_and_bands_are_the_table(points, labelled):
    figure = curves.draw(points, "accuracy", 0.3).figure
    labelled(figure)
    assert "%" in figure.layout.xaxis.title.text and figure.layout.yaxis.title.text == "accuracy"
    for name, part in points.groupby("criterion"):
        drawn = line(figure, name)
        np.testing.assert_allclose(drawn.x, part["sparsity"] * 100)
        np.testing.assert_array_equal(drawn.y, part["value"])
        (band,) = [t for t in figure.data if t.fill == "toself" and t.legendgroup == name]
        np.testing.assert_array_equal(band.y, [*part["high"], *part["low"][::-1]])
    low, high = figure.layout.yaxis.range
    assert low < points["low"].min() and high > points["high"].max()


@pytest.mark.parametrize("criterion", ["variance", "random"])
def test_marker_by_hand_and_as_a_fresh_drawing(points, criterion, same_picture):
    live = curves.draw(points, "accuracy", 0.0, criterion)
    mine = points[points["criterion"] == criterion].set_index("sparsity")["value"]
    expected = {0: mine[0.0], 20: mine[0.2], 30: mine[0.2] + (mine[0.5] - mine[0.2]) / 3, 90: mine[0.9]}
    for i, height in expected.items():
        slider, dot = [t for t in live.at(i).data if t.name == "slider"]
        assert list(slider.x) == [i, i] and list(dot.x) == [i]
        assert dot.y[0] == pytest.approx(height, abs=1e-5)
    for i in range(0, 101, 9):
        same_picture(live.at(i), curves.draw(points, "accuracy", i / 100, criterion).figure)
    json.dumps(live.changes_as_json(), allow_nan=False)


def test_no_dot_where_the_curve_has_no_points(points):
    part = points[points["sparsity"] > 0]  # reaches from 20 % to 90 %
    live = curves.draw(part, "accuracy", 0.5)
    for i, there in ((95, False), (90, True), (20, True), (10, False)):
        dot = live.at(i).data[-1]
        assert (dot.y[0] is not None) == there, i


def test_before_the_first_point(points, labelled):
    live = curves.draw(points[:0], "spearman", 0.4)
    labelled(live.figure)
    assert live.at(40).data[-1].y[0] is None
    assert live.figure.layout.yaxis.title.text == "Spearman correlation"


def test_perplexities_have_a_logarithmic_axis_and_the_marker_stays_on_the_line(points, labelled):
    words = points.assign(value=np.exp(5 - 3 * points["value"]), metric="perplexity")
    words = words.assign(low=words["value"] / 1.1, high=words["value"] * 1.1)
    live = curves.draw(words, "perplexity", 0.3)
    labelled(live.figure)
    assert live.figure.layout.yaxis.type == "log" and live.figure.layout.yaxis.title.text == "perplexity"
    low, high = live.figure.layout.yaxis.range
    assert 10**low < words["low"].min() and 10**high > words["high"].max()
    mine = words[words["criterion"] == "variance"].set_index("sparsity")["value"]
    upright, dot = [t for t in live.at(30).data if t.name == "slider"]
    third = np.log(mine[0.2]) + (np.log(mine[0.5]) - np.log(mine[0.2])) / 3  # straight on the axis that is drawn
    assert dot.y[0] == pytest.approx(np.exp(third), abs=1e-5)
    np.testing.assert_allclose(np.log10(upright.y), [low, high])
    assert ".5~g" in line(live.figure, "variance").hovertemplate


def test_nothing_is_known_of_a_perplexity_yet(points):
    figure = curves.draw(points.iloc[:0], "perplexity", 0.3).figure
    assert np.isfinite(figure.layout.yaxis.range).all()
