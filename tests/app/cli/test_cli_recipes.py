"""Named recipes on the command line: the library's numbers, and a budget that is met."""

import json

import pytest

from app.cli.main import main
from vp_core.opening.study import open_study
from vp_core.recipes import RECIPES


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VP_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.mark.slow
def test_the_best_recipe_meets_its_budget(capsys, short_demo):
    where = ["demo", "--task", short_demo["task"], "--data", short_demo["data"], "--calibration", "64"]
    assert main(["eval", *where, "--recipe", "best", "--sparsity", "0.5", "--json"]) == 0
    output = capsys.readouterr()
    printed = json.loads(output.out)
    assert printed["recipe"] == "best" and printed["n"] == 200
    assert printed["parameters_removed"] / printed["parameters"] == pytest.approx(0.5, abs=0.005)
    assert "measuring what each layer loses" in output.err


def test_a_curve_of_two_recipes_has_the_librarys_numbers(capsys, folders, data):
    where = [str(folders["bert"]), "--task", "sst2", "--data", str(data)]
    assert main(["curve", *where, "--recipes", "paper,best", "--sparsities", "0,0.5", "--json"]) == 0
    found = {(p["recipe"], p["sparsity"]): p for p in json.loads(capsys.readouterr().out)}
    assert sorted(found) == [("best", 0.0), ("best", 0.5), ("paper", 0.0), ("paper", 0.5)]
    study = open_study(str(folders["bert"]), "sst2", data)
    for (name, sparsity), printed in found.items():
        assert printed["value"] == study.score(RECIPES[name], sparsity).value
        assert printed["parameters_removed"] == study.cost(RECIPES[name], sparsity).parameters_removed
    assert found["paper", 0.0]["value"] == found["best", 0.0]["value"]
    best = found["best", 0.5]
    assert best["parameters_removed"] / best["parameters"] == pytest.approx(0.5, abs=0.01)  # units of a tiny model are large


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--recipe", "worst"], "Unknown recipe 'worst'"),
        (["--units", "ffn neurons,noses"], "Unknown kind of unit 'noses'"),
        (["--units", "ffn"], "The unit 'ffn' is now 'ffn neurons'"),
        (["--units", "values,heads"], "have rows in common"),
        (["--basis", "principal"], "Single rows are pruned as they are"),
        (["--budget", "money"], "Unknown budget 'money'"),
        (["--steps", "many"], "'many' is no whole number"),
        (["--steps", "99"], "Pruning in 99 steps is not possible"),
        (["--units", "pairs", "--criterion", "magnitude", "--sparsity", "0.9"], "These units can save"),
    ],
)
def test_bad_recipes_are_one_sentence_and_exit_code_2(capsys, arguments, says):
    assert main(["eval", "demo", "--calibration", "4", *arguments]) == 2
    output = capsys.readouterr()
    (sentence,) = [line for line in output.err.splitlines() if line.startswith("vp: ")]
    assert says in sentence and output.out == "" and "Traceback" not in output.err
