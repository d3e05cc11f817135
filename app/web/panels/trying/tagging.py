"""A sentence of the visitor's own, with the tag that each model gives to every word."""

from collections.abc import Mapping

import streamlit as st

from analysis import tagged
from app.web import components
from app.web.glossary import TERMS
from app.web.panels.trying.parts import Ask, asked_of_both
from app.web.settings import Settings
from vp_core.comparing.tags import tag
from vp_core.study import Study

_TEXT = "Ada Fisher of Green Island sold her boat to the Northern Fishing Company in Bergen."


def show_tagged(study: Study, settings: Settings, called: Mapping[str, str], ask: Ask) -> None:
    """The box and the sentence with the models' tags; `called`: which of them are shown, and as what; `ask`: `parts`."""
    text = st.text_input("Try a sentence", _TEXT, help=TERMS["tagged"])
    if not text.strip():
        return
    tokenizer, longest = study.loaded.tokenizer, study.question.data.max_length
    names = tuple(getattr(study.question, "names", ()))
    found = asked_of_both(
        study, settings, called, ask, (text, longest), lambda model: tag(model, tokenizer, text, longest, names)
    )  # fmt: skip
    if not found:
        return
    st.html(tagged.draw(found))
    if any(one.cut for one in found.values()):
        st.info(f"Only the first {longest} tokens of the text were read; the rest is cut off.")
    components.csv_button("tags", lambda: tagged.table(found))
