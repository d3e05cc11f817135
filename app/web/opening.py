"""How every page begins: the visitor's choices, a title, what is wrong with the address, and the study."""

import streamlit as st

from app.web import caching, components
from app.web.settings import Settings
from app.web.sidebar import sidebar
from app.web.visitor import visitor
from vp_core.ground.errors import VPError
from vp_core.study import Study


def open_page(title: str) -> tuple[Study, Settings]:
    """The study that is chosen; the page ends here, with one sentence, if it cannot be had."""
    settings = sidebar()
    components.load_plotly()
    st.markdown(f"#### {title}")
    for problem in visitor().problems:
        st.warning(problem, icon=":material/link_off:")
    try:
        study = caching.study_of(settings)
    except VPError as error:
        st.error(str(error), icon=":material/error:")
        st.stop()
    st.caption(f"{describe(study)}  \n{can_be_done(study)}", help=why_not(study) or None)
    for note in study.notes:
        st.info(note, icon=":material/info:")
    return study, settings


def can_be_done(study: Study) -> str:
    """What can be done with the model, and what cannot, in one line."""
    found = caching.capabilities_of(study)
    can, cannot = (" · ".join(one.name for one in found if one.can is wanted) for wanted in (True, False))
    return f"Can be done: {can}" + (f" · cannot: **{cannot}**" if cannot else "")


def why_not(study: Study) -> str:
    """The reasons, and what else is to be known, a line each; empty if there are none."""
    return "\n\n".join(f"**{one.name}**: {one.why}" for one in caching.capabilities_of(study) if one.why)


def describe(study: Study) -> str:
    """What is being looked at, in one line."""
    config, task = study.model.config, study.question.task
    what = f"**{study.loaded.name}** · {config.model_type}, {study.loaded.layers} layers · **{task.name}**"
    asked = f"{len(study.question):,} evaluation texts · statistics over {study.statistics().tokens:,} tokens of "
    asked += f"{len(study.calibration):,} training texts"
    if task.name == "demo":
        asked += " · *demo sentences, written by a grammar of this project: good to learn with, no benchmark*"
    return f"{what} · {asked}"
