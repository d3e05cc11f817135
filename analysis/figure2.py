"""The paper's figure 2: score against sparsity without fine-tuning, variance against random rows, a panel for each task."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis import theme
from analysis.names import metric_name, titled
from analysis.second import second_of

COLUMNS = ("task", "criterion", "seed", "sparsity", "metric", "value", "low", "high", "n", "others")
"""Of a point; the names of `vp_core.curves.COLUMNS`."""
LINES = ("variance", "random")


def table(points: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row a task, criterion and sparsity, means over the seeds: `value` of the headline `metric`, `low` and `high`, and
    `second` of `second_metric` ("" and NaN where there is none).

    `low` and `high` are the 95 % interval of a single seed, and of several the least and the greatest of their values.
    """
    made = pd.DataFrame([{name: point[name] for name in COLUMNS} for point in points], columns=list(COLUMNS))
    rows = []
    for (task, criterion, sparsity), part in made.groupby(["task", "criterion", "sparsity"], sort=False):
        metric, several = str(part["metric"].iloc[0]), len(part) > 1
        second, values = second_of(list(part["others"]), metric)
        low, high = (part["value"].min(), part["value"].max()) if several else (part["low"].iloc[0], part["high"].iloc[0])
        rows.append({
            "task": task, "criterion": criterion, "sparsity": sparsity, "metric": metric, "value": part["value"].mean(),
            "low": low, "high": high, "seeds": len(part), "n": int(part["n"].max()), "second_metric": second,
            "second": sum(values) / len(values),
        })  # fmt: skip
    columns = ["task", "criterion", "sparsity", "metric", "value", "low", "high", "seeds", "n", "second_metric", "second"]
    return pd.DataFrame(rows, columns=columns).sort_values(["task", "criterion", "sparsity"], kind="stable")


def draw(made: pd.DataFrame, titles: Mapping[str, str]) -> go.Figure:
    """A panel for each task of `titles` (by task, what stands over it) that the table has.

    Solid is the headline, dotted the second metric. The band of variance is its 95 % interval, that of random the range of its
    seeds.
    """
    tasks = [task for task in titles if task in set(made["task"])]
    figure = make_subplots(1, max(len(tasks), 1), subplot_titles=[titles[task] for task in tasks], horizontal_spacing=0.055)
    title = "Score against sparsity without fine-tuning: variance against random rows"
    figure.update_layout(theme.figure(title, "", "", 430).layout)
    colours, seconds = theme.line_colours(LINES), False
    for column, task in enumerate(tasks, 1):
        of_task = made[made["task"] == task]
        for line in LINES:
            part = of_task[of_task["criterion"] == line].sort_values("sparsity")
            if len(part):
                seconds |= _add(figure, part, line, colours[line], {"row": 1, "col": column}, first=column == 1)
        metrics = [str(of_task["metric"].iloc[0]), *(name for name in of_task["second_metric"].unique() if name)]
        figure.update_yaxes(title_text=" / ".join(_short(name) for name in metrics), row=1, col=column)
        figure.update_xaxes(title_text="share of rows removed (%)", range=[-2, 92], dtick=30, row=1, col=column)
    for name, dash in (("headline", "solid"), ("second metric", "dot")) if seconds else ():
        figure.add_scatter(
            x=[None], y=[None], mode="lines", name=f"{name} ({'solid' if dash == 'solid' else 'dotted'})",
            line={"color": theme.PRUNED, "width": 2.5, "dash": dash}, hoverinfo="skip",
        )  # fmt: skip
    theme.legend_below_title(figure)
    figure.update_layout(margin={"t": 100, "b": 84}, legend={"y": 1.12})
    return figure


def _short(metric: str) -> str:
    """A metric's name where there is little room."""
    return titled(metric_name(metric).removesuffix(" correlation"))


def _add(figure: go.Figure, part: pd.DataFrame, line: str, colour: str, place: Mapping[str, int], first: bool) -> bool:
    """One line with its band and its dotted second metric; whether it has one."""
    x = 100 * part["sparsity"]
    figure.add_scatter(
        x=[*x, *x[::-1]], y=[*part["high"], *part["low"][::-1]], fill="toself", mode="none", hoverinfo="skip",
        fillcolor=theme.translucent(colour, 0.15), showlegend=False, **place,
    )  # fmt: skip
    seeds = int(part["seeds"].max())
    named = f"{line}, mean and range of {seeds} seeds" if seeds > 1 else f"{line}, 95 % interval"
    figure.add_scatter(
        x=x, y=part["value"], mode="lines+markers", name=named, showlegend=first, legendgroup=line,
        line={"color": colour, "width": 2.5}, marker={"size": 6}, hovertemplate="%{x:.0f} %: %{y:.4f}<extra></extra>", **place,
    )  # fmt: skip
    if not part["second"].notna().any():
        return False
    figure.add_scatter(
        x=x, y=part["second"], mode="lines+markers", showlegend=False, line={"color": colour, "width": 2, "dash": "dot"},
        marker={"size": 5, "symbol": "circle-open"}, hovertemplate="%{x:.0f} %: %{y:.4f}<extra></extra>", **place,
    )  # fmt: skip
    return True
