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
from typing import TypeVar

import torch

from vp_core.ground.work import Turn, checkpoint, turn_now

Item = TypeVar("Item")
Result = TypeVar("Result")

WORKERS = min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 8)
_pool = ThreadPoolExecutor(WORKERS, "vp-worker", initializer=lambda: torch.set_num_threads(1))


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


def in_parallel(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`work(item)` for every item, in order; at most one item per core is queued beyond those that run.

    Before each of them there is a `checkpoint` in the thread of the caller, whose `work` counts: the threads of the pool have
    none. When it is cancelled, or the caller stops listening (the generator is closed), what has not begun is dropped. Raises
    SystemExit, which ends the calling thread, when the interpreter is shutting down.
    """
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


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds gone by so far."""
        return time.perf_counter() - self._start
