"""The page Speed in Streamlit's own test harness: what it says, without a browser."""

import pytest
import tiny
from pages import open_page, until
from streamlit.testing.v1 import AppTest

from app.web import caching
from vp_core.opening.study import open_study
from vp_core.recipes import Recipe
from vp_core.squeezing.folder import save_pruned

pytestmark = pytest.mark.usefixtures("fresh_app")


@pytest.fixture(autouse=True)
def nothing_measured():
    caching.measurements.clear()


def page(view: str = "speed", **query: str) -> AppTest:
    return open_page(view, **query)


def measure(at: AppTest):
    (button,) = [button for button in at.button if button.label.startswith("Measure")]
    return button


def test_nothing_is_measured_before_the_button():
    at = page()
    assert not at.exception and not at.error
    assert caching.measurements().last() is None
    assert any("Nothing is measured before the button is pressed" in c.value for c in at.caption)
    assert [n.value for n in at.main.number_input] == [8, 128, 7]
    assert not at.dataframe and not measure(at).disabled
    assert [code.value for code in at.code] == [
        'from vp_core.squeezing.folder import load_pruned; model = load_pruned("demo-squeezed")',
        "vp eval demo-squeezed --task demo",
    ]


def test_what_is_to_be_measured_goes_to_the_address():
    at = page()
    (sparsities,) = [group for group in at.button_group if group.label == "Sparsities measured"]
    assert sparsities.value == ["0", "0.3", "0.5", "0.7"]
    at = sparsities.set_value(["0.9", "0.3"]).run()
    at = at.number_input[0].set_value(4).run()
    settings = at.session_state.visitor.settings
    assert not at.exception and (settings.sparsities, settings.batch) == ((0.3, 0.9), 4)
    assert at.query_params["sparsities"] in ("0.3,0.9", ["0.3,0.9"]) and at.query_params["batch"] in ("4", ["4"])


def test_rows_come_and_stay(tiny_bert):
    query = {**tiny_bert, "batch": "1", "length": "4", "repeats": "1", "sparsities": "0.3", "sparsity": "0"}
    at = measure(page(**query)).click().run().run()  # twice: the harness runs whole pages only, a click asks for a fragment
    until(at, lambda at: measure(at).label == "Measure again")
    assert not at.error
    dense = f"{100 * open_study(**tiny_bert).score(Recipe(), 0.0).value:.1f} %"
    speeds, bits = (frame.value for frame in at.dataframe)
    assert list(speeds["form"]) == ["dense", "masked", "squeezed"] * 2 and list(speeds["removed"]) == [0] * 3 + [30] * 3
    assert len(bits) == 6 and bits["accuracy"][0] == dense and bits["95 % interval"][0].count("%") == 2
    again = page(**query)  # another visitor, or this one after a reload
    assert len(again.dataframe) == 2


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({"batch": "0"}, "The batch '0' is no whole number above 0: use 8"),
        ({"length": "abc"}, "The length 'abc' is no whole number above 0: use 128"),
        ({"repeats": "1.5"}, "The repeats '1.5' is no whole number above 0: use 7"),
        ({"sparsities": "0,2"}, "'2' is not a number between 0 and 1"),
    ],
)
def test_a_bad_value_in_the_address_is_said(short_demo, query, says):
    at = page(**short_demo, **query)
    assert not at.exception and not at.error
    (warning,) = at.warning
    assert says in warning.value


def test_what_the_model_cannot_take_is_said(tiny_bert):
    at = page(**tiny_bert, length="600")
    assert not at.exception
    (message,) = at.error
    assert f"The model takes {tiny.POSITIONS} tokens at most, not 600" in message.value and measure(at).disabled


@pytest.mark.parametrize("view", ["speed", "compare", "weights"])
def test_a_squeezed_model_is_one_sentence(view, tmp_path, studies):
    study = studies["bert"]
    save_pruned(study.squeezed(Recipe(), 0.3), tmp_path / "small", study.loaded.tokenizer)
    at = page(view, model=str(tmp_path / "small"))
    assert not at.exception
    (message,) = at.error
    assert "squeezed already: prune the model that it was made from" in message.value
    (model,) = [widget for widget in at.selectbox if widget.label == "Model"]
    assert model.value == str(tmp_path / "small")


def test_what_single_zeros_save_comes_and_stays(tiny_bert):
    query = {**tiny_bert, "batch": "1", "length": "4", "repeats": "1", "sparsities": "0,0.5", "sparsity": "0.5"}
    at = page(**query)
    assert not at.dataframe and any("2:4 masks" in caption.value for caption in at.caption)
    (button,) = [button for button in at.button if button.label == "Time single zeros"]
    at = button.click().run().run()
    until(at, lambda at: len(at.dataframe) == 1)
    assert not at.error and not at.exception
    (frame,) = at.dataframe
    assert {50} == set(frame.value["removed"]) and frame.value["form"][1] == "single zeros, dense kernel"
    assert frame.value["on disk"][1] < 0.6 * frame.value["on disk"][0]
