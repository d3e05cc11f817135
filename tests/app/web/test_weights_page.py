"""The page Weights, and single weights on Explore, in Streamlit's own test harness."""

import pytest
from pages import open_page, until
from streamlit.testing.v1 import AppTest

from app.web import caching
from vp_core.opening.study import open_study
from vp_core.recipes import RECIPES, Recipe

pytestmark = pytest.mark.usefixtures("fresh_app")
OVER = "by random"


@pytest.fixture(autouse=True)
def no_curve(monkeypatch):
    monkeypatch.setattr(caching, "HEAD_START", 3600.0)


def said(at: AppTest) -> str:
    return " ".join(m.value for m in at.markdown)


def box(at: AppTest, label: str):
    (found,) = [one for one in at.selectbox if one.label == label]
    return found


def weights_page(query: dict[str, str], **more: str) -> AppTest:
    at = open_page("weights", **query, **more)
    return until(at, lambda at: "In common" in said(at))


def test_counts_are_the_librarys(tiny_bert):
    at = weights_page(tiny_bert, units="weights", sparsity="0.5", over=OVER)
    masks = open_study(**tiny_bert).masks(RECIPES["weights"], 0.5)
    assert f"**{masks.weights_removed:,}** of {masks.weights:,} weights are gone (50.0%)" in said(at)
    assert "*magnitude* removes" in said(at) and "*random*" in said(at)
    assert not at.warning


def test_rows_are_rows(tiny_bert):
    at = weights_page(tiny_bert, sparsity="0.4")
    keep = open_study(**tiny_bert).plan(Recipe(), 0.4).keep
    gone, rows = sum(int((~one).sum()) for one in keep.values()), sum(len(one) for one in keep.values())
    assert f"**{gone:,}** of {rows:,} rows are gone" in said(at)
    assert "*variance* removes" in said(at) and "*magnitude*" in said(at)
    assert any("prunes no single weights" in c.value for c in at.caption)


def test_another_model_lies_over_it(tiny_bert):
    at = weights_page(tiny_bert, units="weights", over_model=tiny_bert["model"])
    assert box(at, "Laid over it").value == "the same recipe"
    assert "In common **100.0%**" in said(at)
    at = open_page("weights", **tiny_bert, units="weights", over_model="no/such/folder/")
    assert not at.exception and at.error


def test_one_matrix_is_chosen_among_those_there(tiny_bert):
    at = weights_page(tiny_bert, units="weights", types="query,word_embeddings", over=OVER, layer="99", matrix="ffn_out")
    matrix = box(at, "Matrix")
    assert matrix.options == ["query", "word embeddings"]
    assert [n.value for n in at.main.number_input] == [open_study(**tiny_bert).loaded.layers - 1]
    at = until(matrix.set_value("word_embeddings").run(), lambda at: not at.main.number_input)
    assert at.session_state.visitor.settings.matrix == "word_embeddings" and not at.exception


def test_units_bring_what_goes_with_them(tiny_bert):
    at = open_page("weights", **tiny_bert, sparsity="0.3", criterion="variance", over=OVER)
    at = box(at, "Units").set_value("2:4").run()
    settings = at.session_state.visitor.settings
    assert (settings.criterion, settings.scope, settings.replacement, settings.sparsity) == (
        "magnitude",
        "per matrix",
        "zero",
        0.5,
    )
    assert box(at, "Allocation").options == ["per matrix"] and not at.exception
    at = box(at, "Units").set_value("rows").run()
    assert at.session_state.visitor.settings.recipe == Recipe()


def test_explore_shows_what_goes_of_the_weights(tiny_bert):
    query = {"units": "weights", "criterion": "magnitude", "scope": "per matrix", "replacement": "zero", "sparsity": "0.5"}
    at = until(open_page("explore", **tiny_bert, **query), lambda at: at.metric[0].delta and "rows, wholly" in said(at))
    assert not at.warning
    study = open_study(**tiny_bert)
    assert at.metric[0].value == f"{100 * study.score(RECIPES['weights'], 0.5).value:.1f} %"
    gone = study.masks(RECIPES["weights"], 0.5).weights_removed
    assert f"{gone / 1e6:.2f} of" in said(at) and any("no time" in c.value for c in at.caption)


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({"units": "weights", "criterion": "variance"}, "does not go with weights"),
        ({"units": "weights,rows"}, "by itself"),
        ({"units": "5:4"}, "5:4"),
        ({"scope": "per matrix"}, "is for single weights"),
        ({"types": "word_embeddings"}, "word_embeddings"),
    ],
)
def test_a_bad_value_in_the_address_is_said(tiny_bert, query, says):
    at = open_page("weights", **tiny_bert, **query)
    assert not at.exception and any(says in warning.value for warning in at.warning), [w.value for w in at.warning]


def test_what_fits_is_kept_where_the_address_goes_wrong(tiny_bert):
    at = open_page("weights", **tiny_bert, units="2:4", scope="global", types="query", over=OVER)
    settings = at.session_state.visitor.settings
    assert (settings.scope, settings.types, settings.units) == ("per matrix", ("query",), ("2:4",))


def test_a_pattern_of_neighbours_has_one_sparsity(tiny_bert):
    at = open_page("explore", **tiny_bert, units="2:4", sparsity="0.3")
    at.run()
    (error,) = at.error
    assert "removes 50.0% of the weights, not 30.0%" in error.value and not at.exception
