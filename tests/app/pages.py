"""Pages in Streamlit's own test harness: opened, and run again as a browser does; and what tests in a real browser need."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from benchmarks.browser import CHROMIUM, wait_for_exact

IN_A_BROWSER = [
    pytest.mark.skipif(
        CHROMIUM is None and "VP_REQUIRE_BROWSER" not in os.environ, reason="needs Chromium: apt-get install chromium"
    ),
    # Server, model and a browser that draws in software share two cores: a page may miss its time once, not three times.
    # What is tried again must find the app as it was: a test of what is there only once has an app of its own (`own_app`).
    pytest.mark.flaky(reruns=2),
    pytest.mark.xdist_group("browser"),  # one browser at a time
]
VIEWS = Path(__file__).parents[2] / "app" / "web" / "views"
PATIENCE = 480.0
"""Seconds; a job takes as long as the machine's other work lets it."""


def open_page(view: str, **query: str) -> AppTest:
    """Run the page of that view with these parameters in its address."""
    at = AppTest.from_file(str(VIEWS / f"{view}.py"), default_timeout=300)
    for name, value in query.items():
        at.query_params[name] = value
    return at.run()


def until(at: AppTest, ready: Callable[[AppTest], object], pause: float = 0.3) -> AppTest:
    """Run again, as the browser's polling does, until something is there; nothing may go wrong before."""
    end = time.monotonic() + PATIENCE
    while not ready(at):
        assert not at.exception and not at.error, [*at.exception, *at.error]
        assert time.monotonic() < end, "it never came"
        time.sleep(pause)  # each run draws the page, on the cores that work for it
        at.run()
    assert not at.exception
    return at


def ready(page):
    """The page Explore in a browser, once its score is exact and its four figures are drawn."""
    wait_for_exact(page)
    page.wait_for_function("() => document.querySelectorAll('.vp-figure[data-ready]').length === 4", timeout=240_000)
    return page
