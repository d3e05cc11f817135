"""What a visitor waits for: the first click on *Best* in an app that knows nothing yet, and releases of the slider.

A machine may be as slow as it likes: what does not come in time is told, with what the page said last, and the next follows.
"""

import re
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Error, Page

from benchmarks.browser import browser_page, drag_slider, running_app
from benchmarks.measure import line

RELEASES = 20
PATIENCE = 600.0
"""Seconds that one answer may take."""
FOR_RELEASES = 600.0
"""Seconds after which no more releases are made."""

_WATCH = """() => {
  const shown = () => {
    const box = document.querySelector('.st-key-score')
    const lines = box ? [...box.querySelectorAll('p')].map(p => p.textContent.trim()) : []
    return { score: lines.find(t => t.includes('95 % interval')) || '', said: lines.filter(t => t).join(' | '),
             stages: (lines.find(t => t.startsWith('Prepared in')) || '').split(/[:·]/).map(t => t.trim()).filter(t => t) }
  }
  window.vpWatch = () => {
    const times = { start: performance.now(), before: shown().score, said: '', stages: [] }
    window.vpTimes = times
    const look = () => {
      const { score, said, stages } = shown()
      times.said = said
      if (stages.length) times.stages = stages
      if (score === '' || score === times.before || times !== window.vpTimes) return
      times.first ??= performance.now()
      if (score.includes('going on')) return
      times.exact = performance.now()
      observer.disconnect()
    }
    const observer = new MutationObserver(look)
    observer.observe(document.body, { childList: true, subtree: true, characterData: true })
  }
  document.addEventListener('vp_slider_released', window.vpWatch)
}"""


@dataclass(frozen=True)
class Seen:
    """What a page showed after something was asked: seconds until its first score and its exact one, None for what never came;
    the stages it named, and the last that stood where the score belongs."""

    first: float | None
    exact: float | None
    stages: tuple[str, ...]
    said: str

    @classmethod
    def of(cls, times: dict[str, Any]) -> "Seen":
        """From milliseconds as the page counts them."""
        first, exact = (
            (times[name] - times["start"]) / 1000 if times.get(name) is not None else None for name in ("first", "exact")
        )
        return cls(first, exact, tuple(times.get("stages", ())), times.get("said", ""))


def wait(page: Page, condition: str, seconds: float) -> bool:
    """Whether a condition comes true in time."""
    try:
        page.wait_for_function(condition, timeout=max(seconds, 0.001) * 1000)
    except Error:
        return False
    return True


def seen(page: Page, seconds: float = PATIENCE) -> Seen:
    """What is seen until the score that was asked for is exact, or until the patience is at its end."""
    wait(page, "() => window.vpTimes.exact", seconds)
    return Seen.of(page.evaluate("() => window.vpTimes"))


def click_best(page: Page) -> Seen:
    """The first click on the recipe *Best*."""
    page.evaluate("() => window.vpWatch()")
    page.locator(".st-key-pick-recipe button").filter(has_text=re.compile("Best$")).click()
    return seen(page)


def release(page: Page, position: int, seconds: float) -> Seen:
    """The slider, taken to a position and let go."""
    page.evaluate("() => window.vpTimes = { start: 0 }")
    drag_slider(page, position)
    return seen(page, seconds)


def tell_all(what: str, found: list[Seen], targets: tuple[str, str]) -> None:
    """The 95th percentile and the median of many, and how many never came."""
    for name, which, target in zip(("first", "exact"), ("the first score", "the exact score"), targets, strict=True):
        values = [value for one in found if (value := getattr(one, name)) is not None]
        if values:
            line(f"{what} to {which}, p95 of {len(values)}", 1000 * float(np.percentile(values, 95)), "ms", target)
            line(f"{what} to {which}, median", 1000 * float(np.median(values)), "ms", "-")
        if len(values) < len(found):
            late = next(one for one in found if getattr(one, name) is None)
            print(f"{what}: {which} did not come {len(found) - len(values)} times of {len(found)}; the page said: {late.said}")


def tell_one(what: str, found: Seen, targets: tuple[str, str]) -> None:
    """The seconds of one, the stages with theirs as the page shows them, and what it said last if nothing came."""
    for value, which, target in zip((found.first, found.exact), ("the first score", "the exact one"), targets, strict=True):
        if value is None:
            print(f"{what}: {which} did not come within {PATIENCE:.0f} s; the page said: {found.said}")
        else:
            line(f"{what} to {which}", value, "s", target)
    for stage in found.stages:
        print(f"    {stage}")


def run() -> None:
    with tempfile.TemporaryDirectory() as folder, running_app(Path(folder)) as url, browser_page(url) as page:
        start = time.monotonic()
        known = "() => /95 % interval(?!.*going on)/.test(document.querySelector('.st-key-score')?.innerText || '')"
        if not wait(page, known, PATIENCE):
            print(f"The first page has no exact score after {PATIENCE:.0f} s; it shows: {page.inner_text('body')[:500]!r}")
            return
        line("opening the page to its exact score (recipe paper), cold", time.monotonic() - start, "s", "-")
        page.evaluate(_WATCH)
        tell_one("first click on Best", click_best(page), ("<= 10", "-"))
        if not wait(page, "() => document.querySelectorAll('.vp-figure[data-ready]').length === 4", PATIENCE):
            print(f"The figures are not all drawn after {PATIENCE:.0f} s.")
        found, end = list[Seen](), time.monotonic() + FOR_RELEASES
        for i in range(RELEASES):
            if (left := end - time.monotonic()) <= 0:
                print(f"{len(found)} of {RELEASES} releases were made in {FOR_RELEASES:.0f} s.")
                break
            found.append(release(page, 11 + 4 * i % 80, min(left, PATIENCE)))
    tell_all("release of the slider", found, ("< 300", "< 2000"))
