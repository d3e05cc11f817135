"""Something of the visitor's own, asked of the dense and the pruned model as they can be asked."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import streamlit as st

from app.web.panels.trying import answers, looking, marking, reading, tagging, writing
from app.web.panels.trying.parts import Ask
from app.web.settings import Settings
from vp_core.study import Study

BOTH: Mapping[str, str] = {"dense": "dense", "pruned": "pruned"}
_PANELS: Mapping[str, Callable[[Study, Settings, Mapping[str, str], Ask], None]] = MappingProxyType({
    "spans": marking.show_marked,
    "images": looking.show_seen,
    "sequences": writing.show_written,
    "tags": tagging.show_tagged,
})  # fmt: skip
"""What is asked (`vp_core.ground.names.ASKED`) → the box and what the models make of it."""


def trying(
    study: Study, settings: Settings, answer: answers.Start, read: reading.Start, ask: Ask, called: Mapping[str, str] = BOTH
) -> None:
    """A box by what is asked, and what the models make of it; `called`: which of them are shown, and as what.

    `answer` and `read` start the job of asking text classifiers, or language models, `ask` that of asking any other.
    """
    kind = study.question.task.kind
    if kind == "tokens":
        reading.show_reading(study, settings, called, read)
    elif kind == "classes":
        answers.show_answers(study, settings, called, answer)
    elif kind in _PANELS:
        _PANELS[kind](study, settings, called, ask)
    else:
        st.caption("What a metric of one's own asks has no box here: it is asked of the batches that came with it.")
