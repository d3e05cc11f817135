"""Two checkpoints beside each other, the encoder before and after fine-tuning: which weights would go, and in which order.

Compressing BERT, section 5: masks that differ by sparsity (fig. 3), mean and standard deviation of the movement in the order of
|w| (table 2, fig. 4 right, in the course of a training), and movement by where a weight started (fig. 6).
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from torch import Tensor

from analysis import theme
from analysis.weights.tables import ALL, PERCENT, SPARSITIES, TYPE_COLOURS, about, sparsities_of, tidy, type_name, types_in
from vp_core.comparing.movement import Movement, movements
from vp_core.weights.masks import overlap
from vp_core.weights.matrices import Matrix
from vp_core.weights.order import WeightRanking


def difference_table(one: WeightRanking, other: WeightRanking, sparsities: Sequence[float] = SPARSITIES) -> pd.DataFrame:
    """One row a sparsity and matrix: the share of positions that `differ`, and what masks of two strangers would (`chance`).

    Raises VPError for rankings of matrices of other names or shapes.
    """
    rows = []
    for sparsity in sparsities_of(one, sparsities):
        found = overlap(one.masks(sparsity), other.masks(sparsity))
        for matrix in one.matrices:
            agree, chance = found[matrix.name]
            row = {"sparsity": sparsity, **about(matrix), "weights": matrix.size}
            rows.append({**row, "differ": 1 - agree, "chance": 1 - chance})
    return tidy(rows)


def total_difference(differences: pd.DataFrame, by_type: bool = False) -> pd.DataFrame:
    """The same over all matrices (of a type), each weighing as much as it has weights."""
    keys = ["sparsity", "type"] if by_type else ["sparsity"]
    weighted = differences.assign(
        differ=differences["differ"] * differences["weights"], chance=differences["chance"] * differences["weights"]
    )
    made = weighted.groupby(keys, sort=False)[["weights", "differ", "chance"]].sum().reset_index()
    return made.assign(differ=made["differ"] / made["weights"], chance=made["chance"] / made["weights"])


def movement_table(matrices: Sequence[Matrix], moved: Mapping[str, Movement]) -> pd.DataFrame:
    """One row a matrix: by how much its weights moved in the order of |w|, `mean` and `std` as shares of the matrix."""
    return tidy([{**about(m), "weights": m.size, "mean": moved[m.name].mean, "std": moved[m.name].std} for m in matrices])


def start_table(matrices: Sequence[Matrix], moved: Mapping[str, Movement]) -> pd.DataFrame:
    """One row a matrix and a part of the starting order: `start`, its middle (0: the smallest |w|), weights, `mean`, `std`."""
    rows = []
    for matrix in matrices:
        one = moved[matrix.name]
        for i, n in enumerate(one.bin_size):
            if n:
                row = {**about(matrix), "start": (i + 0.5) / len(one.bin_size), "weights": int(n)}
                rows.append({**row, "mean": one.bin_mean[i], "std": one.bin_std[i]})
    return tidy(rows)


def pooled(moves: pd.DataFrame, keys: Sequence[str] = ()) -> pd.DataFrame:
    """`mean` and `std` over all weights of the rows that have the same `keys`, as if they were one matrix; exact."""
    square = moves["weights"] * (moves["std"] ** 2 + moves["mean"] ** 2)
    sums = moves.assign(mean=moves["weights"] * moves["mean"], square=square, all="all matrices")
    made = sums.groupby(list(keys) or ["all"], sort=False)[["weights", "mean", "square"]].sum().reset_index()
    mean = made["mean"] / made["weights"]
    spread = np.sqrt((made["square"] / made["weights"] - mean**2).clip(lower=0))
    return made.assign(mean=mean, std=spread).drop(columns="square")


def course_table(
    matrices: Sequence[Matrix], before: Mapping[str, Tensor], after: Mapping[str, Mapping[str, Tensor]]
) -> pd.DataFrame:
    """One row a checkpoint of `after` (label → its weights): mean and std of the movement of all weights since `before`.

    The paper's table 2 has a checkpoint for each task and learning rate, its figure 4 (right) one for each epoch.
    """
    parts = [
        pooled(movement_table(matrices, movements(matrices, before, weights))).assign(checkpoint=label)
        for label, weights in after.items()
    ]
    return pd.concat(parts, ignore_index=True)[["checkpoint", "weights", "mean", "std"]]


def draw_difference(differences: pd.DataFrame) -> go.Figure:
    """The share of mask positions that differ by sparsity: a line for each type, a thick one for all matrices."""
    figure = theme.figure("How far two masks differ", PERCENT, "mask positions that differ (%)", 400)
    everything, by_type = total_difference(differences), total_difference(differences, by_type=True)
    lines = [(type_name(t), by_type[by_type["type"] == t], TYPE_COLOURS[t], 1.5) for t in types_in(differences)]
    for name, part, colour, width in [*lines, ("all matrices", everything, ALL, 4)]:
        figure.add_scatter(
            x=100 * part["sparsity"], y=100 * part["differ"], name=name, mode="lines+markers",
            line={"color": colour, "width": width}, customdata=100 * part["chance"],
            hovertemplate="%{y:.2f} % differ at %{x:.0f} %, by chance %{customdata:.0f} %",
        )  # fmt: skip
    figure.update_yaxes(rangemode="tozero")
    return figure


def draw_start(starts: pd.DataFrame) -> go.Figure:
    """Mean movement by where a weight started in the order: a line for each type, and all together with a band of one std."""
    figure = theme.figure(
        "How far weights move in the order of magnitudes", "place at the start (%, smallest |w| first)",
        "movement (% of a matrix)", 400,
    )  # fmt: skip
    everything = pooled(starts, ["start"])
    x, mean, std = (100 * everything[name].to_numpy() for name in ("start", "mean", "std"))
    figure.add_scatter(
        x=[*x, *x[::-1]], y=[*(mean + std), *np.maximum(mean - std, 0)[::-1]], fill="toself", mode="lines",
        line={"width": 0}, fillcolor=theme.translucent(ALL, 0.15), name="± one standard deviation", hoverinfo="skip",
    )  # fmt: skip
    by_type = pooled(starts, ["start", "type"])
    lines = [(type_name(t), by_type[by_type["type"] == t], TYPE_COLOURS[t], 1.5) for t in types_in(starts)]
    for name, part, colour, width in [*lines, ("all matrices", everything, ALL, 4)]:
        figure.add_scatter(
            x=100 * part["start"], y=100 * part["mean"], name=name, mode="lines", line={"color": colour, "width": width},
            hovertemplate="moved by %{y:.2f} % on average",
        )  # fmt: skip
    figure.update_xaxes(range=[0, 100])
    figure.update_yaxes(rangemode="tozero")
    return figure


def draw_course(course: pd.DataFrame) -> go.Figure:
    """Mean movement of all weights at each checkpoint of a `course_table`, with bars of one standard deviation."""
    figure = theme.figure("How far weights have moved", "checkpoint", "movement (% of a matrix)", 380)
    figure.add_scatter(
        x=course["checkpoint"], y=100 * course["mean"], error_y={"array": 100 * course["std"], "thickness": 1.5},
        mode="markers+lines", marker={"color": ALL, "size": 9}, line={"color": ALL, "width": 1},
        hovertemplate="%{x}: %{y:.2f} % ± %{error_y.array:.2f}<extra></extra>",
    )  # fmt: skip
    figure.update_yaxes(rangemode="tozero")
    return figure
