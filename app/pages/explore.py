"""The page `Explore`: slide the sparsity of a model and watch its accuracy, with the figures that explain it."""

import streamlit as st

from app import caching, components, panels
from app.choices import current_settings, sidebar
from vp_core.errors import VPError
from vp_core.study import Study


def main() -> None:
    settings, problems = current_settings()
    settings = sidebar(settings)
    components.load_plotly()
    st.markdown("#### What does a Transformer lose when its least varying rows go?")
    for problem in problems:
        st.warning(problem, icon=":material/link_off:")
    try:
        study = caching.study(settings)
    except VPError as error:
        st.error(str(error), icon=":material/error:")
        st.stop()
    st.caption(describe(study))
    for note in study.notes:
        st.info(note, icon=":material/content_cut:")
    left, right = st.columns([5, 8], gap="large")
    with left:
        panels.score_panel(study)
    with right:
        panels.curve_panel(study)
    panels.mask_panel(study, settings)
    panels.neuron_panel(study)


def describe(study: Study) -> str:
    """What is being looked at, in one line."""
    config, task = study.model.config, study.question.task
    what = f"**{study.loaded.name}** · {config.model_type}, {study.loaded.layers} layers · **{task.name}**"
    asked = f"{len(study.question):,} evaluation texts · statistics over {study.statistics().tokens:,} tokens of "
    asked += f"{len(study.calibration):,} training texts"
    if task.name == "demo":
        asked += " · *demo sentences, written by a grammar of this project: good to learn with, no benchmark*"
    return f"{what} · {asked}"


main()
