"""The figures of the page `Weights` that speak of weights rather than of masks, after the papers on magnitude pruning."""

from collections.abc import Callable
from functools import partial

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from analysis.weights import features, heads, heat, losses, movement, removed, spread
from app.web import caching, components
from app.web.choices import panel
from app.web.glossary import TERMS
from app.web.jobs import Job
from app.web.panels.score_view import FIRST_LOOK, under_way
from app.web.visitor import Followed, visitor
from app.web.waiting import begin, following, leave, progress_line
from app.web.weighing import Tables, recipe_of_weights
from vp_core.ground.errors import VPError
from vp_core.study import Study

_POLL_MS = 700


@panel
def weights_panel(study: Study) -> None:
    """What weights alone say, and with another model how far it is away."""
    settings = visitor().settings
    recipe = recipe_of_weights(settings.recipe)
    st.markdown("##### What goes with the weights", help=TERMS["weights alone"])
    if recipe != settings.recipe:
        st.caption(f"The recipe on the left prunes no single weights: from here on the page speaks of *{recipe.describe()}*.")
    job = caching.weights_job(study, recipe, visitor().name)
    job.wait(0, FIRST_LOOK)
    jobs: list[Job[Tables]] = [job]
    try:
        if other := caching.study_over(settings):
            jobs.append(caching.weights_beside_job(study, other, recipe, visitor().name))
            jobs[-1].wait(0, FIRST_LOOK)
    except VPError:  # the panel above says it
        pass
    components.poller("weights-poll", components.ticket(*jobs), _POLL_MS)
    for one in jobs:
        if one.error:
            st.error(one.error, icon=":material/error:")
    tables: Tables = {}
    for one in jobs:
        tables |= one.items[-1] if one.items else {}
    _side_by_side(tables, ("removed", removed.draw), ("heads", heads.draw))
    _side_by_side(tables, ("difference", movement.draw_difference), ("start", movement.draw_start))
    _show(tables, "spread", spread.draw)
    waiting = next((one for one in jobs if not one.done), None)
    if waiting:
        st.caption(f"{under_way(waiting)} What is missing appears by itself.")
    _show(tables, "embeddings", heat.draw_embeddings)


def _side_by_side(tables: Tables, *pair: tuple[str, Callable[[pd.DataFrame], go.Figure]]) -> None:
    there = [(name, draw) for name, draw in pair if name in tables]
    if there:
        for column, (name, draw) in zip(st.columns(2, gap="large"), there, strict=False):
            with column:
                _show(tables, name, draw)


def _show(tables: Tables, name: str, draw: Callable[[pd.DataFrame], go.Figure]) -> None:
    """A figure with its table to take away, if it is there."""
    if name in tables:
        components.figure(f"weights-{name}", components.still(draw(tables[name])), f"weights-{name}", 0)
        components.csv_button(f"weights-{name}", partial(pd.DataFrame.copy, tables[name]))


@panel
def answers_panel(study: Study) -> None:
    """What the model makes of it: features and losses, computed when the button is pressed."""
    recipe = recipe_of_weights(visitor().settings.recipe)
    st.markdown("##### What the model makes of it", help=TERMS["answers"])
    key = study.key(recipe, 2.0)
    found: Followed[Tables] | None = following("answers", key)
    job = found.job if found else None
    busy = job is not None and not job.done
    start, beside, stop = st.columns([1.2, 6, 1], vertical_alignment="center")
    if start.button("Compute", type="primary", width="stretch", disabled=busy or _all_known(found), key="compute-answers"):
        begin("answers", key, lambda: caching.weights_answers_job(study, recipe, visitor().name))
        st.rerun(scope="fragment")
    if job is None:
        what = "the whole text" if study.question.task.tokens else f"all {study.question.task.counted}"
        beside.caption(f"The model is asked {what} at every tenth of sparsity, once the button is pressed.")
        return
    if job.error:
        beside.error(job.error, icon=":material/error:")
    elif not job.done:
        beside.progress(len(job.items) / max(job.total, 1), progress_line(job, len(job.items), "sparsities", job.stages.now))
        if stop.button("Stop", width="stretch", key="stop-answers"):
            leave("answers")
            st.rerun(scope="fragment")
    components.poller("answers-poll", components.ticket(job), _POLL_MS)
    if job.items:
        _side_by_side(job.items[-1], ("features", features.draw), ("losses", losses.draw))


def _all_known(found: Followed[Tables] | None) -> bool:
    return found is not None and found.job.done and bool(found.job.items) and len(found.job.items) == found.job.total
