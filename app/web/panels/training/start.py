"""How to train and how to prune meanwhile: the first part of the page `Training`."""

from pathlib import Path

import streamlit as st

from analysis.names import titled
from app.web import caching, trainings
from app.web.choices import offer, panel, typed
from app.web.glossary import TERMS
from app.web.settings import Settings
from app.web.visitor import remember, visitor
from vp_core.asking.reading.tables import kind_of
from vp_core.ground.errors import VPError
from vp_core.ground.names import METHODS
from vp_core.running.settings import ROWS, WEIGHTS
from vp_core.study import Study


@panel
def start_panel(study: Study) -> None:
    """The choices, what they come to in words, and the button."""
    st.caption("Of the choices on the left, model, task and data count here.", help=TERMS["training"])
    _pruning()
    _training(study)
    settings = visitor().settings
    problem, words = "", ""
    try:
        wanted = trainings.wanted_by(settings)
        words = trainings.words_of(wanted)
        if not study.loaded.projections and settings.method != "none":
            problem = (
                "This model is squeezed already: it can be trained on by the method none, or open the one it was made from."
            )
    except VPError as error:
        problem = str(error)
    button, beside = st.columns([1.2, 8], vertical_alignment="center")
    running = caching.trainings().running()
    start = button.button(
        "Start", type="primary", width="stretch", disabled=bool(problem or running), key="start-training", help=TERMS["start"]
    )
    if problem:
        beside.error(problem, icon=":material/error:")
    elif running:
        beside.caption(f"*{running}* is under way, and two would slow each other down: the next can start after it.")
    else:
        beside.caption(f"**{settings.method}**: {METHODS[settings.method]}. {words}")
    if kind_of(settings.task) or (settings.asked == "tokens" and Path(settings.data).is_file()):
        st.info(
            "The file is both what is learned and what is asked: the score says nothing about other texts.",
            icon=":material/data_alert:",
        )
    if start:
        begin(trainings.new_name(settings), settings)


def begin(name: str, settings: Settings) -> None:
    """Begin a run or go on with it, and show it."""
    caching.train(name, settings)
    remember(training=name)
    st.rerun()


def _pruning() -> None:
    """How it prunes; what a method has no use for is not offered."""
    method = visitor().settings.method
    named, share, cuts, first, every, squeeze = st.columns([2, 2.6, 1.2, 1.7, 1.7, 2.2], vertical_alignment="bottom")
    with named:
        offer("method")
    if method != "none":
        with share:
            offer("until")
    if method in (*ROWS, *WEIGHTS):
        for name, place in {"cuts": cuts, "first": first, "every": every}.items():
            with place:
                offer(name)
    if method in ROWS:
        with squeeze:
            offer("squeeze")


def _training(study: Study) -> None:
    """How it trains, and on what."""
    steps, examples, batch, rate, seed, teacher, named = st.columns(
        [1.3, 1.4, 1.3, 2.6, 1.2, 1.5, 2.2], vertical_alignment="bottom"
    )
    places = {"train_steps": steps, "examples": examples, "mini_batch": batch, "lr": rate, "seed": seed}
    for name, place in places.items():
        with place:
            offer(name, **({"label": f"{titled(study.question.task.examples)} a step"} if name == "mini_batch" else {}))
    with teacher:
        offer("teacher")
    if visitor().settings.teacher:
        with named:
            remember(teacher_model=typed("teacher_model").strip())
