"""A second metric beside the headline on one chart: solid and dotted in one colour (the paper's fig. 2, of SQuAD)."""

import json
from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from analysis import theme
from analysis.names import METRIC_NAMES, hover_format, metric_name, score_format
from vp_core.asking.metrics import less_is_better

SECOND = "second"
"""The legend group of all dotted lines: one click takes them off the chart."""


def second_of(others: Sequence[str], metric: str) -> tuple[str, list[float]]:
    """The name of the further metric that is drawn beside `metric`, and its value at each point, NaN where it is not known.

    `others` is the column of that name of `vp_core.curves.COLUMNS`, JSON by name. Taken is the first that is read on the same
    scale and in the same direction; "" and NaN if there is none.

    >>> second_of(['{"perplexity": 9.5, "f1": 0.75}', "{}"], "accuracy")
    ('f1', [0.75, nan])
    """
    found = [json.loads(text) for text in others]
    name = next((one for values in found for one in values if _fit(one, metric)), "")
    return name, [float(values.get(name, "nan")) for values in found]


def _fit(one: str, metric: str) -> bool:
    """Whether two metrics have one axis: both known, shares both or correlations both, and of both more is better."""
    known = {one, metric} <= METRIC_NAMES.keys() and not (less_is_better(one) or less_is_better(metric))
    return known and score_format(one) == score_format(metric)


def add_second(figure: go.Figure, x: pd.Series, y: pd.Series, colour: str, line: str, second: str) -> None:
    """The dotted line of the metric `second`, in the colour of its `line`. It has no interval: only the headline has one."""
    figure.add_scatter(
        x=[*x], y=[None if pd.isna(value) else float(value) for value in y], mode="lines+markers",
        name=f"{line}: {metric_name(second)}",
        line={"color": colour, "width": 2, "dash": "dot"}, marker={"size": 6, "symbol": "circle-open"}, legendgroup=SECOND,
        showlegend=False, hovertemplate=f"%{{x:.1f}} %: {metric_name(second)} %{{y:{hover_format(second)}}}",
    )  # fmt: skip


def add_legend(figure: go.Figure, metric: str, second: str) -> None:
    """Two entries of the legend that say which metric is drawn how, and room for its second line."""
    theme.legend_below_title(figure, lines=2)
    for name, dash, group in ((metric, "solid", "first"), (second, "dot", SECOND)):
        figure.add_scatter(
            x=[None], y=[None], mode="lines", name=f"{metric_name(name)} ({'solid' if dash == 'solid' else 'dotted'})",
            line={"color": theme.PRUNED, "width": 2.5, "dash": dash}, legendgroup=group, hoverinfo="skip",
        )  # fmt: skip
