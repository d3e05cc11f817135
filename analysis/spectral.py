"""How much each projection can stretch its input, now and over training: fig. 6 of the SNIP paper."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots
from transformers import PreTrainedModel

from analysis import theme
from analysis.names import TYPE_LABELS, split_name
from vp_core.ground.names import TYPES
from vp_core.measuring.spectral_norms import spectral_norms

_PER_ROW, _ROW_HEIGHT, _AROUND = 3, 200, 140


def spectral_table(model: PreTrainedModel) -> pd.DataFrame:
    """One row a projection: layer, type, sigma."""
    return as_table(spectral_norms(model))


def as_table(sigmas: Mapping[str, float]) -> pd.DataFrame:
    """The same from σ by projection name (`3.ffn_in`)."""
    places = [split_name(name) for name in sigmas]
    return pd.DataFrame({"layer": [p[0] for p in places], "type": [p[1] for p in places], "sigma": list(sigmas.values())})


def training_table(steps: Iterable[tuple[int, Mapping[str, float]]]) -> pd.DataFrame:
    """Long table of (step, σ by projection name) pairs: step, layer, type, sigma."""
    parts = [as_table(sigmas).assign(step=step) for step, sigmas in steps]
    columns = ["step", "layer", "type", "sigma"]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def draw(table: pd.DataFrame, highest: float | None = None) -> go.Figure:
    """Heat map of σ, layer × projection type; `highest` ends the colour scale, so that two models share it."""
    layers, types = sorted(table["layer"].unique()), _types(table)
    cells = table.pivot(index="layer", columns="type", values="sigma").reindex(index=layers, columns=types)
    title, height = "Largest singular value σ(W) of each projection", theme.map_height(len(layers))
    figure = theme.figure(title, "projection type", "layer", height)
    figure.add_heatmap(
        z=cells.to_numpy(), x=[TYPE_LABELS[type_] for type_ in types], y=layers, zmin=0,
        zmax=highest or float(table["sigma"].max()) or 1.0, colorscale=theme.SCALE, xgap=2, ygap=2,
        texttemplate="%{z:.1f}" if len(layers) <= theme.TEXT_UP_TO else None,
        hovertemplate="layer %{y}, %{x}: σ = %{z:.3f}<extra></extra>",
        colorbar={"title": {"text": "σ(W)", "side": "right"}, "thickness": 12},
    )  # fmt: skip
    figure.update_yaxes(tickmode="linear", dtick=1 if len(layers) <= theme.TEXT_UP_TO else 2, showgrid=False)
    figure.update_xaxes(showgrid=False)
    return figure


def draw_training(table: pd.DataFrame, types: Sequence[str] = TYPES) -> go.Figure:
    """σ over training steps, a small drawing for each projection type, a line for each layer; all share their axes.

    `table` is long: step, layer, type, sigma. Types that are not in it are left out.
    """
    chosen = [type_ for type_ in _types(table) if type_ in types]
    columns = min(_PER_ROW, len(chosen)) or 1
    rows = max(-(-len(chosen) // columns), 1)
    figure = make_subplots(
        rows, columns, shared_xaxes="all", shared_yaxes="all", horizontal_spacing=0.03, vertical_spacing=0.22 / rows,
        subplot_titles=[TYPE_LABELS[type_].replace("<br>", " ") for type_ in chosen],
    )  # fmt: skip
    empty = theme.figure("Spectral norms over training", "", "", _AROUND + _ROW_HEIGHT * rows)
    figure.update_layout(empty.layout)
    layers = sorted(table["layer"].unique())
    for layer, colour in zip(layers, theme.layer_colours(len(layers)), strict=True):
        for i, type_ in enumerate(chosen):
            part = table[(table["layer"] == layer) & (table["type"] == type_)].sort_values("step")
            figure.add_scatter(
                x=part["step"], y=part["sigma"], mode="lines+markers" if len(part) < 3 else "lines", name=f"layer {layer}",
                legendgroup=f"layer {layer}", showlegend=i == 0, line={"color": colour, "width": 2},
                hovertemplate="step %{x:,}: σ = %{y:.3f}", row=i // columns + 1, col=i % columns + 1,
            )  # fmt: skip
    top = float(table["sigma"].max()) if len(table) else 1.0
    for i in range(len(chosen)):
        place = {"row": i // columns + 1, "col": i % columns + 1}
        figure.update_xaxes(title_text="training step" if i + columns >= len(chosen) else "", **place)
        figure.update_xaxes(showticklabels=i + columns >= len(chosen), **place)
        figure.update_yaxes(range=[0, 1.06 * top], title_text="σ(W)" if i % columns == 0 else "", **place)
    figure.update_annotations(font={"size": 13})
    figure.update_layout(margin={"t": 70})
    return figure


def _types(table: pd.DataFrame) -> list[str]:
    """Those in a table, in the order of a layer."""
    return [type_ for type_ in TYPES if np.any(table["type"] == type_)]
