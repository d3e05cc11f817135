"""The page Sub-layers in a real browser: move a slider, see blocks go off and the score change, take the numbers away."""

import csv
import io

import pytest
from pages import IN_A_BROWSER

from benchmarks.browser import browser_page, wait_for_exact

pytestmark = [*IN_A_BROWSER, pytest.mark.slow]

# Figures are found by what is in them: a trace `off`, four drawings with shared axes, heat maps of σ.
_FIGURES = "[...document.querySelectorAll('.vp-canvas')].filter((c) => c._fullData)"
_OFF = f"() => {_FIGURES}.map((c) => c._fullData.find((t) => t.name === 'off')).filter(Boolean)[0]?.x.length ?? -1"
_EPSILON = f"() => {_FIGURES}.map((c) => c._fullData.find((t) => t.name === 'ε')).filter(Boolean)[0]?.x[0]"
_SIDE_BY_SIDE = f"() => {_FIGURES}.some((c) => c._fullLayout.xaxis4 && c._fullLayout.title.text.includes('function norms'))"
_HEAT_MAPS = f"() => {_FIGURES}.filter((c) => c._fullLayout.title.text.startsWith('σ(W)')).length === 2"
_CROSSES = "() => document.querySelectorAll('.vp-canvas .scatterlayer .points path').length"

_METRIC = ".st-key-score [data-testid='stMetricValue']"
_OTHER_SCORE = f"""(before) => {{
    const shown = document.querySelector("{_METRIC}")?.innerText ?? ""
    return shown.includes("%") && shown !== before }}"""


def drag(page, label: str, to: float) -> None:
    """Take the thumb of a slider with the mouse and put it at a share of the track."""
    knob = page.get_by_role("slider", name=label).locator("xpath=../..")  # the input itself is hidden in it
    box, track = knob.bounding_box(), knob.locator("xpath=..").bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] / 2, y)
    page.mouse.down()
    page.mouse.move(track["x"] + track["width"] * to, y, steps=6)
    page.mouse.up()


def score(page) -> float:
    wait_for_exact(page)
    return float(page.locator(_METRIC).inner_text().removesuffix(" %"))


def test_a_slider_turns_blocks_off_and_the_score_follows(own_app):
    with browser_page(f"{own_app}/sublayers?calibration=128") as page:
        page.wait_for_function(f"() => ({_OFF})() > 0")
        few, before = page.evaluate(_OFF), score(page)
        page.wait_for_function(_SIDE_BY_SIDE)
        page.wait_for_function(_HEAT_MAPS)
        page.get_by_text("against dense").wait_for()
        drag(page, "ε of heads", 1.0)
        page.wait_for_url("**eps_attention=**")
        page.wait_for_function(f"() => ({_OFF})() === 72")
        page.get_by_text("72 of 72 heads").wait_for()
        page.wait_for_function(_OTHER_SCORE, arg=f"{before} %")
        after = score(page)
        assert few < 72 and before > 80 and after < before - 5
        epsilon = float(page.get_by_role("slider", name="ε of heads").get_attribute("aria-valuetext"))
        page.wait_for_function(f"(epsilon) => ({_EPSILON})() === epsilon", arg=epsilon)
        page.wait_for_function(f"() => ({_CROSSES})() >= 72")  # drawn, not only known
        with page.expect_download() as download:
            page.get_by_role("button", name="CSV").first.click()
        rows = list(csv.DictReader(io.StringIO(download.value.path().read_text())))
        assert len(rows) == 84 and sum(row["off"] == "True" for row in rows) == 72
        page.reload()  # the address holds it all
        page.wait_for_function(f"() => ({_OFF})() === 72")
        assert score(page) == after
