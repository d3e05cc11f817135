"""Who is served first, how work is cancelled, and what it says it is at: one way for every long computation.

    with work(cancelled=..., hear=...):     # whoever starts something long: a job of the app, a command, a test
        ...
            checkpoint()                    # what computes, between two batches or layers: the moment to wait or to stop
            say("refitting: layer 2 of 6")  # … and to tell what it is at

A computation needs no parameter for any of this, and nothing changes for who calls it without `work`.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


class Cancelled(Exception):
    """Nobody wants the result any more. What was finished before is kept by whoever keeps it."""


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


TURNS = Gate()
"""The gate of this process' cores: a visitor's score goes first, curves and measurements wait."""


@dataclass(frozen=True)
class _Work:
    cancelled: Callable[[], bool] = lambda: False
    background: bool = False
    hear: Callable[[str], None] = lambda text: None


_ALONE = _Work()
_NOW: ContextVar[_Work] = ContextVar("work", default=_ALONE)


@contextmanager
def work(
    *, cancelled: Callable[[], bool] | None = None, background: bool | None = None, hear: Callable[[str], None] | None = None
) -> Iterator[None]:
    """What is computed in this thread while this is open: can be cancelled, waits its turn if in the background, is heard.

    What is not given stays as it is outside. To be opened around a generator's whole life, not inside of it: between two of
    its items it would be open for its caller.
    """
    now = _NOW.get()
    new = _Work(
        cancelled=now.cancelled if cancelled is None else cancelled,
        background=now.background if background is None else background,
        hear=now.hear if hear is None else hear,
    )
    outside = _NOW.set(new)
    try:
        yield
    finally:
        _NOW.reset(outside)


def to_the_end() -> AbstractContextManager[None]:
    """`work` that cannot be cancelled: for what is kept for everybody, not for one who asks alone."""
    return work(cancelled=lambda: False)


def checkpoint() -> None:
    """Wait while somebody is served first, if this is background work; raise Cancelled if nobody wants it any more."""
    now = _NOW.get()
    if now.background:
        TURNS.wait()
    if now.cancelled():
        raise Cancelled


def say(text: str) -> None:
    """What a long computation is at, to whoever hears it."""
    _NOW.get().hear(text)
