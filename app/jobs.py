"""Computations that go on while the page stays alive: started by a script run, read by later ones."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from vp_core.errors import VPError

Item = TypeVar("Item")

ABANDONED_AFTER = 30.0
"""Seconds without anybody looking after which a job stops: its visitors have closed the page."""


class Gate:
    """Short work that somebody waits for goes through at once; long work waits at the gate, between its steps."""

    def __init__(self) -> None:
        self._inside = 0
        self._change = threading.Condition()

    @contextmanager
    def first(self) -> Iterator[None]:
        """While this is open, `wait` waits."""
        with self._change:
            self._inside += 1
        try:
            yield
        finally:
            with self._change:
                self._inside -= 1
                self._change.notify_all()

    def wait(self) -> None:
        """Until nobody is inside `first`."""
        with self._change:
            self._change.wait_for(lambda: self._inside == 0)


class Job(Generic[Item]):
    """Runs a generator in a thread and keeps what it yields.

    `make(stopped)` makes the generator; `stopped()` tells it when to end. Visitors who share a job say they are there by
    looking at it; it stops when all of them have cancelled or gone.
    """

    def __init__(self, make: Callable[[Callable[[], bool]], Iterator[Item]], total: int = 0) -> None:
        self.items: list[Item] = []
        self.total = total
        self.error: str | None = None
        self.done = False
        self.seconds: list[float] = []
        self._watchers: dict[str, float] = {}
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._run, args=(make,), daemon=True)

    def start(self, watcher: str) -> "Job[Item]":
        self.look(watcher)
        self._thread.start()
        return self

    def look(self, watcher: str) -> None:
        """Say that `watcher` is there."""
        self._watchers[watcher] = time.monotonic()

    def cancel(self, watcher: str) -> None:
        """`watcher` wants no more of it; others may."""
        self._watchers.pop(watcher, None)

    def wait(self, known: int, timeout: float) -> None:
        """Until there are more than `known` items, or the end, or `timeout` seconds have gone by."""
        with self._news:
            self._news.wait_for(lambda: self.done or len(self.items) > known, timeout)

    def seconds_left(self) -> float | None:
        """From the mean time of the items so far; None before the first."""
        if not self.seconds or not self.total:
            return None
        return sum(self.seconds) / len(self.seconds) * (self.total - len(self.items))

    def stopped(self) -> bool:
        now = time.monotonic()
        return not any(now - seen < ABANDONED_AFTER for seen in list(self._watchers.values()))

    def _run(self, make: Callable[[Callable[[], bool]], Iterator[Item]]) -> None:
        start = time.monotonic()
        try:
            for item in make(self.stopped):
                now = time.monotonic()
                with self._news:
                    self.items.append(item)
                    self.seconds.append(now - start)
                    self._news.notify_all()
                start = now
        except VPError as error:
            self.error = str(error)
        except Exception as error:
            self.error = f"The computation failed ({type(error).__name__}: {error}): please report this."
            raise
        finally:
            with self._news:
                self.done = True
                self._news.notify_all()
