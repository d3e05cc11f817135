"""Widgets of the notebooks: a slider whose figures follow the thumb, and the exact score once the thumb rests.

Figures change on the kernel's main thread as the slider's messages come in: they need ranking only. Scores are computed on
a thread of their own and handed back to the main thread, so that the slider never waits for a score.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import ipywidgets
import pandas as pd
import plotly.graph_objects as go

from analysis import curves, masks, variance
from analysis.live import STEPS, LiveFigure
from analysis.names import answer_text
from vp_core.asking.kinds.question import Score
from vp_core.curves import CurveStore, curve, known_point, order_of_points, point, score_of
from vp_core.ground.chosen import criteria_for
from vp_core.ground.errors import VPError, one_of
from vp_core.ground.work import TURNS, Cancelled, work
from vp_core.recipes import Recipe
from vp_core.squeezing.cost import Cost
from vp_core.study import Study

REST = 0.15
"""Seconds without a move after which the thumb counts as resting."""

PRECISION = "float32"
WIDTH, HEIGHT = 900, 310
"""Pixels of the whole and of each figure: slider and figures stay in sight together, and wrap in a narrower window."""


def sparsity_explorer(
    study: Study, recipe: Recipe | None = None, type_: str = "ffn_in", store: CurveStore | None = None, start: int = 30
) -> "Explorer":
    """A sparsity slider (0 to 100 %) with the heat map, the sorted neurons of projection type `type_` and the curve.

    The figures follow the thumb; where it rests, the exact score is computed and joins the curve. Give the `store` of a
    sweep to see its points, and to have every score computed once only.
    """
    recipe = recipe or Recipe()
    one_of("projection type", type_, recipe.types)
    return Explorer(study, recipe, type_, store or CurveStore(), start)


def show_sentences(study: Study, recipe: Recipe, sparsity: float, texts: Sequence[str | tuple[str, str]]) -> pd.DataFrame:
    """What the dense and the pruned model answer, one row a text; a pair of texts is given as a tuple."""
    asked = [(text,) if isinstance(text, str) else tuple(text) for text in texts]
    models = {"dense": study.model, "pruned": study.pruned(recipe, sparsity)}
    answers = {name: study.predict(model, asked)[0] for name, model in models.items()}
    table = {name: [answer_text(study.question.task, output) for output in outputs] for name, outputs in answers.items()}
    return pd.DataFrame({"text": [" / ".join(parts) for parts in asked], **table})


def score_html(score: Score, dense: Score | None = None) -> str:
    """A score, its 95 % interval and how many examples it rests on, for a label.

    >>> score_html(Score("accuracy", 0.75, 0.71, 0.79, 64, 1000, 0.1))
    '<b>accuracy 0.7500</b> · 95 % interval 0.7100 to 0.7900 · n = 64 of 1,000, going on'
    """
    seen = f"n = {score.n:,}" if score.final else f"n = {score.n:,} of {score.total:,}, going on"
    against = f" · dense {dense.value:.4f}" if dense is not None else ""
    return f"<b>{score.metric} {score.value:.4f}</b> · 95 % interval {score.low:.4f} to {score.high:.4f} · {seen}{against}"


def cost_html(cost: Cost) -> str:
    """What goes, for a label.

    >>> cost_html(Cost(4000, 1000, 2_000_000, 1_200_000, 2_000_000, 1_200_000, 768, 500))
    '1,000 of 4,000 rows go, and with them, squeezed, 40.0 % of the weights of the projections'
    """
    return (
        f"{cost.rows_removed:,} of {cost.rows:,} rows go, and with them, squeezed, {100 * cost.share_removed:.1f} % "
        "of the weights of the projections"
    )


class Explorer(ipywidgets.VBox):
    """The parts are attributes: `slider`, `score`, `cost`, `heat_map`, `sorted_neurons`, `curve`; so is the `store`."""

    def __init__(self, study: Study, recipe: Recipe, type_: str, store: CurveStore, start: int) -> None:
        self.study, self.recipe, self.store = study, recipe, store
        ranking, scores = study.ranking(recipe), study.scores(recipe)
        if recipe.criterion == "random":  # random rows have no score of their own: show their variances
            scores = study.statistics(recipe.estimator).variances()
        neurons = variance.neuron_table(scores, ranking, type_)
        self._follows = [masks.draw(ranking), variance.draw_sorted(neurons, recipe.criterion, type_, 0.0)]
        self._curve = self._draw_curve()
        self.heat_map, self.sorted_neurons = (figure_widget(live.figure, WIDTH // 2) for live in self._follows)
        self.curve = figure_widget(self._curve.figure, WIDTH)
        self.slider = ipywidgets.IntSlider(
            start, 0, 100, description="sparsity (%)", continuous_update=True, layout={"width": f"{WIDTH}px"},
            style={"description_width": "initial"},
        )  # fmt: skip
        self.score, self.cost = ipywidgets.HTML(), ipywidgets.HTML()
        self._main_thread, self._newest = main_thread(), AtRest(self._compute, REST)
        figures = ipywidgets.HBox([self.heat_map, self.sorted_neurons, self.curve], layout={"flex_flow": "row wrap"})
        super().__init__([self.slider, self.score, self.cost, figures])
        self.slider.observe(lambda change: self._moved(change["new"]), "value")
        self._moved(start)

    def _moved(self, position: int) -> None:
        """Everything that needs ranking only, at once; a kept score too; any other once the thumb rests."""
        for live, widget in zip([*self._follows, self._curve], [self.heat_map, self.sorted_neurons, self.curve], strict=True):
            live.update(widget, position)
        self.cost.value = cost_html(self.study.cost(self.recipe, position / 100))
        self._show_kept(position)
        self._newest.ask(position)

    def _show_kept(self, position: int) -> None:
        kept, dense = self._kept(position / 100), self._kept(0.0)
        self.score.value = score_html(kept, dense) if kept else f"<i>the score at {position} % comes when the thumb rests</i>"

    def _kept(self, sparsity: float) -> Score | None:
        row = known_point(self.study, self.recipe, sparsity, PRECISION, self.store)
        return None if row is None else score_of(row)

    def _compute(self, position: int, superseded: Callable[[], bool]) -> None:
        """On the thread: the score here, then the dense one to compare it with; given up when the thumb moves on."""
        try:
            with work(cancelled=superseded), suppress(Cancelled):
                for sparsity in (position / 100, 0.0):
                    if self._kept(sparsity) is None:
                        self._compute_one(sparsity, position)
            self._main_thread(self._renew)
        except VPError as error:
            self._main_thread(self._say, position, f"<b>{error}</b>")

    def _compute_one(self, sparsity: float, position: int) -> None:
        with TURNS.first():
            for score in self.study.running_scores(self.recipe, sparsity, PRECISION):
                if score.final:
                    self.store.add(point(self.study, self.recipe, sparsity, score, PRECISION))
                if sparsity == position / 100:
                    self._main_thread(self._say, position, score_html(score))

    def _say(self, position: int, text: str) -> None:
        if position == self.slider.value:
            self.score.value = text

    def _renew(self) -> None:
        """Show what is kept by now: the score at the slider, and every point on the curve."""
        self._curve = self._draw_curve()
        self.curve.data = ()
        self.curve.add_traces(self._curve.figure.data)
        self.curve.update_yaxes(range=self._curve.figure.layout.yaxis.range)
        self._curve.update(self.curve, self.slider.value)
        if self._kept(self.slider.value / 100):
            self._show_kept(self.slider.value)

    def _draw_curve(self) -> LiveFigure:
        points = order_of_points(criteria_for(self.recipe.units), STEPS, self.recipe)
        rows = [row for chosen, s in points if (row := known_point(self.study, chosen, s, PRECISION, self.store)) is not None]
        return curves.draw(curve(rows).table, self.study.question.task.metric, 0.0, self.recipe.criterion)


class AtRest:
    """Calls `work(value, superseded)` on a thread once `seconds` went by without a newer value.

    A newer value drops one that waits, and makes `superseded()` true for one that is being worked on.
    """

    def __init__(self, work: Callable[[Any, Callable[[], bool]], None], seconds: float) -> None:
        self._work, self._seconds, self._number = work, seconds, 0
        self._timer: threading.Timer | None = None

    def ask(self, value: Any) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._number += 1
        number = self._number
        self._timer = threading.Timer(self._seconds, self._work, (value, lambda: number != self._number))
        self._timer.daemon = True
        self._timer.start()


def main_thread() -> Callable[..., object]:
    """`call(function, *arguments)` on the thread that is asking now, if it runs an event loop as a kernel does.

    Widgets and figures then change on one thread only. Without a loop (plain Python) the function is called right away.
    """
    try:
        return asyncio.get_running_loop().call_soon_threadsafe
    except RuntimeError:
        return lambda function, *arguments: function(*arguments)


def figure_widget(figure: go.Figure, width: int) -> go.FigureWidget:
    """A figure as a widget of the explorer's size, without a button that would send its data anywhere."""
    widget = go.FigureWidget(figure)
    widget.update_layout(width=width, height=HEIGHT, title_font_size=13, margin={"l": 60, "r": 10})
    widget._config = {"showSendToCloud": False, "displaylogo": False, "displayModeBar": False}
    return widget
