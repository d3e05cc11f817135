"""How much of the sum of |w| goes at each sparsity, of every matrix and of all together (Compressing BERT, fig. 5).

Half of the weights hold far less than half of the sum: that is what makes magnitude pruning cheap.
"""

from collections.abc import Mapping, Sequence

import pandas as pd
import plotly.graph_objects as go
import torch
from torch import Tensor

from analysis import theme
from analysis.weights.tables import (
    ALL,
    PERCENT,
    SPARSITIES,
    TYPE_COLOURS,
    about,
    even,
    sparsities_of,
    tidy,
    type_name,
    types_in,
)
from vp_core.ground.parallel import in_parallel
from vp_core.weights.matrices import Matrix
from vp_core.weights.order import WeightRanking


def table(ranking: WeightRanking, weights: Mapping[str, Tensor], sparsities: Sequence[float] = SPARSITIES) -> pd.DataFrame:
    """One row a sparsity and matrix: its weights, how many go (`gone`), Σ|w| of all (`sum`) and of those (`removed`), `share`.

    `weights` are matrix name → (rows, columns), in whatever way they are ranked.
    """
    sums = dict(
        zip(weights, in_parallel(lambda name: float(weights[name].abs().sum(dtype=torch.float64)), weights), strict=True)
    )
    rows = []
    for sparsity in sparsities_of(ranking, sparsities):
        masks = ranking.masks(sparsity)

        def left(matrix: Matrix, masks=masks) -> float:
            return float((weights[matrix.name].abs() * masks.keep(matrix.name)).sum(dtype=torch.float64))

        for matrix, kept in zip(ranking.matrices, in_parallel(left, ranking.matrices), strict=True):
            whole, gone = sums[matrix.name], matrix.size - masks.kept(matrix.name)
            removed = whole if gone == matrix.size else whole - kept if gone else 0.0
            row = {"sparsity": sparsity, **about(matrix), "weights": matrix.size, "gone": gone}
            rows.append({**row, "sum": whole, "removed": removed, "share": removed / whole if whole else 0.0})
    return tidy(rows)


def total(removed: pd.DataFrame, by_type: bool = False) -> pd.DataFrame:
    """The same sums over all matrices (of a type), and the share of them that goes."""
    keys = ["sparsity", "type"] if by_type else ["sparsity"]
    made = removed.groupby(keys, sort=False)[["weights", "gone", "sum", "removed"]].sum().reset_index()
    return made.assign(share=(made["removed"] / made["sum"]).fillna(0.0))


def draw(removed: pd.DataFrame) -> go.Figure:
    """The share of Σ|w| that goes by the share of weights that go: a line for each type, a thick one for all matrices."""
    figure = theme.figure("How much of the sum of magnitudes goes", PERCENT, "share of Σ|w| removed (%)", 420)
    by_type, everything = total(removed, by_type=True), total(removed)
    even(figure, 0, 100 * float(removed["sparsity"].max()))
    lines = [(type_name(t), by_type[by_type["type"] == t], TYPE_COLOURS[t], 1.5) for t in types_in(removed)]
    for name, part, colour, width in [*lines, ("all matrices", everything, ALL, 4)]:
        figure.add_scatter(
            x=100 * part["gone"] / part["weights"], y=100 * part["share"], name=name, mode="lines+markers",
            line={"color": colour, "width": width}, hovertemplate="%{x:.0f} % of the weights, %{y:.1f} % of Σ|w|",
        )  # fmt: skip
    figure.add_annotation(x=60, y=60, text="if all were equally large", showarrow=False, xanchor="right", xshift=-8)
    return figure
