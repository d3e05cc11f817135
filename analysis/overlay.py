"""Two masks laid over each other: what both remove, what one does, and what chance would give, by layer and type."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis import theme
from analysis.names import TYPE_LABELS, split_matrix
from analysis.row_masks import bars
from vp_core.ground.errors import VPError
from vp_core.ranking.plan import Plan
from vp_core.weights.masks import Masks

COLUMNS = (
    "layer", "type", "n", "one", "other", "both", "neither", "expected", "jaccard", "jaccard_chance", "agreement",
    "agreement_chance", "p_value",
)  # fmt: skip
_LEGEND = 36
"""Pixels between the top of a figure and its legend."""
ALL = "all"
"""The layer and type of a row of totals."""
_OTHERS = "These masks are of different matrices: lay masks over each other that are of models of the same shape."


def table(one: Masks | Plan, other: Masks | Plan) -> pd.DataFrame:
    """One row for each matrix that both speak of, and one of totals: how many of its n weights (of plans: rows) go by `one`, by
    `other`, by `both`, and `neither`.

    `expected` are those that both would take if masks of these counts were drawn independently in each matrix, n·p·q;
    `agreement` is the share that both treat alike, by chance p·q + (1 − p)(1 − q); `jaccard` the share of what either takes
    that both take (missing where nothing goes), by chance about expected / (one + other − expected); `p_value` how likely
    chance takes at least `both` in common (hypergeometric, of totals by the normal approximation of the sum). Raises VPError
    for masks of matrices of other shapes, or with none in common.
    """
    counts = _counts(one, other)
    made = pd.DataFrame([_compared(name, *four) for name, four in counts.items()])
    return pd.concat([made, pd.DataFrame([_totals(made)])], ignore_index=True)[list(COLUMNS)]


def four(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """By projection, of two plans' `keep`: 0 neither keeps a row, 1 only one, 2 only the other, 3 both (d_out,) uint8."""
    return {
        name: (keep.numpy() + 2 * other[name].numpy()).astype(np.uint8) for name, keep in one.items() if name in other
    }  # fmt: skip


def _counts(one: Masks | Plan, other: Masks | Plan) -> dict[str, tuple[int, int, int, int]]:
    """Matrix → (n, gone by one, gone by the other, gone by both)."""
    if isinstance(one, Plan) != isinstance(other, Plan):
        raise VPError("One of these masks is of rows, the other of single weights: lay masks of one kind over each other.")
    names = [name for name in _names(one) if name in _names(other)]
    if not names:
        raise VPError("These two masks have no matrix in common: choose projection types that both prune.")
    found = {}
    for name in names:
        n, gone_one, gone_other, differ = _of(one, other, name)
        found[name] = n, gone_one, gone_other, (gone_one + gone_other - differ) // 2
    return found


def _names(masks: Masks | Plan) -> Mapping[str, Any]:
    return masks.keep if isinstance(masks, Plan) else masks.bits


def _of(one: Masks | Plan, other: Masks | Plan, name: str) -> tuple[int, int, int, int]:
    """(n, gone by one, gone by the other, in which they differ) of a matrix."""
    if isinstance(one, Plan) and isinstance(other, Plan):
        a, b = ~one.keep[name], ~other.keep[name]
        if a.shape != b.shape:
            raise VPError(_OTHERS)
        return len(a), int(a.sum()), int(b.sum()), int((a ^ b).sum())
    assert isinstance(one, Masks) and isinstance(other, Masks)
    if one.shapes[name] != other.shapes[name]:
        raise VPError(_OTHERS)
    differ = int(np.bitwise_count(one.bits[name].numpy() ^ other.bits[name].numpy()).sum(dtype=np.int64))
    n = one.size(name)
    return n, n - one.kept(name), n - other.kept(name), differ


def _compared(name: str, n: int, one: int, other: int, both: int) -> dict[str, Any]:
    from scipy.stats import hypergeom

    layer, type_ = split_matrix(name)
    p_value = float(hypergeom.sf(both - 1, n, one, other))
    return {"layer": layer, "type": type_, **_shares(n, one, other, both, one * other / n), "p_value": p_value}


def _shares(n: int, one: int, other: int, both: int, expected: float) -> dict[str, Any]:
    """What two masks have in common, and what chance gives where it takes `expected` in common."""
    either, by_chance = one + other - both, one + other - expected
    return {
        "n": n, "one": one, "other": other, "both": both, "neither": n - either, "expected": expected,
        "jaccard": both / either if either else np.nan, "jaccard_chance": expected / by_chance if by_chance else np.nan,
        "agreement": 1 - (one + other - 2 * both) / n, "agreement_chance": 1 - (one + other - 2 * expected) / n,
    }  # fmt: skip


def _totals(made: pd.DataFrame) -> dict[str, Any]:
    """All matrices together; chance keeps to the counts of each."""
    from scipy.stats import norm

    sums = made[["n", "one", "other", "both", "expected"]].sum()
    n, p, q = made["n"], made["one"] / made["n"], made["other"] / made["n"]
    spread = float((n * n * p * q * (1 - p) * (1 - q) / (n - 1).clip(lower=1)).sum()) ** 0.5
    above = sums["both"] - sums["expected"]
    p_value = float(norm.sf(above / spread)) if spread else 1.0
    n_all, one, other, both = (int(sums[name]) for name in ("n", "one", "other", "both"))
    shares = _shares(n_all, one, other, both, float(sums["expected"]))
    return {"layer": ALL, "type": ALL, **shares, "p_value": p_value}


def draw(table: pd.DataFrame, one: str, other: str, what: str = "rows") -> go.Figure:
    """What both keep, only one, only the other, and neither, in percent of each matrix: a panel for each type, a bar a layer.

    The mark is where the grey part, what neither keeps, would end by chance.
    """
    table = table[table["type"] != ALL]
    types = list(dict.fromkeys(table["type"]))
    figure = make_subplots(
        1, len(types), shared_yaxes=True, horizontal_spacing=0.012,
        subplot_titles=[TYPE_LABELS.get(type_, type_).replace("<br>", " ") for type_ in types],
    )  # fmt: skip
    layers = 1 + int(table["layer"].fillna(0).max())
    title = f"Two masks over each other: {what} kept by both, by one, by neither"
    height = max(320, 180 + 22 * layers)
    figure.update_layout(theme.figure(title, "", "layer", height).layout)
    parts = {"neither": "neither", "only one": "one", "only other": "other", "both": "both"}
    names = {"neither": "neither keeps", "only one": f"only {one}", "only other": f"only {other}", "both": "both keep"}
    for column, type_ in enumerate(types, 1):
        part = table[table["type"] == type_]
        # what neither keeps, both remove; what only one keeps, the other alone removes
        shares = {
            "neither": part["both"], "only one": part["other"] - part["both"], "only other": part["one"] - part["both"],
            "both": part["neither"],
        }  # fmt: skip
        y, where = part["layer"].fillna(0), "" if part["layer"].isna().any() else "layer %{y}: "
        for name, counts in shares.items():
            figure.add_bar(
                x=100 * counts / part["n"], y=y, orientation="h", name=names[name], legendgroup=name, showlegend=column == 1,
                marker={"color": theme.OVERLAID[parts[name]]}, customdata=np.stack([counts, part["n"]], axis=1),
                hovertemplate=where + "%{x:.1f} % (%{customdata[0]:,} of %{customdata[1]:,})", row=1, col=column,
            )  # fmt: skip
        figure.add_scatter(
            x=100 * part["expected"] / part["n"], y=y, mode="markers", name="neither, by chance", legendgroup="chance",
            showlegend=column == 1, row=1, col=column, hovertemplate=where + "%{x:.1f} % by chance",
            marker={"symbol": "line-ns", "size": 12, "line": {"width": 2.5, "color": theme.ACCENT}},
        )  # fmt: skip
    figure.update_layout(barmode="stack", bargap=0.25)
    figure.update_xaxes(range=[0, 100], tickvals=[0, 50, 100], ticktext=["0", "50 %", ""], showgrid=False)
    figure.update_yaxes(autorange="reversed", dtick=1 if layers <= theme.TEXT_UP_TO else 2, showgrid=False)
    theme.legend_below_title(figure)
    figure.update_layout(margin={"t": 100}, legend={"yref": "container", "y": 1 - _LEGEND / height, "yanchor": "top"})
    return figure


def draw_rows(kept: Mapping[str, np.ndarray], one: str, other: str) -> go.Figure:
    """Every row as one bar in the colour of who keeps it (`four`)."""
    names = {"neither": "neither keeps it", "one": f"only {one}", "other": f"only {other}", "both": "both keep it"}
    scale = [[edge, theme.OVERLAID[name]] for i, name in enumerate(names) for edge in (i / 4, (i + 1) / 4)]
    how = {"zmin": -0.5, "zmax": 3.5, "colorscale": scale, "showscale": False}
    figure = bars(kept, "Every row under two masks", lambda values: "", **how)
    for name, called in names.items():
        square = {"color": theme.OVERLAID[name], "size": 11, "symbol": "square"}
        figure.add_scatter(x=[None], y=[None], mode="markers", name=called, marker=square)
    theme.legend_below_title(figure)
    return figure
