"""What both models make of something of the visitor's own, as it comes: one job, whose last item has all that is known."""

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import streamlit as st

from app.web.jobs import Job
from app.web.settings import Settings
from app.web.waiting import follow
from vp_core.study import Study

Ask = Callable[[Callable[[Any], Any], tuple[str, ...]], Job[dict[str, Any]]]
"""From what a model is asked and the names of models, the job of asking them."""
LOOK = 1.0
"""Seconds a script run waits for the answers, which are hardly ever long in coming."""


def asked_of_both(
    study: Study, settings: Settings, called: Mapping[str, str], ask: Ask, given: Hashable, what: Callable[[Any], Any]
) -> dict[str, Any]:
    """By what each model is `called`, what `what(model)` is, as far as it is known; an error is told. `given`: what `what` is
    about, so that other things are asked anew; `ask` starts the job."""
    names = tuple(called)
    key = study.key(settings.recipe, settings.sparsity), given, names
    followed = follow("sentence", key, lambda: ask(what, names))
    job = followed.job
    followed.wait(LOOK)
    if job.error:
        st.error(job.error)
    if not job.done:
        st.caption("Asking …" if len(called) == 1 else "Asking both models …")
    return {called[name]: found for name, found in (job.items[-1] if job.items else {}).items()}
