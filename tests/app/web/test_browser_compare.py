"""The page Compare in a real browser: compute, watch the lines grow, stop, take the numbers away."""

import csv
import io
import re
from urllib.parse import urlencode

import pytest
from pages import IN_A_BROWSER

from benchmarks.browser import browser_page

pytestmark = [*IN_A_BROWSER, pytest.mark.slow]

_DRAWN = "() => document.querySelectorAll('.vp-figure[data-ready]').length === 1"
_POINTS = """() => Object.fromEntries(document.querySelector('.vp-canvas')._fullData
    .filter(t => t.mode === 'lines+markers').map(t => [t.name, t.x.length]))"""


def rows(page, name) -> list[dict[str, str]]:
    with page.expect_download() as download:
        page.get_by_role("button", name=name).click()
    return list(csv.DictReader(io.StringIO(download.value.path().read_text())))


def test_lines_grow_stop_and_stay(own_app, short_demo):
    with browser_page(f"{own_app}/compare?{urlencode(short_demo)}&calibration=64&recipes=paper,units+mean") as page:
        page.wait_for_function(_DRAWN)
        assert page.evaluate(_POINTS) == {}
        page.get_by_role("button", name="Compute").click()
        page.get_by_text(re.compile(r"[1-9]\d* of 20 points.* · (paper|units mean) at \d+%")).wait_for()
        page.get_by_role("button", name="Stop").click()
        stopped = page.get_by_text(re.compile(r"\d+ of 20 points are known and kept"))
        stopped.wait_for()
        known = int(re.match(r"\d+", stopped.inner_text()).group())
        assert 1 <= known < 20
        page.get_by_role("button", name="Compute").click()
        page.get_by_text("All 20 points are known").wait_for()
        page.wait_for_function(f"() => ({_POINTS})()['units mean'] === 10")
        assert page.evaluate(_POINTS) == {"paper": 10, "units mean": 10}
        points, table = rows(page, "Points as CSV"), rows(page, "Table as CSV")
        assert len(points) == 20 and {p["line"] for p in points} == {"paper", "units mean"}
        assert [row["line"] for row in table] == ["paper", "units mean"]
        assert float(table[1]["area"]) > float(table[0]["area"])  # units lose less than rows do
        page.reload()
        page.get_by_text("All 20 points are known").wait_for()


def test_masks_of_weights_are_drawn(app):
    with browser_page(f"{app}/weights?units=weights&sparsity=0.5&over=by+random", height=2600) as page:
        page.wait_for_function("() => document.querySelectorAll('.vp-figure[data-ready]').length >= 6", timeout=240_000)
        assert "5,308,416 of 10,616,832 weights are gone" in page.locator("body").inner_text()
        assert page.get_by_text("KeyError").count() == 0
