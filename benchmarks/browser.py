"""The app in a real process and a real browser, for the tests and the benchmark of the app."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_START_SECONDS = 180


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@contextlib.contextmanager
def running_app(cache: Path, **environment: str) -> Iterator[str]:
    """`vp app` in a process of its own with its own cache folder; yields its address."""
    port = free_port()
    env = {**os.environ, "VP_CACHE_DIR": str(cache), "HF_HUB_OFFLINE": "1", **environment}
    log = cache / "app.log"
    with log.open("wb") as output:
        command = [sys.executable, "-m", "app.cli", "app", "--port", str(port)]
        process = subprocess.Popen(
            command, env=env | {"STREAMLIT_SERVER_HEADLESS": "true"}, stdout=output, stderr=output, start_new_session=True
        )
        try:
            try:
                wait_for_app(port, lambda: process.poll() is None)
            except RuntimeError as error:
                raise RuntimeError(f"{error}:\n{log.read_text(errors='replace')}") from None
            yield f"http://127.0.0.1:{port}"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 15)
            process.wait(20)


def wait_for_app(port: int, alive: Callable[[], bool] = lambda: True) -> None:
    """Until the app on that port answers; RuntimeError if it does not, or is not alive any more."""
    deadline = time.monotonic() + _START_SECONDS
    while alive() and time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=1):
            return
        time.sleep(0.1)
    raise RuntimeError("The app did not start")


@contextlib.contextmanager
def browser_page(url: str, dark: bool = False, height: int = 1000) -> Iterator[Page]:
    """A page of the app in headless Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_FLAGS)
        context = browser.new_context(
            viewport={"width": 1440, "height": height}, color_scheme="dark" if dark else "light", accept_downloads=True
        )
        context.set_default_timeout(180_000)  # two cores, a browser that draws in software, and a model
        page = context.new_page()
        page.goto(url)
        yield page
        browser.close()


def wait_for_exact(page: Page, seconds: float = 240) -> str:
    """The line under the score once it is exact: interval, n and seconds."""
    line = page.locator(".st-key-score :text('95 % interval')").first
    line.wait_for(timeout=seconds * 1000)
    page.wait_for_function(
        "() => { const t = document.querySelector('.st-key-score')?.innerText || ''; "
        "return t.includes('95 % interval') && !t.includes('going on') }",
        timeout=seconds * 1000,
    )
    return line.inner_text()


def drag_slider(page: Page, position: int, steps: int = 8, release: bool = True) -> None:
    """Take the slider's thumb with the mouse and move it to a position, 0..100."""
    slider = page.locator(".vp-slider input")
    now = int(slider.input_value())
    box = slider.bounding_box()
    assert box
    thumb = 16.0
    x = [box["x"] + thumb / 2 + (box["width"] - thumb) * p / 100 for p in (now, position)]
    y = box["y"] + box["height"] / 2
    page.mouse.move(x[0], y)
    page.mouse.down()
    page.mouse.move(x[1], y, steps=steps)
    if release:
        page.mouse.up()
