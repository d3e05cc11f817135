"""All that the app keeps of one visitor, in one object of the visitor's own session."""

import time
from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from typing import Any, Generic

import streamlit as st

from app.web.address import from_query, to_query
from app.web.jobs import Item, Job
from app.web.offered import own_is_there
from app.web.settings import Settings
from vp_core.ground.kept import Kept


@dataclass
class Followed(Generic[Item]):
    """A job that a visitor follows, and the question it answers."""

    question: Hashable
    job: Job[Item]
    seen: int = 0
    """Items that were shown."""
    left: bool = False
    """The visitor has cancelled it."""

    def wait(self, seconds: float) -> None:
        """Wait until there is more than was shown before, or so many seconds have gone by."""
        self.job.wait(self.seen, seconds)
        self.seen = len(self.job.items)


@dataclass
class Visitor:
    """A plain object: what runs later and outside of a script run, as a button's download does, reads it too."""

    settings: Settings
    problems: list[str]
    """What was wrong with the address, told until something is chosen."""
    name: str = field(default_factory=lambda: f"visitor-{time.time_ns()}")
    """Among those who share a job."""
    refused: str = ""
    """Why the last choice was not taken."""
    page_behind: bool = False
    """Something was chosen outside the panels: the page is as it should be once all of it has run."""
    followed: dict[str, Followed[Any]] = field(default_factory=dict)
    """By name, the jobs that are waited for (`app.web.waiting`)."""
    under_way: str = ""
    """The training that was under way when its page was drawn last."""
    figures: Kept = field(default_factory=lambda: Kept(most=1))
    """A figure that is drawn once, as long as it is of the same models."""


def visitor() -> Visitor:
    """Whoever this script run is for; a new one has chosen what the address says."""
    if "visitor" not in st.session_state:
        settings, problems = from_query(st.query_params.to_dict())
        if own_is_there() and "task" not in st.query_params:
            settings = replace(settings, task="own")  # what the command line named that started the app
        st.session_state.visitor = Visitor(settings, problems)
    found: Visitor = st.session_state.visitor
    return found


def remember(**changed: Any) -> Settings:
    """Change some settings, here and in the address."""
    return keep(replace(visitor().settings, **changed))


def keep(settings: Settings) -> Settings:
    """These are this visitor's settings from now on, here and in the address."""
    me = visitor()
    if settings != me.settings:
        me.settings, me.problems = settings, []
    query = to_query(settings)
    if st.query_params.to_dict() != query:
        st.query_params.from_dict(query)
    return settings
