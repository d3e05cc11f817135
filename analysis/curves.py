"""Score against sparsity without fine-tuning: the paper's fig. 2."""

import numpy as np
import pandas as pd

from analysis import theme
from analysis.live import STEPS, LiveFigure
from analysis.names import hover_format, metric_name, titled
from analysis.second import add_legend, add_second, second_of


def draw(
    table: pd.DataFrame, metric: str, sparsity: float | None = None, line: str = "variance", by: str = "criterion",
    removed: str = "share removed (%)",
) -> LiveFigure:  # fmt: skip
    """Curves of a sweep's points (one row each, see `vp_core.curves.COLUMNS`) with their 95 % bands,
    a line for each value of the column `by`; `removed` is the title of the horizontal axis.

    With `sparsity` a vertical line marks the current point, and a dot what the curve of `line` says there (between two
    finished points: on the straight line that joins them); both follow the slider. Perplexities have a logarithmic axis.

    A further metric of the points that goes on the same axis, such as exact match beside F1, is dotted (`analysis.second`).
    """
    name, as_read = metric_name(metric), hover_format(metric)
    figure = theme.figure(f"{titled(name)} against sparsity, no fine-tuning", removed, name)
    low, high = (float(table["low"].min()), float(table["high"].max())) if len(table) else (0.0, 1.0)
    if not len(table) and metric == "perplexity":
        low, high = 1.0, 100.0
    second, values = second_of(list(table["others"]) if "others" in table else [], metric)
    if second:
        table = table.assign(second=values)
        low, high = min(low, float(table["second"].min())), max(high, float(table["second"].max()))
    known = table.sort_values("sparsity")
    for one, colour in theme.line_colours(list(table[by])).items():
        part = known[known[by] == one]
        x = part["sparsity"] * 100
        figure.add_scatter(
            x=[*x, *x[::-1]], y=[*part["high"], *part["low"][::-1]], fill="toself", mode="none", hoverinfo="skip",
            fillcolor=theme.translucent(colour, 0.13), showlegend=False, legendgroup=one,
        )  # fmt: skip
        figure.add_scatter(
            x=x, y=part["value"], mode="lines+markers", name=one, legendgroup=one, line={"color": colour, "width": 2.5},
            marker={"size": 7}, customdata=part[["low", "high", "n"]].to_numpy(),
            hovertemplate=f"%{{x:.0f}} %: %{{y:{as_read}}} (95 %: %{{customdata[0]:{as_read}}} to "
            f"%{{customdata[1]:{as_read}}}, n = %{{customdata[2]:,}})",
        )  # fmt: skip
        if second:
            add_second(figure, x, part["second"], colour, one, second)
    bottom, top = theme.scores_on(figure, metric, low, high)
    figure.update_xaxes(range=[-2, 102], dtick=10)
    theme.legend_below_title(figure)
    if second:
        add_legend(figure, metric, second)
    if sparsity is None:
        return LiveFigure(figure)
    heights = _heights(known[known[by] == line], metric == "perplexity")
    return LiveFigure(figure, theme.follow(figure, sparsity, bottom, top, heights))


def _heights(points: pd.DataFrame, logarithmic: bool = False) -> list[float | None]:
    """What a line of points, straight as it is drawn, says at each position of the slider, None beyond its ends."""
    if not len(points):
        return [None] * len(STEPS)
    first, last = float(points["sparsity"].min()), float(points["sparsity"].max())
    values = points["value"].to_numpy()
    if logarithmic:
        heights = np.exp(np.interp(STEPS, points["sparsity"], np.log(values)))
    else:
        heights = np.interp(STEPS, points["sparsity"], values)
    return [round(float(h), 5) if first <= s <= last else None for s, h in zip(STEPS, heights, strict=True)]
