"""The parts of the page `Compare`: which recipes, how far the computation is, the chart and its numbers."""

import pandas as pd
import streamlit as st

from analysis import compare
from analysis.live import LiveFigure
from analysis.names import metric_name, score_format
from app.web import caching, components
from app.web.choices import offer, panel
from app.web.glossary import TERMS
from app.web.jobs import Job
from app.web.offered import OWN
from app.web.settings import Settings
from app.web.visitor import visitor
from app.web.waiting import begin, following, leave, progress_line
from vp_core.curves import CurveRow
from vp_core.ground.errors import VPError
from vp_core.study import Study

_POLL_MS = 1000


@panel
def compare_panel(study: Study) -> None:
    """The choice of recipes, the computation under way, one chart and one table."""
    offer("recipes")
    settings = visitor().settings
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
    return compare.lines_of(settings.recipes, settings.recipe if OWN in settings.recipes else None, OWN)


def _controls(study: Study, settings: Settings, lines: compare.Lines, known: int, total: int) -> Job[CurveRow] | None:
    """The button with what goes on beside it; returns the job while it runs."""
    key = caching.lines_key(study, lines, settings.precision)
    found = following("compare", key)
    job = found.job if found and not found.left else None
    start, beside, stop = st.columns([1.2, 6, 1], vertical_alignment="center")
    busy = job is not None and not job.done
    if start.button("Compute", type="primary", width="stretch", disabled=busy or known == total, help=TERMS["compare"]):
        begin("compare", key, lambda: caching.compare_job(study, lines, settings.precision, visitor().name))
        st.rerun(scope="fragment")
    if job is not None and not job.done:
        line = progress_line(job, known, "points", job.doing or "starting", job.stages.now)
        beside.progress(known / total, line)
        if stop.button("Stop", width="stretch"):
            leave("compare")
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


def _show_summary(summary: pd.DataFrame, metric: str) -> None:
    name, (scale, format_) = metric_name(metric), score_format(metric)
    shown = pd.DataFrame({"recipe": summary["line"]})
    columns = {"recipe": st.column_config.TextColumn(help=TERMS["recipe"])}
    for at in compare.AT:
        title = f"{name} at {at:.0%}"
        shown[title] = scale * summary[at]
        columns[title] = st.column_config.NumberColumn(format=format_)
    for title in (*compare.summary_names(metric), "measured to"):
        factor, format_ = (1, "%.3g ×") if title == "times dense" else (100, "%.1f %%")
        shown[title] = factor * summary[title]
        columns[title] = st.column_config.NumberColumn(format=format_, help=TERMS[title])
    st.dataframe(shown, column_config=columns, hide_index=True, height="content", key="summary")


def compare_csv(study: Study) -> None:
    """Points and summary to take away. No part of the fragment that polls: each poll would renew the buttons."""
    me = visitor()

    def table() -> pd.DataFrame:
        rows = compare.known(study, lines_by(me.settings), caching.store(study), me.settings.precision)
        return compare.table(rows)

    points, summary, _ = st.columns([1, 1, 4])
    with points:
        components.csv_button("recipes", table, "Points as CSV")
    with summary:
        components.csv_button("recipes-summary", lambda: compare.summary(table()), "Table as CSV")
