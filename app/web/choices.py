"""The widgets of the settings: each follows from what `app.web.settings` declares, and acts at once."""

import functools
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, ParamSpec

import streamlit as st

from analysis.names import counted
from app.web import components
from app.web import settings_fields as kind
from app.web.settings import FIELDS, Settings
from app.web.settings_fields import Setting
from app.web.visitor import keep, remember, visitor
from vp_core.ground.errors import VPError

Drawn = ParamSpec("Drawn")
_IN_PANEL: ContextVar[bool] = ContextVar("in_panel", default=False)


def panel(draw: Callable[Drawn, None]) -> Callable[Drawn, None]:
    """A part of the page that Streamlit runs again alone: a fragment.

    A click elsewhere may come in one message with a panel's question, and that message runs the panel only: the choice is
    taken, and the rest of the page would go on showing the last one. So the panel has the whole page run instead.
    """

    @functools.wraps(draw)
    def drawn(*inputs: Drawn.args, **more: Drawn.kwargs) -> None:
        if visitor().page_behind:
            st.rerun()
        outside = _IN_PANEL.set(True)
        try:
            draw(*inputs, **more)
        finally:
            _IN_PANEL.reset(outside)

    return st.fragment(drawn)


def page_behind() -> None:
    """Something was chosen outside the panels: the page is as it should be once all of it has run."""
    visitor().page_behind = True


def sparsity_slider(poll: str = "", after_ms: int = 0) -> None:
    """The slider of the sparsity: the figures follow its thumb in the browser, Python hears where it is released."""
    settings = visitor().settings
    components.slider(
        "slider", f"Sparsity: share of {counted(settings.recipe)} removed", settings.position, _released, poll, after_ms
    )


def _released() -> None:
    remember(sparsity=st.session_state.slider.position / 100)


def offer(name: str, options: Sequence[str] = (), now: Any = None, **more: Any) -> None:
    """The widget of a setting, which shows what the visitor's settings are: they are the one truth.

    `options` in the spelling of the address, where what there is here is not what is declared; `now`: what stands for a
    setting that was left open; `more` for Streamlit's widget.
    """
    declared = FIELDS[name]
    value = getattr(visitor().settings, name) if now is None else now
    widget, shown, how = _widget(declared, options or declared.choices, value)
    draw(widget, name, shown, **{"label": declared.label, "help": declared.help, **how, **more})


def draw(widget: Callable[..., Any], name: str, shown: Any, **how: Any) -> None:
    """A widget that is told what it shows every time, and tells `picked` what was made of it."""
    key = f"pick-{name}"
    st.session_state[key] = shown
    widget(key=key, on_change=picked, args=(name, _IN_PANEL.get()), **how)


def picked_or_typed(name: str, about: Mapping[str, str]) -> str:
    """A list of what a setting may be, with a line about each, in which anything else can be typed; and what stands there.

    Of the path of a folder the list shows the last part.
    """
    declared, value = FIELDS[name], str(getattr(visitor().settings, name))
    names = list(about) if value in about or not value else [*about, value]
    chosen = st.selectbox(
        declared.label, names, index=names.index(value) if value else None, accept_new_options=True, help=declared.help,
        format_func=lambda one: f"{one.rstrip('/').rpartition('/')[2]} · {about[one]}" if one in about else one,
    )  # fmt: skip
    return str(chosen or "").strip()


def typed(name: str, label: str = "", placeholder: str = "") -> str:
    """A text box for a setting, and what stands in it: for whoever takes it up later, as a form does."""
    declared = FIELDS[name]
    assert isinstance(declared, kind.Text)
    value = getattr(visitor().settings, name)
    empty = placeholder or declared.placeholder
    return st.text_input(label or declared.label, value, help=declared.help, placeholder=empty)


def typed_number(name: str, label: str = "", placeholder: str = "") -> int | None:
    """A box for a whole number that may be left open, as `typed`."""
    declared = FIELDS[name]
    assert isinstance(declared, kind.OpenWhole)
    value = getattr(visitor().settings, name)
    return st.number_input(
        label or declared.label, value=value, min_value=declared.least, step=1, help=declared.help,
        placeholder=placeholder or declared.placeholder,
    )  # fmt: skip


def _widget(declared: Setting[Any], options: Sequence[str], value: Any) -> tuple[Callable[..., Any], Any, dict[str, Any]]:
    """Streamlit's widget for a kind of setting, what it shows, and how it is to be called."""
    text = declared.format(value)
    how: dict[str, Any] = {"options": options, "format_func": declared.shown}
    match declared:
        case kind.OneOf(folded=True):
            return st.selectbox, text, how
        case kind.OneOf() | kind.Text():
            return st.segmented_control, text, how | {"required": True}
        case kind.Combination():
            return st.selectbox, text, how | {"options": _with(options, text)}
        case kind.SomeOf():
            return st.pills, [one for one in value if one in options], how | {"selection_mode": "multi"}
        case kind.Shares():
            chosen = text.split(",") if text else []
            offered = sorted({*options, *chosen}, key=float)
            return st.pills, chosen, how | {"options": offered, "selection_mode": "multi"}
        case kind.OpenWhole():
            empty = {"min_value": declared.least, "step": 1, "placeholder": declared.placeholder}
            return st.number_input, value, empty | {"value": None}
        case kind.Whole(choices=()):
            return st.number_input, value, {"min_value": declared.least, "max_value": declared.most}
        case kind.Whole() | kind.OpenSize():
            return st.selectbox, text, how | {"options": _with(options, text)}
        case kind.Number() | kind.OpenNumber():
            offered, text = _among(options, text)
            return st.select_slider, text, how | {"options": offered}
        case kind.Switch():
            return st.toggle, value, {}
    raise TypeError(f"No widget offers a {type(declared).__name__}.")


def _with(options: Sequence[str], now: str) -> Sequence[str]:
    """What is offered, and what the address asked for."""
    return options if now in options else (*options, now)


def _among(options: Sequence[str], now: str) -> tuple[list[str], str]:
    """The positions of a slider over numbers, with a value that may be none of them, and how that value is spelt there."""
    spelt = {float(one): one for one in options}
    text = spelt.setdefault(float(now), now)
    return [spelt[number] for number in sorted(spelt)], text


def picked(name: str, in_panel: bool) -> None:
    """The widget of the setting `name` was used. What no recipe can be is refused with a sentence, and nothing changes."""
    if not in_panel:
        page_behind()
    me = visitor()
    try:
        new = _chosen(me.settings, name, st.session_state[f"pick-{name}"])
        _ = new.recipe  # refused here if it cannot be
    except VPError as error:
        me.refused = f"{str(error).rstrip('.')}; the last choice is kept."
        return
    me.refused = ""
    keep(new)


def _chosen(settings: Settings, name: str, shown: Any) -> Settings:
    """The settings with what a widget shows now; VPError with one sentence for what cannot be."""
    if name == "recipe":
        return settings.with_recipe(shown) if shown else settings
    declared = FIELDS[name]
    if isinstance(declared, kind.SomeOf) and not shown and declared.none:
        raise VPError(declared.none)
    text = ",".join(shown) if isinstance(shown, list) else shown
    # A number box and a switch hold their value, and keep to its bounds themselves.
    value = declared.parse(name, text) if isinstance(text, str) else text
    if name == "units":
        return settings.with_units(value)
    return settings.with_criterion(value) if name == "criterion" else replace(settings, **{name: value})
