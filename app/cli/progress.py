"""How far the command line is, on stderr: the stages of whatever is computed, and a bar for each training."""

import sys
import time
from typing import Any

from tqdm import tqdm

from app.cli.options import main_process, say
from vp_core.ground.errors import harmless
from vp_core.ground.work import Doing

OFTEN = 10.0
"""Seconds after which a stage that goes on is told again where lines cannot be written over."""
_BAR = 20


class Stages:
    """What is computed. On a terminal a stage with something to count is one line with a bar, written over and over, and at its
    end its seconds; elsewhere, as in a log, a line as a stage begins and one now and then."""

    def __init__(self) -> None:
        self._stage, self._began, self._told = "", 0.0, 0.0

    def hear(self, doing: Doing) -> None:
        """Show what is said."""
        if not main_process():
            return
        now = time.monotonic()
        if new := doing.stage != self._stage:
            self._stage, self._began = doing.stage, now
        if sys.stderr.isatty() and doing.of:
            print(f"\r{harmless(_with_bar(doing))}\x1b[K", end="", file=sys.stderr, flush=True)
            if doing.done == doing.of:
                say(f"{doing.stage}: {now - self._began:.1f} s")
                self._stage = ""
        elif new or (now - self._told >= OFTEN and doing.of):
            say(str(doing))
            self._told = now


def _with_bar(doing: Doing) -> str:
    """
    >>> _with_bar(Doing("solving: matrix", 3, 6))
    'solving: matrix 3 of 6 [##########          ]'
    """
    full = _BAR * doing.done // doing.of
    return f"{doing} [{'#' * full}{' ' * (_BAR - full)}]"


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
