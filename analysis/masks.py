"""Which layers and projection types lose how much: the paper's fig. 3, for every position of the slider."""

import numpy as np
import pandas as pd

from analysis import theme
from analysis.live import STEPS, LiveFigure, Restyle
from vp_core.families import TYPES
from vp_core.plan import Ranking

TEXT_UP_TO = 12
"""Layers up to which the cells carry their number."""


def table(ranking: Ranking, sparsity: float) -> pd.DataFrame:
    """One row for each layer and projection type: rows, how many go, and their share."""
    shares = ranking.sparsity_by_group([sparsity])
    rows = []
    for name, share in shares.items():
        layer, type_ = name.split(".")
        n = len(ranking.place[name])
        rows.append({"layer": int(layer), "type": type_, "rows": n, "removed": round(share[0] * n), "sparsity": share[0]})
    return pd.DataFrame(rows)


def frames(ranking: Ranking, sparsities=STEPS) -> np.ndarray:
    """Share of removed rows (len(sparsities), layers, 6), NaN for types that are not chosen."""
    shares = ranking.sparsity_by_group(sparsities)
    layers = 1 + max(int(name.split(".")[0]) for name in shares)
    cells = np.full((len(sparsities), layers, len(TYPES)), np.nan)
    for name, values in shares.items():
        layer, type_ = name.split(".")
        cells[:, int(layer), TYPES.index(type_)] = values
    return cells


def draw(ranking: Ranking, sparsity: float = 0.0) -> LiveFigure:
    """Heat map of sparsity, layer × projection type, which follows the slider."""
    percent = np.round(frames(ranking) * 100, 1)
    lists = [[[None if np.isnan(v) else float(v) for v in row] for row in cells] for cells in percent]
    layers = percent.shape[1]
    figure = theme.figure(
        "Rows removed, by layer and projection type",
        "projection type",
        "layer",
        max(300, 110 + 22 * layers),
    )
    figure.add_heatmap(
        z=lists[min(range(len(STEPS)), key=lambda i: abs(STEPS[i] - sparsity))],
        x=[theme.TYPE_LABELS[t] for t in TYPES],
        y=list(range(layers)),
        zmin=0,
        zmax=100,
        colorscale=theme.SCALE,
        xgap=2,
        ygap=2,
        texttemplate="%{z:.0f}" if layers <= TEXT_UP_TO else None,
        hovertemplate="layer %{y}, %{x}: %{z} % of the rows go<extra></extra>",
        colorbar={"title": {"text": "% gone", "side": "right"}, "thickness": 12},
    )
    figure.update_yaxes(tickmode="linear", dtick=1 if layers <= TEXT_UP_TO else 2, showgrid=False)
    figure.update_xaxes(showgrid=False)
    return LiveFigure(figure, (Restyle(0, "z", lists),))
