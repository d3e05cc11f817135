"""The parts of the page `Sub-layers`: ε and θ with the score, the map of blocks that are off, distributions, spectral norms."""

from functools import partial

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from analysis import function_norms, off, spectral, theme
from analysis.names import KIND_NAMES, metric_name
from app.web import beside, caching, components, visitor_jobs
from app.web.beside import Norms
from app.web.choices import offer, panel
from app.web.glossary import TERMS
from app.web.panels.score_view import FIRST_LOOK, show_score, under_way
from app.web.settings import Settings
from app.web.visitor import visitor
from app.web.waiting import follow
from vp_core.ground.names import MODES, THETA
from vp_core.identity.threshold import Threshold
from vp_core.identity.threshold import key as threshold_key
from vp_core.measuring.function_norms import FunctionNorms
from vp_core.model.blocks import Block
from vp_core.study import Study

_SCORE_POLL_MS, _POLL_MS = 80, 700


@panel
def threshold_panel(study: Study) -> None:
    """The sliders with the score now, the map of what is off, and the norms that decide it."""
    job = caching.norms_job(study, visitor().name)
    job.wait(0, FIRST_LOOK)
    if job.error:
        st.error(job.error, icon=":material/error:")
        return
    if not job.items:
        waiting = theme.placeholder("How large the function norms are", under_way(job), 570)
        components.figure("waiting", components.still(waiting), "norms", 0, components.ticket(job), _POLL_MS)
        return
    norms = job.items[0].norms
    st.caption("Of the choices on the left, model, task, data and calibration count here.")
    offer("mode")
    with st.container(key="thresholds"):  # live.css: one below the other where there is no room
        left, right = st.columns([5, 8], gap="large")
    with left:
        _controls(norms)
        threshold = threshold_of(visitor().settings, norms)
        score_panel(study, threshold)
    with right:
        _off_panel(study, norms, threshold)
    norms_panel(study, threshold)


def threshold_of(settings: Settings, norms: FunctionNorms) -> Threshold:
    """What the settings ask for; ε that was not chosen is where its slider starts."""
    attention, ffn = off.first_epsilon(norms, settings.mode, THETA)
    return Threshold(
        settings.eps_attention or float(attention), settings.eps_ffn or float(ffn), settings.theta, settings.mode, settings.gate
    )


def _controls(norms: FunctionNorms) -> None:
    settings = visitor().settings
    kinds = MODES[settings.mode]
    attention, ffn = off.first_epsilon(norms, settings.mode, THETA)
    mine = tuple(kind for kind in kinds if kind != "ffn")
    if mine:
        name = "ε of heads" if mine == ("head",) else "ε of attention blocks"
        offer("eps_attention", off.epsilon_scale(norms, mine), settings.eps_attention or float(attention), label=name)
    if "ffn" in kinds:
        offer("eps_ffn", off.epsilon_scale(norms, ("ffn",)), settings.eps_ffn or float(ffn))
    offer("theta")
    offer("gate")


@panel
def score_panel(study: Study, threshold: Threshold) -> None:
    """The score of the model without what is off, nothing trained: a first answer, then the exact one."""
    key = threshold_key(study, threshold)  # of what is off: other thresholds for the same blocks are the same question
    score = follow("threshold", key, lambda: visitor_jobs.threshold_job(study, threshold, visitor().name))
    score.wait(FIRST_LOOK)
    job = score.job
    with st.container(key="score"):
        if job.error:
            st.error(job.error, icon=":material/error:")
        elif job.items:
            show_score(study.question.task, job.items[-1], caching.dense_score(study, "float32"))
        else:
            st.metric(f"{metric_name(study.question.task.metric)} without fine-tuning", "…", help=TERMS["score"])
            st.caption("Measuring …")
    components.poller("threshold-poll", components.ticket(job), _SCORE_POLL_MS)


def _off_panel(study: Study, norms: FunctionNorms, threshold: Threshold) -> None:
    table = off.off_table(norms, threshold)
    st.markdown("##### What is off", help=TERMS["off"])
    components.figure("off", components.still(off.draw(table)), "blocks-off", 0)
    cost = off.cost_without(study.model, [Block.named(name) for name in table.loc[table["off"], "block"]])
    counts = " · ".join(_count(table, kind) for kind in MODES[threshold.mode])
    st.markdown(
        f"**Off:** {counts} · **{cost.share_removed:.1%}** of the linear parameters "
        f"({cost.parameters_removed / 1e6:.2f} of {cost.parameters / 1e6:.2f} M)",
        help=TERMS["would go"],
    )
    components.csv_button("blocks-off", lambda: table)


def _count(table: pd.DataFrame, kind: str) -> str:
    part = table.loc[table["kind"] == kind, "off"]
    return f"{part.sum()} of {len(part)} {KIND_NAMES[kind]}"


@panel
def norms_panel(study: Study, threshold: Threshold) -> None:
    """Distributions of the norms and spectral norms, of the model in hand and of the one beside it."""
    settings = visitor().settings
    st.markdown("##### How large their function norms are", help=TERMS["norms"])
    which = beside.shown_beside(settings)
    offer("beside", beside.choices(settings), which, format_func=lambda one: beside.title(settings, one))
    if which == "twin":
        st.caption(TERMS["twin"])
    jobs = [caching.norms_job(study, visitor().name)]
    if which != "nothing":
        jobs.append(caching.norms_beside_job(study, settings, which, visitor().name))
        jobs[1].wait(0, FIRST_LOOK)
    for job in jobs:
        if job.error:
            st.error(job.error, icon=":material/error:")
    components.poller("norms-poll", components.ticket(*jobs), _POLL_MS)
    models = [job.items[-1] for job in jobs if job.items]
    components.figure("norms", components.still(_distributions(models, threshold)), "function-norms", 0)
    if not all(job.done for job in jobs):
        st.caption("Measuring; what is missing appears by itself.")
    else:
        components.csv_button("function-norms", lambda: function_norms.norm_tables({one.name: one.norms for one in models}))
    _sigma_panel(models)


def _distributions(models: list[Norms], threshold: Threshold) -> go.Figure:
    """The figure of the norms: drawn once for the same models and kinds, after that only its ε moves."""
    kinds = ("attention", "ffn") if "attention" in MODES[threshold.mode] else ("head", "ffn")
    key = (*(id(one.norms) for one in models), *MODES[threshold.mode])
    # the models stay with it, so that no other's norms get their address
    drawn, _ = visitor().figures.once(
        key, lambda: (function_norms.draw({one.name: one.norms for one in models}, kinds, threshold.epsilon), models)
    )
    function_norms.move(drawn, threshold.epsilon)
    return drawn


def _sigma_panel(models: list[Norms]) -> None:
    """Heat maps of spectral norms side by side, with one scale of colours."""
    known = [(one.name, one.sigmas) for one in models if one.sigmas is not None]
    if not known:
        return
    st.markdown("##### How far its matrices stretch", help=TERMS["sigma"])
    highest = max(float(table["sigma"].max()) for _, table in known)
    with st.container(key="spectral"):
        columns = st.columns(max(len(known), 2), gap="large")
    for column, (name, table) in zip(columns, known, strict=False):
        with column:
            figure = spectral.draw(table, highest)
            figure.update_layout(title_text=f"σ(W) · {name}")
            components.figure(f"sigma-{name}", components.still(figure), "spectral-norms", 0)
            components.csv_button(f"sigma-{name.replace(' ', '-')}", partial(pd.DataFrame.copy, table))
