"""A text as language models read it: each token coloured by its loss, what was likelier, and how they go on."""

from collections.abc import Callable, Mapping

import pandas as pd
import streamlit as st

from analysis import tokens
from app.web import components
from app.web.glossary import TERMS
from app.web.jobs import Job
from app.web.settings import Settings
from app.web.waiting import follow
from vp_core.asking.kinds.heads import head_of
from vp_core.comparing.tokens import Reading
from vp_core.study import Study

Start = Callable[[str, tuple[str, ...]], Job[tokens.Readings]]
"""From the text and the names of models, the job of reading."""
LOOK = 0.25
"""Seconds a script run waits for something new of a text."""
_POLL_MS = 500
_STORY = (
    "This is a story of Nina. Nina was in the stable. Laura was in the library. Later Nina ran to the forest. "
    '"Where is Nina?" asked Laura. "Nina is in the'
)
_BEHIND = -1


def show_reading(study: Study, settings: Settings, called: Mapping[str, str], start: Start) -> None:
    """Have the models read the visitor's own text; `called`: which of them are shown, and as what; `start`: as in `ask`."""
    masked = head_of(study.model) == "masked tokens"
    text = st.text_area("Try a text", _first_text(study, masked), help=TERMS["masked text" if masked else "text"], height=110)
    if not text.strip():
        return
    names = tuple(called)
    question = study.key(settings.recipe, settings.sparsity), text, names
    followed = follow("sentence", question, lambda: start(text, names))
    followed.wait(LOOK)
    job = followed.job
    if job.error:
        st.error(job.error)
    if job.items:
        last = job.items[-1]
        read = {called[name]: one for name, one in last.read.items()}
        st.html(tokens.draw(read, {called[name]: more for name, more in last.more.items()}))
        _likeliest(read)
        if any(one.cut for one in read.values()):
            st.info(f"Only the first {study.question.data.max_length} tokens of the text were read; the rest is cut off.")
    components.poller("reading-poll", components.ticket(job), _POLL_MS)
    if not job.done:
        st.caption("Reading …")
    elif job.items:
        components.csv_button("tokens", lambda: tokens.table(read))


def _likeliest(read: Mapping[str, Reading]) -> None:
    """The likeliest tokens of all models at one place, which is chosen."""
    one = next(iter(read.values()))
    inside = [i for i, guesses in enumerate(one.guesses[:-1]) if guesses]
    places = [*([_BEHIND] if one.guesses[-1] else []), *inside]

    def named(place: int) -> str:
        return "behind the text" if place == _BEHIND else f"{place + 1}: in the place of “{tokens.visible(one.pieces[place])}”"

    place = st.selectbox("Likeliest tokens", places, format_func=named, help=TERMS["likeliest"], key="likeliest")
    table = tokens.next_table(read, place if place in places else places[0])
    shares = {name: st.column_config.NumberColumn("probability", format="percent") for name in read_shares(table)}
    st.dataframe(table, hide_index=True, column_config=shares, height="content", key="likeliest-tokens")


def read_shares(table: pd.DataFrame) -> list[str]:
    """The columns of a table of likeliest tokens that are probabilities."""
    return [str(name) for name in table.columns if str(name).endswith(": probability")]


def _first_text(study: Study, masked: bool) -> str:
    """What stands in the box before anything was typed."""
    if study.question.task.name == "demo-text" and not masked:
        return _STORY
    mask = study.loaded.tokenizer.mask_token
    return f"The capital of France is {mask}." if masked else "The capital of France is Paris, and the capital of Italy is"
