"""The parts of the page `Explore`, from top to bottom. Each lays out what others compute."""

from collections.abc import Mapping
from dataclasses import replace

import pandas as pd
import streamlit as st

from analysis import curves, ladder
from analysis.names import metric_name, removed
from app.web import caching, components, visitor_jobs
from app.web.choices import offer, panel, sparsity_slider
from app.web.glossary import TERMS
from app.web.offered import LINES
from app.web.panels.score_view import FIRST_LOOK, show_how_long, show_preparation, show_score
from app.web.panels.trying.ask import BOTH, trying
from app.web.settings import Settings
from app.web.visitor import Followed, visitor
from app.web.waiting import follow, forget, leave, progress_line
from vp_core.asking.kinds.question import Score
from vp_core.curves import CurveRow
from vp_core.ground.errors import VPError
from vp_core.recipes import Recipe
from vp_core.squeezing.cost import Cost
from vp_core.study import Study

_SCORE_POLL_MS, _PREPARING_POLL_MS, _CURVE_POLL_MS = 60, 700, 1000


@panel
def score_panel(study: Study) -> None:
    """Slider, the score now against dense, what goes, and something to try."""
    me = visitor()
    settings, score = me.settings, _score(study, me.settings)
    job = score.job
    ready = caching.order_job(study, settings.recipe, visitor().name)
    poll = _SCORE_POLL_MS if job.items else _PREPARING_POLL_MS
    asked = me.followed.get("sentence")
    sparsity_slider(components.ticket(job, ready, *([asked.job] if asked else [])), poll)
    score.wait(FIRST_LOOK)
    with st.container(key="score"):
        if job.error:
            st.error(job.error, icon=":material/error:")
        elif job.items:
            show_score(study.question.task, job.items[-1], caching.dense_score(study, settings.precision))
            show_how_long(job)
        else:
            st.metric(metric_name(study.question.task.metric), "…", help=TERMS["score"])
            show_preparation(job)
    for warning in study.warnings(settings.recipe):
        st.info(warning, icon=":material/data_alert:")
    if ready.items and not job.error:
        _show_cost(study, settings)
    if job.items and not job.error:
        _trying(study, settings)


@panel
def as_it_is_panel(study: Study) -> None:
    """A model that is squeezed already, such as a training leaves: its score, what went, and something to try."""
    me, as_it_is = visitor(), Recipe()
    score = follow(
        "score", study.key(as_it_is, 0.0, me.settings.precision),
        lambda: visitor_jobs.score_job(study, as_it_is, 0.0, me.settings.precision, me.name),
    )  # fmt: skip
    score.wait(FIRST_LOOK)
    with st.container(key="score"):
        if score.job.error:
            st.error(score.job.error, icon=":material/error:")
        elif score.job.items:
            show_score(study.question.task, score.job.items[-1], None, "as it is")
        else:
            show_preparation(score.job)
    asked = me.followed.get("sentence")
    polled = [score.job, *([asked.job] if asked else [])]
    components.poller("as-it-is", components.ticket(*polled), _PREPARING_POLL_MS)
    cost = study.cost(as_it_is, 0.0)
    st.markdown(
        f"**Gone:** {cost.share_removed:.1%} of the encoder's linear parameters "
        f"({cost.parameters_removed / 1e6:.2f} of {cost.parameters / 1e6:.2f} M)"
    )
    st.info(
        "This model is squeezed already, so there is no sparsity to slide: open the model that it was made from for that. "
        "The page Training shows what has gone where, and trains it on.",
        icon=":material/compress:",
    )
    if score.job.items and not score.job.error:
        alone = "It says" if study.question.task.kind == "classes" else "as it is"
        _trying(study, replace(me.settings, sparsity=0.0), {"dense": alone})


def _score(study: Study, settings: Settings) -> Followed[Score]:
    """This visitor's running score."""
    recipe, sparsity, precision = settings.recipe, settings.sparsity, settings.precision
    return follow(
        "score", study.key(recipe, sparsity, precision),
        lambda: visitor_jobs.score_job(study, recipe, sparsity, precision, visitor().name),
    )  # fmt: skip


def _show_cost(study: Study, settings: Settings) -> None:
    try:
        cost = study.cost(settings.recipe, settings.sparsity)
    except VPError:  # more than these units hold: the score says so
        return
    if settings.recipe.pattern:
        _show_weights(study, settings, cost)
        return
    million = 1e6
    dense, left = cost.flops_per_token(), cost.flops_per_token_left()
    lines = {
        "rows": (cost.rows_removed / cost.rows, f"{cost.rows_removed:,} of {cost.rows:,}"),
        "parameters": (cost.share_removed, f"{cost.parameters_removed / million:.2f} of {cost.parameters / million:.2f} M"),
        "FLOPs a token": (1 - left / dense, f"{(dense - left) / million:.1f} of {dense / million:.1f} M"),
    }
    table = "\n".join(f"| {name} | **{share:.1%}** | {of} |" for name, (share, of) in lines.items())
    st.markdown(f"| would go | share | count |\n|:--|--:|:--|\n{table}", help=TERMS["would go"])


def _show_weights(study: Study, settings: Settings, cost: Cost) -> None:
    """What goes of single weights, what that saves on disk, and what is wholly gone."""
    masks = study.masks(settings.recipe, settings.sparsity)
    dense = 4 * masks.weights
    left = sum(-(-masks.size(name) // 8) + 4 * masks.kept(name) for name in masks.bits)
    left = min(left, dense)
    gone, rows = masks.weights_removed, cost.rows_removed
    lines = {
        "weights": (gone / masks.weights, f"{gone / 1e6:.2f} of {masks.weights / 1e6:.2f} M"),
        "bytes of these matrices": (1 - left / dense, f"{(dense - left) / 1e6:.1f} of {dense / 1e6:.1f} MB"),
        "rows, wholly": (rows / cost.rows, f"{rows:,} of {cost.rows:,}"),
    }
    table = "\n".join(f"| {name} | **{share:.1%}** | {of} |" for name, (share, of) in lines.items())
    st.markdown(f"| would go | share | count |\n|:--|--:|:--|\n{table}")
    st.caption("Single weights that are gone save no time by themselves.", help=TERMS["no time"])


def _trying(study: Study, settings: Settings, called: Mapping[str, str] = BOTH) -> None:
    """Something of the visitor's own, asked of both models; `called`: whose answers are shown, and as what."""
    asked = study, settings.recipe, settings.sparsity
    trying(
        study, settings, lambda text: visitor_jobs.sentence_job(*asked, text, visitor().name),
        lambda text, names: visitor_jobs.reading_job(*asked, text, names, visitor().name),
        lambda what, names: visitor_jobs.trying_job(*asked, names, what, visitor().name), called,
    )  # fmt: skip


@panel
def curve_panel(study: Study) -> None:
    """Score against sparsity for several criteria or replacements, filling in by itself."""
    settings = visitor().settings
    by = settings.curve_lines
    offer("lines", LINES, by, label_visibility="collapsed")
    try:
        curve = _curve(study, settings)
    except VPError as error:  # units that this model does not have
        st.error(str(error), icon=":material/error:")
        forget("curve")
        return
    job, rows = curve.job, list(curve.job.items)
    drawn = curves.draw(
        ladder.table(rows), study.question.task.metric, settings.position / 100, ladder.own_line(settings.recipe, by), "line",
        removed(settings.recipe),
    )  # fmt: skip
    components.figure("curve", drawn, "score-against-sparsity", settings.position, components.ticket(job), _CURVE_POLL_MS)
    progress, button = st.columns([5, 1.2], vertical_alignment="center")
    if job.error:
        progress.error(job.error, icon=":material/error:")
    elif not job.done:
        line = progress_line(job, len(rows), "points", job.doing, job.stages.now)
        progress.progress(len(rows) / job.total, line)
        if button.button("Cancel", width="stretch"):
            leave("curve")
            st.rerun(scope="fragment")
    elif curve.left:
        progress.caption(f"Stopped after {len(rows)} points; they are kept.")
        if button.button("Go on", width="stretch"):
            forget("curve")
            st.rerun(scope="fragment")


def curve_csv() -> None:
    """The curve's points so far. No part of the curve's fragment: each poll would renew the button."""
    followed = visitor().followed

    def table() -> pd.DataFrame:
        curve = followed.get("curve")
        return ladder.table(curve.job.items if curve else []).drop(columns=["right", "key"])

    components.csv_button("curve", table)


def _curve(study: Study, settings: Settings) -> Followed[CurveRow]:
    """The curve of this visitor's question; a cancelled one stays as it was until asked to go on."""
    recipe, by = settings.recipe, settings.curve_lines
    key = caching.lines_key(study, ladder.lines(recipe, by), settings.precision)
    return follow("curve", key, lambda: caching.curve_job(study, recipe, by, settings.precision, visitor().name))
