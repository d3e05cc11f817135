"""The left of every page: the model and its data, what is removed from it, and what takes its place."""

from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from analysis.ladder import rungs
from analysis.names import metric_name, titled
from app.web import models
from app.web import settings_fields as kind
from app.web.asked_choices import EXPANDER, OF_A_KIND, READ, called
from app.web.choices import draw, offer, page_behind, picked_or_typed, typed, typed_number
from app.web.glossary import TERMS
from app.web.offered import RECIPE_CHOICES, RECIPE_NAMES, TYPE_CHOICES, headlines_of, kind_of_task, own_is_there
from app.web.settings import FIELDS, Settings
from app.web.visitor import remember, visitor
from vp_core.asking.tasks import CALLED, TASKS, Task, find_task
from vp_core.ground.chosen import criteria_for, scopes_for
from vp_core.ground.errors import VPError
from vp_core.ground.names import ASKED, AUTO, BUDGETS, DTYPES, TYPES
from vp_core.model.precision import bfloat16_time, find_device
from vp_core.recipes import RECIPES


def sidebar() -> tuple[Settings, DeltaGenerator]:
    """The widgets, and what is chosen with them; and the place of the metric, which can be chosen of those that the study has
    once it is open (`offer_metric`)."""
    visitor().page_behind = False
    with st.sidebar:
        before = visitor().settings
        opened = remember(**_what())
        if (opened.model, opened.task) != (before.model, before.task):
            st.rerun()  # with the fields of this task, and the task that came with the model in its box
        place = st.container()
        _how()
    return visitor().settings, place


def offer_metric(place: DeltaGenerator, task: Task) -> None:
    """The choice of the headline among the metrics of an open study's task, where there is one."""
    settings = visitor().settings
    metrics = headlines_of(settings.task, task.metrics)
    if len(metrics) > 1:
        usual, *others = metrics
        chosen = "" if task.metric == usual else task.metric
        with place:
            offer("metric", ("", *others), chosen, format_func=lambda name: titled(metric_name(name or usual)))


def _what() -> dict[str, Any]:
    """Model and data: taken together when Open is pressed, since each alone may not fit the other."""
    settings, task = visitor().settings, FIELDS["task"]
    names = [name for name, one in TASKS.items() if one.kind != "own" or own_is_there()]
    with st.form("what", border=False):
        model = picked_or_typed("model", models.offered())
        chosen = st.selectbox(
            task.label,
            names if settings.task in names else [*names, settings.task],
            index=names.index(settings.task) if settings.task in names else len(names),
            accept_new_options=True,
            help=task.help,
        )
        read = _how_it_is_read(settings)
        how = _of_the_device(settings)
        st.form_submit_button("Open", width="stretch", on_click=page_behind)
    said = {"model": model, "task": str(chosen or "").strip(), **read, **how}
    return said if model == settings.model and said["task"] == settings.task else _fitting(settings, said)


def _of_the_device(settings: Settings) -> dict[str, Any]:
    """Where the model is run, and how its weights are kept."""
    kept = FIELDS["dtype"]
    with st.expander("Device", expanded=(settings.device, settings.dtype) != (AUTO, DTYPES[0])):
        device = typed("device").strip() or AUTO
        return {"device": device, "dtype": st.selectbox(kept.label, DTYPES, index=DTYPES.index(settings.dtype), help=kept.help)}


def _how_it_is_read(settings: Settings) -> dict[str, Any]:
    """Where the task's data are and how they are read: boxes for what goes with the kind of task, defaults for the rest."""
    asked, usual = settings.asked, {name: FIELDS[name].default for name in READ}
    names = OF_A_KIND[asked]
    if not names:
        return usual
    said = {"data": str(_box("data", asked)).strip()}
    own = any(getattr(settings, name) != usual[name] for name in names[1:])
    with st.expander(EXPANDER[asked], expanded=own):
        return usual | said | {name: _box(name, asked) for name in names[1:]}


def _box(name: str, asked: str) -> str | int | None:
    label, empty = called(asked, name)
    if isinstance(FIELDS[name], kind.Text):
        return typed(name, label, empty)
    by_task = str(find_task(visitor().settings.task).max_length) if name == "max_length" and asked != ASKED[0] else ""
    return typed_number(name, label, empty or by_task)


def _fitting(settings: Settings, said: dict[str, Any]) -> dict[str, Any]:
    """What was chosen, with a task that fits another model, and nothing left that belongs to the last task or its kind."""
    if said["task"] == settings.task and settings.asked != "own":
        said["task"] = models.fitting_task(said["model"], settings.task)
    if kind_of_task(said["task"]) != settings.asked:
        kept = {"data": "" if said["data"] == settings.data else said["data"]}
        said |= {name: FIELDS[name].default for name in (*READ, "calibration")} | kept
    if said["task"] != settings.task:
        said["metric"] = ""
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
    if not recipe.pattern:
        offer("budget", BUDGETS, now=recipe.budget)
    offer("replacement", rungs(recipe))
    offer("calibration", now=settings.calibrated_on, label=f"Calibration {CALLED[settings.asked][0]}")
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
