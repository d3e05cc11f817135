"""The first page of the app in a real browser, as `vp app` starts it; the other browser files say what can be done with it."""

import pytest
from pages import IN_A_BROWSER, ready
from playwright.sync_api import sync_playwright

from benchmarks import browser
from benchmarks.browser import CHROMIUM

pytestmark = IN_A_BROWSER


@pytest.fixture
def app(tmp_path):
    """`vp app` as anybody starts it."""
    with browser.running_app(tmp_path) as url:
        yield url


def test_nothing_leaves_the_machine(app):
    asked: list[str] = []
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=browser._FLAGS)
        page = chromium.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.goto(app)
        ready(page)
        chromium.close()
    assert asked and all(url.startswith((app, "data:", "blob:")) for url in asked), set(asked)
