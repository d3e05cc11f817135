"""The parts of the page `Compare`: which recipes, how far the computation is, the chart and its numbers."""

import pandas as pd
import streamlit as st

from analysis import compare
from analysis.curves import METRIC_NAMES
from analysis.live import LiveFigure
from app.web import caching, components
from app.web.choices import RECIPE_ORDER, panel, pills, watcher
from app.web.glossary import TERMS
from app.web.jobs import Job
from app.web.settings import OWN, Settings
from vp_core.asking.metrics import CLASSIFICATION
from vp_core.curves import Row
from vp_core.ground.errors import VPError
from vp_core.study import Study

_POLL_MS = 1000


@panel
def compare_panel(study: Study) -> None:
    """The choice of recipes, the computation under way, one chart and one table."""
    pills("Recipes", "recipes", (*RECIPE_ORDER, compare.RANDOM, OWN), st.session_state.settings.recipes.split(","))
    settings: Settings = st.session_state.settings
    st.caption(f"*{OWN}* is the one set on the left: {settings.recipe.describe()}.")
    try:
        lines = lines_by(settings)
        points = compare.points_of(study, lines)
    except VPError as error:
        st.error(str(error), icon=":material/error:")
        return
    rows = compare.known(study, lines, caching.store(study), settings.precision)
    job = _controls(study, settings, lines, len(rows), len(points))
    table, metric = compare.table(rows), study.question.task.metric
    drawn = LiveFigure(compare.draw(table, metric))
    components.figure("compare", drawn, "recipes", 0, components.ticket(job) if job else "", _POLL_MS)
    if len(table):
        _show_summary(compare.summary(table), metric)


def lines_by(settings: Settings) -> compare.Lines:
    """The chosen lines."""
    names = [name for name in settings.recipes.split(",") if name]
    return compare.lines_of(names, settings.recipe if OWN in names else None, OWN)


def _controls(study: Study, settings: Settings, lines: compare.Lines, known: int, total: int) -> Job[Row] | None:
    """The button with what goes on beside it; returns the job while it runs."""
    key = caching.lines_key(study, lines, settings.precision)
    job: Job[Row] | None = st.session_state.get("compare_job")
    if job is not None and st.session_state.compare_key != key:
        job.cancel(watcher())  # other recipes are wanted by now
        job = st.session_state.compare_job = None
    start, beside, stop = st.columns([1.2, 6, 1], vertical_alignment="center")
    busy = job is not None and not job.done
    if start.button("Compute", type="primary", width="stretch", disabled=busy or known == total, help=TERMS["compare"]):
        st.session_state.compare_key = key
        st.session_state.compare_job = caching.compare_job(study, lines, settings.precision, watcher())
        st.rerun(scope="fragment")
    if job is not None and not job.done:
        job.look(watcher())
        beside.progress(known / total, _progress(study, job, known, total))
        if stop.button("Stop", width="stretch"):
            job.cancel(watcher())
            st.session_state.compare_job = None
            st.rerun(scope="fragment")
        return job
    if job is not None and job.error:
        beside.error(job.error, icon=":material/error:")
    elif not total:
        beside.caption("Choose at least one recipe.")
    elif known < total:
        beside.caption(f"{known} of {total} points are known and kept; the rest is computed when the button is pressed.")
    else:
        beside.caption(f"All {total} points are known.")
    return None


def _progress(study: Study, job: Job[Row], known: int, total: int) -> str:
    left = job.seconds_left()
    when = "" if left is None or known < 2 else f", about {left:.0f} s left"
    doing = " · ".join(part for part in (job.doing, caching.said(study).of(job)) if part)
    return f"{known} of {total} points{when} · {doing or 'starting'}"


def _show_summary(summary: pd.DataFrame, metric: str) -> None:
    name, percent = METRIC_NAMES[metric], metric in CLASSIFICATION
    scale, format_ = (100, "%.1f %%") if percent else (1, "%.3f")
    shown = pd.DataFrame({"recipe": summary["line"]})
    columns = {"recipe": st.column_config.TextColumn(help=TERMS["recipe"])}
    for at in compare.AT:
        title = f"{name} at {at:.0%}"
        shown[title] = scale * summary[at]
        columns[title] = st.column_config.NumberColumn(format=format_)
    for title in ("area", "within a point", "measured to"):
        shown[title] = 100 * summary[title]
        columns[title] = st.column_config.NumberColumn(format="%.1f %%", help=TERMS[title])
    st.dataframe(shown, column_config=columns, hide_index=True, height="content", key="summary")


def compare_csv(study: Study) -> None:
    """Points and summary to take away. No part of the fragment that polls: each poll would renew the buttons."""
    now = st.session_state.now

    def table() -> pd.DataFrame:
        settings: Settings = now["settings"]
        return compare.table(compare.known(study, lines_by(settings), caching.store(study), settings.precision))

    points, summary, _ = st.columns([1, 1, 4])
    with points:
        components.csv_button("recipes", table, "Points as CSV")
    with summary:
        components.csv_button("recipes-summary", lambda: compare.summary(table()), "Table as CSV")
