"""Computations that go on while the page stays alive: started by a script run, read by later ones."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from vp_core.ground.errors import VPError

Item = TypeVar("Item")

ABANDONED_AFTER = 30.0
"""Seconds without anybody looking after which a job stops: its visitors have closed the page."""


class Halted(Exception):
    """A preparation that nobody waits for any more was left."""


class News:
    """Hears what the long computations of a study are at (`Study.listeners`), thread by thread.

    A thread that works for a job can leave a refit when the job has been stopped: its layers are solved for one sparsity
    alone. What is measured for all sparsities goes on to its end, and is kept.
    """

    def __init__(self) -> None:
        self._heard: dict[int, tuple[float, str]] = {}
        self._stopped: dict[int, Callable[[], bool]] = {}

    def __call__(self, text: str) -> None:
        me = threading.get_ident()
        self._heard[me] = time.monotonic(), text
        stopped = self._stopped.get(me)
        if stopped is not None and text.startswith("refitting") and stopped():
            raise Halted

    @contextmanager
    def working(self, stopped: Callable[[], bool]) -> Iterator[None]:
        """This thread works for a job."""
        me = threading.get_ident()
        self._stopped[me] = stopped
        try:
            yield
        finally:
            del self._stopped[me]
            self._heard.pop(me, None)

    def of(self, job: "Job") -> str:
        """What a job said last; empty if it said nothing."""
        return self._heard.get(job.thread, (0.0, ""))[1]

    def about(self, job: "Job") -> str:
        """The last that was said since a job began, by itself or by another whose work it may be waiting for."""
        heard = [one for one in list(self._heard.values()) if one[0] >= job.started]
        return max(heard)[1] if heard else ""


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
        self.doing = ""
        self.started = time.monotonic()
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

    @property
    def thread(self) -> int:
        """The thread that works on it."""
        return self._thread.ident or 0

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
        except Halted:
            pass  # no error: stopped as any other job is, and begun anew when somebody looks (`app.web.waiting.unfinished`)
        except VPError as error:
            self.error = str(error)
        except Exception as error:
            self.error = f"The computation failed ({type(error).__name__}: {error}): please report this."
            raise
        finally:
            with self._news:
                self.done = True
                self._news.notify_all()
