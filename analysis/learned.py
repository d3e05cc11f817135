"""What learned masks come to: heads removed by the shape of blocks, score against speed (block pruning's table 8, figure 2)."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots
from torch import Tensor

from analysis import theme
from analysis.names import metric_name, titled
from vp_core.ground.errors import VPError
from vp_core.model.projections import Layer
from vp_core.movement.fill import heads_left
from vp_core.weights.masks import Masks

PANELS = {"speed": "times as fast as dense", "density": "linear parameters left (%)"}
"""The two axes that a score is drawn against."""
_ATTENTION = ("query", "key", "value", "attention_output")


def heads_table(
    layers: Sequence[Layer], methods: Mapping[str, Masks], scores: Mapping[str, float] | None = None
) -> pd.DataFrame:
    """One row a method (name → masks), after a first one of the dense model: block pruning's table 8.

    `compression` is the number of weights of attention over those that are left, `heads` how many have something left that is
    read, `head_compression` all over these (infinite if none is), `value` the score of the method's name, `dense` that of the
    dense model. Heads of key and value are counted, under grouped queries fewer than those of the query.
    """
    matrices = [layer.projections[t].name for layer in layers for t in _ATTENTION]
    values = dict(scores or {})
    rows = [_heads_row("dense", layers, matrices, None)]
    rows += [_heads_row(name, layers, matrices, masks) for name, masks in methods.items()]
    table = pd.DataFrame(rows)
    return table.assign(value=[values.get(name) for name in table["method"]]).astype({"value": float})


def _heads_row(name: str, layers: Sequence[Layer], matrices: Sequence[str], masks: Masks | None) -> dict[str, Any]:
    everything: dict[str, Tensor] = {}
    left = heads_left(layers, everything if masks is None else masks)
    heads, alive = sum(map(len, left.values())), sum(int(one.sum()) for one in left.values())
    known = [] if masks is None else [one for one in matrices if one in masks.bits]
    size = sum(p.d_in * p.d_out for layer in layers for t in _ATTENTION for p in [layer.projections[t]])
    gone = sum(masks.size(one) - masks.kept(one) for one in known) if masks is not None else 0
    return {
        "method": name, "compression": size / (size - gone) if gone < size else float("inf"), "heads": alive,
        "heads_in_all": heads, "head_compression": heads / alive if alive else float("inf"),
    }  # fmt: skip


def score_table(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows of runs as figure 2 wants them: `method`, `speed` (times as fast as dense), `density` (0..1), `value`, and `low` and
    `high` of its interval where they are known. VPError for a row without one of the first four."""
    table = pd.DataFrame(list(rows))
    missing = [name for name in ("method", "speed", "density", "value") if name not in table or table[name].isna().any()]
    if missing:
        raise VPError(f"A run has no {missing[0]}: give every row method, speed, density and value.")
    for name in ("low", "high"):
        table[name] = table[name].fillna(table["value"]) if name in table else table["value"]
    return table[["method", "speed", "density", "value", "low", "high"]]


def draw(table: pd.DataFrame, metric: str, dense: float | None = None) -> go.Figure:
    """Score against speed (left) and density (right, fewer parameters to the right), a line for each method (figure 2).

    From a `score_table`; the points of a method are joined in the order of the axis. `dense` is the score of the dense model,
    a dashed line.
    """
    name = metric_name(metric)
    figure = make_subplots(1, 2, shared_yaxes=True, horizontal_spacing=0.04)
    figure.update_layout(theme.figure(f"{titled(name)} against speed and density", "", "", 400).layout)
    for column, (axis, title) in enumerate(PANELS.items(), 1):
        place = {"row": 1, "col": column}
        for method, colour in theme.line_colours(list(table["method"])).items():
            part = table[table["method"] == method].sort_values(axis, ascending=axis == "speed")
            error = {"type": "data", "array": part["high"] - part["value"], "arrayminus": part["value"] - part["low"]}
            x = part[axis] * (100 if axis == "density" else 1)
            unit = " %" if axis == "density" else " times"
            figure.add_scatter(
                x=x, y=part["value"], error_y={**error, "thickness": 1, "width": 2}, mode="lines+markers", name=method,
                legendgroup=method, showlegend=column == 1, line={"color": colour, "width": 2}, marker={"size": 7},
                hovertemplate=f"{method}: %{{y:.4f}} at %{{x:.2f}}{unit}<extra></extra>", **place,
            )  # fmt: skip
        if dense is not None:
            figure.add_hline(y=dense, line={"dash": "dash", "color": theme.PRUNED, "width": 1}, **place)
        figure.update_xaxes(title_text=title, **place)
    figure.update_xaxes(autorange="reversed", row=1, col=2)
    figure.update_yaxes(title_text=name, row=1, col=1)
    theme.legend_below_title(figure)
    return figure
