"""The pages with a language model: perplexity as a number, lower is better, and a text read token by token."""

import pytest
import tiny
import torch
from pages import open_page, until

from app.web import caching
from app.web.address import from_query, to_query
from app.web.opening import in_app
from app.web.settings import Settings
from vp_core.opening.study import open_study
from vp_core.recipes import Recipe

pytestmark = pytest.mark.usefixtures("fresh_app")
TEXT = {"model": "demo-text", "task": "demo-text", "most_tokens": "2000", "calibration": "16"}


@pytest.fixture
def no_curve(monkeypatch):
    monkeypatch.setattr(caching, "HEAD_START", 3600.0)


@pytest.fixture(scope="module")
def study():
    return open_study("demo-text", "demo-text", most_tokens=2000, calibration=16)


@pytest.fixture(scope="module")
def filler(tmp_path_factory):
    """A tiny masked language model, and a text."""
    base = tmp_path_factory.mktemp("filler")
    torch.manual_seed(0)
    model = tiny.build("bert", "ForMaskedLM", vocab_size=420, **tiny.sizes("bert", 32, 56, 3), initializer_range=0.25)
    tiny.save(base / "model", model, tiny.tokenizer("bert"))
    (base / "text.txt").write_text("\n".join(tiny.sentences(120)), encoding="utf-8")
    return {"model": str(base / "model"), "task": "text", "data": str(base / "text.txt"), "max_length": "24"}


def exact(at):
    return until(at, lambda at: at.metric and at.metric[0].delta)


def test_explore_shows_perplexity_and_reads_a_text(study, no_curve):
    at = exact(open_page("explore", **TEXT))
    dense, pruned = study.score(Recipe(), 0.0), study.score(Recipe(), 0.2)
    (score,) = at.metric
    assert score.label == "perplexity without fine-tuning" and score.value == f"{pruned.value:.2f}"
    assert (
        score.delta
        == f"+{pruned.value - dense.value:.2f} against dense {dense.value:.2f} ({pruned.value / dense.value:.2f} times)"
    )
    assert score.proto.color == score.proto.MetricColor.RED  # more is worse
    shown = " ".join(one.value for one in (*at.markdown, *at.caption))
    assert f"n = {pruned.n:,} tokens" in shown and f"{pruned.n:,} tokens of text" in shown and "of 16 windows" in shown
    assert "token accuracy" in shown and "bits per byte" in shown
    at = until(at, lambda at: any(box.key == "likeliest" for box in at.selectbox) and not _reading(at))
    html = " ".join(one.proto.body for one in at.get("html"))
    assert html.count("vp-text'") >= 2 and "<b>dense</b>" in html and "<b>pruned</b>" in html and "<i>" in html
    (place,) = [box for box in at.selectbox if box.key == "likeliest"]
    assert place.options[0] == "behind the text" and "in the place of" in place.options[1]
    at = place.select_index(3).run()
    assert not at.exception
    (table,) = [one.value for one in at.dataframe if "dense: probability" in one.value]
    assert len(table) == 5 and table["dense: probability"].is_monotonic_decreasing


def _reading(at):
    return any(one.value.startswith("Reading") for one in at.caption)


@pytest.mark.parametrize("view", ["compare", "weights", "sublayers", "training", "speed"])
def test_every_page_opens(view):
    at = open_page(view, **TEXT)
    assert not at.exception and not at.error


def test_a_masked_language_model_guesses_what_is_masked(filler, no_curve):
    at = exact(open_page("explore", **filler))
    (score,) = at.metric
    assert score.label == "loss of masked tokens without fine-tuning" and "%" not in score.value
    (text,) = at.text_area
    assert text.value == "The capital of France is [MASK]."
    at = until(at, lambda at: any(box.key == "likeliest" for box in at.selectbox) and not _reading(at))
    (place,) = [box for box in at.selectbox if box.key == "likeliest"]
    assert [option.partition(":")[2] for option in place.options] == [" in the place of “ [MASK]”"]
    at = until(at.text_area[0].set_value("no mask").run(), lambda at: at.error)
    assert "write [MASK] in the place of a word" in at.error[0].value and not at.exception


@pytest.mark.parametrize("view", ["compare", "weights", "sublayers", "speed"])
def test_every_page_opens_with_a_masked_language_model(filler, view):
    at = open_page(view, **filler, length="24")  # it has 40 positions
    assert not at.exception and not at.error


def test_another_model_brings_its_task_and_its_fields(no_curve):
    at = open_page("explore", sparsity="0", calibration="64")
    (model,) = [box for box in at.selectbox if box.label == "Model"]
    (demo, *_) = model.options
    assert demo.startswith("demo · ")
    model.select_index(2)
    (opens,) = [button for button in at.button if button.label == "Open"]
    at = opens.click().run()
    settings = at.session_state.visitor.settings
    assert (settings.model, settings.task, settings.calibration) == ("demo-text", "demo-text", None) and not at.exception
    at = at.run()
    assert {"Window length", "Stride", "Most tokens"} <= {box.label for box in at.number_input}
    assert {"Text file or folder"} <= {box.label for box in at.text_input}
    assert "Calibration windows" in {box.label for box in at.selectbox}


def test_how_a_text_is_read_stands_in_the_address():
    settings = Settings(model="demo-text", task="demo-text", max_length=64, stride=32, most_tokens=5000, calibration=16)
    query = to_query(settings)
    assert query == {
        "model": "demo-text", "task": "demo-text", "max_length": "64", "stride": "32", "most_tokens": "5000",
        "calibration": "16",
    }  # fmt: skip
    assert from_query(query) == (settings, [])
    assert (settings.calibrated_on, Settings().calibrated_on, Settings(task="text").calibrated_on) == (16, 512, 128)
    for name in ("stride", "most_tokens"):
        assert "is no whole number" in from_query({name: "0"})[1][0]


def test_sentences_name_the_fields_of_a_text():
    assert in_app("Shorter ones (--max-length), or no --stride.", "tokens") == "Shorter ones (“Window length”), or no “Stride”."
    assert (
        in_app("Give a folder (--data) or --most-tokens.", "tokens")
        == "Give a folder (“Text file or folder”) or “Most tokens”."
    )
    assert in_app("(--max-length)") == "(“Longest text”)"
