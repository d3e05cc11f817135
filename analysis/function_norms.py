"""How large the function norms of heads, attention blocks and FFNs are, layer by layer: fig. 2 of the SNIP paper."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis import theme
from analysis.names import KIND_NAMES, block_name
from vp_core.measuring.function_norms import QUANTILES, FunctionNorms
from vp_core.measuring.histogram import edges
from vp_core.model.blocks import Block

MERGED = 4
"""Bins of the histogram in one point of a density: eight points an octave."""
NORM, _DENSITY = "function norm max |F(x)|", "density over log<sub>10</sub>"
_ROW_HEIGHT, _AROUND = 220, 130
_TICKS = [digit * 10.0**power for power in range(-8, 9) for digit in (1, 3)]
"""Evenly spaced, near enough."""


def norm_table(norms: FunctionNorms) -> pd.DataFrame:
    """One row a block: layer, kind, head (missing unless it is one), tokens, mean, min, max, and the quantiles `q05` … `q99`.

    Mean, min and max are exact, quantiles to within a bin of the histogram (1/32 of the value).
    """
    histogram = norms.histogram
    made = _about(norms.blocks)
    made["tokens"] = histogram.count.numpy()
    made["mean"] = histogram.mean().numpy()
    made["min"], made["max"] = histogram.low.double().numpy(), histogram.high.double().numpy()
    for q in QUANTILES:
        made[f"q{round(100 * q):02}"] = histogram.quantile(q).numpy()
    return made.drop(columns="block")


def norm_tables(models: Mapping[str, FunctionNorms]) -> pd.DataFrame:
    """`norm_table` of several models, with a first column `model`."""
    parts = []
    for name, norms in models.items():
        parts.append(norm_table(norms))
        parts[-1].insert(0, "model", name)
    return pd.concat(parts, ignore_index=True)


def density_table(norms: FunctionNorms) -> pd.DataFrame:
    """How the norms of each block are spread: block, layer, kind, head, value, density, and the bin's edges low and high.

    `density` is over log10 of the norm: times the bins' widths log10(high / low) it sums to 1 for each block. Nothing is
    smoothed but by merging MERGED bins of the histogram. A block's bins go from one before its smallest norm to one after its
    largest. What is below 2^-24, zeros among them, is in a first bin of one octave.
    """
    grid = edges().numpy().copy()
    grid[0], grid[-1] = grid[1] / 2, 2 * grid[-2]
    counts = norms.histogram.counts.numpy()
    counts = counts.reshape(len(counts), -1, MERGED).sum(axis=2)
    low, high = grid[:-1:MERGED], grid[MERGED::MERGED]
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    about, parts = _about(norms.blocks), []
    for i in range(len(counts)):
        seen = np.flatnonzero(counts[i])
        if not len(seen):
            continue
        part = slice(max(seen[0] - 1, 0), seen[-1] + 2)
        density = share[i, part] / np.log10(high[part] / low[part])
        bins = {"value": np.sqrt(low[part] * high[part]), "density": density, "low": low[part], "high": high[part]}
        parts.append(about.iloc[[i] * len(density)].reset_index(drop=True).assign(**bins))
    return pd.concat(parts, ignore_index=True)


def _about(blocks: Sequence[Block]) -> pd.DataFrame:
    heads = pd.array([pd.NA if b.head is None else b.head for b in blocks], dtype="Int64")
    return pd.DataFrame(
        {"block": [b.name for b in blocks], "layer": [b.layer for b in blocks], "kind": [b.kind for b in blocks], "head": heads}
    )


def densities(models: Mapping[str, FunctionNorms]) -> pd.DataFrame:
    """`density_table` of several models, with a first column `model`."""
    return pd.concat([density_table(norms).assign(model=name) for name, norms in models.items()], ignore_index=True)[
        ["model", "block", "layer", "kind", "head", "value", "density", "low", "high"]
    ]


def draw(
    models: Mapping[str, FunctionNorms], kinds: Sequence[str] = ("head", "ffn"), epsilon: Mapping[str, float] | None = None
) -> go.Figure:
    """Distributions of the norms, a row for each model and a column for each kind of block; axes are shared in a column.

    Every head is a line of its own, in the colour of its layer. `epsilon` (by kind) is drawn as an upright line.
    """
    return draw_table(densities(models), kinds, epsilon)


def draw_table(table: pd.DataFrame, kinds: Sequence[str], epsilon: Mapping[str, float] | None = None) -> go.Figure:
    """The figure of `draw`, from a table of `densities`."""
    names, layers = list(dict.fromkeys(table["model"])), sorted(table["layer"].unique())
    kinds = [kind for kind in kinds if kind in set(table["kind"])]
    figure = make_subplots(
        len(names), len(kinds), shared_xaxes="columns", vertical_spacing=0.16 / len(names), horizontal_spacing=0.09,
        column_titles=[KIND_NAMES[kind] for kind in kinds],
    )  # fmt: skip
    height = _AROUND + _ROW_HEIGHT * len(names)
    figure.update_layout(theme.figure("How large the function norms are", NORM, "density", height).layout)
    colours = dict(zip(layers, theme.layer_colours(len(layers)), strict=True))
    shown: set[int] = set()
    for (layer, name, kind), part in table[table["kind"].isin(kinds)].groupby(["layer", "model", "kind"], sort=False):
        lines = _joined(part)
        figure.add_scatter(
            x=lines["value"], y=lines["density"], mode="lines", connectgaps=False, customdata=lines["what"],
            name=f"layer {layer}", legendgroup=f"layer {layer}", legendrank=1000 + layer, showlegend=layer not in shown,
            line={"color": colours[layer], "width": 1 if kind == "head" else 2},
            hovertemplate="norm %{x:.3g}: density %{y:.2f}<extra>%{customdata}</extra>",
            row=names.index(name) + 1, col=kinds.index(kind) + 1,
        )  # fmt: skip
        shown.add(layer)
    first = min((kinds.index(kind) for kind in epsilon or () if kind in kinds), default=0)
    for column, kind in enumerate(kinds):
        values = table.loc[table["kind"] == kind]
        limits = [np.log10(values["low"].min()), np.log10(values["high"].max())]
        if epsilon and kind in epsilon:
            limits = [min(limits[0], np.log10(epsilon[kind]) - 0.05), max(limits[1], np.log10(epsilon[kind]) + 0.05)]
        top = 1.06 * float(values["density"].max())
        for row in range(len(names)):
            last = row == len(names) - 1
            place = {"row": row + 1, "col": column + 1}
            figure.update_xaxes(
                type="log", range=limits, tickvals=_TICKS, tickformat="~g", title_text=NORM if last else None, **place,
            )  # fmt: skip
            figure.update_yaxes(
                range=[0, top], title_text=f"<b>{names[row]}</b><br>{_DENSITY}" if column == 0 else None, matches=_axis(column),
                **place,
            )  # fmt: skip
            if epsilon and kind in epsilon:
                _mark(figure, kind, epsilon[kind], top, row == 0 and column == first, place)
    figure.update_annotations(font={"size": 13})
    figure.update_layout(margin={"t": 70})
    return figure


def move(figure: go.Figure, epsilon: Mapping[str, float]) -> None:
    """Put the upright lines of a figure of `draw` at other values of ε."""
    for trace in figure.data:
        if trace.name == "ε":
            trace.x = [epsilon[trace.meta]] * 2


def _joined(part: pd.DataFrame) -> dict[str, list[Any]]:
    """The lines of a layer's blocks one after another with gaps between: one trace draws faster than one for each head."""
    found: dict[str, list[Any]] = {"value": [], "density": [], "what": []}
    for name, bins in part.groupby("block", sort=False):
        what = block_name(Block.named(str(name)))
        found["value"] += [float(f"{v:.4g}") for v in bins["value"]] + [None]
        found["density"] += [round(v, 4) for v in bins["density"]] + [None]
        found["what"] += [what] * len(bins) + [None]
    return found


def _mark(figure: go.Figure, kind: str, epsilon: float, top: float, first: bool, place: Mapping[str, int]) -> None:
    figure.add_scatter(
        x=[epsilon, epsilon], y=[0, top], mode="lines", name="ε", legendgroup="ε", showlegend=first, meta=kind, legendrank=1,
        line={"color": theme.ACCENT, "width": 2, "dash": "dot"}, hovertemplate="ε = %{x:.3g}<extra></extra>", **place,
    )  # fmt: skip


def _axis(column: int) -> str:
    """The vertical axis of the first row's subplot."""
    return f"y{column + 1}" if column else "y"
