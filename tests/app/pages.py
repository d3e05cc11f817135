"""Pages in Streamlit's own test harness: opened, and run again as a browser does."""

import time
from collections.abc import Callable
from pathlib import Path

from streamlit.testing.v1 import AppTest

VIEWS = Path(__file__).parents[2] / "app" / "views"
PATIENCE = 240.0
"""Seconds; a job takes as long as the machine's other work lets it."""


def open_page(view: str, **query: str) -> AppTest:
    """Run the page of that view with these parameters in its address."""
    at = AppTest.from_file(str(VIEWS / f"{view}.py"), default_timeout=120)
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
