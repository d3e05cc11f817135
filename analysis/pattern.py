"""The pattern of one weight matrix: which of its weights survive, with its heads marked (block pruning's figure 1)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots
from torch import Tensor

from analysis import theme
from analysis.names import TYPE_LABELS, split_matrix
from vp_core.ground.errors import VPError
from vp_core.model.projections import Layer, Projection
from vp_core.weights.masks import Masks

MOST = 400
"""Cells on a side at most: a larger matrix is drawn by the share of the weights that survive in each cell."""
SMALL = 200
"""The same where a figure holds all matrices of a layer."""
_WIDE, _AROUND, _HEIGHTS = 640, 120, (200, 500)
"""Pixels: about the width of a drawing, what is around it, its height at least and at most."""


def reduced(keep: Tensor, most: int = MOST) -> tuple[np.ndarray, tuple[int, int]]:
    """The percentage of weights that survive in each cell, at most `most` on a side, and (rows, columns) of a cell.

    From a mask (rows, columns) bool; uint8, of which 0 and 100 are for cells of which nothing and everything survives. Cells at
    the ends may be cut short.
    """
    mask = keep.numpy()
    height, width = (-(-side // most) for side in mask.shape)
    if height == width == 1:
        return mask.astype(np.uint8) * np.uint8(100), (1, 1)
    starts = [np.arange(0, side, step) for side, step in zip(mask.shape, (height, width), strict=True)]
    down = np.add.reduceat(mask, starts[0], axis=0, dtype=np.int64)
    kept = np.add.reduceat(down, starts[1], axis=1)
    sizes = [np.diff([*start, side]) for start, side in zip(starts, mask.shape, strict=True)]
    percent = 100 * kept / np.outer(*sizes)
    inside = (percent > 0) & (percent < 100)
    return np.where(inside, np.clip(np.round(percent), 1, 99), percent).astype(np.uint8), (height, width)


def heads_of(layer: Layer, type_: str) -> tuple[str, int] | None:
    """("rows" or "columns", their number in a head) of the matrices that are made of heads: of query, key and value rows go to
    heads, of the attention's output columns come from them."""
    if type_ not in ("query", "key", "value", "attention_output") or type_ not in layer.projections:
        return None
    of: Projection = layer.projections["value" if type_ == "attention_output" else type_]
    return ("columns" if type_ == "attention_output" else "rows", of.head_width) if of.head_width else None


def table(name: str, keep: Tensor, heads: tuple[str, int] | None = None) -> pd.DataFrame:
    """What is left of one matrix: a row for the whole of it, and one for each head: weights, those kept, rows, columns and how
    many of these have nothing left."""
    mask = keep.numpy()
    parts = {"all": mask}
    if heads is not None:
        along, width = heads
        count = mask.shape[0 if along == "rows" else 1] // width
        cuts = np.split(
            mask[: count * width] if along == "rows" else mask[:, : count * width], count, 0 if along == "rows" else 1
        )
        parts |= {f"head {i}": part for i, part in enumerate(cuts)}
    layer, type_ = split_matrix(name)
    return pd.DataFrame(
        {
            "layer": layer, "type": type_, "part": part, "weights": cut.size, "kept": int(cut.sum()),
            "share_kept": cut.mean(), "rows": cut.shape[0], "rows_gone": int((~cut.any(axis=1)).sum()),
            "columns": cut.shape[1], "columns_gone": int((~cut.any(axis=0)).sum()),
        }
        for part, cut in parts.items()
    )  # fmt: skip


def draw(name: str, keep: Tensor, heads: tuple[str, int] | None = None) -> go.Figure:
    """The mask (rows, columns) of one matrix as a picture, its first row at the top; lines between heads."""
    cells, (height, width) = reduced(keep)
    rows, columns = keep.shape
    layer, type_ = split_matrix(name)
    called = TYPE_LABELS.get(type_, type_).replace("<br>", " ")
    where = called if layer is None else f"layer {layer}, {called}"
    tall = int(np.clip(_WIDE * rows / columns, *_HEIGHTS))
    title = f"Pattern of {where}: {rows:,} × {columns:,}, {100 * keep.float().mean():.1f} % kept"
    figure = theme.figure(title, "column: what it reads", "row: what it puts out", tall + _AROUND)
    single = (height, width) == (1, 1)
    said = (
        "row %{y}, column %{x}: %{z} % kept"
        if single
        else f"{height} × {width} weights at row %{{y}}, column %{{x}}: %{{z}} % kept"
    )
    figure.add_heatmap(
        z=cells, x0=(width - 1) / 2, dx=width, y0=(height - 1) / 2, dy=height, zmin=0, zmax=100,
        colorscale=[[0, theme.GONE], [1, theme.KEPT]], hovertemplate=f"{said}<extra></extra>",
        colorbar={"title": {"text": "% kept", "side": "right"}, "thickness": 12}, showscale=not single,
    )  # fmt: skip
    if heads is not None:
        figure.add_scatter(**_head_lines(*heads, rows, columns))
    figure.update_xaxes(range=[-0.5, columns - 0.5], showgrid=False, zeroline=False)
    figure.update_yaxes(range=[rows - 0.5, -0.5], showgrid=False, zeroline=False)
    return figure


def draw_layer(methods: Mapping[str, Masks], layer: Layer) -> go.Figure:
    """All matrices of one layer, a row of pictures for each method (name → masks): block pruning's figure 1.

    Matrices are scaled to equal pictures, their first row at the top; lines part the heads. Over each stands what is kept.
    """
    names = {t: p.name for t, p in layer.projections.items() if any(p.name in masks.bits for masks in methods.values())}
    if not names:
        raise VPError("These masks are of other layers: choose a layer that they speak of.")
    titles = [
        f"{TYPE_LABELS.get(t, t).replace('<br>', ' ')}<br>{1 - masks.share_removed(name):.0%}" if name in masks.bits else ""
        for masks in methods.values()
        for t, name in names.items()
    ]
    figure = make_subplots(
        len(methods), len(names), subplot_titles=titles, row_titles=list(methods), horizontal_spacing=0.02,
        vertical_spacing=0.22 / len(methods),
    )  # fmt: skip
    number = next(iter(layer.projections.values())).layer
    figure.update_layout(theme.figure(f"What is kept of layer {number}", "", "", _AROUND + 170 * len(methods)).layout)
    for row, masks in enumerate(methods.values(), 1):
        for column, (type_, name) in enumerate(names.items(), 1):
            if name in masks.bits:
                _add_small(figure, masks.keep(name), heads_of(layer, type_), {"row": row, "col": column})
    figure.update_annotations(font_size=10)
    return figure.update_layout(margin={"l": 10, "r": 40, "t": 80, "b": 10})


def _add_small(figure: go.Figure, keep: Tensor, heads: tuple[str, int] | None, place: dict[str, int]) -> None:
    cells, (height, width) = reduced(keep, SMALL)
    rows, columns = keep.shape
    figure.add_heatmap(
        z=cells, x0=(width - 1) / 2, dx=width, y0=(height - 1) / 2, dy=height, zmin=0, zmax=100, showscale=False,
        colorscale=[[0, theme.GONE], [1, theme.KEPT]], hovertemplate="row %{y}, column %{x}: %{z} % kept<extra></extra>",
        **place,
    )  # fmt: skip
    if heads is not None:
        figure.add_scatter(**_head_lines(*heads, rows, columns), **place)
    hidden = {"showgrid": False, "zeroline": False, "showticklabels": False}
    figure.update_xaxes(range=[-0.5, columns - 0.5], **hidden, **place)
    figure.update_yaxes(range=[rows - 0.5, -0.5], **hidden, **place)


def _head_lines(along: str, width: int, rows: int, columns: int) -> dict[str, Any]:
    """One trace of lines between the heads."""
    ends = [end - 0.5 for end in range(width, rows if along == "rows" else columns, width)]
    across: Sequence[float | None] = [v for _ in ends for v in (-0.5, (columns if along == "rows" else rows) - 0.5, None)]
    at = [v for end in ends for v in (end, end, None)]
    x, y = (across, at) if along == "rows" else (at, across)
    line = {"color": theme.ACCENT, "width": 1}
    return {"x": x, "y": y, "mode": "lines", "line": line, "hoverinfo": "skip", "name": "heads", "showlegend": False}
