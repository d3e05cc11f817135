"""Cosine similarity of each layer's features with the dense model's, as weights go (Compressing BERT, fig. 2 right)."""

from collections.abc import Callable, Sequence

import pandas as pd
import plotly.graph_objects as go
from transformers import PreTrainedModel

from analysis import theme
from analysis.weights.tables import PERCENT, SPARSITIES
from vp_core.asking.batches import Batch
from vp_core.comparing.features import similarity


def table(
    dense: PreTrainedModel,
    pruned: Callable[[float], PreTrainedModel],
    batches: Sequence[Batch],
    sparsities: Sequence[float] = SPARSITIES,
) -> pd.DataFrame:
    """One row a sparsity and layer (from 0): `cosine`, the mean over real tokens of cos(h dense, h pruned) after that layer.

    `pruned(sparsity)` is the model at a sparsity, such as `lambda s: study.pruned(recipe, s)`. One model is held at a time.
    """
    rows = []
    for sparsity in sparsities:
        found = similarity(dense, pruned(sparsity), batches).tolist()
        rows += [{"sparsity": sparsity, "layer": layer, "cosine": value} for layer, value in enumerate(found)]
    return pd.DataFrame(rows)


def draw(cosines: pd.DataFrame) -> go.Figure:
    """A line for each layer, dark to light from the embeddings up."""
    figure = theme.figure("How alike the features stay", PERCENT, "cosine similarity with the dense model", 400)
    layers = sorted(cosines["layer"].unique())
    for layer, colour in zip(layers, theme.layer_colours(len(layers)), strict=True):
        part = cosines[cosines["layer"] == layer]
        figure.add_scatter(
            x=100 * part["sparsity"], y=part["cosine"], name=f"layer {layer}", mode="lines+markers",
            line={"color": colour, "width": 2}, hovertemplate="%{y:.3f} at %{x:.0f} %",
        )  # fmt: skip
    figure.update_yaxes(range=[min(0.0, float(cosines["cosine"].min()) - 0.05), 1.02])
    return figure
