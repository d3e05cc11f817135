"""The page Sub-layers in Streamlit's own test harness: what it says, without a browser."""

import json

import pytest
import tiny
from pages import open_page, until
from streamlit.testing.v1 import AppTest

from analysis import off, theme
from app.web import beside, visitor_jobs
from app.web.address import from_query
from app.web.panels import sublayer_runs
from app.web.settings import Settings
from vp_core.identity import threshold
from vp_core.identity.threshold import Threshold
from vp_core.opening.study import open_study
from vp_core.recipes import Recipe
from vp_core.squeezing.folder import save_pruned
from vp_core.training.run_folder import FORMAT

pytestmark = pytest.mark.usefixtures("fresh_app")
FEW = {"calibration": "64"}
HEADS = tiny.LAYERS * tiny.HEADS


@pytest.fixture(scope="module")
def study(tiny_bert):
    return open_study(**tiny_bert, calibration=64)


@pytest.fixture(scope="module")
def page(tiny_bert):
    """The page of the tiny BERT, or of what the address says."""
    return lambda **query: open_page("sublayers", **tiny_bert | FEW | query)


def slider(at: AppTest, label: str):
    (found,) = [one for one in at.select_slider if one.label == label]
    return found


def text(at: AppTest) -> str:
    return " ".join(one.value for one in at.markdown)


def exact(at: AppTest) -> bool:
    return bool(at.metric) and "against dense" in (at.metric[0].delta or "")


def test_the_score_is_that_of_the_library_and_the_difference_to_dense(study, page):
    norms = study.measured().norms()
    attention, ffn = off.first_epsilon(norms, "joint", 0.95)
    chosen = Threshold(float(attention), float(ffn))
    gone = chosen.off(norms)
    *_, score = threshold.running_scores(study, chosen)
    dense = study.score(Recipe(), 0.0)
    at = until(page(beside="nothing"), exact)
    assert at.metric[0].value == f"{100 * score.value:.1f} %"
    assert f"{100 * (score.value - dense.value):+.1f} points against dense {100 * dense.value:.1f} %" in at.metric[0].delta
    assert f"n = {score.n:,}" in text(at)
    assert f"{sum(b.kind == 'head' for b in gone)} of {HEADS} heads · 0 of {tiny.LAYERS} FFNs" in text(at)
    assert f"**{off.cost_without(study.model, gone).share_removed:.1%}** of the linear parameters" in text(at)
    assert slider(at, "ε of heads").value == attention and slider(at, "ε of FFNs").value == ffn
    assert slider(at, "θ: least share of mini-batches").value == "0.95"


def test_both_ends_of_the_slider_and_a_setting_that_is_known(study, monkeypatch, page):
    at = until(page(beside="nothing", mode="heads"), exact)
    heads = slider(at, "ε of heads")
    first = at.metric[0].value
    at = heads.set_value(heads.options[-1]).run()
    assert f"{HEADS} of {HEADS} heads" in text(at) and at.query_params["eps_attention"] == heads.options[-1]
    at = until(at, exact)
    everything = at.metric[0].value
    *_, score = threshold.running_scores(study, Threshold(float(heads.options[-1]), 1.0, mode="heads"))
    assert everything == f"{100 * score.value:.1f} %" != first
    at = slider(at, "ε of heads").set_value(heads.options[0]).run()
    assert f"0 of {HEADS} heads" in text(at)
    at = until(at, exact)
    assert at.metric[0].delta.startswith("+0.0 points")

    def none(*_):
        raise AssertionError("measured once more")

    monkeypatch.setattr(visitor_jobs, "running_scores", none)
    at = until(slider(at, "ε of heads").set_value(heads.options[-1]).run(), exact)
    assert at.metric[0].value == everything


def test_theta_and_the_gate_count(study, page):
    norms, eps = study.measured().norms(), "2"
    at = until(page(beside="nothing", mode="heads", eps_attention=eps, theta="0.5"), exact)
    loose = len(Threshold(2.0, 1.0, 0.5, "heads").off(norms))
    strict = len(Threshold(2.0, 1.0, 1.0, "heads").off(norms))
    assert loose > strict and f"{loose} of {HEADS} heads" in text(at)
    before = at.metric[0].value
    at = slider(at, "θ: least share of mini-batches").set_value("1").run()
    assert f"{strict} of {HEADS} heads" in text(at) and at.query_params["theta"] == "1"
    at = at.toggle[0].set_value(True).run()
    assert at.query_params["gate"] == "on"
    at = until(at, exact)
    *_, score = threshold.running_scores(study, Threshold(2.0, 1.0, 1.0, "heads", True))
    assert at.metric[0].value == f"{100 * score.value:.1f} %" != before


def test_a_mode_has_the_sliders_of_its_blocks(page):
    at = until(page(beside="nothing", mode="ffn"), lambda at: at.select_slider)
    assert [s.label for s in at.select_slider] == ["ε of FFNs", "θ: least share of mini-batches"]
    assert f"1 of {tiny.LAYERS} FFNs" in text(at)
    at = until(page(beside="nothing", mode="layers"), lambda at: at.select_slider)
    assert [s.label for s in at.select_slider][:2] == ["ε of attention blocks", "ε of FFNs"]
    assert f"of {tiny.LAYERS} attention blocks" in text(at) and f"of {tiny.LAYERS} FFNs" in text(at)


def test_what_is_drawn_beside(page, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "analysis.function_norms.draw", lambda models, *_: drawn.append(dict(models)) or theme.placeholder("", "")
    )
    until(open_page("sublayers", **FEW), lambda at: drawn and len(drawn[-1]) == 2)
    assert list(drawn[-1]) == ["plain", "spectrally normalised"]
    plain, twin = drawn[-1].values()
    assert twin.data == plain.data and twin.model != plain.model  # the same texts, another model
    at = until(page(beside="rescaled"), lambda at: len(drawn[-1]) == 2 and "weights only" in list(drawn[-1])[1])
    assert text(at).count("##### How far its matrices stretch") == 1


def test_other_models_have_no_twin():
    own, demo = Settings(model="models/my-bert"), Settings()
    assert beside.choices(own) == ("nothing", "rescaled") and beside.shown_beside(own) == "nothing"
    assert beside.shown_beside(Settings(model="x", beside="twin")) == "nothing" and beside.shown_beside(demo) == "twin"
    assert "not trained" in beside.title(own, "rescaled")
    assert beside.title(demo, "twin") == "its spectrally normalised twin"
    assert beside.title(Settings(model="demo-sn"), "twin") == "its plain twin"


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("eps_attention", "0", "ε must be a number above 0, not '0'"),
        ("eps_ffn", "-2", "ε must be a number above 0, not '-2'"),
        ("eps_ffn", "nan", "ε must be a number above 0"),
        ("theta", "1.5", "θ must be between 0 and 1, not '1.5'"),
        ("theta", "most", "θ must be between 0 and 1"),
        ("mode", "tails", "Unknown mode 'tails'"),
        ("gate", "ajar", "Unknown gate 'ajar'"),
        ("beside", "everything", "Unknown beside 'everything'"),
    ],
)
def test_a_bad_value_in_the_address_is_named_and_the_default_taken(name, value, says):
    settings, problems = from_query({name: value})
    assert settings == Settings() and len(problems) == 1 and says in problems[0]


@pytest.mark.parametrize("family", ["albert", "gpt2", "bart"])
def test_every_family_has_its_blocks(page, folders, data, family):
    at = until(page(model=str(folders[family]), beside="rescaled"), exact)
    study = open_study(str(folders[family]), "sst2", data, calibration=64)
    norms = study.measured().norms()
    attention, ffn = off.first_epsilon(norms, "joint", 0.95)
    *_, score = threshold.running_scores(study, Threshold(float(attention), float(ffn)))
    assert at.metric[0].value == f"{100 * score.value:.1f} %"
    assert f" of {len(norms.of('head'))} heads · " in text(at)


def test_values_between_the_slider_s_positions_are_kept(page):
    at = until(page(beside="nothing", eps_attention="0.51234", theta="0.333"), lambda at: at.select_slider)
    heads, theta = slider(at, "ε of heads"), slider(at, "θ: least share of mini-batches")
    assert (heads.value, theta.value) == ("0.5123", "0.333")
    assert sorted(heads.options, key=float) == list(heads.options) and len(heads.options) == off.POSITIONS + 1
    assert not at.warning


def run_log(**changed):
    row = {"iteration": 0, "went": [], "given": {"value": 0.9}, "metric": "accuracy", "value": 0.9, "low": 0.88, "high": 0.92,
           "n": 210, "gone": [], "share_pruned": 0.0, "parameters": 1000, "seconds": 1.0,
           "left": {"head": 2, "attention": 1, "ffn": 1}}  # fmt: skip
    later = row | {"iteration": 1, "went": ["0.head.1"], "gone": ["0.head.1"], "share_pruned": 0.6, "value": 0.895,
                   "mean": {"0.head.0": 1.0, "0.head.1": 0.1, "0.attention": 1.0, "0.ffn": 2.0}}  # fmt: skip
    return {"format": FORMAT, "settings": {"mode": "joint", "sn": None}, "rows": [row, later]} | changed


def test_runs_of_folders_are_shown_with_their_numbers(page, tmp_path):
    for name, sn in (("one", None), ("two", 5.0)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(json.dumps(run_log(settings={"mode": "joint", "sn": sn})))
    at = until(page(beside="nothing", run=f"{tmp_path / 'one'}; {tmp_path / 'two'}"), lambda at: at.dataframe)
    shown = at.dataframe[0].value.set_index("run")
    assert list(shown.index) == ["joint", "joint + SN"]
    assert shown.loc["joint", "within a point"] == pytest.approx(60) and shown.loc["joint", "accuracy at 50%"] == 89.5
    assert list(shown.columns) == ["accuracy given", "within a point", "… of that model", "accuracy at 50%", "accuracy at 75%",
                                   "pruned to"]  # fmt: skip
    assert any("Map of" in group.label for group in at.button_group)


@pytest.mark.parametrize("what", ["missing", "broken", "lacking", "other"])
def test_a_folder_that_is_no_run_is_one_sentence(page, tmp_path, what):
    log = run_log()
    if what == "lacking":
        del log["rows"][1]["gone"], log["rows"][1]["share_pruned"]
    (tmp_path / "run.json").write_text(
        "{" if what == "broken" else json.dumps(log | ({"format": "x"} if what == "other" else {}))
    )
    at = page(beside="nothing", run=str(tmp_path / "nowhere" if what == "missing" else tmp_path))
    assert not at.exception
    (error,) = [e.value for e in at.error]
    says = {
        "missing": "There is no run in",
        "broken": "is broken",
        "lacking": "lacks 'share_pruned'",
        "other": "has the format",
    }
    assert says[what] in error and "\n" not in error


def test_a_new_folder_goes_to_the_address(page, tmp_path):
    at = page(beside="nothing")
    (field,) = [one for one in at.text_input if one.label == "Folders of runs"]
    at = field.set_value(str(tmp_path)).run()
    assert at.query_params["run"] == str(tmp_path) and "There is no run" in at.error[0].value


def test_without_any_run_the_page_says_how_to_make_one(page, monkeypatch, tmp_path):
    monkeypatch.setattr(sublayer_runs, "SHIPPED", tmp_path)
    at = page(beside="nothing")
    assert any("vp snip MODEL" in c.value for c in at.caption) and not at.error


def test_shipped_runs_are_the_demo_s_alone():
    assert list(sublayer_runs.open_runs("", demo=False)) == []
    shipped = sublayer_runs.open_runs("", demo=True)
    assert len(shipped) == len(list(sublayer_runs.SHIPPED.glob("*.json")))
    assert all(len(log["rows"]) > 1 for log in shipped.values())


def test_a_squeezed_model_gets_its_sentence(page, tmp_path, study):
    save_pruned(study.squeezed(Recipe(), 0.3), tmp_path / "small", study.loaded.tokenizer, {"task": "demo"})
    at = page(model=str(tmp_path / "small"))
    assert not at.exception and "squeezed already" in at.error[0].value


def test_the_twin_of_the_demo_is_there_at_once(monkeypatch, demo):
    monkeypatch.setattr(beside, "open_study", None)  # nothing is loaded
    (twin,) = beside.norms_beside(demo, Settings(), "twin")
    assert twin.name == "spectrally normalised" and twin.norms.data == demo.calibration_id
    assert twin.norms.blocks == demo.measured().norms().blocks
    assert len(twin.sigmas) == 36 and twin.sigmas["sigma"].between(4.9, 5.1).all()
