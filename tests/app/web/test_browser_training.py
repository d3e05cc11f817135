"""The page Training in a real browser: a run that prunes is started, stopped, gone on with, and opened on Explore."""

import re

import pytest
from pages import IN_A_BROWSER

from benchmarks.browser import browser_page

pytestmark = [*IN_A_BROWSER, pytest.mark.slow]

# Figures are found by what is in them: three drawings below each other, a heat map with a slider over its pictures.
_FIGURES = "[...document.querySelectorAll('.vp-canvas')].filter((c) => c._fullData)"
_LINES = f"{_FIGURES}.find((c) => c._fullLayout.yaxis3)"
_FILM = f"{_FIGURES}.find((c) => c._fullLayout.sliders?.length)"
_PICTURES = f"() => {_FILM}?._transitionData._frames.length ?? 0"
_SUM = f"() => {_FILM}._fullData[0].z.flat().reduce((a, b) => a + b)"
_GONE = f"() => Math.max(0, ...({_LINES}?._fullData.find((t) => t.yaxis === 'y3')?.y ?? []))"


def step(page) -> int:
    return int(re.search(r"step (\d+) of", page.locator(".st-key-training-run").inner_text())[1])


def button(page, name: str):
    return page.get_by_role("button", name=name, exact=True)


def test_a_run_is_watched_stopped_gone_on_with_and_opened(own_app):
    with browser_page(f"{own_app}/training?calibration=64&train_steps=60&mini_batch=8&lr=0.0003", height=1200) as page:
        button(page, "Start").click()
        page.get_by_text(re.compile(r"step \d+ of 60 · about")).wait_for()
        page.wait_for_function(f"() => ({_PICTURES})() >= 2")  # two cuts, while it goes on
        button(page, "Stop").click()
        button(page, "Go on").wait_for()
        reached = step(page)
        assert 12 <= reached < 60 and page.evaluate(_GONE) >= 20
        button(page, "Go on").click()
        button(page, "Open on Explore").wait_for()
        page.get_by_text("of the encoder's linear parameters gone").wait_for()
        page.wait_for_function(f"() => ({_GONE})() === 50")
        assert page.evaluate(_PICTURES) == 5
        last = page.evaluate(_SUM)
        film = page.locator(".vp-canvas").filter(has=page.locator(".slider-container"))
        film.locator(".slider-rail-touch-rect").click(position={"x": 3, "y": 5})  # the first picture
        page.wait_for_function(f"(last) => ({_SUM})() < last / 3", arg=last)
        score = re.search(r"accuracy ([\d.]+ %)", page.locator(".st-key-training-run").inner_text())[1]
        button(page, "Open on Explore").click()
        page.get_by_text("This model is squeezed already").wait_for()
        page.wait_for_function(
            "(score) => document.querySelector('.st-key-score [data-testid=\"stMetricValue\"]')?.innerText === score", arg=score
        )
        assert "model=" in page.url and "variance-50" in page.url
