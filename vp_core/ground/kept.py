"""Caches: results by key in bounded memory, each computed once; and on disk, in bounded space, what was measured."""

import hashlib
import json
import os
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from vp_core.ground.errors import VPError
from vp_core.ground.store import digest, load_tensors, save_tensors
from vp_core.ground.work import Doing, Turn, heard_by, say, to_the_end, work

Found = TypeVar("Found")

KEPT = "measurements 2"
"""The kind of file of a Shelf. Another method, which would measure something else, has another number."""
MOST_KEPT = 2_000_000_000
"""Bytes of what a Shelf keeps; beyond it what was not used for longest goes."""


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


class Shelf:
    """What was measured, on disk by content: whoever asks with the same key again reads it instead of measuring.

    Without a folder nothing is kept. A file that is broken or of another key is told (`vp_core.ground.work.say`) and made anew;
    where the disk cannot be written to, that is told too, and what was measured is used.
    """

    def __init__(self, folder: str | Path | None = None, most: int = MOST_KEPT) -> None:
        self.folder, self.most = None if folder is None else Path(folder), most

    def once(self, key: Sequence[object], make: Callable[[], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
        """Name → tensor (any shape), to the bit what `make()` gave when a key (JSON-able; its first part says what it is) was
        asked for first. Raises what `make` does."""
        found = self.get(key)
        if found is None:
            found = make()
            self.put(key, found)
        return found

    def get(self, key: Sequence[object]) -> Mapping[str, Tensor] | None:
        """What is kept of a key, None if nothing is."""
        path = self._path(key)
        if path is None or not path.is_file():
            return None
        try:
            tensors, about = load_tensors(path, KEPT)
            if about.get("key") != _spelt(key) or about.get("sum") != _sum(tensors):
                raise VPError(f"{str(path)!r} does not hold what it was written with.")
            os.utime(path)  # it was used now
            return tensors
        except (VPError, OSError):
            say(f"what was kept of {key[0]} cannot be read, so it is measured again")
            return None

    def put(self, key: Sequence[object], tensors: Mapping[str, Tensor]) -> None:
        """Keep what was measured of a key."""
        path = self._path(key)
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_tensors(path, tensors, KEPT, {"key": _spelt(key), "sum": _sum(tensors)})
            files = sorted(path.parent.glob("*.safetensors"), key=lambda file: file.stat().st_mtime, reverse=True)
            total = 0
            for file in files:
                total += file.stat().st_size
                if total > self.most and file != path:
                    file.unlink(missing_ok=True)
        except (VPError, OSError):
            say(f"{key[0]} could not be kept on disk, so it is measured again the next time")

    def _path(self, key: Sequence[object]) -> Path | None:
        return None if self.folder is None else self.folder / f"{digest(*key)}.safetensors"


NOWHERE = Shelf()
"""Nothing is kept, nothing is read: what the library does unless it is told where."""


def _spelt(key: Sequence[object]) -> str:
    return json.dumps(key, sort_keys=True, default=str)


def _sum(tensors: Mapping[str, Tensor]) -> str:
    """A fingerprint of tensors: safetensors would not notice a changed digit."""
    found = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        tensor = tensors[name].detach().contiguous()
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()
