"""The visitor's choices: from the address, through the widgets on the left, back into the address."""

import functools
import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import asdict, replace
from typing import Any, ParamSpec

import streamlit as st

from analysis.ladder import RUNGS as LADDER
from app.web.glossary import TERMS
from app.web.settings import CALIBRATIONS, UNIT_CHOICES, Settings, from_query
from vp_core.asking.tasks import TASKS
from vp_core.ground.errors import VPError
from vp_core.ground.names import BASES, PRECISIONS, SCOPES, TYPES, criteria_for
from vp_core.recipes import RECIPES

RECIPE_ORDER = tuple(sorted(RECIPES, key=lambda name: {"paper": 0, "best": 1}.get(name, 2)))
"""The paper's and the best first."""
Drawn = ParamSpec("Drawn")
_IN_PANEL: ContextVar[bool] = ContextVar("in_panel", default=False)


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


def panel(draw: Callable[Drawn, None]) -> Callable[Drawn, None]:
    """A part of the page that Streamlit runs again alone: a fragment.

    A click elsewhere may come in one message with a panel's question, and that message runs the panel only: the choice is
    taken, and the rest of the page would go on showing the last one. So the panel has the whole page run instead.
    """

    @functools.wraps(draw)
    def drawn(*inputs: Drawn.args, **more: Drawn.kwargs) -> None:
        if st.session_state.get("page_behind"):
            st.rerun()
        outside = _IN_PANEL.set(True)
        try:
            draw(*inputs, **more)
        finally:
            _IN_PANEL.reset(outside)

    return st.fragment(drawn)


def _page_behind() -> None:
    """Something was chosen outside the panels: the page is as it should be once all of it has run."""
    st.session_state.page_behind = True


def sidebar(settings: Settings) -> Settings:
    """The widgets on the left."""
    st.session_state.page_behind = False
    with st.sidebar:
        opened = _what(settings)
        remember(**opened)
        _how()
    return st.session_state.settings


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
        st.form_submit_button("Open", width="stretch", on_click=_page_behind)
    return {"model": model.strip(), "task": str(task or "").strip(), "data": data.strip(), "text": text, "label": label}


def _how() -> None:
    """What is removed and what takes its place: each choice acts at once."""
    settings: Settings = st.session_state.settings
    _offer(st.pills, "Recipe", "recipe", RECIPE_ORDER, settings.recipe_name, format_func=_recipe_label)
    units = _with(UNIT_CHOICES, settings.units)
    _offer(st.selectbox, "Units", "units", units, settings.units, format_func=_units_label)
    if settings.recipe.single_rows:
        _offer(st.pills, "Projection types", "types", TYPES, settings.types.split(","), selection_mode="multi")
    else:
        _offer(st.segmented_control, "Basis", "basis", BASES, settings.basis, required=True)
    offered = tuple(dict.fromkeys((*criteria_for(settings.recipe.units), settings.criterion)))
    _offer(st.selectbox, "Criterion", "criterion", offered, settings.criterion)
    _offer(st.selectbox, "Allocation", "scope", SCOPES, settings.scope)
    _offer(st.selectbox, "Replacement", "replacement", LADDER, settings.replacement)
    sizes = _with(CALIBRATIONS, settings.calibration)
    _offer(st.selectbox, "Calibration sentences", "calibration", sizes, settings.calibration)
    _offer(st.segmented_control, "Precision", "precision", PRECISIONS, settings.precision, required=True)
    if st.session_state.get("refused"):
        st.warning(st.session_state.refused, icon=":material/undo:")


def _offer(widget: Callable[..., Any], title: str, name: str, options: Sequence[str], now: Any, **more: Any) -> None:
    """A widget that shows the setting `name`. The settings are the one truth: the widget is told what they are, every time."""
    key = f"pick-{name}"
    st.session_state[key] = now
    widget(title, options, key=key, help=TERMS[name], on_change=picked, args=(name, _IN_PANEL.get()), **more)


def offer(title: str, name: str, options: Sequence[str], now: Any, **more: Any) -> None:
    """One of a few options, in a panel; a click on the chosen one leaves it chosen."""
    _offer(st.segmented_control, title, name, options, now, required=True, **more)


def pills(title: str, name: str, options: Sequence[str], now: Sequence[str]) -> None:
    """Any of the options, in a panel."""
    chosen = [one for one in now if one in options]
    _offer(st.pills, title, name, options, chosen, selection_mode="multi", format_func=_recipe_label)


def slide(title: str, name: str, options: Sequence[str], now: str, **more: Any) -> None:
    """A slider over numbers, in a panel; a value that is none of them is put among them."""
    _offer(st.select_slider, title, name, options if now in options else sorted((*options, now), key=float), now, **more)


def switch(title: str, name: str, now: str) -> None:
    """A setting that is `on` or empty, in a panel."""
    key = f"pick-{name}"
    st.session_state[key] = now == "on"
    st.toggle(title, key=key, help=TERMS[name], on_change=picked, args=(name, _IN_PANEL.get()))


def picked(name: str, in_panel: bool) -> None:
    """The widget of the setting `name` was used. What no recipe can be is refused with a sentence, and nothing changes."""
    if not in_panel:
        _page_behind()
    value, settings = st.session_state[f"pick-{name}"], st.session_state.settings
    try:
        new = _chosen(settings, name, value)
        _ = new.recipe  # refused here if it cannot be
    except VPError as error:
        st.session_state.refused = f"{str(error).rstrip('.')}; the last choice is kept."
        return
    st.session_state.refused = ""
    remember(**asdict(new))


def _chosen(settings: Settings, name: str, value: Any) -> Settings:
    if name == "recipe":
        return settings.with_recipe(value) if value else settings
    if name == "units":
        return settings.with_units(value)
    if isinstance(value, bool):
        value = "on" if value else ""
    if isinstance(value, list):
        if name == "types" and not value:
            raise VPError("Choose at least one projection type")
        value = ",".join(one for one in (TYPES if name == "types" else value) if one in value)
    return replace(settings, **{name: value})


def _with(options: tuple[str, ...], now: str) -> tuple[str, ...]:
    """What is offered, and what the address asked for."""
    return options if now in options else (*options, now)


def _recipe_label(name: str) -> str:
    return {"paper": "Paper", "best": ":material/star: Best"}.get(name, name)


def _units_label(units: str) -> str:
    return {"rows": "single rows (the paper)"}.get(units, units.replace(",", " + "))
