"""Takes the README's picture of the app: `python -m docs.make_screenshot` writes docs/app.png."""

import tempfile
from pathlib import Path

from benchmarks.browser import browser_page, drag_slider, running_app, wait_for_exact


def main() -> None:
    with tempfile.TemporaryDirectory() as cache, running_app(Path(cache)) as url, browser_page(url, height=1040) as page:
        wait_for_exact(page)
        page.wait_for_function("() => !document.body.innerText.includes(' of 30 points')", timeout=300_000)
        drag_slider(page, 25)
        page.wait_for_url("**sparsity=0.25**")
        page.wait_for_timeout(500)
        wait_for_exact(page)
        page.wait_for_timeout(1500)
        page.screenshot(path=str(Path(__file__).parent / "app.png"))


if __name__ == "__main__":
    main()
