"""The left of every page: the model and its data, what is removed from it, and what takes its place."""

from typing import Any

import streamlit as st

from analysis.ladder import rungs
from app.web import models
from app.web.choices import draw, offer, page_behind, picked_or_typed, typed, typed_number
from app.web.glossary import TERMS
from app.web.offered import RECIPE_CHOICES, RECIPE_NAMES, TYPE_CHOICES, asks_tokens
from app.web.settings import FIELDS, Settings
from app.web.visitor import remember, visitor
from vp_core.asking.tasks import TASKS, find_task
from vp_core.ground.chosen import criteria_for, scopes_for
from vp_core.ground.names import TYPES
from vp_core.recipes import RECIPES

WINDOW, TEXT_PLACE = "Window length", "Text file or folder"
"""What the longest text and the data are called where a text is asked for its tokens."""


def sidebar() -> Settings:
    """The widgets, and what is chosen with them."""
    visitor().page_behind = False
    with st.sidebar:
        before = visitor().settings
        opened = remember(**_what())
        if (opened.model, opened.task) != (before.model, before.task):
            st.rerun()  # with the fields of this task, and the task that came with the model in its box
        _how()
    return visitor().settings


def _what() -> dict[str, Any]:
    """Model and data: taken together when Open is pressed, since each alone may not fit the other."""
    names, settings, task = list(TASKS), visitor().settings, FIELDS["task"]
    with st.form("what", border=False):
        model = picked_or_typed("model", models.offered())
        chosen = st.selectbox(
            task.label,
            names if settings.task in names else [*names, settings.task],
            index=names.index(settings.task) if settings.task in names else len(names),
            accept_new_options=True,
            help=task.help,
        )
        data = typed("data", *((TEXT_PLACE, "empty: the demo's, or the Hub's") if settings.tokens else ()))
        more = _of_a_text(settings) if settings.tokens else _of_examples(settings)
        st.form_submit_button("Open", width="stretch", on_click=page_behind)
    said = {"model": model, "task": str(chosen or "").strip(), "data": data.strip(), **more}
    return said if model == settings.model and said["task"] == settings.task else _fitting(settings, said)


def _of_examples(settings: Settings) -> dict[str, Any]:
    """How examples with labels are read."""
    own = settings.text or settings.labels or settings.separator or settings.max_length
    with st.expander("Columns of a file of your own, labels", expanded=bool(own)):
        more: dict[str, Any] = {name: typed(name) for name in ("text", "label", "labels", "separator")}
        return more | {"max_length": typed_number("max_length"), "stride": None, "most_tokens": None}


def _of_a_text(settings: Settings) -> dict[str, Any]:
    """How a text is read that is asked for its tokens."""
    own = settings.max_length or settings.stride or settings.most_tokens
    with st.expander("Windows of the text", expanded=bool(own)):
        length = typed_number("max_length", WINDOW, str(find_task(settings.task).max_length))
        return {"max_length": length} | {name: typed_number(name) for name in ("stride", "most_tokens")}


def _fitting(settings: Settings, said: dict[str, Any]) -> dict[str, Any]:
    """What was chosen, with a task that fits another model, and nothing left that belongs to the last kind of task."""
    if said["task"] == settings.task:
        said["task"] = models.fitting_task(said["model"], settings.task)
    if asks_tokens(said["task"]) != settings.tokens:
        said |= dict.fromkeys(("max_length", "calibration", "stride", "most_tokens"))
        said["data"] = "" if said["data"] == settings.data else said["data"]
    return said


def _how() -> None:
    """What is removed and what takes its place: each choice acts at once."""
    settings, recipe = visitor().settings, visitor().settings.recipe
    named = [name for name in RECIPE_CHOICES if name in RECIPES]
    draw(
        st.pills, "recipe", settings.recipe_name, label="Recipe", options=named, help=TERMS["recipe"],
        format_func=lambda name: RECIPE_NAMES.get(name, name),
    )  # fmt: skip
    offer("units")
    if recipe.pattern or recipe.single_rows:
        offer("types", TYPE_CHOICES if recipe.pattern else TYPES)
    else:
        offer("basis")
    offer("criterion", tuple(dict.fromkeys((*criteria_for(recipe.units), settings.criterion))))
    offer("scope", scopes_for(recipe.units))
    offer("replacement", rungs(recipe))
    offer("calibration", now=settings.calibrated_on, **({"label": "Calibration windows"} if settings.tokens else {}))
    offer("precision")
    if visitor().refused:
        st.warning(visitor().refused, icon=":material/undo:")
