"""The components of the app that live in the browser: the slider, figures that follow it while it is dragged, and a poller.

All of them can poll: while Python has more to say soon, the browser asks again after a moment (ask.js). So no script run ever
waits for a computation, and a released slider is served at once.
"""

import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import plotly
import plotly.graph_objects as go
import streamlit as st

from analysis.live import LiveFigure
from app.web.jobs import Job

_HERE = Path(__file__).parent / "browser"
_PLOTLY = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"

_FIGURE_HTML = """<div class="vp-figure"><div class="vp-canvas"></div><div class="vp-save">
<button data-format="png" title="Save this figure as a PNG image">PNG</button>
<button data-format="svg" title="Save this figure as an SVG drawing">SVG</button></div></div>"""
_SLIDER_HTML = """<div class="vp-slider"><label><span></span><output></output>
<input type="range" min="0" max="100" step="1" aria-label="Sparsity in percent"></label></div>"""


@cache
def _component(name: str, html: str) -> Callable[..., Any]:
    """A component of ours, registered once: its script is ask.js and NAME.js in the folder browser."""
    css, ask, js = ((_HERE / file).read_text(encoding="utf-8") for file in ("live.css", "ask.js", f"{name}.js"))
    return st.components.v2.component(f"vp_{name}", html=html, css=css, js=ask + js, isolate_styles=False)


@cache
def _loader() -> Callable[..., Any]:
    js = _PLOTLY.read_text(encoding="utf-8") + "\nexport default function () {}"
    return st.components.v2.component("vp_plotly", html="<span></span>", js=js)


def load_plotly() -> None:
    """Give the page plotly.js, from the installed package: once a page, and never again when something changes."""
    _loader()(key="plotly", height=1)


def ticket(*jobs: Job) -> str:
    """What to poll with while one of the jobs goes on; never the same twice, so that every answer is followed."""
    return "" if all(job.done for job in jobs) else str(time.monotonic_ns())


def poller(key: str, poll: str, after_ms: int, position: int | None = None) -> None:
    """Nothing to see: runs the fragment it is in again after a moment while `poll` is not empty.

    Where a fragment shows one `position` of a slider that is elsewhere on the page, also when it is released at another.
    """
    data = {"poll": poll, "after_ms": after_ms, "position": position}
    _component("poll", "<span></span>")(key=key, data=data, height=1, on_poll_change=lambda: None)


def slider(key: str, label: str, position: int, moved: Callable[[], None], poll: str, after_ms: int) -> None:
    """The sparsity slider at `position` (0..100 %); `moved` is called when it was released somewhere else."""
    _component("slider", _SLIDER_HTML)(
        key=key,
        data={"label": label, "position": position, "poll": poll, "after_ms": after_ms},
        default={"position": position},
        on_position_change=moved,
        on_poll_change=lambda: None,
    )


def figure(key: str, live: LiveFigure, name: str, position: int, poll: str = "", after_ms: int = 1000) -> None:
    """A figure that follows the slider and can be saved as PNG or SVG (`name` is the file's)."""
    data: dict[str, Any] = {
        "figure": live.figure.to_plotly_json(),
        "changes": live.changes_as_json(),
        "name": name,
        "position": position,
        "poll": poll,
        "after_ms": after_ms,
    }
    _component("figure", _FIGURE_HTML)(
        key=key, data=_plain(data), height=int(live.figure.layout.height) + 34, on_poll_change=lambda: None
    )


def still(figure: go.Figure) -> LiveFigure:
    """A figure that does not follow the slider."""
    return LiveFigure(figure)


def csv_button(name: str, table: Callable[[], pd.DataFrame], title: str = "CSV") -> None:
    """A button that makes a table's CSV when it is pressed."""
    st.download_button(
        title, lambda: table().to_csv(index=False), f"{name}.csv", "text/csv", key=f"csv-{name}", type="tertiary",
        on_click="ignore", icon=":material/download:",
    )  # fmt: skip


def _plain(value: Any) -> Any:
    """Numbers and lists as JSON knows them (figures hold numpy arrays, tables and tuples)."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and value != value else value
