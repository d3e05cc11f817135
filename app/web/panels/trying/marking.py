"""A paragraph and a question of the visitor's own, with the answer of each model marked in the paragraph."""

from collections.abc import Mapping

import streamlit as st

from analysis import marked
from app.web import components
from app.web.glossary import TERMS
from app.web.panels.trying.parts import Ask, asked_of_both
from app.web.settings import Settings
from vp_core.asking.kinds.spans import as_spans
from vp_core.comparing.spans import mark
from vp_core.study import Study

_PARAGRAPH = (
    "The lighthouse on Green Island was built in 1847 by the engineer Ada Fisher, after three ships had run aground in one "
    "winter. Its lamp burned whale oil until 1902, when it was fitted for gas. Since 1968 it has been lit by electricity, and "
    "nobody has lived there."
)
_QUESTION = "Who built the lighthouse?"


def show_marked(study: Study, settings: Settings, called: Mapping[str, str], ask: Ask) -> None:
    """Both boxes and the paragraph with what the models mark; `called`: whose are shown, and as what; `ask`: `parts`."""
    question = as_spans(study.question, "A paragraph with a question")
    paragraph = st.text_area("Try a paragraph", _PARAGRAPH, help=TERMS["paragraph"], height=130)
    asked = st.text_input("… and a question about it", _QUESTION)
    if not (paragraph.strip() and asked.strip()):
        return
    tokenizer, longest = study.loaded.tokenizer, question.data.max_length
    found = asked_of_both(
        study, settings, called, ask, (paragraph, asked, longest),
        lambda model: mark(model, tokenizer, asked, paragraph, longest, settings.stride),
    )  # fmt: skip
    if not found:
        return
    st.html(marked.draw(paragraph, found, question.unanswerable))
    if any(one.cut for one in found.values()):
        windows = max(one.windows for one in found.values())
        st.caption(f"The paragraph was read in {windows} windows of {longest} tokens.")
    components.csv_button("answers", lambda: marked.table(found))
