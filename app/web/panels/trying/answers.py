"""What classifiers answer to a text, or to two."""

from collections.abc import Callable, Mapping

import numpy as np
import streamlit as st

from analysis.names import answer_text
from app.web.glossary import TERMS
from app.web.jobs import Job
from app.web.settings import Settings
from app.web.waiting import follow
from vp_core.study import Study

Start = Callable[[tuple[str, ...]], Job[dict[str, tuple[np.ndarray, bool]]]]
"""From the texts, the job of asking both models (`Study.predict`)."""
SENTENCE_LOOK = 1.0
"""Seconds a script run waits for the answers to a sentence, which are hardly ever long in coming."""


def show_answers(study: Study, settings: Settings, called: Mapping[str, str], start: Start) -> None:
    """Ask both models about the visitor's own text; `called`: which answers are shown, and as whose; `start`: as in `ask`."""
    names = ["First text", "Second text"] if len(study.question.task.text) > 1 else ["Try a sentence"]
    default = "Not nearly as dull as I had feared." if study.question.task.name == "demo" else ""
    text = tuple(st.text_input(name, default, help=TERMS["sentence"]) for name in names)
    if not all(part.strip() for part in text):
        return
    # a job, since the pruned model may have to be refitted first
    job = follow("sentence", (study.key(settings.recipe, settings.sparsity), text), lambda: start(text)).job
    job.wait(0, SENTENCE_LOOK)
    if job.error:
        st.error(job.error)
    for name, (outputs, _) in (job.items[0] if job.items else {}).items():
        if name in called:
            st.markdown(f"**{called[name]}**: {answer_text(study.question.task, outputs[0])}")
    if not job.done:
        st.caption("Asking …" if len(called) == 1 else "Asking both models …")
    if job.items and any(cut for _, cut in job.items[0].values()):
        st.info(f"Only the first {study.question.data.max_length} tokens of the text were read; the rest is cut off.")
