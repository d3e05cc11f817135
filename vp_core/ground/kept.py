"""A cache in bounded memory: results by key, each computed once."""

import threading
from collections.abc import Callable, Hashable
from contextlib import nullcontext
from typing import Any, TypeVar

from vp_core.ground.work import Doing, Turn, heard_by, to_the_end, work

Found = TypeVar("Found")


class _Asked:
    """A key that is asked for now: by whom, and what its computation says it is at."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.last: Doing | None = None
        self._hearing: list[Callable[[Doing], None]] = []

    def __bool__(self) -> bool:
        return bool(self._hearing)

    def come(self, hear: Callable[[Doing], None]) -> None:
        self._hearing.append(hear)
        if self.last is not None:
            hear(self.last)

    def go(self, hear: Callable[[Doing], None]) -> None:
        self._hearing.remove(hear)

    def tell(self, doing: Doing) -> None:
        self.last = doing
        for hear in list(self._hearing):
            if hear != self.tell:
                hear(doing)


class Kept:
    """A cache: results by key, each computed once whatever the number of threads; beyond `most` those that came first go.

    Who asks for what another thread is computing waits for it, and hears what it says it is at. So it is computed at the first
    turn, since whoever has that turn may be waiting; and to its end, whoever asked for it has left by then, unless
    `cancellable`. What raised is not kept: the next who asks computes it again.

    >>> kept = Kept(most=2)
    >>> [kept.once(key, lambda: key * 10) for key in (1, 2, 1, 3)], len(kept)
    ([10, 20, 10, 30], 2)
    """

    def __init__(self, most: int = 4096, cancellable: bool = False) -> None:
        self._most, self._cancellable = most, cancellable
        self._results: dict[Hashable, Any] = {}
        self._asked: dict[Hashable, _Asked] = {}  # only of keys that are asked for now
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
        hear = heard_by()
        with self._lock:
            asked = self._asked.setdefault(key, _Asked())
            asked.come(hear)
        try:
            with asked.lock:
                with self._lock:
                    if key in self._results:
                        found: Found = self._results[key]
                        if not again(found):
                            return found
                try:
                    with work(turn=Turn.FIRST, hear=asked.tell), nullcontext() if self._cancellable else to_the_end():
                        found = compute()
                finally:
                    asked.last = None
                self.put(key, found)
                return found
        finally:
            with self._lock:
                asked.go(hear)
                if not asked:
                    self._asked.pop(key, None)
