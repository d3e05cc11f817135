"""A second metric beside the headline: dotted, in its line's colour, from the points themselves, and never made up."""

import json

import numpy as np
import pytest

from analysis import compare, curves
from analysis.second import SECOND, second_of


def with_others(points, **names):
    """The points with a metric that falls from 0.9 as the sparsity grows, but for the point at 0.5, which does not say it."""
    said = [
        json.dumps({name: 0.9 - s / scale for name, scale in names.items()} if s != 0.5 else {}) for s in points["sparsity"]
    ]
    return points.assign(others=said)


def dotted(figure):
    return [t for t in figure.data if t.line.dash == "dot" and t.mode == "lines+markers"]


def test_it_is_dotted_in_the_colour_of_its_line_and_missing_where_it_is_not_known(points, labelled):
    table = with_others(points, perplexity=1.0, f1=2.0)
    figure = curves.draw(table, "accuracy", 0.3).figure
    labelled(figure)
    for name, part in table.groupby("criterion"):
        (solid,) = [t for t in figure.data if t.name == name and t.mode == "lines+markers"]
        (other,) = [t for t in dotted(figure) if t.name == f"{name}: F1"]
        assert other.line.color == solid.line.color and solid.line.dash is None and other.legendgroup == SECOND
        x = 100 * part["sparsity"].to_numpy()
        assert list(other.x) == list(x)
        expected = [None if s == 0.5 else pytest.approx(0.9 - s / 2) for s in x / 100]
        assert list(other.y) == expected and None in expected
    assert {t.name for t in figure.data if t.showlegend is not False and t.mode == "lines"} == {
        "accuracy (solid)",
        "F1 (dotted)",
    }
    low, high = figure.layout.yaxis.range
    assert low < 0.9 - 0.9 / 2 and high > 0.9


def test_what_has_another_scale_or_direction_is_not_drawn(points):
    for metric, others in (("accuracy", {"perplexity": 1.0}), ("accuracy", {"pearson": 1.0}), ("accuracy", {"mine": 1.0})):
        figure = curves.draw(with_others(points, **others), metric).figure
        assert not dotted(figure) and not any("(dotted)" in (t.name or "") for t in figure.data)
    assert second_of(["{}", '{"pearson": 0.5}'], "spearman") == ("pearson", [pytest.approx(np.nan, nan_ok=True), 0.5])
    assert second_of(['{"token_accuracy": 0.5}'], "perplexity")[0] == ""


def test_exact_match_stands_beside_f1_on_the_page_compare_too(points):
    rows = with_others(points[points["criterion"] == "variance"], exact_match=3.0).assign(line="paper", metric="answer_f1")
    table = compare.table(rows.to_dict("records"))
    assert set(table["second_metric"]) == {"exact_match"}
    (other,) = dotted(compare.draw(table, "answer_f1"))
    known = table.sort_values("share")
    assert list(other.y) == [None if s == 0.5 else pytest.approx(0.9 - s / 3) for s in known["sparsity"]]
    assert list(other.x) == list(100 * known["share"])


def test_a_mean_over_seeds_is_none_where_one_does_not_say_it(points):
    rows = with_others(points[points["criterion"] == "random"], f1=2.0).assign(line="random units")
    silent = rows.assign(
        seed=1, others=["{}" if s == 0.2 else text for s, text in zip(rows["sparsity"], rows["others"], strict=True)]
    )
    means = compare.means(compare.table([*rows.to_dict("records"), *silent.to_dict("records")]))
    assert means.set_index("sparsity")["second"].isna().to_dict() == {0.0: False, 0.2: True, 0.5: True, 0.9: False}
