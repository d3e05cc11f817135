"""What a computation says it is at, as a list with seconds and as a line."""

import pytest

from app.web import stages
from app.web.stages import Stages, as_list, in_a_line
from vp_core.ground.work import Doing, say, work


@pytest.fixture
def clock(monkeypatch):
    """A clock that is set by hand."""

    class Clock:
        now = 100.0

    monkeypatch.setattr(stages.time, "monotonic", lambda: Clock.now)
    return Clock


@pytest.fixture
def found(clock):
    """Two seconds of covariances, and three of six matrices solved."""
    found = Stages()
    with work(hear=found.hear):
        say("measuring covariances (243 MB)")
        clock.now += 1
        say("measuring covariances: batch", 4, 4)
        clock.now += 1
        say("solving what stays: matrix", 3, 6)
        clock.now += 0.5
    return found


def test_a_stage_is_what_stands_before_a_colon(found):
    assert [(one.name, one.seconds) for one in found.all] == [("measuring covariances", 2), ("solving what stays", 0.5)]
    assert (found.now, found.stage) == ("solving what stays: matrix 3 of 6", "solving what stays")
    assert [one.name for one in found.over()] == ["measuring covariances"]
    found.end()
    assert (found.now, found.stage, len(found.over())) == ("", "", 2)


def test_what_comes_again_later_goes_on(found, clock):
    before = found.over()
    found.hear(Doing("measuring covariances"))
    clock.now += 3
    assert found.stage == "measuring covariances" and [one.seconds for one in found.all] == [5, 0.5]
    found.end()
    clock.now += 9
    assert [one.seconds for one in found.all] == [5, 0.5] and [one.seconds for one in before] == [2]


def test_the_list_has_seconds_of_what_is_over_and_a_bar_of_what_goes_on(found):
    shown = as_list(found.all)
    assert "<span>Measuring covariances</span> <span>2.0 s</span>" in shown
    assert "<span>Solving what stays: matrix 3 of 6 …</span>" in shown and "width: 50%" in shown
    assert shown.count("vp-bar") == 1 and as_list([]) == ""


def test_what_is_said_is_text_and_no_markup():
    found = Stages()
    found.hear(Doing("loading <b>x</b>"))
    assert "&lt;b&gt;x" in as_list(found.all) and "vp-bar" not in as_list(found.all)


def test_a_line_of_what_took_a_while(found, clock):
    found.hear(Doing("turning heads"))
    clock.now += 0.01
    found.end()
    assert in_a_line(found.all) == "measuring covariances 2.0 s · solving what stays 0.5 s"
    assert in_a_line(found.all[2:]) == ""
