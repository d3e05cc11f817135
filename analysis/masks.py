"""Which layers, and which types of rows or kinds of units, lose how much: the paper's fig. 3, for every slider position."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis import theme
from analysis.live import STEPS, LiveFigure, Restyle
from analysis.names import TYPE_LABELS, split_name
from vp_core.ground.names import TYPES
from vp_core.ranking.plan import Ranking


def columns(ranking: Ranking) -> tuple[str, ...]:
    """What the heat map's columns are: all six projection types where single rows go, else the kinds of units."""
    found = tuple(dict.fromkeys(split_name(name)[1] for name in ranking.place))
    return TYPES if set(found) <= set(TYPES) else found


def what_goes(ranking: Ranking) -> str:
    """`rows` or `units`."""
    return "rows" if columns(ranking) == TYPES else "units"


def table(ranking: Ranking, share: float) -> pd.DataFrame:
    """One row for each layer and column: its rows or units, how many go with this share of all, and their share."""
    shares = ranking.sparsity_by_group([share])
    rows = []
    for name, gone in shares.items():
        layer, column = split_name(name)
        n = len(ranking.place[name])
        about = {"layer": layer, "type": column, what_goes(ranking): n}
        rows.append({**about, "removed": round(gone[0] * n), "sparsity": gone[0]})
    return pd.DataFrame(rows)


def frames(ranking: Ranking, shares: Sequence[float] = STEPS) -> np.ndarray:
    """Share of each cell that goes (len(shares), layers, columns), NaN for what is not chosen or not there."""
    gone = ranking.sparsity_by_group(shares)
    layers, names = 1 + max(split_name(name)[0] for name in gone), columns(ranking)
    cells = np.full((len(shares), layers, len(names)), np.nan)
    for name, values in gone.items():
        layer, column = split_name(name)
        cells[:, layer, names.index(column)] = values
    return cells


def draw(ranking: Ranking, sparsity: float = 0.0, shares: Sequence[float] = STEPS) -> LiveFigure:
    """Heat map of sparsity, layer × column, which follows the slider.

    `shares`: the share of units that goes at each position of the slider (`Study.unit_shares`), where it counts parameters.
    """
    percent = np.round(frames(ranking, shares) * 100, 1)
    lists = [[[None if np.isnan(v) else float(v) for v in row] for row in cells] for cells in percent]
    layers, names, what = percent.shape[1], columns(ranking), what_goes(ranking)
    kind = "projection type" if what == "rows" else "kind of unit"
    figure = theme.figure(f"{what.capitalize()} removed, by layer and {kind}", kind, "layer", theme.map_height(layers))
    figure.add_heatmap(
        z=lists[min(range(len(STEPS)), key=lambda i: abs(STEPS[i] - sparsity))],
        x=[TYPE_LABELS.get(name, name) for name in names],
        y=list(range(layers)),
        zmin=0,
        zmax=100,
        colorscale=theme.SCALE,
        xgap=2,
        ygap=2,
        texttemplate="%{z:.0f}" if layers <= theme.TEXT_UP_TO else None,
        hovertemplate="layer %{y}, %{x}: %{z} % of the " + what + " go<extra></extra>",
        colorbar={"title": {"text": "% gone", "side": "right"}, "thickness": 12},
    )
    figure.update_yaxes(tickmode="linear", dtick=1 if layers <= theme.TEXT_UP_TO else 2, showgrid=False)
    figure.update_xaxes(showgrid=False)
    return LiveFigure(figure, (Restyle(0, "z", lists),))
