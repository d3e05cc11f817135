"""The benchmark of the app finishes whatever a page shows, and says what it saw; no browser is needed for that."""

import pytest
from playwright.sync_api import Error

from benchmarks import app
from benchmarks.app import Seen, tell_all, tell_one, wait

QUICK = Seen(0.25, 2.0, ("covariances 1.5 s",), "95 % interval 90.0 % to 93.0 %")
LATE = Seen(4.0, None, (), "95 % interval 80.0 % to 99.0 %, n = 64 of 1,000, going on")
NEVER = Seen(None, None, (), "Measuring …")


def test_milliseconds_of_the_page_are_seconds_here():
    times = {"start": 1000.0, "first": 1250.0, "exact": 3000.0, "stages": ["covariances 1.5 s"], "said": QUICK.said}
    assert Seen.of(times) == QUICK
    assert Seen.of({"start": 0.0, "first": 4000.0, "said": LATE.said}) == LATE  # `exact` never came


def test_what_did_not_come_is_counted_and_what_the_page_said_is_told(capsys):
    tell_all("release", [QUICK, QUICK, LATE, NEVER], ("-", "-"))
    first95, first50, never, exact95, exact50, late = capsys.readouterr().out.splitlines()
    assert "p95 of 3" in first95 and " 3625.00 ms" in first95  # between 250 and 4000, nine tenths of the way
    assert " 250.00 ms" in first50
    assert never == "release: the first score did not come 1 times of 4; the page said: Measuring …"
    assert " 2000.00 ms" in exact95 and " 2000.00 ms" in exact50
    assert late == f"release: the exact score did not come 2 times of 4; the page said: {LATE.said}"


def test_nothing_at_all_is_told_too(capsys):
    tell_one("click", NEVER, ("<= 10", "-"))
    assert capsys.readouterr().out.count("did not come within 600 s; the page said: Measuring …") == 2
    tell_all("release", [], ("-", "-"))
    assert capsys.readouterr().out == ""


def test_stages_stand_below_with_their_seconds(capsys):
    tell_one("click", QUICK, ("<= 10", "-"))
    first, exact, stage = capsys.readouterr().out.splitlines()
    assert " 0.25 s " in first and "<= 10" in first and " 2.00 s " in exact and stage == "    covariances 1.5 s"


class Page:
    """A page on which nothing ever comes true."""

    def wait_for_function(self, condition, timeout):
        assert timeout == 20
        raise Error("Timeout 20ms exceeded.")

    def evaluate(self, script):
        return {"start": 0.0, "said": "Measuring …"}


def test_patience_ends_without_an_error():
    assert wait(Page(), "() => false", 0.02) is False
    assert app.seen(Page(), 0.02) == NEVER


@pytest.mark.parametrize("seconds", [0, -5])
def test_no_time_left_is_not_forever(seconds):
    class Asked(Page):
        def wait_for_function(self, condition, timeout):
            assert timeout > 0  # 0 would be: without end
            raise Error("Timeout")

    assert wait(Asked(), "() => false", seconds) is False
