"""Sliders over ε and θ: which blocks are off, and the exact score without them once the thumbs rest; nothing is trained."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import ipywidgets
import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis import off
from analysis.names import KIND_NAMES
from notebooks.widgets import REST, WIDTH, AtRest, figure_widget, main_thread, score_html
from vp_core.asking.kinds.question import Score
from vp_core.ground.errors import VPError, one_of
from vp_core.ground.names import MODES, THETA
from vp_core.ground.work import TURNS, Cancelled, work
from vp_core.identity.threshold import Threshold, key, running_scores
from vp_core.model.blocks import Block
from vp_core.recipes import Recipe
from vp_core.study import Study


def threshold_explorer(study: Study, mode: str = "joint", theta: float = THETA) -> "ThresholdExplorer":
    """ε for attention and for FFNs on the scale of the measured norms, and θ, for a mode of `vp_core.ground.names.MODES`."""
    one_of("mode", mode, tuple(MODES))
    return ThresholdExplorer(study, mode, theta)


class ThresholdExplorer(ipywidgets.VBox):
    """The parts are attributes: `attention` and `ffn` (None where the mode has none), `theta`, `score`, `cost`, `map`."""

    def __init__(self, study: Study, mode: str, theta: float) -> None:
        self.study, self.mode, self._scores = study, mode, dict[str, Score]()
        self._norms = study.measured().norms()
        kinds = tuple(kind for kind in MODES[mode] if kind != "ffn")
        first = off.first_epsilon(self._norms, mode, theta)
        self.attention = _slider(f"ε of {KIND_NAMES[kinds[0]]}", self._norms, kinds, first[0]) if kinds else None
        self.ffn = _slider(f"ε of {KIND_NAMES['ffn']}", self._norms, ("ffn",), first[1]) if "ffn" in MODES[mode] else None
        self.theta = ipywidgets.FloatSlider(theta, min=0, max=1, step=0.01, description="θ", **_look())
        self.score, self.cost = ipywidgets.HTML(), ipywidgets.HTML()
        self._main_thread, self._newest = main_thread(), AtRest(self._compute, REST)
        self.map = figure_widget(_map(off.off_table(self._norms, self.threshold)), WIDTH)
        sliders = [slider for slider in (self.attention, self.ffn, self.theta) if slider is not None]
        super().__init__([*sliders, self.score, self.cost, self.map])
        for slider in sliders:
            slider.observe(lambda _: self._moved(), "value")
        self._moved()

    @property
    def threshold(self) -> Threshold:
        """What the sliders say."""
        attention, ffn = (1.0 if slider is None else float(slider.value) for slider in (self.attention, self.ffn))
        return Threshold(attention, ffn, self.theta.value, self.mode)

    def _moved(self) -> None:
        """The map and the cost need the norms only; a kept score is shown too, any other once the thumbs rest."""
        threshold = self.threshold
        table = off.off_table(self._norms, threshold)
        with self.map.batch_update():
            for mine, new in zip(self.map.data, _map(table).data, strict=True):
                names = ("z", "text") if new.type == "heatmap" else ("x", "y")
                mine.update({name: new[name] for name in names}, overwrite=True)
        gone = [Block.named(name) for name in table.loc[table["off"], "block"]]
        counts = ", ".join(f"{sum(b.kind == kind for b in gone)} {KIND_NAMES[kind]}" for kind in MODES[self.mode])
        share = off.cost_without(self.study.model, gone).share_removed
        self.cost.value = f"off: {counts}; with them go {share:.1%} of the weights of the projections"
        if not self._show_kept():
            self.score.value = "<i>the score comes when the thumb rests</i>"
        self._newest.ask(threshold)

    def _show_kept(self) -> bool:
        kept = self._scores.get(key(self.study, self.threshold))
        if kept is not None:
            self.score.value = score_html(kept, self._scores.get(""))
        return kept is not None

    def _compute(self, threshold: Threshold, superseded: Callable[[], bool]) -> None:
        """On a thread of its own; given up when a thumb moves on."""
        try:
            asked = key(self.study, threshold)
            with work(cancelled=superseded), suppress(Cancelled), TURNS.first():
                if asked not in self._scores:
                    for found in running_scores(self.study, threshold):
                        self._keep(asked, found)
                if "" not in self._scores:
                    for found in self.study.running_scores(Recipe(), 0.0):
                        self._keep("", found)
            self._main_thread(self._show_kept)
        except VPError as error:
            self._main_thread(self._say, str(error))

    def _keep(self, asked: str, found: Score) -> None:
        """A final score is kept; `""` stands for the dense model."""
        if found.final:
            self._scores[asked] = found

    def _say(self, text: str) -> None:
        self.score.value = f"<b>{text}</b>"


def _map(table: pd.DataFrame) -> go.Figure:
    """The map with gaps of None: messages to a widget are strict JSON, which has no NaN."""
    figure = off.draw(table)
    for trace in figure.data:
        if trace.type == "heatmap":
            trace.z = [[None if np.isnan(value) else float(value) for value in row] for row in trace.z]
    return figure


def _slider(name: str, norms: Any, kinds: tuple[str, ...], first: str) -> ipywidgets.SelectionSlider:
    return ipywidgets.SelectionSlider(options=off.epsilon_scale(norms, kinds), value=first, description=name, **_look())


def _look() -> dict[str, Any]:
    return {"continuous_update": True, "layout": {"width": f"{WIDTH}px"}, "style": {"description_width": "initial"}}
