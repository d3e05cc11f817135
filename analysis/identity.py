"""What iterative identity pruning kept of a model while blocks left it: figs. 3, 4 and 5 of the SNIP paper.

Everything starts from the logs of runs, as `vp_core.training.run_folder.read_log` gives them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis import theme
from analysis.names import block_name, metric_name, titled
from vp_core.asking.metrics import a_point_worse, at_least
from vp_core.ground.errors import VPError
from vp_core.model.blocks import Block

Log = Mapping[str, Any]
AT = (0.5, 0.75)
"""Shares pruned at which the summary tells the score."""
COLUMNS = (
    "run", "mode", "sn", "iteration", "share_pruned", "parameters", "metric", "value", "low", "high", "n", "heads",
    "attention", "ffns", "went", "seconds",
)  # fmt: skip
_MODE_COLOURS = {
    "joint": "#0072B2", "heads": "#E69F00", "ffn": "#009E73", "attention": "#CC79A7", "layers": "#6B4E16",
    "separate": "#56B4E9",
}  # fmt: skip
_PRUNED = "share of the linear parameters pruned (%)"
_LEFT_SCALE = ((0.0, "#DDEAF3"), (1.0, "#0072B2"))
_MOST_TICKS = 16


def log_name(log: Log) -> str:
    """What a run is called: its mode, and whether weights were spectrally normalised.

    >>> log_name({"settings": {"mode": "joint", "sn": 5.0}}), log_name({"settings": {"mode": "ffn", "sn": None}})
    ('joint + SN', 'ffn')
    """
    settings = log["settings"]
    return settings["mode"] + (" + SN" if settings.get("sn") else "")


def named(logs: Sequence[Log]) -> dict[str, Log]:
    """Runs by their names; a second one of a name is numbered."""
    found: dict[str, Log] = {}
    for log in logs:
        name = base = log_name(log)
        number = 1
        while name in found:
            number += 1
            name = f"{base} ({number})"
        found[name] = log
    return found


def table(logs: Mapping[str, Log]) -> pd.DataFrame:
    """One row for each iteration of each run (by its name), the columns COLUMNS; VPError for a log that is none."""
    rows: list[dict[str, Any]] = []
    for name, log in logs.items():
        try:
            settings = log["settings"]
            about = {"run": name, "mode": settings["mode"], "sn": settings.get("sn")}
            for row in log["rows"]:
                same = {c: row[c] for c in ("iteration", "share_pruned", "parameters", "metric", "value", "low", "high", "n")}
                left = {title: row["left"][kind] for title, kind in (("heads", "head"), ("ffns", "ffn"))}
                left |= {"attention": row["left"]["attention"], "went": len(row["went"]), "seconds": row["seconds"]}
                rows.append(about | same | left)
        except (KeyError, TypeError, AttributeError) as error:
            raise VPError(f"The log of the run {name!r} lacks {error}: give one that `vp snip --out` wrote.") from error
    return pd.DataFrame(rows, columns=list(COLUMNS))


def given(log: Log) -> float:
    """The score of the model that a run was given; NaN before its first row."""
    rows = log["rows"]
    return float(rows[0]["given"]["value"]) if rows else float("nan")


def summary(logs: Mapping[str, Log]) -> pd.DataFrame:
    """One row a run: the smallest model within a point of the given one's score, and the scores at the shares AT.

    `within a point` is the share pruned of the largest such share, NaN if no iteration's model is; a score at a share is
    that of the iteration with the smallest share pruned at or above it, NaN if the run did not go so far.
    """
    rows: list[dict[object, object]] = []
    for name, log in logs.items():
        points, start, missing = table({name: log}), given(log), float("nan")
        metric = points["metric"].iloc[0] if len(points) else ""
        enough = a_point_worse(metric, start)
        near = [at_least(metric, value, enough) or abs(value - enough) < 1e-12 for value in points["value"]]
        good = points[np.array(near, dtype=bool)].sort_values("share_pruned", kind="stable")
        best = good.iloc[-1] if len(good) else None
        row: dict[object, object] = {"run": name, "given": start}
        row |= {"within a point": missing if best is None else best["share_pruned"]}
        row |= {"its score": missing if best is None else best["value"], "its parameters": missing}
        row |= {} if best is None else {"its parameters": best["parameters"]}
        for at in AT:
            beyond = points[points["share_pruned"] >= at - 1e-12].sort_values("share_pruned", kind="stable")
            row[at] = beyond["value"].iloc[0] if len(beyond) else missing
        most = points["share_pruned"].max() if len(points) else missing
        rows.append(row | {"pruned to": most, "iterations": max(len(points) - 1, 0)})
    columns = ["run", "given", "within a point", "its score", "its parameters", *AT, "pruned to", "iterations"]
    return pd.DataFrame(rows, columns=columns)


def draw_score(logs: Mapping[str, Log]) -> go.Figure:
    """Score against the share pruned, a line for each run: its mode's colour, dashed without spectral normalisation.

    Upright bars are 95 % intervals; the dotted level is a point below the score of the given model.
    """
    shown = table(logs)
    metric = metric_name(shown["metric"].iloc[0]) if len(shown) else "score"
    title = f"{titled(metric)} against the share pruned"
    figure = theme.figure(title, _PRUNED, metric, height=420)
    if not len(shown):
        theme.say(figure, "nothing finished yet")
        return figure
    for name, part in shown.groupby("run", sort=False):
        colour = _MODE_COLOURS.get(part["mode"].iloc[0], "#444444")
        plain = not part["sn"].iloc[0] or np.isnan(part["sn"].iloc[0])
        bars = {"array": part["high"] - part["value"], "arrayminus": part["value"] - part["low"]}
        figure.add_scatter(
            x=100 * part["share_pruned"], y=part["value"], mode="lines+markers", name=str(name), showlegend=True,
            line={"color": colour, "width": 2.5, "dash": "dash" if plain else "solid"},
            marker={"size": 7, "symbol": "circle-open" if plain else "circle"},
            error_y={"type": "data", "symmetric": False, "thickness": 1, "width": 3, **bars},
            customdata=part[["iteration", "heads", "ffns", "n"]].to_numpy(),
            hovertemplate="%{x:.1f} %: %{y:.4f} (iteration %{customdata[0]}: %{customdata[1]} heads and %{customdata[2]} FFNs "
            "left; n = %{customdata[3]:,})",
        )  # fmt: skip
    for level in sorted({given(log) for log in logs.values() if log["rows"]}):
        figure.add_hline(
            y=a_point_worse(shown["metric"].iloc[0], level), line={"color": theme.PRUNED, "width": 1, "dash": "dot"}
        )
    figure.update_xaxes(range=[-2, 102], dtick=10)
    theme.legend_below_title(figure)
    return figure


def map_table(log: Log) -> pd.DataFrame:
    """One row for each iteration and block: iteration, share_pruned, block, layer, kind, head, left (whether it is there),
    went (whether it left in this iteration), identity (share of mini-batches) and mean (function norm) before it did.

    Heads have gone where their whole attention block has. Blocks are known from the first iteration on.
    """
    rows, points = [], log["rows"]
    blocks = sorted({Block.named(name) for row in points for name in (*row.get("mean", ()), *row["gone"])})
    for row in points:
        gone = {Block.named(name) for name in row["gone"]}
        for block in blocks:
            left = block not in gone and not (block.kind == "head" and Block(block.layer, "attention") in gone)
            rows.append(
                {
                    "iteration": row["iteration"], "share_pruned": row["share_pruned"], "block": block.name,
                    "layer": block.layer, "kind": block.kind, "head": block.head, "left": left,
                    "went": block.name in row["went"], "identity": row.get("identity", {}).get(block.name, np.nan),
                    "mean": row.get("mean", {}).get(block.name, np.nan),
                }
            )  # fmt: skip
    names = ["iteration", "share_pruned", "block", "layer", "kind", "head", "left", "went", "identity", "mean"]
    return pd.DataFrame(rows, columns=names).astype({"head": "Int64"})


def draw_map(log: Log) -> go.Figure:
    """Pruning map, from the top down: heads layer by layer, the share of each layer's heads that is left, and FFNs.

    What is blank has gone. The left axis tells the share pruned after each iteration.
    """
    cells = map_table(log)
    title = f"Pruning map of {log_name(log)}: what is blank has gone"
    if not len(cells):
        return theme.placeholder(title, "no iteration finished yet")
    heads, ffns = cells[cells["kind"] == "head"], cells[cells["kind"] == "ffn"]
    layers = heads["layer"].nunique()
    shares = list(cells.groupby("iteration")["share_pruned"].first())
    widths = [0.64, 0.18, 0.18]
    figure = make_subplots(
        1, 3, shared_yaxes=True, column_widths=widths, horizontal_spacing=0.025,
        subplot_titles=["attention heads", "mean of heads", "FFNs"],
    )  # fmt: skip
    height = min(max(300, 150 + 22 * len(shares)), 720)
    figure.update_layout(theme.figure(title, "layer", "", height).layout)
    scale = {"zmin": 0, "zmax": 100, "colorscale": _LEFT_SCALE, "xgap": 1, "ygap": 1}
    bar = {"title": {"text": "% of heads left", "side": "right"}, "thickness": 12}
    for column, part in ((1, heads), (3, ffns)):
        z, text, names = _present(part)
        figure.add_heatmap(z=z, text=text, hovertemplate="%{text}<extra></extra>", showscale=False, **scale, row=1, col=column)
        places = [Block.named(name).layer for name in names]
        centres = pd.Series(range(len(names))).groupby(places).mean()
        figure.update_xaxes(tickvals=list(centres), ticktext=[str(n) for n in centres.index], title_text="layer", col=column)
        for edge in np.flatnonzero(np.diff(places)) if column == 1 else ():
            figure.add_vline(x=float(edge) + 0.5, line={"color": theme.PRUNED, "width": 2}, row=1, col=column)
    z, text = _layer_means(heads)
    figure.add_heatmap(z=z, text=text, hovertemplate="%{text}<extra></extra>", colorbar=bar, **scale, row=1, col=2)
    figure.update_xaxes(tickvals=list(range(layers)), ticktext=[str(n) for n in sorted(heads["layer"].unique())], col=2)
    figure.update_xaxes(title_text="layer", showgrid=False, zeroline=False)
    ticks = sorted({round(i) for i in np.linspace(0, len(shares) - 1, min(len(shares), _MOST_TICKS))})
    figure.update_yaxes(
        autorange="reversed", tickvals=ticks, ticktext=[f"{100 * shares[i]:.0f}" for i in ticks], showgrid=False, zeroline=False
    )
    figure.update_yaxes(title_text="share pruned (%)", row=1, col=1)
    figure.update_annotations(font={"size": 13})
    figure.update_layout(margin={"t": 74})
    return figure


def _present(part: pd.DataFrame) -> tuple[list[list[float | None]], list[list[str]], list[str]]:
    """Cells (iterations, blocks), 100 where a block is there and None where it has gone, and what each says."""
    names = list(dict.fromkeys(part["block"]))
    z: list[list[float | None]] = []
    text: list[list[str]] = []
    for number, rows in part.groupby("iteration"):
        z.append([100.0 if left else None for left in rows["left"]])
        text.append([f"{_what(row)}<br>after iteration {number}: {_state(row)}" for row in rows.to_dict("records")])
    return z, text, names


def _what(row: Mapping[Any, Any]) -> str:
    return block_name(Block.named(row["block"]))


def _state(row: Mapping[Any, Any]) -> str:
    state = "there" if row["left"] else "left in this iteration" if row["went"] else "gone"
    if not np.isnan(row["identity"]):
        state += f"<br>identity in {row['identity']:.0%} of mini-batches"
    return state if np.isnan(row["mean"]) else f"{state}<br>mean norm {row['mean']:.3g}"


def _layer_means(heads: pd.DataFrame) -> tuple[list[list[float | None]], list[list[str]]]:
    """Cells (iterations, layers): percent of the layer's heads that are left, None where none is."""
    left = 100 * heads.pivot_table(index="iteration", columns="layer", values="left", aggfunc="mean")
    z = [[float(v) if v > 0 else None for v in row] for row in left.to_numpy()]
    text = [
        [
            f"layer {layer}<br>after iteration {number}: {left.loc[number, layer]:.0f} % of the heads left"
            for layer in left.columns
        ]
        for number in left.index
    ]
    return z, text
