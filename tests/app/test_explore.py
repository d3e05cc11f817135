"""The page in Streamlit's own test harness: what it says, without a browser."""

import time
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from vp_core.study import Recipe, open_study

PAGE = str(Path(__file__).parents[2] / "app" / "views" / "explore.py")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VP_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="module")
def demo():
    return open_study("demo")


def page(**query: str) -> AppTest:
    at = AppTest.from_file(PAGE, default_timeout=60)
    for name, value in query.items():
        at.query_params[name] = value
    return at.run()


def exact(at: AppTest) -> AppTest:
    """Run again, as the browser's polling does, until the score is exact and compared with dense."""
    for _ in range(200):
        (score,) = at.metric
        if score.delta:
            return at
        time.sleep(0.1)
        at.run()
    raise AssertionError("no exact score came")


def test_the_default_shows_the_librarys_number(demo):
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


def test_a_typed_sentence_is_answered_by_both_models():
    at = exact(page(sparsity="0"))
    answers = [m.value for m in at.markdown if m.value.startswith(("**dense**", "**pruned**"))]
    assert len(answers) == 2 and all("positive" in a for a in answers)
    (sentence,) = [widget for widget in at.text_input if widget.label == "Try a sentence"]
    sentence.set_value("word " * 10_000).run()
    assert not at.exception
    assert any("Only the first 64 tokens" in i.value for i in at.info)


@pytest.mark.parametrize("value", ["1.2", "abc"])
def test_a_bad_sparsity_in_the_address_is_said(value):
    at = page(sparsity=value)
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


def test_two_visitors_never_see_each_others_settings(demo):
    first, second = page(sparsity="0.1"), page(sparsity="0.6", criterion="magnitude")
    first, second = exact(first), exact(second)
    assert first.metric[0].value == f"{100 * demo.score(Recipe(), 0.1).value:.1f} %"
    assert second.metric[0].value == f"{100 * demo.score(Recipe('magnitude'), 0.6).value:.1f} %"
    assert first.session_state.settings.sparsity == "0.1" and second.session_state.settings.criterion == "magnitude"
