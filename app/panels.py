"""The parts of the page `Explore`, from top to bottom. Each lays out what others compute."""

import numpy as np
import streamlit as st

from analysis import curves, masks, variance
from app import caching, components
from app.choices import remember, slider_released, watcher
from app.glossary import TERMS
from app.jobs import Job
from app.settings import Settings
from vp_core.errors import VPError
from vp_core.evaluate import Score
from vp_core.families import TYPES
from vp_core.metrics import CLASSIFICATION, paired_interval
from vp_core.study import Study
from vp_core.sweep import Row, curve

FIRST_LOOK = 0.25
"""Seconds a script run waits for news of a score before it leaves the rest to the browser's polling."""
_SCORE_POLL_MS, _CURVE_POLL_MS = 60, 1000


@st.fragment
def score_panel(study: Study) -> None:
    """Slider, the score now against dense, what goes, and a sentence to try."""
    settings: Settings = st.session_state.settings
    job, news = _live_job(study, settings)
    job.look(watcher())
    components.slider("slider", settings.position, slider_released, components.ticket(job), _SCORE_POLL_MS)
    job.wait(news, FIRST_LOOK)
    st.session_state.score_seen = len(job.items)
    with st.container(key="score"):
        if job.error:
            st.error(job.error, icon=":material/error:")
        elif job.items:
            _show_score(job.items[-1], caching.dense_score(study, settings.precision))
        else:
            st.metric(curves.METRIC_NAMES[study.question.task.metric], "…", help=TERMS["score"])
    _show_cost(study, settings)
    _sentence(study, settings)


def _live_job(study: Study, settings: Settings) -> tuple[Job[Score], int]:
    """This visitor's running score, begun anew when the question changes; and how much of it was shown already."""
    sparsity = float(settings.sparsity)
    key = study.key(settings.recipe, sparsity, settings.precision)
    if st.session_state.get("score_key") != key or _unfinished(st.session_state.score_job):
        if "score_job" in st.session_state:
            st.session_state.score_job.cancel(watcher())
        st.session_state.score_key, st.session_state.score_seen = key, 0
        st.session_state.score_job = caching.live_job(study, settings.recipe, sparsity, settings.precision, watcher())
    return st.session_state.score_job, st.session_state.score_seen


def _unfinished(job: Job) -> bool:
    """Whether it stopped before its end because nobody looked any more: its visitor was on another page."""
    if job.error or not job.done:
        return False
    return len(job.items) < job.total or not job.items or getattr(job.items[-1], "final", True) is False


def _show_score(score: Score, dense: Score | None) -> None:
    percent = score.metric in CLASSIFICATION
    delta = None
    if dense is not None and score.final:
        delta = _points(score.value - dense.value, percent) + f" against dense {_value(dense.value, percent)}"
    name = curves.METRIC_NAMES[score.metric]
    st.metric(f"{name} without fine-tuning", _value(score.value, percent), delta, help=TERMS["score"])
    interval = f"95 % interval {_value(score.low, percent)} to {_value(score.high, percent)}"
    if dense is not None and score.right is not None and dense.right is not None and score.metric == "accuracy":
        paired = paired_interval(score.right, dense.right)
        interval += f"; the difference {_points(paired['low'], True)} to {_points(paired['high'], True)}"
    seen = f"n = {score.n:,}" if score.final else f"n = {score.n:,} of {score.total:,}, going on"
    st.markdown(f":small[{interval} · {seen} · {score.seconds:.2f} s]", help=TERMS["interval"])
    if score.others:
        st.caption(" · ".join(f"{curves.METRIC_NAMES[m]} {_value(v, m in CLASSIFICATION)}" for m, v in score.others.items()))


def _value(value: float, percent: bool) -> str:
    return f"{100 * value:.1f} %" if percent else f"{value:.3f}"


def _points(value: float, percent: bool) -> str:
    return f"{100 * value:+.1f} points" if percent else f"{value:+.3f}"


def _show_cost(study: Study, settings: Settings) -> None:
    cost = study.cost(settings.recipe, float(settings.sparsity))
    million = 1e6
    dense, left = cost.flops_per_token(), cost.flops_per_token_left()
    lines = {
        "rows": (cost.rows_removed / cost.rows, f"{cost.rows_removed:,} of {cost.rows:,}"),
        "parameters": (cost.share_removed, f"{cost.parameters_removed / million:.2f} of {cost.parameters / million:.2f} M"),
        "FLOPs a token": (1 - left / dense, f"{(dense - left) / million:.1f} of {dense / million:.1f} M"),
    }
    table = "\n".join(f"| {name} | **{share:.1%}** | {of} |" for name, (share, of) in lines.items())
    st.markdown(f"| would go | share | count |\n|:--|--:|:--|\n{table}", help=TERMS["would go"])


def _sentence(study: Study, settings: Settings) -> None:
    """Ask both models about the visitor's own text."""
    names = ["First text", "Second text"] if len(study.question.task.text) > 1 else ["Try a sentence"]
    default = "Not nearly as dull as I had feared." if study.question.task.name == "demo" else ""
    text = tuple(st.text_input(name, default, help=TERMS["sentence"]) for name in names)
    if not all(part.strip() for part in text):
        return
    key = (st.session_state.score_key, text)
    if st.session_state.get("sentence_key") != key:
        try:
            models = {"dense": study.model, "pruned": study.pruned(settings.recipe, float(settings.sparsity))}
            answers = {name: study.predict(model, [text]) for name, model in models.items()}
        except VPError as error:
            st.error(str(error))
            return
        st.session_state.sentence_key, st.session_state.sentence_answers = key, answers
    for name, (outputs, _) in st.session_state.sentence_answers.items():
        st.markdown(f"**{name}**: {_answer(study, outputs[0])}")
    if any(cut for _, cut in st.session_state.sentence_answers.values()):
        st.info(f"Only the first {study.question.data.max_length} tokens of the text were read; the model takes no more.")


def _answer(study: Study, output: np.ndarray) -> str:
    task = study.question.task
    return f"{output[0]:.2f}" if task.regression else f"{task.labels[int(output.argmax())]} ({output.max():.1%})"


@st.fragment
def curve_panel(study: Study) -> None:
    """Score against sparsity for all criteria, filling in by itself."""
    settings: Settings = st.session_state.settings
    job = _curve_job(study, settings)
    rows = list(job.items)
    table = curve(rows).table
    drawn = curves.draw(table, study.question.task.metric, settings.position / 100, settings.criterion)
    components.figure("curve", drawn, "score-against-sparsity", settings.position, components.ticket(job), _CURVE_POLL_MS)
    st.session_state.now["curve"] = job
    progress, button = st.columns([5, 1.2], vertical_alignment="center")
    if job.error:
        progress.error(job.error, icon=":material/error:")
    elif not job.done:
        left = job.seconds_left()
        when = "" if left is None else f", about {left:.0f} s left"
        progress.progress(len(rows) / job.total, f"{len(rows)} of {job.total} points{when}")
        if button.button("Cancel", width="stretch"):
            job.cancel(watcher())
            st.session_state.curve_cancelled = st.session_state.curve_key
            st.rerun(scope="fragment")
    elif st.session_state.get("curve_cancelled") == st.session_state.curve_key:
        progress.caption(f"Stopped after {len(rows)} points; they are kept.")
        if button.button("Go on", width="stretch"):
            st.session_state.curve_cancelled = None
            st.session_state.curve_key = None
            st.rerun(scope="fragment")


def curve_csv() -> None:
    """The curve's points so far. No part of the curve's fragment: each poll would renew the button."""
    now = st.session_state.now
    components.csv_button("curve", lambda: curve(list(now["curve"].items)).table.drop(columns=["right", "key"]))


def _curve_job(study: Study, settings: Settings) -> Job[Row]:
    """The curve of this visitor's question; a cancelled one stays as it was until asked to go on."""
    recipe = settings.recipe
    key = (study.key(recipe, 2.0, settings.precision), settings.criterion)
    cancelled = st.session_state.get("curve_cancelled")
    if st.session_state.get("curve_key") != key or (cancelled != key and _unfinished(st.session_state.curve_job)):
        if "curve_job" in st.session_state:
            st.session_state.curve_job.cancel(watcher())
        st.session_state.curve_key = key
        st.session_state.curve_job = caching.curve_job(study, recipe, settings.precision, watcher())
    job: Job[Row] = st.session_state.curve_job
    if cancelled != key:
        job.look(watcher())
    return job


def mask_panel(study: Study, settings: Settings) -> None:
    """Heat map of sparsity by layer and projection type."""
    ranking, now = study.ranking(settings.recipe), st.session_state.now
    st.markdown("##### Where rows go", help=TERMS["heat"])
    components.figure(
        "heat-map", masks.draw(ranking, float(settings.sparsity)), "sparsity-by-layer-and-type", settings.position
    )
    components.csv_button("sparsity-by-layer-and-type", lambda: masks.table(ranking, float(now["settings"].sparsity)))


@st.fragment
def neuron_panel(study: Study) -> None:
    """Every neuron's score by layer, and its distribution with the cut, for one projection type."""
    settings: Settings = st.session_state.settings
    chosen = settings.types.split(",")
    shown = settings.show if settings.show in chosen else chosen[0]
    st.markdown("##### Which neurons go", help=TERMS["sorted"])
    picked = st.segmented_control(
        "Projection type shown", [t for t in TYPES if t in chosen], default=shown, help=TERMS["show"], required=True
    )
    settings = remember(show=str(picked or shown))
    ranking, scores = study.ranking(settings.recipe), study.scores(settings.recipe)
    drawn_scores = study.statistics().variances() if settings.criterion == "random" else scores
    table = variance.neuron_table(drawn_scores, ranking, settings.show)
    sparsity = float(settings.sparsity)
    left, right = st.columns(2, gap="large")
    with left:
        live = variance.draw_sorted(table, settings.criterion, settings.show, sparsity)
        components.figure("sorted", live, f"{settings.show}-sorted", settings.position)
        components.csv_button(f"{settings.show}-neurons", lambda: table)
    with right:
        live = variance.draw_distribution(table, drawn_scores, ranking, settings.criterion, settings.show, sparsity)
        components.figure("distribution", live, f"{settings.show}-distribution", settings.position)
        components.csv_button(f"{settings.show}-distribution", lambda: table[["layer", "neuron", "score"]])
