"""Who is served first, how work is cancelled, and what it says it is at: one way for every long computation.

    with work(cancelled=..., turn=..., hear=...):    # whoever starts something long: a job of the app, a command, a test
        ...
            checkpoint()                    # what computes, between two batches or layers: the moment to wait or to stop
            say("refitting: layer", 2, 6)       # … and to tell what it is at, and how far

A computation needs no parameter for any of this, and nothing changes for who calls it without `work`. What is open is open
for one thread: one that is started begins with nothing open.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import IntEnum


class Cancelled(Exception):
    """The work was cancelled: nobody wants its result any more. What was finished before is kept by whoever keeps it."""


class Enough(Exception):
    """Raised by an observer that wants nothing of what lies behind its place in a model: the pass ends there."""


class Turn(IntEnum):
    """The priority of work: in what order it goes on when there is more than one at a time."""

    FIRST = 0
    """Somebody waits for it; whatever nobody says otherwise of. It never waits."""
    SECOND = 1
    """A measurement of speed: lets such work go first, and has the machine for itself otherwise."""
    LAST = 2
    """In the background."""


class Gate:
    """A gate by priority: who is inside makes those of later turns wait, between two of their steps.

    Nobody waits for one of the same or of a later turn, so no two can wait for each other.
    """

    def __init__(self) -> None:
        self._inside: list[Turn] = []
        self._change = threading.Condition()

    @contextmanager
    def first(self) -> Iterator[None]:
        """While this is open, `wait` waits in every work of a later turn."""
        turn = turn_now()
        with self._change:
            self._inside.append(turn)
        try:
            yield
        finally:
            with self._change:
                self._inside.remove(turn)
                self._change.notify_all()

    def wait(self) -> None:
        """Wait until nobody of an earlier turn is inside `first`."""
        turn = turn_now()
        with self._change:
            self._change.wait_for(lambda: all(other >= turn for other in self._inside))


TURNS = Gate()
"""The gate of this process' cores: a visitor's score is inside, and so is what is being timed; curves are not."""


class Doing(str):
    """What a computation says it is at: a sentence, and how far it is.

    `stage`: what stays the same while it goes on; `done` of `of` steps, 0 of 0 where there is nothing to count.

    >>> now = Doing("measuring losses: layer", 2, 6)
    >>> now, now.stage, now.done, now.of
    ('measuring losses: layer 2 of 6', 'measuring losses', 2, 6)
    """

    stage: str
    done: int
    of: int

    def __new__(cls, text: str, done: int = 0, of: int = 0) -> "Doing":
        new = super().__new__(cls, f"{text} {done:,} of {of:,}" if of else text)
        new.stage, new.done, new.of = text.partition(":")[0].partition(" (")[0], done, of
        return new


@dataclass(frozen=True)
class _Work:
    cancelled: Callable[[], bool] = lambda: False
    turn: Turn = Turn.FIRST
    hear: Callable[[Doing], None] = lambda doing: None


_ALONE = _Work()
_NOW: ContextVar[_Work] = ContextVar("work", default=_ALONE)


@contextmanager
def work(
    *, cancelled: Callable[[], bool] | None = None, turn: Turn | None = None, hear: Callable[[Doing], None] | None = None
) -> Iterator[None]:
    """What is computed in this thread while this is open can be cancelled, waits for its turn, and is heard.

    What is not given stays as it is outside. To be opened around a generator's whole life, not inside of it: between two of
    its items it would be open for its caller.
    """
    now = _NOW.get()
    new = _Work(
        cancelled=now.cancelled if cancelled is None else cancelled,
        turn=now.turn if turn is None else turn,
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


def turn_now() -> Turn:
    """The turn of what is computed in this thread."""
    return _NOW.get().turn


def checkpoint() -> None:
    """Wait while somebody of an earlier turn is served; raise Cancelled if the work in this thread was cancelled."""
    TURNS.wait()
    if _NOW.get().cancelled():
        raise Cancelled


def heard_by() -> Callable[[Doing], None]:
    """Who hears what is computed in this thread: for a thread that waits for another's work."""
    return _NOW.get().hear


def say(text: str, done: int = 0, of: int = 0) -> None:
    """Report progress: what a long computation is at, and how much of it is done, to whoever hears it (`Doing`).

    What stands before a colon is the name of the stage; the wording has no other meaning to a program.
    """
    _NOW.get().hear(Doing(text, done, of))
