"""How a score is shown, on whatever page: while it is prepared, while it runs, and once it is exact."""

from typing import Literal

import streamlit as st

from analysis.names import difference_text, metric_name, score_text
from app.web.glossary import TERMS
from app.web.jobs import Job
from app.web.stages import as_list, capital, in_a_line
from vp_core.asking.kinds.question import Score
from vp_core.asking.metrics import SHARES, less_is_better, paired_interval
from vp_core.asking.tasks import Task

FIRST_LOOK = 0.25
"""Seconds a script run waits for something new before it leaves the rest to the browser's polling."""


def show_preparation(job: Job) -> None:
    """The stages of a job that has nothing to show yet: those that are over with their seconds, and how far the last one is."""
    shown = as_list(list(job.stages.all))
    if shown:
        st.html(shown)
    else:
        st.caption(under_way(job))


def show_how_long(job: Job) -> None:
    """What the first item of a job took, in small, if it took a while."""
    if said := in_a_line(job.before):
        st.caption(f"Prepared in {sum(stage.seconds for stage in job.before):.1f} s: {said}")


def under_way(job: Job) -> str:
    """The stage that a job is in before it has anything to show. How far it is stands beside the score."""
    return f"{capital(job.stages.stage)} …" if job.stages.stage else "Measuring …"


def show_score(task: Task, score: Score, dense: Score | None, how: str = "without fine-tuning") -> None:
    """A score with its interval, and once it is exact, the difference to the dense model's if that is known."""
    metric, delta = score.metric, None
    if dense is not None and score.final:
        delta = f"{difference_text(score.value - dense.value, metric)} against dense {score_text(dense.value, metric)}"
        if metric == "perplexity":
            delta += f" ({score_text(score.value / dense.value, metric)} times)"
    value = score_text(score.value, metric)
    colour: Literal["normal", "inverse"] = "inverse" if less_is_better(metric) else "normal"
    st.metric(f"{metric_name(metric)} {how}", value, delta, delta_color=colour, help=TERMS.get(metric, TERMS["score"]))
    interval = f"95 % interval {score_text(score.low, metric)} to {score_text(score.high, metric)}"
    if dense is not None and score.right is not None and dense.right is not None and metric in (*SHARES, "exact_match"):
        paired = paired_interval(score.right, dense.right)
        interval += f"; the difference {difference_text(paired['low'], metric)} to {difference_text(paired['high'], metric)}"
    counted = "" if task.counted == "texts" else f" {task.counted}"
    seen = f"n = {score.n:,}{counted}" if score.final else f"n = {score.n:,} of {score.total:,}{counted}, going on"
    st.markdown(
        f":small[{interval} · {seen} · {score.seconds:.2f} s]", help=TERMS["interval of tokens" if task.tokens else "interval"]
    )
    if score.others:
        st.caption(" · ".join(f"{metric_name(name)} {score_text(other, name)}" for name, other in score.others.items()))
