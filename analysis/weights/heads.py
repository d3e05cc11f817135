"""The share of each attention head that is pruned: mean, least and most by sparsity (Compressing BERT, fig. 4 left).

A head has rows of the query, key and value matrix and columns of the attention output; each of these parts counts by itself.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots
from torch import Tensor

from analysis import theme
from analysis.weights.tables import PERCENT, SPARSITIES, TYPE_COLOURS, about, even, sparsities_of, tidy, type_name, types_in
from vp_core.ground.errors import VPError
from vp_core.weights.matrices import Matrix
from vp_core.weights.order import WeightRanking


def table(ranking: WeightRanking, sparsities: Sequence[float] = SPARSITIES) -> pd.DataFrame:
    """One row a sparsity, matrix and head: sparsity, matrix, layer, type, head, weights, and `pruned`, the share that goes.

    Raises VPError if none of the matrices has heads.
    """
    matrices = [matrix for matrix in ranking.matrices if matrix.head_width]
    if not matrices:
        raise VPError("None of these matrices has heads: choose query, key, value or attention_output among the types.")
    rows = []
    for sparsity in sparsities_of(ranking, sparsities):
        masks = ranking.masks(sparsity)
        for matrix in matrices:
            shares = by_head(masks.keep(matrix.name), matrix)
            row = {"sparsity": sparsity, **about(matrix), "weights": matrix.size // len(shares)}
            rows += [{**row, "head": head, "pruned": float(share)} for head, share in enumerate(shares)]
    made = tidy(rows)
    return made[["sparsity", "matrix", "layer", "type", "head", "weights", "pruned"]]


def by_head(keep: Tensor, matrix: Matrix) -> np.ndarray:
    """The share of weights that go (heads,), from a mask (rows, columns) of a matrix that has heads."""
    assert matrix.head_width
    mask = keep.numpy() if matrix.type != "attention_output" else keep.numpy().T
    parts: np.ndarray = 1 - mask.reshape(-1, matrix.head_width * mask.shape[1]).mean(axis=1)
    return parts


def summary(heads: pd.DataFrame, by_type: bool = False) -> pd.DataFrame:
    """`min`, `mean` and `max` over heads of the share that goes, by sparsity (and type)."""
    keys = ["sparsity", "type"] if by_type else ["sparsity"]
    return heads.groupby(keys, sort=False)["pruned"].agg(["min", "mean", "max"]).reset_index()


def draw(heads: pd.DataFrame) -> go.Figure:
    """The mean over heads with a band from the least to the most pruned one, a panel for each type of matrix."""
    types, made = types_in(heads), 100 * summary(heads, by_type=True).set_index("type")
    figure = make_subplots(
        1,
        len(types),
        shared_yaxes=True,
        horizontal_spacing=0.03,
        column_titles=[type_name(type_) for type_ in types],
        x_title=PERCENT,
    )
    layout = theme.figure("How much of each attention head goes", "", "share of a head removed (%)", 380).layout
    figure.update_layout(layout)
    for column, type_ in enumerate(types, 1):
        part, place = made.loc[[type_]], {"row": 1, "col": column}
        colour = TYPE_COLOURS[type_]
        even(figure, 0, float(part["sparsity"].max()), **place)
        edge = {"mode": "lines", "line": {"color": colour, "width": 1}, "showlegend": False}
        figure.add_scatter(x=part["sparsity"], y=part["min"], name="least", **edge, **place)
        fill = {"fill": "tonexty", "fillcolor": theme.translucent(colour, 0.2)}
        figure.add_scatter(x=part["sparsity"], y=part["max"], name="most", **edge, **fill, **place)
        figure.add_scatter(
            x=part["sparsity"], y=part["mean"], name="mean", mode="lines+markers", line={"color": colour, "width": 2.5},
            showlegend=False, **place,
        )  # fmt: skip
        figure.update_xaxes(range=[0, 100], title_text=None, **place)
    for trace in figure.data:
        if trace.name:
            trace.hovertemplate = f"{trace.name} of all heads: %{{y:.1f}} % at %{{x:.0f}} %<extra></extra>"
    figure.update_yaxes(range=[0, 100])
    figure.update_layout(margin={"t": 70, "b": 64})
    return figure
