"""Mean and standard deviation of every matrix, and how normal it is (Compressing BERT, table 3 and footnote 5).

The paper holds that weights of BERT are approximately normal, with means near 0 and standard deviations of .03 to .05.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots
from scipy.special import ndtr
from torch import Tensor

from analysis import theme
from analysis.weights.tables import TYPE_COLOURS, about, tidy, type_name, types_in
from vp_core.ground.parallel import in_parallel
from vp_core.weights.matrices import Matrix

SAMPLE = 1 << 16
"""Weights that the distance to the normal is taken from; by chance alone it is about 0.004 then."""
_CHUNK = 1 << 20


def table(matrices: Sequence[Matrix], weights: Mapping[str, Tensor]) -> pd.DataFrame:
    """One row a matrix: matrix, layer, type, weights, mean, std, skewness, excess kurtosis, and `ks`, how far from normal.

    Moments are of all weights, in float64; std is that of a population. `ks` is the Kolmogorov–Smirnov statistic, the largest
    difference between the distribution functions of the weights and of a normal of their mean and std, on a fixed random
    sample of SAMPLE of them. Of a matrix whose weights are all the same they are missing.
    """
    found = in_parallel(lambda matrix: spread(weights[matrix.name]), matrices)
    return tidy([{**about(m), "weights": m.size, **one} for m, one in zip(matrices, found, strict=True)])


def spread(weight: Tensor) -> dict[str, float]:
    """`mean`, `std`, `skewness`, `kurtosis` (excess) and `ks` of a matrix of any shape, see `table`."""
    values = weight.detach().contiguous().numpy().reshape(-1)
    mean = float(values.mean(dtype=np.float64))
    powers = np.zeros(3)
    for part in np.split(values, range(_CHUNK, len(values), _CHUNK)):
        centred = part.astype(np.float64) - mean
        square = centred * centred
        powers += square.sum(), (square * centred).sum(), (square * square).sum()
    variance, third, fourth = powers / len(values)
    std = math.sqrt(variance)
    if std <= 1e-12 * abs(mean) or std == 0:
        return {"mean": mean, "std": std, "skewness": math.nan, "kurtosis": math.nan, "ks": math.nan}
    rng = np.random.default_rng(0)
    sample = values if len(values) <= SAMPLE else values[rng.integers(0, len(values), SAMPLE)]
    ks = distance((sample.astype(np.float64) - mean) / std)
    return {"mean": mean, "std": std, "skewness": third / std**3, "kurtosis": fourth / variance**2 - 3, "ks": ks}


def distance(values: np.ndarray) -> float:
    """The Kolmogorov–Smirnov statistic of values (n,) against the standard normal."""
    n, normal = len(values), ndtr(np.sort(values))
    return float(max((np.arange(1, n + 1) / n - normal).max(), (normal - np.arange(n) / n).max()))


def draw(spreads: pd.DataFrame) -> go.Figure:
    """Standard deviation, and distance to the normal, layer by layer: a line for each type, dashed for gates."""
    figure = make_subplots(1, 2, horizontal_spacing=0.1, column_titles=["standard deviation", "distance to the normal"])
    figure.update_layout(
        theme.figure("How the weights of each matrix are spread", "layer", "standard deviation of w", 400).layout
    )
    gates = spreads["matrix"].str.endswith(".gate")
    for type_ in types_in(spreads):
        for gate, part in spreads[spreads["type"] == type_].groupby(gates, sort=True):
            name = type_name(type_) + (" gate" if gate else "")
            x = part["layer"].fillna(-1).astype(int)
            for column, value in enumerate(("std", "ks"), 1):
                figure.add_scatter(
                    x=x, y=part[value], name=name, legendgroup=name, showlegend=column == 1, mode="lines+markers",
                    line={"color": TYPE_COLOURS[type_], "width": 2, "dash": "dash" if gate else "solid"},
                    customdata=part[["matrix", "mean", "std", "skewness", "kurtosis", "ks"]],
                    hovertemplate="%{customdata[0]}: mean %{customdata[1]:.4f}, std %{customdata[2]:.4f}<br>skewness "
                    "%{customdata[3]:.2f}, excess kurtosis %{customdata[4]:.2f}, distance %{customdata[5]:.3f}<extra></extra>",
                    row=1, col=column,
                )  # fmt: skip
    layers = sorted(spreads["layer"].fillna(-1).astype(int).unique())
    step = max(1, len(layers) // 12)
    shown = [layer for layer in layers if layer < 0 or layer % step == 0]
    figure.update_xaxes(title_text="layer", tickvals=shown, ticktext=["words" if i < 0 else str(i) for i in shown])
    figure.update_yaxes(rangemode="tozero")
    figure.update_yaxes(title_text="Kolmogorov–Smirnov statistic", row=1, col=2)
    figure.update_layout(margin={"t": 70})
    return figure
