"""The page Compare in Streamlit's own test harness: what it says, without a browser."""

import pytest
from pages import open_page, until
from streamlit.testing.v1 import AppTest

from analysis import compare
from vp_core.opening.study import open_study
from vp_core.recipes import RECIPES, Recipe

pytestmark = pytest.mark.usefixtures("fresh_app")


@pytest.fixture(autouse=True)
def three_points(monkeypatch):
    monkeypatch.setattr(compare, "GRID", (0.0, 0.3, 0.5))  # three points a line


def page(**query: str) -> AppTest:
    return open_page("compare", **query)


def button(at: AppTest, label: str):
    (found,) = [b for b in at.button if b.label == label]
    return found


def said(at: AppTest) -> str:
    return " ".join(c.value for c in at.caption)


def test_points_are_computed_when_asked_and_stay(tiny_bert):
    query = {**tiny_bert, "recipes": "paper,units mean", "calibration": "128"}
    at = page(**query)
    assert not at.exception and "0 of 6 points are known" in said(at) and not at.dataframe
    at = button(at, "Compute").click().run().run()  # twice: the harness runs whole pages only, a click asks for a fragment
    until(at, lambda at: "All 6 points are known" in said(at))
    assert not at.error
    study, shown = open_study(**tiny_bert, calibration=128), at.dataframe[0].value.set_index("recipe")
    half = study.score(RECIPES["units mean"], 0.5)
    share = study.cost(RECIPES["units mean"], 0.5).share_removed
    assert shown.loc["units mean", "accuracy at 50%"] == pytest.approx(100 * half.value, abs=0.5) and abs(share - 0.5) < 0.01
    assert list(shown.index) == ["paper", "units mean"]
    assert shown.loc["paper", "measured to"] == pytest.approx(100 * study.cost(Recipe(), 0.5).share_removed)
    again = page(**query)
    assert "All 6 points are known" in said(again) and button(again, "Compute").disabled


def test_a_recipe_that_cannot_be_is_said_and_none_is_asked_for():
    at = page(recipes="paper,worst")
    assert any("Unknown recipe 'worst'" in w.value for w in at.warning) and not at.exception
    at = page(recipes="")
    assert "Choose at least one recipe" in said(at) and button(at, "Compute").disabled


def test_the_recipe_of_the_left_is_one_of_them():
    at = page(recipes="my recipe", units="heads", criterion="fisher")
    assert "*my recipe* is the one set on the left: heads, fisher, per type, mean" in said(at)
    assert " of 2 points are known" in said(at) and not at.exception  # heads do not hold half of the parameters
