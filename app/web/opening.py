"""How every page begins: the visitor's choices, a title, what is wrong with the address, and the study."""

import re
import shlex

import streamlit as st

from analysis.names import asked_text, measured_text
from app.web import caching, components
from app.web.asked_choices import called
from app.web.models import remember_opened
from app.web.settings import FIELDS, Settings
from app.web.sidebar import offer_metric, sidebar
from app.web.visitor import visitor
from vp_core.ground.errors import VPError
from vp_core.ground.names import ASKED
from vp_core.study import Study

_OPTION = re.compile(
    r"--(task|data|text|label|labels|separator|max-length|sentences|stride|most-tokens|metric|device|dtype)\b"
    r"(?!-)(?:[= ](?=')((?:'[^']*'|\"'\")+))?=?"
)
"""An option of the command line, with its value where a shell would need quotes around it."""


def open_page(title: str, squeezed: bool = False) -> tuple[Study, Settings]:
    """The study that is chosen; the page ends here, with one sentence, if it cannot be had, or if its model is squeezed and the
    page is for whole matrices."""
    settings, place_of_metric = sidebar()
    components.load_plotly()
    st.markdown(f"#### {title}")
    for problem in visitor().problems:
        st.warning(problem, icon=":material/link_off:")
    try:
        study = caching.study_of(settings)
        if not squeezed:
            study.projections()
    except VPError as error:
        st.error(in_app(str(error), settings.asked), icon=":material/error:")
        st.stop()
    remember_opened(settings.model)
    offer_metric(place_of_metric, study.question.task)
    st.caption(f"{describe(study)}  \n{can_be_done(study)}", help=why_not(study) or None)
    for note in study.notes:
        st.info(in_app(note, settings.asked), icon=":material/info:")
    return study, settings


def in_app(sentence: str, asked: str = ASKED[0]) -> str:
    """A sentence that names options of `vp`, with the fields of the sidebar instead and values as they are typed there;
    `asked`: what the task asks, since some fields have names of their own there.

    >>> in_app("Name them (--labels 'bad,very good' or --labels=-1,1), or --max-length.")
    'Name them (“Labels” bad,very good or “Labels” -1,1), or “Longest text”.'
    """

    def field(found: re.Match[str]) -> str:
        name = found[1].replace("-", "_")
        label = called(asked, name)[0] or FIELDS[name].label.partition(",")[0]
        value = shlex.split(found[2])[0] if found[2] else ""
        return f"“{label}” {value}" if value or found[0].endswith("=") else f"“{label}”"

    return _OPTION.sub(field, sentence)


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
    layers = f"{study.loaded.layers} layers" if study.loaded.projections else "squeezed"
    what = f"**{study.loaded.name}** · {config.model_type}, {layers} · **{task.name}**"
    asked = asked_text(study.question)
    if study.loaded.projections:
        asked += f" · statistics over {measured_text(task, study.statistics().tokens, len(study.calibration))}"
    if task.name == "demo":
        asked += " · *demo sentences, written by a grammar of this project: good to learn with, no benchmark*"
    if task.name == "demo-text":
        asked += " · *short stories, written by a grammar of this project: good to learn with, no benchmark*"
    return f"{what} · {asked}"
