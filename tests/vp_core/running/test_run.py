"""Whole runs: their rows, what they leave on disk, and that a stopped one goes on to the same model."""

import json
from dataclasses import replace

import pytest
import tiny

from vp_core.asking.evaluate import score
from vp_core.ground.errors import VPError
from vp_core.ground.work import Cancelled, work
from vp_core.loading.load import load_model
from vp_core.opening.study import open_study
from vp_core.running.lessons import lessons_of
from vp_core.running.run import TrainingMaterial, run_training
from vp_core.running.settings import TrainSettings
from vp_core.squeezing.folder import load_pruned
from vp_core.training.run_folder import read_log
from vp_core.training.schedule import Schedule
from vp_core.training.teacher import Teacher

STEPS = 12
QUICK = Schedule(steps=STEPS, batch=8, lr=1e-3, precision="float32")
PRUNING = ("variance", "random", "magnitude", "deletion", "movement", "block", "hybrid", "hybrid filled", "struct")


def settings(method="none", **others):
    return TrainSettings(**{"method": method, "schedule": QUICK, "scores": 1} | others)


@pytest.fixture(scope="module")
def material(studies, data):
    """The tiny BERT, its question, and 40 texts to learn from."""
    study = studies["bert"]
    return TrainingMaterial(study, lessons_of(study, "sst2", data))


def plain(rows):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def weights(folder):
    return tiny.sha(load_pruned(folder / "model"))


def test_rows_say_what_happens(material, tmp_path):
    rows = list(run_training(material, settings("variance"), tmp_path / "run"))
    assert rows == read_log(tmp_path / "run")["rows"]
    assert rows[0]["step"] == 0 and rows[-1]["step"] == STEPS and rows[-1]["done"]
    assert rows[0]["value"] == score(material.study.model, material.study.question).value
    cuts = [row for row in rows if "sparsity" in row]
    assert [row["sparsity"] for row in cuts] == [0.1, 0.2, 0.3, 0.4, 0.5] and cuts[0]["removed"].keys() == {
        p.name for p in material.study.projections()
    }
    assert all(row["loss"] > 0 for row in rows if "loss" in row) and sum("value" in row for row in rows) == 3
    model = load_pruned(tmp_path / "run" / "model")
    found = score(model, material.study.question)
    assert found.value == rows[-1]["value"] and model.squeezed.cost.share_removed == rows[-1]["share_pruned"] > 0.4
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["model", "run.json"]


@pytest.mark.parametrize("method", PRUNING)
def test_every_method_leaves_a_model_that_opens(method, material, data, tmp_path):
    """By the run's folder, as any other model, with the score that the run has written."""
    *_, last = run_training(material, settings(method), tmp_path / "run")
    study = open_study(str(tmp_path / "run"), "sst2", data)
    assert score(study.model, study.question).value == last["value"]
    assert 0 < last["share_pruned"] < 1 or method == "deletion"  # whose weights are free again


@pytest.mark.parametrize("method", ["none", "variance", "magnitude", "hybrid"])
def test_a_stopped_run_goes_on_to_the_same_model(method, material, tmp_path):
    chosen = settings(method)
    whole = list(run_training(material, chosen, tmp_path / "whole"))
    for stop in (5, 7):
        rows = []
        with pytest.raises(Cancelled), work(cancelled=lambda rows=rows, stop=stop: bool(rows) and rows[-1]["step"] >= stop):
            rows.extend(iter_into(rows, run_training(material, chosen, tmp_path / "stopped")))
        assert (tmp_path / "stopped" / "training.safetensors").is_file()
    assert plain(run_training(material, chosen, tmp_path / "stopped")) == plain(whole)
    names = [tiny.sha(load_model(str(tmp_path / run)).model) for run in ("whole", "stopped")]
    assert names[0] == names[1]
    assert plain(run_training(material, chosen, tmp_path / "stopped")) == plain(whole)  # finished: nothing is done again


@pytest.mark.parametrize("calls", [0, 1, 3, 4])
def test_a_run_stopped_while_it_is_scored_misses_no_row(calls, material, tmp_path, monkeypatch):
    """The state of a step is on disk before its row is: going on writes that row first, with the mean of all its losses."""
    monkeypatch.setattr("vp_core.running.run.ROWS", 3)
    chosen = settings("magnitude", scores=3)
    whole = list(run_training(material, chosen, tmp_path / "whole"))
    asked = []

    def interrupted(model, question):
        asked.append(model)
        return score(model, question)

    monkeypatch.setattr("vp_core.running.run.score", interrupted)
    with pytest.raises(Cancelled), work(cancelled=lambda: len(asked) > calls):
        list(run_training(material, chosen, tmp_path / "stopped"))
    monkeypatch.undo()
    monkeypatch.setattr("vp_core.running.run.ROWS", 3)
    assert plain(run_training(material, chosen, tmp_path / "stopped")) == plain(whole)


def iter_into(rows, run):
    """Keep what comes before it breaks off."""
    for row in run:
        rows.append(row)
    return ()


def test_a_run_of_the_demo_knows_its_task(tmp_path):
    study = open_study("demo", calibration=8, sentences=16)
    short = settings(schedule=replace(QUICK, steps=2), scores=0)
    *_, last = run_training(TrainingMaterial(study, lessons_of(study, "demo")), short, tmp_path / "run")
    again = open_study(str(tmp_path / "run"), calibration=8, sentences=16)
    assert again.question.task.name == "demo" and score(again.model, again.question).value == last["value"]


def test_a_teacher(material, tmp_path):
    loaded = material.study.loaded
    teacher = Teacher.make(loaded.model, loaded.tokenizer, loaded.model, loaded.tokenizer)
    taught = replace(material, teacher=teacher, teacher_name="itself")
    rows = list(run_training(taught, settings(alpha=0.0), tmp_path / "run"))
    alone = list(run_training(material, settings(), tmp_path / "alone"))
    losses = [[row["loss"] for row in found if "loss" in row] for found in (rows, alone)]
    assert losses[0][0] != losses[1][0] and read_log(tmp_path / "run")["settings"]["teacher"] == "itself"
    with pytest.raises(VPError, match="both or none"):
        replace(material, teacher=teacher)


def test_folders_of_other_runs(material, tmp_path):
    *_, _last = run_training(material, settings(), tmp_path / "run")
    for other, says in (
        (settings("variance"), "another method"), (settings(schedule=replace(QUICK, lr=2e-3)), "another schedule"),
    ):  # fmt: skip
        with pytest.raises(VPError, match=says):
            next(iter(run_training(material, other, tmp_path / "run")))
    (tmp_path / "snip").mkdir()
    (tmp_path / "snip" / "run.json").write_text(
        json.dumps({"format": "variance-pruning run 1", "settings": {"mode": "joint"}, "rows": []})
    )
    with pytest.raises(VPError, match="another kind"):
        next(iter(run_training(material, settings(), tmp_path / "snip")))
    with pytest.raises(VPError, match="no model yet"):
        load_model(str(tmp_path / "snip"))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"method": "luck"}, "Unknown method 'luck'"),
        ({"until": 1.0}, "between 0 and 1"),
        ({"until": 0.0}, "between 0 and 1"),
        ({"method": "hybrid", "first": 5}, "Cuts \\(first\\) are made by"),
        ({"method": "magnitude", "squeeze": True}, "Rows are squeezed"),
        ({"method": "variance", "embeddings": True}, "Word embeddings"),
        ({"scores": -1}, "cannot be scored"),
        ({"share": 0.0, "method": "variance"}, "share"),
    ],
)
def test_settings_that_cannot_be(wrong, says):
    with pytest.raises(VPError, match=says) as raised:
        settings(**wrong)
    assert str(raised.value).endswith(".")


def test_cuts_are_spread_unless_they_are_said():
    assert settings("variance").cuts(100).first == settings("variance").cuts(100).every == 10
    assert settings("variance").cuts(100).last == 50 and settings("magnitude").cuts(100).ramp == "cubic"
    paper = settings("variance", first=500, every=500, share=0.1)
    assert [step for step in range(3001) if paper.cuts(3000).at(step) is not None] == [500, 1000, 1500, 2000, 2500]
    with pytest.raises(VPError, match="training ends after 2,000 steps"):
        paper.cuts(2000)
