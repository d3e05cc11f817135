"""Pages in Streamlit's own test harness: opened, and run again as a browser does; and what tests in a real browser need."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app.web.jobs import Job
from benchmarks.browser import CHROMIUM, wait_for_exact

IN_A_BROWSER = [
    pytest.mark.skipif(
        CHROMIUM is None and "VP_REQUIRE_BROWSER" not in os.environ, reason="needs Chromium: apt-get install chromium"
    ),
    # Server, model and a browser that draws in software share two cores: a page may miss its time once, not three times.
    # What is tried again must find the app as it was: a test of what is there only once has an app of its own (`own_app`).
    pytest.mark.flaky(reruns=2),
]
VIEWS = Path(__file__).parents[2] / "app" / "web" / "views"
PATIENCE = 480.0
"""Seconds; a job takes as long as the machine's other work lets it."""
LOOK_AGAIN = 5.0
"""Seconds after which a page is run again though no job has anything new: the browser asks more often."""


class Started:
    """Every job of the app that was started, and how often one of them had something new."""

    def __init__(self) -> None:
        self._jobs: list[Job] = []
        self._news, self._change = 0, threading.Condition()

    def add(self, job: Job) -> None:
        self._jobs.append(job)
        threading.Thread(target=self._follow, args=(job,), daemon=True).start()

    def _follow(self, job: Job) -> None:
        known, ended = 0, False
        while not ended:
            job.wait(known, PATIENCE)
            known, ended = len(job.items), job.done
            with self._change:
                self._news += 1
                self._change.notify_all()

    def news(self) -> int:
        """How often there was something new until now."""
        return self._news

    def wait(self, news: int) -> None:
        """Until there has been more than that."""
        with self._change:
            self._change.wait_for(lambda: self._news > news, LOOK_AGAIN)

    def cancel(self) -> None:
        """Nobody wants any of them; they end at their next step."""
        for job in self._jobs:
            job._watchers.clear()
        self._jobs.clear()


STARTED = Started()


def open_page(view: str, **query: str) -> AppTest:
    """Run the page of that view with these parameters in its address."""
    at = AppTest.from_file(str(VIEWS / f"{view}.py"), default_timeout=300)
    for name, value in query.items():
        at.query_params[name] = value
    return at.run()


def until(at: AppTest, ready: Callable[[AppTest], object]) -> AppTest:
    """Run again whenever a job has something new, until something is there; nothing may go wrong before."""
    end = time.monotonic() + PATIENCE
    while not ready(at):
        assert not at.exception and not at.error, [*at.exception, *at.error]
        assert time.monotonic() < end, "it never came"
        news = STARTED.news()
        if not ready(at.run()):
            STARTED.wait(news)
    assert not at.exception
    return at


def ready(page):
    """The page Explore in a browser, once its score is exact and its four figures are drawn."""
    wait_for_exact(page)
    page.wait_for_function("() => document.querySelectorAll('.vp-figure[data-ready]').length === 4", timeout=240_000)
    return page
