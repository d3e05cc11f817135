"""What a visitor waits for: release of the slider to the first score with an interval, and to the exact one."""

import tempfile
from pathlib import Path

import numpy as np

from benchmarks.browser import browser_page, drag_slider, running_app, wait_for_exact
from benchmarks.measure import line

RELEASES = 20

_WATCH = """() => {
  const box = document.querySelector('.st-key-score')
  const text = () => [...box.querySelectorAll('p')].map(p => p.textContent).find(t => t.includes('95 % interval')) || ''
  window.vpTimes = {}
  document.querySelector('.vp-slider input').addEventListener('change', () => {
    const times = { start: performance.now(), before: text() }
    window.vpTimes = times
    new MutationObserver((_, observer) => {
      const now = text()
      if (now === '' || now === times.before || times !== window.vpTimes) return
      times.first ??= performance.now()
      if (now.includes('going on')) return
      times.exact = performance.now()
      observer.disconnect()
    }).observe(document.querySelector('[data-testid=stMain]'), { childList: true, subtree: true, characterData: true })
  })
}"""


def run() -> None:
    with tempfile.TemporaryDirectory() as folder, running_app(Path(folder)) as url, browser_page(url) as page:
        wait_for_exact(page)
        page.wait_for_function("() => document.querySelectorAll('.vp-figure[data-ready]').length === 4")
        page.evaluate(_WATCH)
        first, exact = [], []
        for i in range(RELEASES):
            drag_slider(page, 11 + 4 * i % 80)
            page.wait_for_function("() => window.vpTimes.exact", timeout=30_000)
            times = page.evaluate("() => window.vpTimes")
            first.append(times["first"] - times["start"])
            exact.append(times["exact"] - times["start"])
    line(f"release of the slider to the first score, p95 of {RELEASES}", float(np.percentile(first, 95)), "ms", "< 300")
    line("release of the slider to the first score, median", float(np.median(first)), "ms", "-")
    line(f"release of the slider to the exact score, p95 of {RELEASES}", float(np.percentile(exact, 95)), "ms", "< 2000")
