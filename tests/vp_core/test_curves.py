"""Sweeps: every point once, kept as soon as it is finished, by any number of threads and processes."""

import threading
from dataclasses import replace

import numpy as np
import pytest
import tiny
from cancelling import after, until_cancelled

import vp_core.study
from vp_core.curves import COLUMNS, Curve, CurveStore, curve, known_point, order_of_points, score_of, sweep
from vp_core.ground.errors import VPError
from vp_core.ground.work import work
from vp_core.opening.study import open_study
from vp_core.recipes import Recipe

SPARSITIES = [0, 0.25, 0.5, 0.75]
CRITERIA = ["variance", "random", "magnitude"]


@pytest.fixture
def calls(monkeypatch):
    """A list that grows by one with every evaluation."""
    real, made = vp_core.study.evaluate, []

    def counted(*arguments, **named):
        made.append(arguments)
        return real(*arguments, **named)

    monkeypatch.setattr(vp_core.study, "evaluate", counted)
    return made


@pytest.mark.parametrize("n", [0, 1, 2, 3, 5, 10, 11, 64])
def test_order_covers_every_point_once_ends_first(n):
    sparsities = [i / 100 for i in range(n)]
    points = [(r.criterion, s) for r, s in order_of_points(CRITERIA, sparsities, Recipe(seed=3))]
    assert sorted(points) == sorted((c, s) for c in CRITERIA for s in sparsities)
    if n > 2:
        assert [s for c, s in points if c == "random"][:3] == [sparsities[0], sparsities[-1], sparsities[(n - 1) // 2]]
    assert all(r.seed == 3 for r, _ in order_of_points(CRITERIA, sparsities, Recipe(seed=3)))


def test_every_point_is_the_score_by_itself(study, calls):
    rows = list(sweep(study, CRITERIA, SPARSITIES))
    assert len(rows) == 12 and len(calls) == 10  # sparsity 0 is the dense model whatever the criterion
    for row in rows:
        recipe = Recipe(row["criterion"])
        alone = study.score(recipe, row["sparsity"])
        assert (row["value"], row["low"], row["high"], row["n"]) == (alone.value, alone.low, alone.high, 210)
        assert replace(score_of(row), seconds=0) == replace(alone, seconds=0)
        assert score_of(row).right.tolist() == alone.right.tolist()
        cost = study.cost(recipe, row["sparsity"])
        assert (row["rows_removed"], row["parameters_removed"]) == (cost.rows_removed, cost.parameters_removed)
    table = curve(rows).table
    assert tuple(table.columns) == COLUMNS
    assert table["criterion"].tolist() == [c for c in sorted(CRITERIA) for _ in SPARSITIES]
    assert table["sparsity"].tolist() == SPARSITIES * 3


def test_nothing_is_computed_twice(study, calls, tmp_path):
    first = list(sweep(study, CRITERIA, SPARSITIES, store=CurveStore(tmp_path / "c.parquet")))
    before = len(calls)
    again = list(sweep(study, CRITERIA, SPARSITIES, store=CurveStore(tmp_path / "c.parquet")))
    assert len(calls) == before
    assert curve(again).table.drop(columns="right").equals(curve(first).table.drop(columns="right"))
    list(sweep(study, ["variance"], [0, 0.1, 0.5], store=CurveStore(tmp_path / "c.parquet")))
    assert len(calls) == before + 1  # 0.1 alone is new
    for recipe in (Recipe(scope="global"), Recipe(replacement="zero"), Recipe(types=("query",)), Recipe(estimator="ewmv")):
        before = len(calls)
        list(sweep(study, ["variance"], [0, 0.5], recipe, CurveStore(tmp_path / "c.parquet")))
        assert len(calls) == before + 1, recipe  # another question: not the stored answer, but the dense point is known


def test_interrupted_sweep_keeps_what_is_finished(study, monkeypatch, tmp_path):
    path, real, made = tmp_path / "c.parquet", vp_core.study.evaluate, []

    def interrupted(*arguments, **named):
        made.append(1)
        if len(made) == 3:
            raise KeyboardInterrupt
        return real(*arguments, **named)

    monkeypatch.setattr(vp_core.study, "evaluate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(sweep(study, ["variance"], SPARSITIES, store=CurveStore(path)))
    kept = Curve.load(path).table
    assert sorted(kept["sparsity"]) == [0, 0.75]
    rows = list(sweep(study, ["variance"], SPARSITIES, store=CurveStore(path)))
    assert len(made) == 3 + 2 and len(rows) == 4
    assert len(Curve.load(path).table) == 4
    assert tiny.hooks(study.model) == 0


def test_cancelled_in_the_middle_of_a_point_keeps_no_half_point(study, tmp_path):
    path = tmp_path / "c.parquet"
    with work(cancelled=after(24)):
        rows = until_cancelled(sweep(study, ["variance"], SPARSITIES, store=CurveStore(path)))
    assert 0 < len(rows) < 4
    assert (Curve.load(path).table["n"] == 210).all() and len(Curve.load(path).table) == len(rows)


ADD = """
import sys
from vp_core.curves import COLUMNS, CurveStore
store = CurveStore(sys.argv[1])
for i in range(8):
    row = dict.fromkeys(COLUMNS, 0) | {"criterion": sys.argv[2], "key": f"{sys.argv[2]} {i}", "sparsity": i / 8}
    words = ("metric", "scope", "replacement", "types", "estimator", "precision", "others", "model", "task")
    store.add(row | dict.fromkeys(words, "x") | {"right": b"\\x00\\xff"})
"""


def test_two_processes_lose_nothing(python, tmp_path):
    path = tmp_path / "c.parquet"
    running = [python(ADD, path, name) for name in ("one", "two")]
    for process in running:
        _, error = process.communicate()
        assert process.returncode == 0, error
    keys = Curve.load(path).table["key"].tolist()
    assert sorted(keys) == sorted(f"{name} {i}" for name in ("one", "two") for i in range(8))
    assert sorted(p.name for p in tmp_path.iterdir()) == [".c.parquet.lock", "c.parquet"]  # nothing half written


def test_broken_file_is_refused_and_left(tmp_path, study):
    path = tmp_path / "c.parquet"
    path.write_bytes(b"PAR1 this is not a table")
    with pytest.raises(VPError, match="cannot be read as a curve") as caught:
        CurveStore(path)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == b"PAR1 this is not a table"
    path.unlink()
    store = CurveStore(path)
    path.write_bytes(b"spoiled meanwhile")
    with pytest.raises(VPError):
        list(sweep(study, ["variance"], [0], store=store))
    assert path.read_bytes() == b"spoiled meanwhile"
    with pytest.raises(VPError, match="is not there"):
        CurveStore(tmp_path / "no" / "c.parquet")


def test_a_regression_has_no_right_ones_after_the_file_either(study, tmp_path):
    row = next(sweep(study, ["variance"], [0.5])) | {"right": None, "key": "k"}
    CurveStore(tmp_path / "c.parquet").add(row)
    assert score_of(CurveStore(tmp_path / "c.parquet").get("k")).right is None
    # and also when other points of the same file have some
    CurveStore(tmp_path / "c.parquet").add(row | {"key": "l", "right": b"\xff" * 27})
    again = CurveStore(tmp_path / "c.parquet")
    assert score_of(again.get("k")).right is None and score_of(again.get("l")).right.tolist() == [True] * 210


def test_dense_point_is_shown_under_every_recipe(study):
    store = CurveStore()
    list(sweep(study, ["variance"], [0], store=store))
    other = Recipe("random", "global", "zero", ("key",), seed=5)
    row = known_point(study, other, 0, "float32", store)
    assert (row["criterion"], row["scope"], row["replacement"], row["types"], row["seed"]) == (
        "random",
        "global",
        "zero",
        "key",
        5,
    )
    assert row["rows_removed"] == 0
    assert known_point(study, other, 0.5, "float32", store) is None
    assert known_point(study, other, 0, "bfloat16", store) is None


def test_threads_with_different_recipes_get_what_each_gets_alone(folders, data):
    recipes = [Recipe(), Recipe("magnitude", "global", "zero"), Recipe("random", seed=2), Recipe(types=("value", "ffn_in"))]
    alone = [[open_study(str(folders["bert"]), "sst2", data).score(r, s).right for s in SPARSITIES] for r in recipes]
    study = open_study(str(folders["bert"]), "sst2", data)
    before = tiny.sha(study.model)
    found, store = [None] * len(recipes), CurveStore()

    def work(i):
        rows = list(sweep(study, [recipes[i].criterion], SPARSITIES, recipes[i], store))
        found[i] = {row["sparsity"]: score_of(row).right for row in rows}

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(recipes))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for expected, mine in zip(alone, found, strict=True):
        for sparsity, right in zip(SPARSITIES, expected, strict=True):
            assert np.array_equal(mine[sparsity], right)
    assert len({tuple(a[1].tolist()) for a in alone}) > 1  # the recipes do differ
    assert (tiny.sha(study.model), tiny.hooks(study.model)) == (before, 0)


def test_bad_sparsities_and_criteria_before_any_work(study, calls):
    for bad in ([0.1, 1.2], ["abc"]):
        with pytest.raises(VPError):
            list(sweep(study, ["variance"], bad))
    with pytest.raises(VPError):
        list(sweep(study, ["luck"], [0.5]))
    assert not calls
