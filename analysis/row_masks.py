"""The masks themselves: every row of every matrix as one bar, kept or gone, by layer and projection type."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis import theme
from analysis.live import STEPS, LiveFigure, Restyle
from analysis.names import TYPE_LABELS, split_matrix
from vp_core.ground.names import WORD_EMBEDDINGS
from vp_core.model.projections import Projection
from vp_core.ranking.plan import Plan, Ranking, count_removed
from vp_core.weights.masks import Masks

Rows = Mapping[str, np.ndarray]
"""Matrix name → a value for each of its rows (rows,)."""
NEVER = len(STEPS)
"""Where a row stands that no position of the slider takes."""
WIDEST = 1024
"""Bars in a line of the picture at most; a wider matrix has several lines of equal length."""
_HEIGHT, _LINE, _AROUND, _GAP, _TEXT = 620, (3, 12), 110, 9, 11
"""Pixels: of all lines together if they can be, of a line at least and at most, around them, between types, of a number."""


def gone_at(ranking: Ranking, projections: Sequence[Projection], shares: Sequence[float] = STEPS) -> dict[str, np.ndarray]:
    """The first position of the slider at which each row is gone, NEVER for one that stays: projection → (d_out,) uint8.

    `shares`: the share of units that goes at each position (`Study.unit_shares`), where it counts parameters.
    """
    found = {p.name: np.full(p.d_out, NEVER, np.uint8) for p in projections}
    for group in ranking.groups:
        cuts = [count_removed(share, ranking.pool_size[group.name]) for share in shares]
        first = np.searchsorted(cuts, ranking.place[group.name], side="right").astype(np.uint8)
        for projection, rows in group.rows:
            np.minimum.at(found[projection.name], rows.numpy(), np.broadcast_to(first[:, None], rows.shape))
    return found


def gone_by(plan: Plan) -> dict[str, np.ndarray]:
    """The same of one plan, for every position alike: 0 for a row that goes, NEVER for one that stays."""
    return {name: np.where(keep.numpy(), NEVER, 0).astype(np.uint8) for name, keep in plan.keep.items()}


def exact_at(rows: Rows, plan: Plan, position: int) -> dict[str, np.ndarray]:
    """`gone_at` with what goes at one position as the plan says: shares of units that spend a budget are interpolated."""
    found = {}
    for name, values in rows.items():
        keep = plan.keep[name].numpy() if name in plan.keep else np.ones(len(values), dtype=bool)
        found[name] = np.where(keep, np.maximum(values, position + 1), np.minimum(values, position)).astype(np.uint8)
    return found


def share_gone(masks: Masks) -> dict[str, np.ndarray]:
    """The share of each row's weights that goes, in percent: matrix → (rows,) float32."""
    return {name: 100 - 100 * masks.keep(name).numpy().mean(axis=1, dtype=np.float32) for name in masks.bits}


def table(rows: Rows, position: int | None = None) -> pd.DataFrame:
    """One row a bar: layer, type, row, and `gone` and `gone_at` (a sparsity, missing if never) of `gone_at` at a position of
    the slider, or `share_gone` in 0..1. Word embeddings have no layer."""
    parts = []
    for name, values in rows.items():
        layer, type_ = split_matrix(name)
        about: dict[str, Any] = {"layer": layer, "type": type_, "row": np.arange(len(values))}
        if position is None:
            about |= {"share_gone": values / 100}
        else:
            about |= {"gone": values <= position, "gone_at": np.where(values == NEVER, np.nan, values / 100)}
        parts.append(pd.DataFrame(about))
    made = pd.concat(parts, ignore_index=True)
    return made.assign(layer=made["layer"].astype("Int64"))


def draw(rows: Rows, sparsity: float, title: str = "Every row of every matrix") -> LiveFigure:
    """Every row as one bar, kept or gone (`gone_at`); follows the slider."""
    frames = [theme.step_scale(position, NEVER) for position in range(len(STEPS))]
    how = {"zmin": 0, "zmax": NEVER, "colorscale": frames[round(100 * sparsity)], "showscale": False}
    figure = bars(rows, title, _when, **how)
    for name, colour in (("kept", theme.KEPT), ("gone", theme.GONE)):
        square = {"color": colour, "size": 11, "symbol": "square"}
        figure.add_scatter(x=[None], y=[None], mode="markers", name=name, marker=square)
    theme.legend_below_title(figure)
    heat = [i for i, trace in enumerate(figure.data) if trace.type == "heatmap"]
    return LiveFigure(figure, tuple(Restyle(i, "colorscale", frames) for i in heat))


def _when(values: np.ndarray) -> str:
    """When the rows of a panel go, for hovering; where they are of one plan only, that is seen."""
    if (values == NEVER).all():
        return "stays: not among what may go"
    return "" if set(np.unique(values)) <= {0, NEVER} else "goes at %{z} %"


def draw_shares(rows: Rows, title: str) -> go.Figure:
    """Every row as one bar whose shade is the share of its weights that goes (`share_gone`).

    Drawn in whole per cents, of which 0 and 100 are for rows of which nothing and everything goes.
    """
    bar = {"title": {"text": "% of the row's weights gone", "side": "right"}, "thickness": 12}
    whole = {name: _whole(values) for name, values in rows.items()}
    figure = bars(whole, title, lambda values: "%{z} % of its weights go", coloraxis="coloraxis")
    return figure.update_layout(coloraxis={"cmin": 0, "cmax": 100, "colorscale": theme.SCALE, "colorbar": bar})


def _whole(percent: np.ndarray) -> np.ndarray:
    inside = (percent > 0) & (percent < 100)
    return np.where(inside, np.clip(np.round(percent), 1, 99), percent).astype(np.uint8)


def bars(rows: Rows, title: str, says: Callable[[np.ndarray], str], **how: Any) -> go.Figure:
    """A picture with a panel for each type, in the order of the matrices, and in it the layers from the top down.

    Every line holds as many rows as the narrowest matrix has, at most WIDEST, so that every bar is seen; wider matrices take
    several lines. `says` is what the bars of a panel say of their values, `how` the colours.
    """
    by_type: dict[str, list[str]] = {}
    for name in rows:
        by_type.setdefault(split_matrix(name)[1], []).append(name)
    width = line_width([len(values) for values in rows.values()])
    lines = {type_: [-(-len(rows[name]) // width) for name in names] for type_, names in by_type.items()}
    least, most = _LINE
    of_layers = sum(sum(counts) for type_, counts in lines.items() if type_ != WORD_EMBEDDINGS)
    pixels = {type_: least if type_ == WORD_EMBEDDINGS else np.clip(_HEIGHT / of_layers, least, most) for type_ in by_type}
    heights = [pixels[type_] * sum(counts) for type_, counts in lines.items()]
    drawn = int(sum(heights)) + _GAP * (len(heights) - 1)
    figure = make_subplots(len(heights), 1, shared_xaxes=True, row_heights=heights, vertical_spacing=_GAP / drawn)
    figure.update_layout(theme.figure(title, "", "", drawn + _AROUND).layout)
    for number, (type_, names) in enumerate(by_type.items(), 1):
        _add_panel(figure, number, type_, {name: rows[name] for name in names}, width, says, how)
        _name_layers(figure, number, type_, [split_matrix(name)[0] for name in names], lines[type_], pixels[type_])
    figure.update_xaxes(showgrid=False, zeroline=False, ticks="", showticklabels=False)
    figure.update_xaxes(title="rows of each matrix, in their order", row=len(heights), col=1)
    figure.update_layout(margin={"l": 110})
    return figure


def line_width(sizes: Sequence[int]) -> int:
    """Bars in a line of a picture of matrices with so many rows: those of the narrowest, or an equal part of them.

    >>> line_width([768, 768, 3072]), line_width([4096, 11008])
    (768, 1024)
    """
    narrowest = min(sizes)
    return -(-narrowest // -(-narrowest // WIDEST))


def in_lines(values: np.ndarray, width: int) -> np.ndarray:
    """Values (rows,) in lines (lines, width); NaN behind the last, where the last line is not full.

    >>> in_lines(np.arange(3), 2).tolist(), in_lines(np.arange(4), 2).tolist()
    ([[0.0, 1.0], [2.0, nan]], [[0, 1], [2, 3]])
    """
    missing = -len(values) % width
    if missing:
        values = np.append(values.astype(np.float32), np.full(missing, np.nan, np.float32))
    return values.reshape(-1, width)


def _add_panel(
    figure: go.Figure, number: int, type_: str, rows: Rows, width: int, says: Callable[[np.ndarray], str], how: dict[str, Any]
) -> None:
    """The bars of one type's matrices. A line is called by its layer; what follows a layer's first has blanks behind it."""
    lines = [in_lines(values, width) for values in rows.values()]
    y = [_line_name(split_matrix(name)[0], i) for name, part in zip(rows, lines, strict=True) for i in range(len(part))]
    number_of, number_said = None, "%{x}"
    if len(y) > len(rows):
        kind = np.uint16 if max(map(len, rows.values())) <= 1 << 16 else np.uint32
        number_of = np.concatenate([in_lines(np.arange(len(values), dtype=kind), width) for values in rows.values()])
        number_said = "%{customdata}"
    said, called = says(np.concatenate(list(rows.values()))), TYPE_LABELS.get(type_, type_).replace("<br>", " ")
    layer = "" if split_matrix(next(iter(rows)))[0] is None else "layer %{y}, "
    figure.add_heatmap(
        z=np.concatenate(lines), y=y, customdata=number_of, hoverongaps=False, row=number, col=1,
        hovertemplate=f"{layer}{called}, row {number_said}{': ' if said else ''}{said}<extra></extra>", **how,
    )  # fmt: skip


def _line_name(layer: int | None, line: int) -> str:
    return f"{'' if layer is None else layer}{' ' * line}" if layer is not None or line else " "


def _name_layers(
    figure: go.Figure, number: int, type_: str, layers: Sequence[int | None], lines: Sequence[int], pixels: float
) -> None:
    """The type, and as many numbers of layers as there is room for, beside a panel whose layers have so many lines each."""
    every = int(np.ceil(_TEXT / (pixels * sum(lines) / len(layers))))
    centres = np.cumsum(lines) - np.array(lines) / 2 - 0.5
    named = [(float(at), str(layer)) for at, layer in zip(centres, layers, strict=True) if layer is not None][::every]
    figure.update_yaxes(
        type="category", autorange="reversed", tickvals=[at for at, _ in named], ticktext=[name for _, name in named],
        tickfont={"size": 9}, showgrid=False, zeroline=False, row=number, col=1,
        title={"text": TYPE_LABELS.get(type_, type_), "font": {"size": 11}, "standoff": 8},
    )  # fmt: skip
