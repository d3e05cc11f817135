"""Batches in parallel on the cores there are; between two of them work waits for its turn, and can be cancelled.

One thread per core and one core per matrix product beats many cores per product: nothing waits at the end of each small
product, and a batch's numbers do not depend on how many cores the machine has.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from vp_core.ground.work import Turn, checkpoint, turn_now

Item = TypeVar("Item")
Result = TypeVar("Result")

_CORES = min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 8)
WORKERS = max(_CORES // int(os.environ.get("LOCAL_WORLD_SIZE", "1")), 1)
"""Cores of this process: several that `accelerate launch` started share those of the machine."""
_worker = threading.local()


def _begin() -> None:
    """What each thread of the pool does first."""
    _worker.here = True
    torch.set_num_threads(1)


_pool = ThreadPoolExecutor(WORKERS, "vp-worker", initializer=_begin)


def per_thread(make: Callable[[], Result]) -> Callable[[], Result]:
    """A thread-local `make()`: a function that gives each thread its own, made the first time that thread asks.

    Hooks are placed on such copies of a model: those of one thread must not meet those of another.
    """
    mine = threading.local()

    def get() -> Result:
        if not hasattr(mine, "made"):
            mine.made = make()
        found: Result = mine.made
        return found

    return get


def in_parallel(work: Callable[[Item], Result], items: Iterable[Item], device: torch.device | None = None) -> Iterator[Result]:
    """`work(item)` for every item, in order; at most one item per core is queued beyond those that run.

    Work on a `device` that is an accelerator is done one item at a time, in the thread of the caller: it is one itself. So is
    what work of the pool asks for in turn: all its threads could wait for each other.

    Before each of them there is a `checkpoint` in the thread of the caller, whose `work` counts: the threads of the pool have
    none. When it is cancelled, or the caller stops listening (the generator is closed), what has not begun is dropped. Raises
    SystemExit, which ends the calling thread, when the interpreter is shutting down.
    """
    if (device is not None and device.type != "cpu") or getattr(_worker, "here", False):
        for item in items:
            checkpoint()
            yield work(item)
        return
    pending: deque[Future[Result]] = deque()
    window = 2 * WORKERS if turn_now() == Turn.FIRST else WORKERS
    try:
        for item in items:
            checkpoint()
            try:
                pending.append(_pool.submit(work, item))
            except RuntimeError as error:
                if "shutdown" not in str(error):
                    raise
                raise SystemExit from None  # the process is ending and the pool is closed: no half answers
            if len(pending) >= window:
                yield pending.popleft().result()
        while pending:
            checkpoint()
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()


@dataclass(frozen=True)
class Share:
    """The part of all batches that falls to this process, one of `number`."""

    rank: int = 0
    number: int = 1
    gather: Callable[[list[Any]], list[Any]] = lambda found: found

    def of(self, items: Iterable[Item]) -> list[Item]:
        """Every `number`-th of the items, from the `rank`-th on."""
        return list(items)[self.rank :: self.number]

    def together(self, compute: Callable[[], Result]) -> list[Result]:
        """What every process has computed, by rank, in all of them; an error of one is raised in all."""
        if self.number == 1:
            return [compute()]
        try:
            mine: Result | Exception = compute()
        except Exception as error:  # the others wait for this process
            mine = error
        found = self.gather([mine])
        for one in found:
            if isinstance(one, Exception):
                raise one
        return found


_EVERYTHING = Share()
_SHARE: ContextVar[Share] = ContextVar("share", default=_EVERYTHING)


def share_now() -> Share:
    """The share of this process in what is computed in this thread: everything, unless `shared_out` is open."""
    return _SHARE.get()


@contextmanager
def shared_out() -> Iterator[None]:
    """While open, the processes that `accelerate launch` started share batches out; each has the whole result.

    All of them have to compute the same. With a single process nothing changes.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    from accelerate import PartialState
    from accelerate.utils import gather_object

    state: Any = PartialState()
    outside = _SHARE.set(Share(state.process_index, state.num_processes, gather_object))
    try:
        yield
    finally:
        _SHARE.reset(outside)
        state.destroy_process_group()


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds gone by so far."""
        return time.perf_counter() - self._start
