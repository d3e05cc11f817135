"""Computations that go on while the page stays alive: started by a script run, read by later ones."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from app.web.stages import Stage, Stages
from vp_core.ground.errors import VPError
from vp_core.ground.work import Cancelled, Turn, work

Item = TypeVar("Item")

ABANDONED_AFTER = 30.0
"""Timeout in seconds: a job that nobody has looked at for so long is cancelled, its visitors have closed the page."""


class Job(Generic[Item]):
    """Runs a generator in a thread and keeps what it yields.

    `make()` makes the generator. Visitors who share a job say they are there by looking at it; when all of them have
    cancelled or gone it ends at its next checkpoint (`vp_core.ground.work`), unless it goes `to_the_end` because what it
    finds is for everybody. One that takes `abandonable` False goes on though nobody looks, until it is cancelled. `turn` says
    who goes first. `stages` are what it said it was at, or what another said whose work it waits for.
    """

    def __init__(
        self, make: Callable[[], Iterator[Item]], total: int = 0, *, turn: Turn = Turn.FIRST,
        to_the_end: bool = False, abandonable: bool = True,
    ) -> None:  # fmt: skip
        self.items: list[Item] = []
        self.total = total
        self.error: str | None = None
        self.done = False
        self.seconds: list[float] = []
        self.doing = ""
        self.started = time.monotonic()
        self.stages = Stages()
        self.before: tuple[Stage, ...] = ()
        """The stages that were over when the first item came."""
        self._turn, self._to_the_end, self._abandonable = turn, to_the_end, abandonable
        self._watchers: dict[str, float] = {}
        self._change = threading.Condition()
        self._thread = threading.Thread(target=self._run, args=(make,), daemon=True)

    def start(self, watcher: str) -> "Job[Item]":
        """Start the thread, for `watcher`; gives the job."""
        self.look(watcher)
        self._thread.start()
        return self

    def look(self, watcher: str) -> None:
        """Say that `watcher` is there."""
        self._watchers[watcher] = time.monotonic()

    def cancel(self, watcher: str) -> None:
        """Cancel it for `watcher`; it goes on while others watch."""
        self._watchers.pop(watcher, None)

    def wait(self, known: int, timeout: float) -> None:
        """Wait until there are more than `known` items, or the end, or `timeout` seconds have gone by."""
        with self._change:
            self._change.wait_for(lambda: self.done or len(self.items) > known, timeout)

    def seconds_left(self) -> float | None:
        """Seconds to the end, from the mean time of the items so far; None before the first."""
        if not self.seconds or not self.total:
            return None
        return sum(self.seconds) / len(self.seconds) * (self.total - len(self.items))

    def stopped(self) -> bool:
        """Whether it is cancelled: all who watched it have cancelled it, or are gone."""
        now, patience = time.monotonic(), ABANDONED_AFTER if self._abandonable else float("inf")
        return not any(now - seen < patience for seen in list(self._watchers.values()))

    def _run(self, make: Callable[[], Iterator[Item]]) -> None:
        start, cancelled = time.monotonic(), None if self._to_the_end else self.stopped
        try:
            with work(cancelled=cancelled, turn=self._turn, hear=self.stages.hear):
                for item in make():
                    now = time.monotonic()
                    if not self.items:
                        self.before = self.stages.over()
                    with self._change:
                        self.items.append(item)
                        self.seconds.append(now - start)
                        self._change.notify_all()
                    start = now
        except Cancelled:
            pass  # no error; it is begun anew when somebody looks (`app.web.waiting.unfinished`)
        except VPError as error:
            self.error = str(error)
        except Exception as error:
            self.error = f"The computation failed ({type(error).__name__}: {error}): please report this."
            raise
        finally:
            self.stages.end()
            with self._change:
                self.done = True
                self._change.notify_all()
