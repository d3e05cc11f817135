"""Takes the pictures of the app: `python -m docs.make_screenshot [app] [text] [images] [runs]`, all of them without a name.

They are docs/app.png, app_text.png, app_images.png and identity_runs.png.
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from playwright.sync_api import Page

from benchmarks.browser import browser_page, drag_slider, running_app, wait_for_exact

DOCS = Path(__file__).parent
RUNS = [f"sst2-{mode}{sn}" for mode in ("joint", "heads", "ffn") for sn in ("", "-sn")]
"""The paper's fig. 3."""


def take_explore(page: Page) -> None:
    wait_for_exact(page)
    page.wait_for_function("() => !document.body.innerText.includes(' of 30 points')", timeout=300_000)
    drag_slider(page, 25)
    page.wait_for_url("**sparsity=0.25**")
    page.wait_for_timeout(500)
    wait_for_exact(page)
    page.wait_for_timeout(1500)
    page.screenshot(path=str(DOCS / "app.png"))


def take_text(page: Page) -> None:
    """A language model: perplexity at the slider, and a text read token by token."""
    wait_for_exact(page)
    page.wait_for_function("() => document.querySelectorAll('.vp-text i').length === 2", timeout=120_000)
    page.wait_for_function("() => !document.body.innerText.includes(' of 30 points')", timeout=300_000)
    page.locator(".vp-text").nth(1).locator(".vp-token").nth(8).hover()
    page.wait_for_timeout(1500)
    page.screenshot(path=str(DOCS / "app_text.png"))


def take_images(page: Page) -> None:
    """An image classifier: two metrics on one chart, and an image with what both models see in it."""
    wait_for_exact(page)
    page.wait_for_function("() => document.querySelectorAll('.vp-seen').length === 1", timeout=120_000)
    page.wait_for_function("() => !document.body.innerText.includes(' of 30 points')", timeout=300_000)
    page.wait_for_timeout(1500)
    page.screenshot(path=str(DOCS / "app_images.png"))


def take_runs(page: Page) -> None:
    figure = page.locator(".st-key-runs-score")
    figure.scroll_into_view_if_needed(timeout=120_000)
    page.wait_for_timeout(3000)
    figure.screenshot(path=str(DOCS / "identity_runs.png"))


def main(names: Sequence[str]) -> None:
    """The pictures of these names, or all."""
    runs = quote(";".join(str(DOCS / "runs" / f"{name}.json") for name in RUNS))
    pages = {
        "app": ("", take_explore), "text": ("/?model=demo-text&task=demo-text&sparsity=0.2", take_text),
        "images": ("/?model=demo-images&task=demo-images&sparsity=0.35", take_images),
        "runs": (f"/sublayers?run={runs}", take_runs),
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as cache, running_app(Path(cache)) as url:
        for name in names or pages:
            address, take = pages[name]
            with browser_page(url + address, height=1330 if name == "images" else 1040) as page:
                take(page)


if __name__ == "__main__":
    main(sys.argv[1:])
