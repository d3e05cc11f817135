"""What was saved loads equal in a fresh process; broken files give one sentence and stay where they are."""

import json

import pytest
import torch

from vp_core.curves import COLUMNS, Curve, curve, sweep
from vp_core.ground.errors import VPError
from vp_core.ground.store import atomic, digest, load_tensors, save_tensors
from vp_core.measuring.statistics import Statistics
from vp_core.ranking.plan import Plan
from vp_core.recipes import Recipe

DESCRIBE = """
import sys
from pathlib import Path
from vp_core.ranking.plan import Plan
from vp_core.measuring.statistics import Statistics
from vp_core.curves import Curve

def describe(folder):
    plan, curve = Plan.load(folder / "plan.safetensors"), Curve.load(folder / "curve.parquet")
    print(repr(plan), plan.model, repr(plan.sparsity), sorted((k, v.tolist()) for k, v in plan.keep.items()))
    for name in ("exact", "ewmv"):
        s = Statistics.load(folder / f"{name}.safetensors")
        print(s.estimator, s.model, s.data, s.tokens)
        for key in sorted(s.moments):
            print(key, s.mean(key).tolist(), s.moments[key].m2.tolist(), s.variance(key).tolist())
    for row in curve.table.to_dict("records"):
        print(sorted((k, repr(v)) for k, v in row.items()))

if __name__ == "__main__":
    describe(Path(sys.argv[1]))
"""


@pytest.fixture
def saved(study, tmp_path):
    """A folder with a plan, statistics of both kinds and a curve, and the objects themselves."""
    plan = study.plan(Recipe(scope="global"), 1 / 3)
    made = curve(list(sweep(study, ["variance", "random"], [0, 0.25, 1])))
    plan.save(tmp_path / "plan.safetensors")
    made.save(tmp_path / "curve.parquet")
    for name in ("exact", "ewmv"):
        study.statistics(name).save(tmp_path / f"{name}.safetensors")
    return tmp_path, plan, made


def test_equal_here_and_in_a_fresh_process(saved, python, capsys, study):
    folder, plan, made = saved
    assert Plan.load(folder / "plan.safetensors") == plan
    found = Curve.load(folder / "curve.parquet")
    assert found == made and tuple(found.table.columns) == COLUMNS and len(found.table) == 6
    other, error = python(DESCRIBE, folder).communicate()
    assert not error.strip().endswith("Error"), error
    here = {}
    exec(DESCRIBE.replace('if __name__ == "__main__":', "if False:"), here)
    capsys.readouterr()
    here["describe"](folder)
    assert other == capsys.readouterr().out and len(other) > 10_000
    # and what is printed is what was in memory, not only what was read back
    assert f"{plan!r}" in other and repr(study.statistics("ewmv").variance("0.query").tolist()) in other


def test_no_pickle_and_nothing_left_over(saved):
    folder, *_ = saved
    assert sorted(p.name for p in folder.iterdir()) == [
        "curve.parquet",
        "ewmv.safetensors",
        "exact.safetensors",
        "plan.safetensors",
    ]
    for path in folder.glob("*.safetensors"):
        raw = path.read_bytes()
        json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])  # a safetensors header


LOADERS = {"plan.safetensors": Plan.load, "exact.safetensors": Statistics.load, "curve.parquet": Curve.load}


@pytest.mark.parametrize("share", [0, 0.0005, 0.3, 0.999])
def test_truncated_files(saved, share):
    folder, *_ = saved
    for name, load in LOADERS.items():
        path = folder / name
        part = path.read_bytes()[: int(share * path.stat().st_size)]
        path.write_bytes(part)
        with pytest.raises(VPError) as caught:
            load(path)
        assert "\n" not in str(caught.value) and name in str(caught.value)
        assert path.read_bytes() == part


def test_wrong_and_missing_files(saved):
    folder, *_ = saved
    with pytest.raises(VPError, match="no plan"):
        Plan.load(folder / "exact.safetensors")
    with pytest.raises(VPError, match="no statistics"):
        Statistics.load(folder / "plan.safetensors")
    for name, load in LOADERS.items():
        for path in (folder / f"missing-{name}", folder):
            with pytest.raises(VPError):
                load(path)


def test_a_table_of_something_else(saved):
    folder, _, made = saved
    made.table.drop(columns="key").to_parquet(folder / "other.parquet")
    with pytest.raises(VPError, match="no curve of this tool"):
        Curve.load(folder / "other.parquet")


def test_a_failed_write_keeps_what_was_there(tmp_path):
    path = tmp_path / "x"
    path.write_text("before")
    with pytest.raises(KeyboardInterrupt), atomic(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    with pytest.raises(VPError, match="could not be written"), atomic(path) as temporary:
        raise OSError(28, "No space left on device")
    assert [p.name for p in tmp_path.iterdir()] == ["x"] and path.read_text() == "before"
    with pytest.raises(VPError, match="is not there"), atomic(tmp_path / "no" / "x"):
        pass


def test_tensors_survive_the_file(tmp_path):
    path = tmp_path / "t"
    view = torch.arange(12.0).reshape(3, 4).t()  # not contiguous
    save_tensors(path, {"a": view, "b": torch.tensor([True, False])}, "kind", {"x": "ü"})
    tensors, about = load_tensors(path, "kind")
    path.write_bytes(b"")  # the tensors must not be a window on the file
    assert torch.equal(tensors["a"], view) and tensors["b"].tolist() == [True, False] and about["x"] == "ü"


def test_digest_depends_on_every_part():
    assert digest("a", [1, 2]) == digest("a", (1, 2)) != digest("a", [2, 1])
    assert digest("ab", "c") != digest("a", "bc")
