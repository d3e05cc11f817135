"""Which layers, and which types of rows or kinds of units, lose how much: the paper's fig. 3, for every slider position."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis import theme
from analysis.live import STEPS, LiveFigure, Restyle
from analysis.names import TYPE_LABELS, split_matrix
from vp_core.ground.names import TYPES, WORD_EMBEDDINGS
from vp_core.ranking.plan import Ranking
from vp_core.weights.order import WeightRanking

Cells = list[list[float | None]]
"""Percent of each cell, layer by layer; None for what is not there."""


def columns(ranking: Ranking | WeightRanking) -> tuple[str, ...]:
    """What the heat map's columns are: all six projection types where single rows or weights go, and what else goes with
    these, gates and word embeddings; else the kinds of units."""
    found = tuple(dict.fromkeys(split_matrix(name)[1] for name in _sizes(ranking)))
    if not set(found) & set(TYPES) and not isinstance(ranking, WeightRanking):
        return found
    return (*TYPES, *(name for name in found if name not in TYPES))


def what_goes(ranking: Ranking | WeightRanking) -> str:
    """What the cells of the heat map count: `rows` or `units`, or units of weights."""
    if isinstance(ranking, WeightRanking):
        kind = ranking.pattern.name.partition(" ")[0]
        return "weights" if ranking.pattern.of else kind
    return "rows" if columns(ranking) == TYPES else "units"


def _sizes(ranking: Ranking | WeightRanking) -> dict[str, int]:
    """Units of each group, or matrix."""
    if isinstance(ranking, WeightRanking):
        return {matrix.name: ranking.units(matrix) for matrix in ranking.matrices}
    return {name: len(place) for name, place in ranking.place.items()}


def table(ranking: Ranking | WeightRanking, share: float) -> pd.DataFrame:
    """One row for each layer and column: its rows or units, how many go with this share of all, and their share.

    Word embeddings have no layer."""
    shares, sizes, what = ranking.sparsity_by_group([share]), _sizes(ranking), what_goes(ranking)
    rows = []
    for name, gone in shares.items():
        layer, column = split_matrix(name)
        about = {"layer": layer, "type": column, what: sizes[name]}
        rows.append({**about, "removed": round(gone[0] * sizes[name]), "sparsity": gone[0]})
    made = pd.DataFrame(rows)
    return made if WORD_EMBEDDINGS not in shares else made.astype({"layer": "Int64"})


def layers_of(ranking: Ranking | WeightRanking) -> list[int]:
    """The rows of the heat map, from the bottom up: word embeddings, if they are there, as -1, then the layers from 0 on."""
    found = [split_matrix(name)[0] for name in _sizes(ranking)]
    layers = [layer for layer in found if layer is not None]
    return [*([-1] if None in found else []), *range(1 + max(layers, default=-1))]


def frames(ranking: Ranking | WeightRanking, shares: Sequence[float] = STEPS) -> np.ndarray:
    """Share of each cell that goes (len(shares), rows of `layers_of`, columns), NaN for what is not chosen or not there."""
    gone, layers, names = ranking.sparsity_by_group(shares), layers_of(ranking), columns(ranking)
    cells = np.full((len(shares), len(layers), len(names)), np.nan)
    for name, values in gone.items():
        layer, column = split_matrix(name)
        cells[:, layers.index(-1 if layer is None else layer), names.index(column)] = values
    own = ranking.pattern.sparsity if isinstance(ranking, WeightRanking) else None
    if own is not None:  # there are two sparsities, 0 and its own
        cells[[share > 0 and abs(share - own) > 0.005 for share in shares]] = np.nan
    return cells


def draw(ranking: Ranking | WeightRanking, sparsity: float = 0.0, shares: Sequence[float] = STEPS) -> LiveFigure:
    """Heat map of sparsity, layer × column, which follows the slider.

    `shares`: the share of units that goes at each position of the slider (`Study.unit_shares`), where it counts parameters.
    """
    lists = in_percent(frames(ranking, shares))
    layers, names, what = layers_of(ranking), columns(ranking), what_goes(ranking)
    kind = "kind of unit" if what == "units" else "projection type" if what == "rows" else "matrix"
    shown = lists[min(range(len(STEPS)), key=lambda i: abs(STEPS[i] - sparsity))]
    figure = heat_map(f"{what.capitalize()} removed, by layer and {kind}", kind, layers, names, shown, what)
    return LiveFigure(figure, (Restyle(0, "z", lists),))


def in_percent(cells: np.ndarray) -> list[Cells]:
    """Shares (frames, layers, columns) in percent as a heat map takes them: None for NaN, what is not there."""
    return [[[None if np.isnan(v) else float(v) for v in row] for row in frame] for frame in np.round(cells * 100, 1)]


def heat_map(title: str, kind: str, layers: Sequence[int], names: Sequence[str], cells: Cells, what: str) -> go.Figure:
    """Percent of each cell that goes, layer × column; layer -1 is that of the word embeddings, `what` goes by name."""
    figure = theme.figure(title, kind, "layer", theme.map_height(len(layers)))
    few = len(layers) <= theme.TEXT_UP_TO + 1
    figure.add_heatmap(
        z=cells,
        x=[TYPE_LABELS.get(name, name) for name in names],
        y=list(layers),
        zmin=0,
        zmax=100,
        colorscale=theme.SCALE,
        xgap=2,
        ygap=2,
        texttemplate="%{z:.0f}" if few else None,
        hovertemplate="layer %{y}, %{x}: %{z} % of the " + what + " go<extra></extra>",
        colorbar={"title": {"text": "% gone", "side": "right"}, "thickness": 12},
    )
    figure.update_yaxes(tickmode="linear", dtick=1 if few else 2, showgrid=False)
    if layers[0] == -1:
        shown = [layer for layer in layers if few or layer < 0 or layer % 2 == 0]
        figure.update_yaxes(tickmode="array", tickvals=shown, ticktext=["embeddings", *map(str, shown[1:])])
    figure.update_xaxes(showgrid=False)
    return figure
