"""Files that version 0.4.0 wrote load as what is computed now, and what was finished then is not computed again.

`tests/saved/0.4.0` holds a tiny BERT (`tiny.make("bert")`), its data, and what `vp stats`, `vp curve`, `vp prune` and
`vp snip` made of them. Numbers may differ by rounding from one processor to another, a score by a sentence.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import tiny
import torch

import vp_core.study
from vp_core.curves import COLUMNS, Curve, CurveStore, score_of, sweep
from vp_core.identity.settings import SnipSettings
from vp_core.identity.snip import Material, run_snip
from vp_core.loading.load import load_model
from vp_core.measuring.statistics import Statistics
from vp_core.opening.study import open_study
from vp_core.ranking.plan import Plan
from vp_core.recipes import RECIPES, STRUCTURED, Recipe
from vp_core.running.lessons import lessons_of
from vp_core.squeezing.folder import load_pruned
from vp_core.training.run_folder import read_log
from vp_core.training.schedule import Schedule

OLD = Path(__file__).parents[1] / "saved" / "0.4.0"
UNITS = Recipe(criterion="weighted variance", units=STRUCTURED, budget="parameters")
A_SENTENCE = 1.01 / 60
"""What one sentence more or less does to the accuracy."""


@pytest.fixture(scope="module")
def study():
    return open_study(str(OLD / "bert"), "sst2", OLD / "data")


@pytest.fixture
def no_evaluation(monkeypatch):
    def evaluate(*_arguments, **_named):
        raise AssertionError("a point that was finished is computed again")

    monkeypatch.setattr(vp_core.study, "evaluate", evaluate)


@pytest.mark.parametrize(("name", "estimator"), [("statistics", "exact"), ("moving", "ewmv")])
def test_statistics(study, name, estimator):
    then, now = Statistics.load(OLD / f"{name}.safetensors"), study.statistics(estimator)
    about = [(s.estimator, s.model, s.data, s.tokens, sorted(s.moments)) for s in (then, now)]
    assert about[0] == about[1]
    for projection in then.moments:
        torch.testing.assert_close(then.mean(projection), now.mean(projection), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(then.variance(projection), now.variance(projection), rtol=1e-5, atol=1e-6)


def test_a_plan(study):
    assert Plan.load(OLD / "plan.safetensors") == study.plan(Recipe(), 0.3)


def test_a_pruned_model(study):
    then, now = load_pruned(OLD / "pruned"), study.squeezed(RECIPES["units mean"], 0.4)
    assert then.squeezed.cost == now.squeezed.cost
    inputs = study.question.chunks()[0][1][0].inputs
    with torch.no_grad():
        assert tiny.distance(then(**inputs).logits, now(**inputs).logits) <= 1e-4
    again = open_study(str(OLD / "pruned"), "sst2", OLD / "data")
    assert again.score(Recipe(), 0).value == pytest.approx(47 / 60, abs=A_SENTENCE)
    assert json.loads((OLD / "pruned" / "pruned.json").read_text())["about"]["fingerprint"] == study.loaded.fingerprint
    assert load_model(str(OLD / "pruned")).projections == ()


def test_the_same_question_has_the_same_key(study):
    recipe = RECIPES["units mean"]
    assert study.key(recipe, 0.4) == "30a5cab2f6e16ec0"
    assert study.score(recipe, 0.4).value == pytest.approx(47 / 60, abs=A_SENTENCE)


def test_a_curve_speaks_todays_words(study):
    then = pd.read_parquet(OLD / "curve.parquet")
    assert set(then["units"]) == {"rows", "ffn,values,pairs"} and set(then["dtype"]) == {"float32"}  # as 0.4.0 wrote it
    curve = Curve.load(OLD / "curve.parquet")
    assert list(curve.table.columns) == list(COLUMNS) and "dtype" not in COLUMNS
    assert set(curve.table["precision"]) == {"float32"}
    assert set(curve.table["units"]) == {"rows", "ffn neurons,values,pairs"}
    assert set(curve.table["recipe"]) == {"paper", "rows, random, per type, mean", "units mean"}
    for row in curve.table.to_dict("records"):
        recipe = Recipe(
            row["criterion"], row["scope"], row["replacement"], tuple(row["types"].split(",")), row["estimator"], row["seed"],
            tuple(row["units"].split(",")), row["basis"], row["budget"], row["steps"],
        )  # fmt: skip
        assert study.key(recipe, row["sparsity"], row["precision"]) == row["key"]
        assert study.score(recipe, row["sparsity"]).value == pytest.approx(row["value"], abs=A_SENTENCE)
        assert study.cost(recipe, row["sparsity"]).parameters_removed == row["parameters_removed"]
        assert score_of(row).right.mean() == pytest.approx(row["value"])


def test_the_names_of_units_in_a_description(tmp_path):
    then = pd.read_parquet(OLD / "curve.parquet")
    then["recipe"] = "ffn + values + pairs, surgeon, global, mean"
    then.to_parquet(tmp_path / "curve.parquet")
    curve = Curve.load(tmp_path / "curve.parquet")
    assert set(curve.table["recipe"]) == {"ffn neurons + values + pairs, surgeon, global, mean"}
    curve.save(tmp_path / "again.parquet")
    assert Curve.load(tmp_path / "again.parquet") == curve


def test_a_curve_is_gone_on_with(study, tmp_path, no_evaluation, monkeypatch):
    path = tmp_path / "curve.parquet"
    shutil.copyfile(OLD / "curve.parquet", path)
    then = Curve.load(path).table.set_index("key")["value"]
    rows = [
        *sweep(study, ["variance", "random"], [0, 0.3], store=CurveStore(path)),
        *sweep(study, [UNITS], [0.3], store=CurveStore(path)),
    ]
    assert len(rows) == 5 and all(row["value"] == then[row["key"]] for row in rows)
    assert rows[-1]["units"] == "ffn neurons,values,pairs" and rows[-1]["recipe"] == "units mean"
    monkeypatch.undo()
    (new,) = sweep(study, [UNITS], [0.5], store=CurveStore(path))
    now = Curve.load(path).table.set_index("key")
    assert set(now.index) == {*then.index, new["key"]} and set(now["precision"]) == {"float32"}
    assert now["value"][then.index].equals(then)


def test_a_run_goes_on(study, tmp_path):
    shutil.copytree(OLD / "run", tmp_path / "run")
    then = read_log(tmp_path / "run")["rows"]
    settings = SnipSettings(iterations=2, schedule=Schedule(examples=16, batch=8, precision="float32"))
    material = Material(
        study.model, lessons_of(study, "sst2", OLD / "data"), study.calibration, study.question, study.loaded.fingerprint,
        study.loaded.tokenizer,
    )  # fmt: skip
    assert list(run_snip(material, replace(settings, iterations=1), tmp_path / "run")) == then and len(then) == 2
    rows = list(run_snip(material, settings, tmp_path / "run"))
    assert rows[:2] == then and rows[2]["iteration"] == 2 and rows[2]["share_pruned"] >= then[1]["share_pruned"]
    assert load_pruned(tmp_path / "run" / "model").squeezed.cost.parameters_left == rows[2]["parameters"]
