"""The jobs that a visitor follows: at most one of a name, another one when the question changes; and how far one is."""

from collections.abc import Callable, Hashable
from typing import Any

from app.web.jobs import Item, Job
from app.web.visitor import Followed, visitor


def follow(name: str, question: Hashable, start: Callable[[], Job[Item]]) -> Followed[Item]:
    """What this visitor follows under that name.

    `start()` makes the job when there is none, when the question is another (the old job is cancelled), and when it stopped
    because nobody looked. One that the visitor has left (`leave`) stays as it is.
    """
    found = following(name, question)
    if found is None or (not found.left and unfinished(found.job)):
        found = begin(name, question, start)
    return found


def following(name: str, question: Hashable) -> Followed[Any] | None:
    """The same where nothing starts by itself: what was begun for this question, if anything was."""
    me = visitor()
    found = me.followed.get(name)
    if found is not None and found.question != question:
        forget(name)
        found = None
    if found is not None and not found.left:
        found.job.look(me.name)
    return found


def begin(name: str, question: Hashable, start: Callable[[], Job[Item]]) -> Followed[Item]:
    """Follow what `start()` makes, in place of the last job of that name."""
    forget(name)  # before: who shares a job with others may be given the same one again
    begun = visitor().followed[name] = Followed(question, start())
    return begun


def leave(name: str) -> None:
    """The visitor wants no more of it; what it has found by now can still be shown."""
    me = visitor()
    me.followed[name].left = True
    me.followed[name].job.cancel(me.name)


def forget(name: str) -> None:
    """Nothing is followed under that name."""
    me = visitor()
    found = me.followed.pop(name, None)
    if found is not None:
        found.job.cancel(me.name)


def unfinished(job: Job) -> bool:
    """Whether it stopped before its end because nobody looked any more: its visitor was on another page."""
    if job.error or not job.done:
        return False
    return len(job.items) < job.total or not job.items or getattr(job.items[-1], "final", True) is False


def progress_line(job: Job, done: int, of: str, *doing: str) -> str:
    """How far a job is: "3 of 30 points, about 12 s left · refit at 30% · refitting: layer 2 of 6"."""
    left = job.seconds_left() if len(job.items) > 1 else None  # the first may have been known before
    when = "" if left is None else f", about {left:.0f} s left"
    return " · ".join(part for part in (f"{done} of {job.total} {of}{when}", *doing) if part)
