"""The visitor's choices: from the address, through the widgets on the left, back into the address."""

import time
from dataclasses import replace

import streamlit as st

from app.glossary import TERMS
from app.settings import Settings, from_query
from vp_core.criteria import CRITERIA
from vp_core.families import TYPES
from vp_core.plan import SCOPES
from vp_core.precision import PRECISIONS
from vp_core.replacement import REPLACEMENTS
from vp_core.tasks import TASKS


def current_settings() -> tuple[Settings, list[str]]:
    """What this visitor has chosen so far; the first time, what the address says, with what is wrong in it."""
    if "settings" not in st.session_state:
        st.session_state.settings, st.session_state.problems = from_query(st.query_params.to_dict())
    return st.session_state.settings, st.session_state.problems


def remember(**changed: str) -> Settings:
    """Change some settings, here and in the address."""
    new = replace(st.session_state.settings, **changed)
    if new != st.session_state.settings:
        st.session_state.settings = new
        st.session_state.problems = []
    # A plain dictionary, for what runs later and outside a script run (a button's download).
    st.session_state.setdefault("now", {})["settings"] = new
    if st.query_params.to_dict() != new.to_query():
        st.query_params.from_dict(new.to_query())
    return new


def slider_released() -> None:
    """The sparsity slider was let go somewhere else."""
    remember(sparsity=f"{st.session_state.slider.position / 100:g}")


def watcher() -> str:
    """A name for this visitor among those who share a job."""
    return st.session_state.setdefault("watcher", f"{id(st.session_state)}-{time.time_ns()}")


def sidebar(settings: Settings) -> Settings:
    """The widgets on the left."""
    with st.sidebar:
        opened = _what(settings)
        pruned = _how(settings)
    return remember(**opened, **pruned)


def _what(settings: Settings) -> dict[str, str]:
    """Model and data: taken together when Open is pressed, since each alone may not fit the other."""
    names = list(TASKS)
    with st.form("what", border=False):
        model = st.text_input("Model", settings.model, help=TERMS["model"])
        task = st.selectbox(
            "Task",
            names if settings.task in names else [*names, settings.task],
            index=names.index(settings.task) if settings.task in names else len(names),
            accept_new_options=True,
            help=TERMS["task"],
        )
        data = st.text_input("Data folder", settings.data, placeholder="empty: the Hub", help=TERMS["data"])
        with st.expander("Columns of a file of your own", expanded=bool(settings.text)):
            text = st.text_input("Text columns", settings.text, help=TERMS["text"])
            label = st.text_input("Label column", settings.label, help=TERMS["label"])
        st.form_submit_button("Open", width="stretch")
    return {"model": model.strip(), "task": str(task or "").strip(), "data": data.strip(), "text": text, "label": label}


def _how(settings: Settings) -> dict[str, str]:
    """What is removed and what takes its place: each choice acts at once."""
    criterion = _choice("Criterion", "criterion", tuple(CRITERIA), settings.criterion)
    scope = _choice("Scope", "scope", SCOPES, settings.scope)
    replacement = _choice("Replacement", "replacement", REPLACEMENTS, settings.replacement)
    chosen = st.pills("Projection types", TYPES, default=settings.types.split(","), selection_mode="multi", help=TERMS["types"])
    if not chosen:
        st.warning("Choose at least one projection type; the last choice is kept.")
    precision = _choice("Precision", "precision", PRECISIONS, settings.precision)
    types = ",".join(t for t in TYPES if t in chosen) if chosen else settings.types
    return {"criterion": criterion, "scope": scope, "replacement": replacement, "types": types, "precision": precision}


def _choice(title: str, name: str, options: tuple[str, ...], now: str) -> str:
    """One of a few options; a click on the chosen one leaves it chosen."""
    picked = st.segmented_control(title, options, default=now, help=TERMS[name], required=True)
    return str(picked or now)
