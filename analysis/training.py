"""What happened while models trained and were pruned: loss, score and share gone, step by step; the heat map as a film.

Everything starts from the rows of a run's record, as `vp_core.running.run.run_training` yields them and
`vp_core.training.run_folder.read_log` reads them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis import masks, theme
from analysis.names import metric_name, split_matrix, titled
from vp_core.ground.errors import VPError
from vp_core.ground.names import TYPES

Rows = Sequence[Mapping[str, Any]]
COLUMNS = ("run", "step", "steps", "seconds", "loss", "sparsity", "metric", "value", "low", "high", "n")
FILM_COLUMNS = ("step", "layer", "type", "sparsity")
FRAMES = 40
"""A film has at most so many pictures, however often a run told what was gone."""
_HEIGHT = 500
"""Pixels of the three drawings."""
_SMOOTH = 5
"""So many losses are averaged for a line; each is a faint dot as well."""


def table(runs: Mapping[str, Rows]) -> pd.DataFrame:
    """One row for each row of each run (by its name), the columns COLUMNS, NaN for what a row does not tell.

    `sparsity` is the share of a method's own units that is gone after a cut. Raises VPError for rows of something else.
    """
    found: list[dict[str, Any]] = []
    for name, rows in runs.items():
        for row in rows:
            if not {"step", "steps", "seconds"} <= row.keys():
                raise VPError(f"The record of the run {name!r} is none of a training: give one that `vp train --out` wrote.")
            found.append({"run": name} | {column: row.get(column, np.nan) for column in COLUMNS[1:]})
    return pd.DataFrame(found, columns=list(COLUMNS))


def gone(points: pd.DataFrame) -> pd.DataFrame:
    """Step and sparsity of one run's part of `table`, from 0 before the first cut to the last step there is; empty without
    cuts."""
    cuts = points.loc[points["sparsity"].notna(), ["step", "sparsity"]]
    if not len(cuts):
        return cuts
    start = pd.DataFrame({"step": [0], "sparsity": [0.0]})
    end = pd.DataFrame({"step": [points["step"].max()], "sparsity": [cuts["sparsity"].iloc[-1]]})
    return pd.concat([start, cuts, end], ignore_index=True).drop_duplicates(ignore_index=True)


def draw(runs: Mapping[str, Rows]) -> go.Figure:
    """Loss, score and share gone against steps, one below the other; a colour for each run.

    Dots of the loss are means since the row before, the line is smoother. Upright bars are 95 % intervals of the score.
    """
    shown = table(runs)
    if not len(shown):
        return theme.placeholder("Loss, score and share gone", "no step is taken yet", _HEIGHT)
    metrics = [metric_name(name) for name in shown["metric"].dropna().unique()]
    figure = make_subplots(3, 1, shared_xaxes=True, vertical_spacing=0.045, row_heights=[0.36, 0.36, 0.28])
    figure.update_layout(theme.figure("Loss, score and share gone", "", "", _HEIGHT).layout)
    colours = theme.line_colours(list(runs))
    for name, points in shown.groupby("run", sort=False):
        _add_run(figure, str(name), points, colours[str(name)])
    scores = shown["metric"].notna()
    for row, title in enumerate(("loss", " / ".join(metrics) or "score", "% gone"), start=1):
        figure.update_yaxes(title_text=title, row=row, col=1)
    if not scores.any():
        figure.update_yaxes(range=[0, 1], row=2, col=1)
    figure.update_yaxes(rangemode="tozero", row=3, col=1)
    figure.update_xaxes(title_text="step", row=3, col=1)
    figure.update_xaxes(range=[0, 1.02 * max(int(shown["steps"].max()), 1)])
    theme.legend_below_title(figure)
    return figure


def _add_run(figure: go.Figure, name: str, points: pd.DataFrame, colour: str) -> None:
    """One run's lines in the three drawings: one entry of the legend for all."""
    about: dict[str, Any] = {"name": name, "legendgroup": name, "showlegend": False}
    losses = points[points["loss"].notna()]
    smooth = losses["loss"].rolling(_SMOOTH, min_periods=1, center=True).mean()
    faint = {"size": 4, "color": theme.translucent(colour, 0.35)}
    figure.add_scatter(
        x=losses["step"], y=losses["loss"], mode="markers", marker=faint, hoverinfo="skip", **about, row=1, col=1
    )
    hover = "step %{x}: loss %{y:.4f}"
    line = {"color": colour, "width": 2}
    figure.add_scatter(
        x=losses["step"], y=smooth, mode="lines", line=line, hovertemplate=hover, **about | {"showlegend": True}, row=1, col=1
    )
    scores = points[points["metric"].notna()]
    bars = {"array": scores["high"] - scores["value"], "arrayminus": scores["value"] - scores["low"]}
    figure.add_scatter(
        x=scores["step"], y=scores["value"], mode="lines+markers", line=line, marker={"size": 7}, customdata=scores[["n"]],
        error_y={"type": "data", "symmetric": False, "thickness": 1, "width": 3, **bars},
        hovertemplate="step %{x}: %{y:.4f} (n = %{customdata[0]:,})", **about, row=2, col=1,
    )  # fmt: skip
    cuts = gone(points)
    figure.add_scatter(
        x=cuts["step"], y=100 * cuts["sparsity"], mode="lines", line=line | {"shape": "hv"},
        hovertemplate="step %{x}: %{y:.1f} % gone", **about, row=3, col=1,
    )  # fmt: skip


def film_table(rows: Rows) -> pd.DataFrame:
    """One row for each picture of the film and matrix: step, layer (none of word embeddings), type, and the share gone.

    A picture is what a row tells as `removed`; one that repeats the last is left out, and beyond FRAMES some are.
    """
    told: list[tuple[int, Mapping[str, float]]] = []
    for row in rows:
        if "removed" in row and (not told or row["removed"] != told[-1][1]):
            told.append((row["step"], row["removed"]))
    if len(told) > FRAMES:
        told = [told[i] for i in sorted({round(i) for i in np.linspace(0, len(told) - 1, FRAMES)})]
    found = [(step, *split_matrix(name), share) for step, removed in told for name, share in removed.items()]
    return pd.DataFrame(found, columns=list(FILM_COLUMNS)).astype({"layer": "Int64"})


def draw_film(film: pd.DataFrame, what: str = "rows", now: int | None = None) -> go.Figure:
    """Heat map of the share gone, layer × projection type (fig. 3 of Variance Pruning), with a slider over the steps of a
    `film_table`; it opens at picture number `now`, else at the last. `what` goes: rows or weights."""
    title = f"{titled(what)} removed while it trains"
    if not len(film):
        return theme.placeholder(title, "nothing has been removed yet", theme.map_height(6) + _SLIDER)
    steps, layers, names, cells = _pictures(film)
    lists = masks.in_percent(cells)
    at = len(steps) - 1 if now is None else min(now, len(steps) - 1)
    figure = masks.heat_map(title, "projection type", layers, names, lists[at], what)
    figure.frames = [
        go.Frame(name=str(step), data=[{"type": "heatmap", "z": picture}], traces=[0])
        for step, picture in zip(steps, lists, strict=True)
    ]
    show = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}, "transition": {"duration": 0}}
    play = show | {"fromcurrent": False, "frame": {"duration": 600, "redraw": True}}
    moves = [{"label": f"{step:,}", "method": "animate", "args": [[str(step)], show]} for step in steps]
    slider = {"active": at, "steps": moves, "currentvalue": {"prefix": "after step ", "font": {"size": 13}}}
    button = {"label": "▶", "method": "animate", "args": [None, play]}
    place = {"x": 0, "xanchor": "left", "y": 0, "yanchor": "top", "pad": {"t": 66, "l": -46}}
    figure.update_layout(
        height=theme.map_height(len(layers)) + _SLIDER,
        margin={"b": 56 + _SLIDER},
        sliders=[slider | {"x": 0.08, "len": 0.92, "y": 0, "pad": {"t": 58, "b": 0}}],
        updatemenus=[{"type": "buttons", "showactive": False, "bgcolor": "rgba(0,0,0,0)", "buttons": [button], **place}],
    )
    return figure


_SLIDER = 70
"""Pixels below a heat map for the slider of its film."""


def _pictures(film: pd.DataFrame) -> tuple[list[int], list[int], list[str], np.ndarray]:
    """(steps, layers from the bottom up, columns, shares (steps, layers, columns), NaN for what is not there)."""
    steps = sorted(film["step"].unique().tolist())
    places = film["layer"].fillna(-1).astype(int)
    layers = [*([-1] if (places == -1).any() else []), *range(1 + int(places.max()))]
    found = film["type"].unique().tolist()
    names = [*TYPES, *(name for name in found if name not in TYPES)]
    cells = np.full((len(steps), len(layers), len(names)), np.nan)
    for step, layer, name, share in zip(film["step"], places, film["type"], film["sparsity"], strict=True):
        cells[steps.index(step), layers.index(layer), names.index(name)] = share
    return steps, layers, names, cells


def what_goes(method: str) -> str:
    """What the cells of a film count, by the method of the run.

    >>> what_goes("variance"), what_goes("movement")
    ('rows', 'weights')
    """
    return "rows" if method in ("variance", "random") else "weights"


def summary(logs: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """One row for each run (`read_log`, by name): how it prunes, how far it is, its score before and last, and what went.

    `share` is of the encoder's linear parameters, `step` how far it got; NaN for what is not known before its end.
    """
    missing = float("nan")
    found: list[dict[str, Any]] = []
    for name, log in logs.items():
        settings, rows = log["settings"], log["rows"]
        points = table({name: rows})
        scores = points[points["metric"].notna()]
        last: Mapping[str, Any] = rows[-1] if rows else {}
        schedule = settings.get("schedule", {})
        row: dict[str, Any] = {"run": name, "method": settings["method"], "until": settings["until"]}
        row |= {"teacher": settings.get("teacher") or "", "steps": last.get("steps", missing), "lr": schedule.get("lr")}
        row |= {"seed": schedule.get("seed"), "step": last.get("step", 0), "seconds": last.get("seconds", 0.0)}
        row |= {"metric": scores["metric"].iloc[0] if len(scores) else "accuracy"}
        row |= {"before": scores["value"].iloc[0] if len(scores) else missing}
        row |= {"score": scores["value"].iloc[-1] if len(scores) else missing}
        row |= {"share": last.get("share_pruned", missing), "done": bool(last.get("done", False))}
        found.append(row)
    return pd.DataFrame(found)
