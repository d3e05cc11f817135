"""The left of every page: the model and its data, what is removed from it, and what takes its place."""

from typing import Any

import streamlit as st

from analysis.ladder import rungs
from app.web.choices import draw, offer, page_behind, typed, typed_number
from app.web.glossary import TERMS
from app.web.offered import RECIPE_CHOICES, RECIPE_NAMES, TYPE_CHOICES
from app.web.settings import FIELDS, Settings
from app.web.visitor import remember, visitor
from vp_core.asking.tasks import TASKS
from vp_core.ground.chosen import criteria_for, scopes_for
from vp_core.ground.errors import VPError
from vp_core.ground.names import AUTO, DTYPES, TYPES
from vp_core.model.precision import bfloat16_time, find_device
from vp_core.recipes import RECIPES


def sidebar() -> Settings:
    """The widgets, and what is chosen with them."""
    visitor().page_behind = False
    with st.sidebar:
        remember(**_what())
        _how()
    return visitor().settings


def _what() -> dict[str, Any]:
    """Model and data: taken together when Open is pressed, since each alone may not fit the other."""
    names, settings, task = list(TASKS), visitor().settings, FIELDS["task"]
    with st.form("what", border=False):
        model = typed("model")
        chosen = st.selectbox(
            task.label,
            names if settings.task in names else [*names, settings.task],
            index=names.index(settings.task) if settings.task in names else len(names),
            accept_new_options=True,
            help=task.help,
        )
        data = typed("data")
        own = settings.text or settings.labels or settings.separator or settings.max_length
        with st.expander("Columns of a file of your own, labels", expanded=bool(own)):
            more = {name: typed(name) for name in ("text", "label", "labels", "separator")}
            longest = typed_number("max_length")
        with st.expander("Device", expanded=(settings.device, settings.dtype) != (AUTO, DTYPES[0])):
            device = typed("device")
            kept = FIELDS["dtype"]
            dtype = st.selectbox(kept.label, DTYPES, index=DTYPES.index(settings.dtype), help=kept.help)
        st.form_submit_button("Open", width="stretch", on_click=page_behind)
    said = {"model": model.strip(), "task": str(chosen or "").strip(), "data": data.strip()}
    return {**said, **more, "max_length": longest, "device": device.strip() or AUTO, "dtype": dtype}


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
    offer("calibration")
    offer("precision")
    st.caption(precision_measured(settings.device))
    if visitor().refused:
        st.warning(visitor().refused, icon=":material/undo:")


def precision_measured(device: str) -> str:
    """What bfloat16 costs where the model runs, a sentence; empty for a device that is not there."""
    try:
        place = find_device(device)
    except VPError:
        return ""
    ratio = bfloat16_time(place)
    said = "faster" if ratio < 0.9 else "slower" if ratio > 1.1 else "no faster"
    return f"Measured here ({place.type}): products in bfloat16 take {ratio:.1f} × the time of float32, so they are {said}."
