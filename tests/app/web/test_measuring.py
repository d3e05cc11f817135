"""Measurements: one at a time, what is missing, what is kept; on the tiny BERT."""

from dataclasses import replace

import pytest

from analysis.precision import FORMS
from app.web.measuring import Measurements, Wanted
from vp_core.asking.evaluate import score
from vp_core.curves import CurveStore
from vp_core.ground.errors import VPError
from vp_core.ground.names import PRECISIONS
from vp_core.ground.work import TURNS
from vp_core.recipes import Recipe

RECIPE = Recipe()


@pytest.fixture
def wanted(studies):
    return Wanted(studies["bert"], RECIPE, "float32", batch=2, length=8, repeats=2, sparsities=(0.0, 0.4), here=0.4)


def finished(measurements):
    _, job = measurements.last()
    job.wait(10**9, timeout=240)
    assert job.done and job.error is None
    return job


def test_a_measurement_from_start_to_end(wanted):
    measurements, keep = Measurements(), CurveStore()
    found = measurements.found(wanted)
    assert found.missing(wanted) == ((0.0, 0.4), True)
    assert measurements.start(wanted, keep, "me")
    job = finished(measurements)
    assert len(job.items) == job.total == 2 * 2 + 2 + 6
    assert found.missing(wanted) == ((), False)
    assert {(row["sparsity"], row["form"], row["repeats"]) for row in found.all_speeds()} == {
        (sparsity, form, 2) for sparsity in (0.0, 0.4) for form in ("dense", "masked", "squeezed")
    }
    rows = {(row["form"], row["precision"]): row for row in found.all_precisions()}
    assert set(rows) == {(form, precision) for form in FORMS for precision in PRECISIONS}
    study = wanted.study
    assert rows["squeezed", "int8"]["score"] == score(study.squeezed(RECIPE, 0.4), study.question, "int8").value
    assert rows["squeezed", "float32"]["score"] == study.score(RECIPE, 0.4).value
    # They are the points of every other page, in every precision.
    for precision in PRECISIONS:
        point = keep.get(study.key(RECIPE, 0.4, precision))
        assert point and point["value"] == rows["squeezed", precision]["score"] == study.score(RECIPE, 0.4, precision).value
        assert keep.get(study.key(RECIPE, 0.0, precision))


def test_only_what_is_missing_is_measured(wanted):
    measurements, keep = Measurements(), CurveStore()
    measurements.start(wanted, keep, "me")
    finished(measurements)
    further = replace(wanted, sparsities=(0.0, 0.4, 0.7), here=0.7)
    assert measurements.found(further).missing(further) == ((0.7,), True)
    measurements.start(further, keep, "me")
    assert finished(measurements).total == 2 + 2 + 6
    more, other = replace(wanted, repeats=3), replace(wanted, precision="bfloat16")
    assert measurements.found(more).missing(more) == ((0.0, 0.4), True)
    assert measurements.found(other).missing(other) == ((0.0, 0.4), False)
    longer = replace(wanted, length=9)
    assert measurements.found(longer).missing(longer) == ((0.0, 0.4), True)


def test_one_at_a_time_and_whoever_waits_for_a_score_goes_first(wanted):
    measurements, keep = Measurements(), CurveStore()
    with TURNS.first():
        assert measurements.start(wanted, keep, "first")
        assert not measurements.start(replace(wanted, length=4), keep, "second")
        _, job = measurements.last()
        job.wait(0, timeout=0.5)
        assert not job.items and not job.done  # it waits at the gate
    finished(measurements)
    assert measurements.start(replace(wanted, length=4), keep, "second")
    measurements.last()[1].cancel("second")
    measurements.last()[1].wait(10**9, timeout=240)
    assert measurements.last()[1].done


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"length": 10_000}, "tokens at most, not 10000"),
        ({"batch": 100_000}, "choose at most 4096 texts"),
        ({"repeats": 1000}, "choose at most 100"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence(wanted, change, says):
    wanted.check()
    with pytest.raises(VPError, match=says) as error:
        replace(wanted, **change).check()
    assert "\n" not in str(error.value)


def test_what_single_zeros_save(wanted):
    measurements = Measurements()
    assert wanted.some_gone == (0.4,)
    with TURNS.first():
        assert measurements.start_zeros(wanted, "me")
        assert not measurements.start_zeros(wanted, "another") and not measurements.start(wanted, CurveStore(), "third")
    job, found = finished(measurements), measurements.found(wanted)
    assert len(job.items) == job.total == 2 and set(found.zeros) == {0.4}
    assert [row["form"] for row in found.all_zeros()][:2] == ["dense", "zeros"] and found.all_zeros()[0]["repeats"] == 2
    assert found.missing(wanted) == ((0.0, 0.4), True)  # of speeds nothing is known yet
