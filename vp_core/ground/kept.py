"""A cache in bounded memory: results by key, each computed once."""

import threading
from collections.abc import Callable, Hashable
from contextlib import nullcontext
from typing import Any, TypeVar

from vp_core.ground.work import Turn, to_the_end, work

Found = TypeVar("Found")


class Kept:
    """A cache: results by key, each computed once whatever the number of threads; beyond `most` those that came first go.

    Who asks for what another thread is computing waits for it. So it is computed at the first turn, since whoever has that
    turn may be waiting; and to its end, whoever asked for it has left by then, unless `cancellable`. What raised is not kept:
    the next who asks computes it again.

    >>> kept = Kept(most=2)
    >>> [kept.once(key, lambda: key * 10) for key in (1, 2, 1, 3)], len(kept)
    ([10, 20, 10, 30], 2)
    """

    def __init__(self, most: int = 4096, cancellable: bool = False) -> None:
        self._most, self._cancellable = most, cancellable
        self._results: dict[Hashable, Any] = {}
        self._locks: dict[Hashable, tuple[threading.RLock, int]] = {}  # only of keys that are asked for now, with how many ask
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._results)

    def get(self, key: Hashable) -> Any:
        """The result of a key, None if there is none (yet)."""
        with self._lock:
            return self._results.get(key)

    def put(self, key: Hashable, result: Any) -> None:
        """Keep a result that was computed elsewhere."""
        with self._lock:
            self._results[key] = result
            while len(self._results) > self._most:
                self._results.pop(next(iter(self._results)))

    def once(self, key: Hashable, compute: Callable[[], Found], again: Callable[[Found], bool] = lambda found: False) -> Found:
        """The result of `key`; `compute()` makes it if there is none, or if the one there is wants to be made `again`."""
        with self._lock:
            lock, asking = self._locks.get(key, (threading.RLock(), 0))
            self._locks[key] = lock, asking + 1
        try:
            with lock:
                with self._lock:
                    if key in self._results:
                        found: Found = self._results[key]
                        if not again(found):
                            return found
                with work(turn=Turn.FIRST), nullcontext() if self._cancellable else to_the_end():
                    found = compute()
                self.put(key, found)
                return found
        finally:
            with self._lock:
                lock, asking = self._locks.pop(key)
                if asking > 1:
                    self._locks[key] = lock, asking - 1
