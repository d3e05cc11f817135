"""The page Training in Streamlit's own test harness: runs begin, are stopped, go on, are compared and opened."""

import json

import pytest
import streamlit as st
from pages import STARTED, open_page, until

from app.web import caching, trainings
from app.web.address import from_query, to_query
from app.web.settings import Settings
from vp_core.asking.evaluate import score
from vp_core.ground.errors import VPError
from vp_core.loading.load import load_model
from vp_core.opening.study import open_study
from vp_core.training.run_folder import read_log

pytestmark = pytest.mark.usefixtures("fresh_app", "ended")
FEW = {"calibration": "64", "train_steps": "10", "mini_batch": "8", "lr": "0.001"}


@pytest.fixture
def ended():
    """No training of one test is under way in the next."""
    yield
    job = caching.trainings().job(caching.trainings().running())
    STARTED.cancel()
    if job is not None:
        job.wait(10**9, 60)


@pytest.fixture(scope="module")
def page(tiny_bert):
    """The page of the tiny BERT, or of what the address says."""
    return lambda **query: open_page("training", **tiny_bert | FEW | query)


def button(at, label):
    found = [one for one in at.button if one.label == label]
    return found[0] if found else None


def text(at):
    return " ".join(one.value for one in (*at.markdown, *at.caption))


def done(at):
    return " steps in " in text(at) and button(at, "Open on Explore")


def run(at):
    """Press the button and wait for the end; the page, and the name of the run."""
    at = button(at, "Start").click().run()
    assert not at.exception, at.exception
    name = at.query_params["training"]
    at = until(at, lambda at: trainings.result(name) and done(at))
    return at, name if isinstance(name, str) else name[0]


def test_a_run_from_its_button_to_explore(page, monkeypatch):
    at = page()
    assert "Gone after step 1: 10 %, 2: 20 %, 3: 30 %, 4: 40 %, 5: 50 %" in text(
        at
    ) and "There is no run of this task yet" in text(at)
    at, name = run(at)
    log = read_log(trainings.folder() / name)
    first, last = log["rows"][0], log["rows"][-1]
    assert last["done"] and f"**{last['share_pruned']:.1%}** of the encoder's linear parameters gone" in text(at)
    assert f"accuracy **{100 * last['value']:.1f} %**" in text(at) and f"against {100 * first['value']:.1f} % before" in text(
        at
    )
    (shown,) = at.dataframe[0].value.to_dict("records")
    assert (shown["run"], shown["method"], shown["steps"], shown["seed"]) == (name, "variance", "10 of 10", 0)
    assert shown["score"] == pytest.approx(100 * last["value"]) and shown["gone"] == pytest.approx(100 * last["share_pruned"])
    assert not button(at, "Start").disabled and button(at, "Stop") is None and button(at, "Go on") is None
    went = []
    monkeypatch.setattr(st, "switch_page", went.append)
    at = button(at, "Open on Explore").click().run()
    model = str(trainings.folder() / name / "model")
    assert went == ["views/explore.py"] and at.session_state.visitor.settings.model == model
    explore = until(
        open_page("explore", **to_query(at.session_state.visitor.settings)), lambda at: "going on" not in text(at) and at.metric
    )
    assert explore.metric[0].value == f"{100 * last['value']:.1f} %" and "squeezed already" in explore.info[0].value
    assert f"{last['share_pruned']:.1%} of the encoder's linear parameters" in text(explore)


def test_what_is_stopped_goes_on_to_the_same_model(page):
    at, whole = run(page(seed="3", train_steps="30", method="magnitude"))
    at = button(at, "Start").click().run()
    name = at.session_state.visitor.settings.training
    assert name == f"{whole}-2"
    at = until(at, lambda at: len(caching.trainings().job(name).items) > 3 and button(at, "Stop"))
    at = button(at, "Stop").click().run()
    at = until(at, lambda at: button(at, "Go on") and not button(at, "Go on").disabled)
    reached = read_log(trainings.folder() / name)["rows"][-1]["step"]
    assert f"Stopped after step {reached} of 30" in text(at) and trainings.result(name) is None
    assert button(at, "Open on Explore") is None
    st.cache_resource.clear()  # the app has been started anew
    at = button(page(training=name), "Go on").click().run()
    at = until(at, lambda at: trainings.result(name) and done(at))
    rows, others = (read_log(trainings.folder() / one)["rows"] for one in (name, whole))
    assert [{**row, "seconds": 0} for row in rows] == [{**row, "seconds": 0} for row in others]
    at = button(at, "Remove").click().run()
    assert not (trainings.folder() / name).exists() and trainings.begun_with(name) is None
    assert name not in list(at.dataframe[0].value["run"])


def test_one_training_at_a_time_and_it_outlives_its_page(page, tiny_bert):
    at = button(page(train_steps="5000", method="none"), "Start").click().run()
    name = at.session_state.visitor.settings.training
    other = page()
    assert button(other, "Start").disabled and f"*{name}* is under way" in text(other)
    settings, _ = from_query(tiny_bert | FEW)
    assert caching.train("another", settings) is False and trainings.begun_with("another") is None
    job = caching.trainings().job(name)
    assert not job.stopped() and job._abandonable is False
    caching.trainings().remove(name)  # not while it is under way
    assert trainings.begun_with(name) is not None
    at = button(page(training=name), "Stop").click().run()
    until(at, lambda at: not caching.trainings().running())


def test_runs_are_compared(page, monkeypatch):
    drawn = []
    draw = __import__("analysis.training", fromlist=["draw"]).draw
    monkeypatch.setattr("analysis.training.draw", lambda runs: drawn.append(list(runs)) or draw(runs))
    at, one = run(page(method="random"))
    at, other = run(page(method="none"))
    assert drawn[-1] == [other]
    at = page(training=one, compared=f"{other},gone")
    assert not at.exception and drawn[-1] == [one, other]


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({"first": "9", "every": "5"}, "The last cut would be made at step 29, but the training ends after 10 steps"),
        ({"first": "0"}, "no variance to cut by"),
        ({"train_steps": "3"}, "cut earlier or more often, or train longer"),
    ],
)
def test_settings_that_cannot_be_are_one_sentence_and_no_run(page, query, says):
    at = page(**query)
    assert says in at.error[0].value and button(at, "Start").disabled


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("method", "luck", "Unknown method 'luck'"),
        ("until", "1", "'1' is no number between 0 and 1"),
        ("lr", "fast", "The learning rate 'fast' is no number"),
        ("cuts", "0", "no whole number from 1 to 100"),
        ("examples", "1", "no whole number above 1"),
    ],
)
def test_a_bad_value_in_the_address_is_named_and_the_default_taken(name, value, says):
    settings, problems = from_query({name: value})
    assert settings == Settings() and len(problems) == 1 and says in problems[0]


@pytest.mark.parametrize("cuts", [1, 2, 3, 6, 7, 9, 11, 13])
@pytest.mark.parametrize("until_", [0.1, 0.3, 0.5, 0.95])
def test_there_are_as_many_cuts_as_are_asked_for(cuts, until_):
    wanted = trainings.wanted_by(Settings(cuts=cuts, until=until_))
    found = wanted.cuts(200)
    assert found.number == cuts and found.at(found.last) == until_


def test_methods_without_cuts_take_no_cuts():
    wanted = trainings.wanted_by(Settings(method="hybrid", first=3, every=4, squeeze=True))
    assert (wanted.first, wanted.every, wanted.share, wanted.squeeze) == (None, None, None, False)
    assert trainings.words_of(wanted) == ""
    assert "10: 2.5 %, 20: 5 %, 30: 7.5 % … 200: 50 %" in trainings.words_of(
        trainings.wanted_by(Settings(cuts=20, train_steps=400))
    )


def test_a_teacher_that_does_not_fit_is_one_sentence(page):
    at = button(page(teacher="on", teacher_model="demo"), "Start").click().run()
    at = until_error(at)
    assert "The teacher's tokeniser" in at.error[0].value and not at.exception
    name = at.session_state.visitor.settings.training
    assert trainings.result(name) is None


def until_error(at):
    for _ in range(100):
        if at.error:
            break
        STARTED.wait(STARTED.news())
        at = at.run()
    return at


def test_a_teacher_is_named_in_the_record(page, tiny_bert):
    at, name = run(page(teacher="on", method="none"))
    assert read_log(trainings.folder() / name)["settings"]["teacher"] == tiny_bert["model"]
    assert at.dataframe[0].value.set_index("run").loc[name, "teacher"]


def test_what_is_broken_in_the_folder_is_left_out(page):
    for name, content in {
        "broken": "{",
        "snip": json.dumps({"format": "variance-pruning run 1", "settings": {}, "rows": []}),
    }.items():
        (trainings.folder() / name).mkdir()
        (trainings.folder() / name / "run.json").write_text(content)
    at = page()
    assert not at.exception and not at.error and not {"broken", "snip"} & set(trainings.logs("sst2"))


def test_the_squeezed_result_trains_on_but_is_not_pruned_again(page, tiny_bert):
    at, name = run(page(method="variance", seed="8"))
    model = str(trainings.folder() / name / "model")
    at = page(model=model)
    assert "squeezed already" in at.error[0].value and button(at, "Start").disabled
    at, again = run(page(model=model, method="none"))
    study = open_study(str(trainings.folder() / again), tiny_bert["task"], tiny_bert["data"], calibration=64)
    rows = read_log(trainings.folder() / again)["rows"]
    assert score(study.model, study.question).value == rows[-1]["value"]
    assert load_model(model).model.squeezed.cost.share_removed == study.model.squeezed.cost.share_removed
    with pytest.raises(VPError, match="squeezed already"):
        study.projections()
