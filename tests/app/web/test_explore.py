"""The page in Streamlit's own test harness: what it says, without a browser."""

import threading

import pytest
import tiny
from pages import open_page, until
from streamlit.testing.v1 import AppTest

from app.web import caching
from vp_core.ranking import allocation
from vp_core.recipes import RECIPES, Recipe

pytestmark = pytest.mark.usefixtures("fresh_app")


def page(**query: str) -> AppTest:
    return open_page("explore", **query)


def exact(at: AppTest) -> AppTest:
    """Run again, as the browser's polling does, until the score is exact and compared with dense."""
    return until(at, lambda at: at.metric[0].delta)


@pytest.fixture
def no_curve(monkeypatch):
    """Of a thousand sentences, beside what is asked for."""
    monkeypatch.setattr(caching, "HEAD_START", 3600.0)


@pytest.mark.slow
def test_the_default_shows_the_librarys_number(demo, no_curve):
    at = exact(page())
    assert not at.exception
    (score,) = at.metric
    assert score.value == f"{100 * demo.score(Recipe(), 0.2).value:.1f} %"
    assert score.label == "accuracy without fine-tuning"
    assert f"dense {100 * demo.score(Recipe(), 0.0).value:.1f} %" in score.delta
    shown = " ".join(m.value for m in at.markdown)
    assert "95 % interval" in shown and "n = 1,000" in shown
    rows = 5 * round(0.2 * 6 * 384) + round(0.2 * 6 * 1536)  # five types of 384 rows and one of 1,536, six layers
    assert f"{rows:,} of 20,736" in shown
    assert any("demo sentences" in c.value for c in at.caption)


def test_a_typed_sentence_is_answered_by_both_models(no_curve):
    def answers(at: AppTest) -> list[str]:
        return [m.value for m in at.markdown if m.value.startswith(("**dense**", "**pruned**"))]

    at = until(page(sparsity="0"), lambda at: len(answers(at)) == 2)
    assert all("positive" in answer for answer in answers(at))
    (sentence,) = [widget for widget in at.text_input if widget.label == "Try a sentence"]
    until(sentence.set_value("word " * 10_000).run(), lambda at: any("Only the first 64 tokens" in i.value for i in at.info))


@pytest.mark.parametrize("value", ["1.2", "abc"])
def test_a_bad_sparsity_in_the_address_is_said(tiny_bert, value):
    at = page(**tiny_bert, sparsity=value)
    assert not at.exception
    assert any(f"'{value}' is not a number between 0 and 1" in w.value for w in at.warning)


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({"model": "../../x"}, "There is no model '../../x'"),
        ({"task": "sst9"}, "Unknown task 'sst9'"),
        ({"task": "sst2", "data": "/nowhere"}, "There is no dev.tsv for sst2"),
        ({"task": "stsb", "data": "/nowhere"}, "There is no dev.tsv for stsb"),
    ],
)
def test_what_cannot_be_opened_is_one_message(query, says):
    at = page(**query)
    assert not at.exception
    (message,) = at.error
    assert says in message.value


def test_a_file_of_ones_own_with_its_separator_and_longest_text(tiny_bert, tmp_path, no_curve):
    (tmp_path / "a.csv").write_text("words;label\n" + "".join(f"{t};{i % 2}\n" for i, t in enumerate(tiny.sentences(40))))
    own = {"model": tiny_bert["model"], "task": str(tmp_path / "a.csv"), "text": "words", "sparsity": "0"}
    (message,) = page(**own).error
    assert "single column" in message.value and "(“Separator” ;)" in message.value
    at = page(**own, separator=";", max_length="8")
    assert not at.exception and not at.error
    (longest,) = [box for box in at.number_input if box.label == "Longest text"]
    (separator,) = [box for box in at.text_input if box.label == "Separator"]
    assert (longest.value, separator.value) == (8, ";")
    assert any("longer than 8 tokens" in note.value for note in (*at.caption, *at.info, *at.warning))


def test_two_visitors_never_see_each_others_settings(tiny_bert, studies):
    first, second = page(**tiny_bert, sparsity="0.1"), page(**tiny_bert, sparsity="0.6", criterion="magnitude")
    first, second = exact(first), exact(second)
    of_first, of_second = studies["bert"].score(Recipe(), 0.1), studies["bert"].score(Recipe("magnitude"), 0.6)
    assert first.metric[0].value == f"{100 * of_first.value:.1f} %" != second.metric[0].value
    assert second.metric[0].value == f"{100 * of_second.value:.1f} %"
    assert (
        first.session_state.visitor.settings.sparsity == 0.1 and second.session_state.visitor.settings.criterion == "magnitude"
    )


def widget(at: AppTest, name: str):
    (found,) = [w for kind in (at.selectbox, at.button_group) for w in kind if w.key == f"pick-{name}"]
    return found


def labels(at: AppTest) -> list[str]:
    return [w.label for kind in (at.selectbox, at.button_group) for w in kind]


def test_a_recipe_sets_every_choice_and_the_number_is_the_librarys(tiny_bert, studies):
    bert, at = studies["bert"], exact(page(**tiny_bert, sparsity="0.5"))
    at = exact(widget(at, "recipe").set_value("units mean").run())
    assert not at.exception and not at.error
    recipe = RECIPES["units mean"]
    assert at.session_state.visitor.settings.recipe == recipe
    assert [widget(at, name).value for name in ("units", "criterion", "replacement")] == [
        "ffn neurons,values,pairs", "weighted variance", "mean",
    ]  # fmt: skip
    assert at.metric[0].value == f"{100 * bert.score(recipe, 0.5).value:.1f} %"
    assert at.query_params["units"] == ["ffn neurons,values,pairs"] or at.query_params["units"] == "ffn neurons,values,pairs"
    at = exact(widget(at, "recipe").set_value("paper").run())
    assert at.metric[0].value == f"{100 * bert.score(Recipe(), 0.5).value:.1f} %"
    assert at.session_state.visitor.settings.recipe == Recipe()


def test_types_are_for_rows_and_the_basis_for_the_others(tiny_bert):
    at = page(**tiny_bert, units="ffn neurons")
    assert "Basis" in labels(at) and "Projection types" not in labels(at)
    at = widget(at, "basis").set_value("principal").run()
    at = widget(at, "units").set_value("rows").run()
    assert "Projection types" in labels(at) and "Basis" not in labels(at)
    assert at.session_state.visitor.settings.recipe.basis == "neurons" and not at.exception


def test_no_type_at_all_is_refused_and_the_last_choice_kept(tiny_bert):
    at = page(**tiny_bert, types="query,key")
    at = widget(at, "types").set_value([]).run()
    assert any("Choose at least one projection type; the last choice is kept." in w.value for w in at.warning)
    assert at.session_state.visitor.settings.types == ("query", "key") and widget(at, "types").value == ["query", "key"]
    at = widget(at, "types").set_value(["key"]).run()
    assert not at.warning and at.session_state.visitor.settings.types == ("key",)


def test_more_than_the_units_hold_is_one_sentence(tiny_bert):
    at = page(**tiny_bert, units="ffn neurons", sparsity="0.9")
    until(at, lambda at: at.error)
    (message,) = at.error
    of_ffns, of_all = 2 * tiny.HIDDEN * tiny.FFN, 4 * tiny.HIDDEN**2 + 2 * tiny.HIDDEN * tiny.FFN
    assert f"These units can save {of_ffns / of_all:.1%} of the encoder's linear parameters, not 90.0%" in message.value


def test_calibration_is_a_choice(short_demo):
    at = exact(page(**short_demo, calibration="64"))
    assert any("of 64 training texts" in c.value for c in at.caption)
    assert not at.info
    at = page(**short_demo, calibration="64", units="ffn neurons", replacement="least squares")
    assert any("cannot tell" in i.value for i in at.info)  # 64 short sentences, 1,536 inputs


def test_while_it_measures_the_page_says_what_at(tiny_bert, monkeypatch):
    told, measure = threading.Event(), allocation.measure_losses

    def until_it_is_told(*arguments):
        for one in measure(*arguments):
            yield one
            told.wait(60)

    monkeypatch.setattr(allocation, "measure_losses", until_it_is_told)
    at = page(
        **tiny_bert,
        units="ffn neurons",
        scope="measured",
        criterion="surgeon",
        replacement="least squares",
        sparsity="0.3",
    )
    said: set[str] = set()

    def measured(at: AppTest) -> bool:
        said.update(one.proto.body for one in at.get("html"))
        if any("Measuring what each layer loses: " in text for text in said):
            told.set()
        return bool(at.metric[0].delta)

    until(at, measured)
    shown = next(text for text in said if "Measuring what each layer loses: 1 of " in text)
    assert "Ordering units</span> <span>" in shown and " s</span>" in shown and "vp-bar" in shown


def test_what_a_model_cannot_be_asked_is_said(folders, data):
    at = page(model=str(folders["albert"]), task="sst2", data=str(data), scope="measured")
    until(at, lambda at: at.error)
    assert all("runs the same layer several times" in e.value for e in at.error)
