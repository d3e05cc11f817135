"""The bar that the command line shows for each training."""

import sys
from typing import Any

from tqdm import tqdm

from app.cli.options import main_process, say
from vp_core.ground.errors import harmless


class Progress:
    """A bar on stderr for each training: `tell` says what begins, `watch` moves it."""

    def __init__(self) -> None:
        self._what = "training"
        self._bar: Any = None

    def tell(self, news: str) -> None:
        """Say what begins, and end the last bar."""
        self.close()
        self._what = news
        say(news + " …")

    def watch(self, step: int, steps: int, loss: float) -> None:
        """Move the bar to a step, and show its loss."""
        if not main_process() or step == 0:
            return
        if self._bar is None:
            self._bar = tqdm(total=steps, desc=self._what.partition(":")[0], unit="step", file=sys.stderr, leave=False)
        self._bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
        self._bar.update(step - self._bar.n)
        if step == steps:
            self.close()

    def line(self, text: str) -> None:
        """Say something without taking the bar away."""
        if self._bar is None:
            say(text)
        else:
            self._bar.write(harmless(text), file=sys.stderr)

    def close(self) -> None:
        """Take the bar away, if there is one."""
        if self._bar is not None:
            self._bar.close()
        self._bar = None
