"""A study that keeps what it measured: another one has the same numbers to the bit, and measures nothing."""

import pytest
import tiny

from vp_core.carry_out import Stage
from vp_core.measuring.measured import Measured
from vp_core.opening.study import open_study
from vp_core.recipes import RECIPES
from vp_core.replacing.ladder import Consumers


@pytest.fixture
def opened(folders, data):
    return lambda: open_study(str(folders["bert"]), "sst2", data, calibration=64)


@pytest.fixture
def nothing_measured(monkeypatch):
    def refuse(*arguments):
        raise AssertionError("measured again")

    for name in ("_covariances", "_gradients"):
        monkeypatch.setattr(Measured, name, refuse)
    monkeypatch.setattr(Stage, "_losses", refuse)
    monkeypatch.setattr(Consumers, "_factor", refuse)


@pytest.mark.parametrize("recipe", ["best", "units least squares"])
def test_the_next_who_opens_it_has_the_same_model_and_measures_nothing(opened, tmp_path, recipe, request):
    plain = opened()
    kept = plain.kept_in(tmp_path / "shelf")
    wanted = {sparsity: tiny.sha(plain.pruned(RECIPES[recipe], sparsity)) for sparsity in (0.3, 0.5)}
    assert not (tmp_path / "shelf").exists()  # whoever does not ask for it has nothing on disk
    assert {sparsity: tiny.sha(kept.pruned(RECIPES[recipe], sparsity)) for sparsity in wanted} == wanted
    request.getfixturevalue("nothing_measured")
    again = opened().kept_in(tmp_path / "shelf")
    assert {sparsity: tiny.sha(again.pruned(RECIPES[recipe], sparsity)) for sparsity in wanted} == wanted
    assert again.unit_shares(RECIPES[recipe], [0.2, 0.4]) == plain.unit_shares(RECIPES[recipe], [0.2, 0.4])


def test_statistics_of_both_estimators(opened, tmp_path, monkeypatch):
    kept = opened().kept_in(tmp_path)
    found = {name: kept.statistics(name) for name in ("exact", "ewmv")}
    monkeypatch.setattr("vp_core.measuring.measured.collect", None)
    again = opened().kept_in(tmp_path)
    for estimator, statistics in found.items():
        other = again.statistics(estimator)
        assert (other.estimator, other.tokens, other.model, other.data) == (
            estimator, statistics.tokens, statistics.model, statistics.data,
        )  # fmt: skip
        assert all(other.variance(name).equal(statistics.variance(name)) for name in statistics.moments)


def test_other_texts_are_measured_by_themselves(opened, tmp_path, folders, data):
    first = opened().kept_in(tmp_path)
    others = open_study(str(folders["bert"]), "sst2", data, calibration=32)
    recipe = RECIPES["units least squares"]
    wanted = tiny.sha(others.pruned(recipe, 0.5))
    assert tiny.sha(first.pruned(recipe, 0.5)) != wanted
    assert tiny.sha(others.kept_in(tmp_path).pruned(recipe, 0.5)) == wanted
