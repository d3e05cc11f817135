"""Score against sparsity without fine-tuning: the paper's fig. 2."""

import numpy as np
import pandas as pd

from analysis import theme
from analysis.live import STEPS, LiveFigure, Restyle

METRIC_NAMES = {
    "accuracy": "accuracy",
    "f1": "F1",
    "matthews": "Matthews correlation",
    "spearman": "Spearman correlation",
    "pearson": "Pearson correlation",
}


def draw(
    table: pd.DataFrame, metric: str, sparsity: float | None = None, line: str = "variance", by: str = "criterion",
    removed: str = "share removed (%)",
) -> LiveFigure:  # fmt: skip
    """Curves of a sweep's points (one row each, see `vp_core.curves.COLUMNS`) with their 95 % bands,
    a line for each value of the column `by`; `removed` is the title of the horizontal axis.

    With `sparsity` a vertical line marks the current point, and a dot what the curve of `line` says there (between two
    finished points: on the straight line that joins them); both follow the slider.
    """
    name = METRIC_NAMES[metric]
    figure = theme.figure(f"{name[0].upper()}{name[1:]} against sparsity, no fine-tuning", removed, name)
    changes: list[Restyle] = []
    low = float(table["low"].min()) if len(table) else 0.0
    high = float(table["high"].max()) if len(table) else 1.0
    pad = 0.05 * (high - low)
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
            hovertemplate="%{x:.0f} %: %{y:.4f} (95 %: %{customdata[0]:.4f} to %{customdata[1]:.4f}, n = %{customdata[2]:,})",
        )  # fmt: skip
    if sparsity is not None:
        mine = known[known[by] == line]
        percent = [100 * s for s in STEPS]
        heights = np.interp(STEPS, mine["sparsity"], mine["value"]) if len(mine) else np.full(len(STEPS), np.nan)
        ends = (float(mine["sparsity"].min()), float(mine["sparsity"].max())) if len(mine) else (2.0, -1.0)
        dots = [[round(float(h), 5) if ends[0] <= s <= ends[1] else None] for s, h in zip(STEPS, heights, strict=True)]
        number, here = len(figure.data), round(sparsity * 100)
        figure.add_scatter(
            x=[percent[here]] * 2, y=[low - pad, high + pad], mode="lines", hoverinfo="skip", name="slider",
            showlegend=False, line={"color": theme.ACCENT, "width": 1.5, "dash": "dot"},
        )  # fmt: skip
        figure.add_scatter(
            x=[percent[here]], y=dots[here], mode="markers", hoverinfo="skip", name="slider", showlegend=False,
            marker={"color": theme.ACCENT, "size": 13, "symbol": "circle-open", "line": {"width": 3}},
        )  # fmt: skip
        changes += [Restyle(number, "x", [[p, p] for p in percent]), Restyle(number + 1, "x", [[p] for p in percent])]
        changes += [Restyle(number + 1, "y", dots)]
    figure.update_yaxes(range=[low - pad, high + pad])
    figure.update_xaxes(range=[-2, 102], dtick=10)
    theme.legend_below_title(figure)
    return LiveFigure(figure, tuple(changes))
