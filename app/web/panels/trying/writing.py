"""A text of the visitor's own, with what each model writes about it: each token coloured by how little sure it was."""

from collections.abc import Mapping

import streamlit as st

from analysis import tokens
from app.web import components
from app.web.glossary import TERMS
from app.web.panels.trying.parts import Ask, asked_of_both
from app.web.settings import Settings
from vp_core.comparing.sequences import write
from vp_core.comparing.tokens import Reading
from vp_core.study import Study

_TEXT = (
    "The lighthouse on Green Island was built in 1847, after three ships had run aground in one winter. Its lamp burned whale "
    "oil until 1902, when it was fitted for gas. Since 1968 it has been lit by electricity, and nobody has lived there."
)


def show_written(study: Study, settings: Settings, called: Mapping[str, str], ask: Ask) -> None:
    """The box and what the models write; `called`: which of them are shown, and as what; `ask`: `parts`."""
    text = st.text_area("Try a text", _TEXT, help=TERMS["written"], height=130)
    if not text.strip():
        return
    tokenizer, longest = study.loaded.tokenizer, study.question.data.max_length
    found = asked_of_both(study, settings, called, ask, (text, longest), lambda model: write(model, tokenizer, text, longest))
    if not found:
        return
    read = {name: Reading(one.pieces, one.losses, ((),) * (len(one.pieces) + 1), one.cut) for name, one in found.items()}
    st.html(tokens.draw(read, empty="(nothing: it ended the text at once)"))
    if any(one.cut for one in found.values()):
        st.info(f"Only the first {longest} tokens of the text were read; the rest is cut off.")
    if unended := [name for name, one in found.items() if not one.whole]:
        st.caption(f"{' and '.join(unended)}: stopped at the longest text that is written here, before its end.")
    components.csv_button("written", lambda: tokens.table(read))
