"""The jobs that one visitor waits for: at most one of a name, begun anew when its question changes."""

from collections.abc import Callable, Hashable

import streamlit as st

from app.web.choices import watcher
from app.web.jobs import Item, Job


def own_job(name: str, question: Hashable, start: Callable[[], Job[Item]], go_on: bool = True) -> Job[Item]:
    """This visitor's job of that name.

    `start()` makes it when there is none, when the question is another (the old job is cancelled), and when it stopped
    because nobody looked. Where `go_on` is False, a stopped job stays stopped, and this is no look.
    """
    state, mine, asked = st.session_state, f"{name}_job", f"{name}_question"
    if state.get(asked) != question or (go_on and unfinished(state[mine])):
        if mine in state:
            state[mine].cancel(watcher())
        state[mine] = start()
        state[asked], state[f"{name}_seen"] = question, 0
    job: Job[Item] = state[mine]
    if go_on:
        job.look(watcher())
    return job


def wait_for_items(name: str, seconds: float) -> None:
    """Until this visitor's job of that name has more than was shown before, or that many seconds."""
    job: Job = st.session_state[f"{name}_job"]
    job.wait(st.session_state[f"{name}_seen"], seconds)
    st.session_state[f"{name}_seen"] = len(job.items)


def unfinished(job: Job) -> bool:
    """Whether it stopped before its end because nobody looked any more: its visitor was on another page."""
    if job.error or not job.done:
        return False
    return len(job.items) < job.total or not job.items or getattr(job.items[-1], "final", True) is False
