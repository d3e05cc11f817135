"""What every table of single weights says of a matrix, the sparsities it is made for, and how types are drawn."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from analysis import theme
from vp_core.ground.names import TYPES, WORD_EMBEDDINGS
from vp_core.weights.matrices import Matrix
from vp_core.weights.order import WeightRanking

SPARSITIES = tuple(i / 10 for i in range(10))
"""0 to 90 % in steps of 10, as in the paper."""
TYPE_COLOURS = theme.line_colours((*TYPES, WORD_EMBEDDINGS))
PERCENT = "share of weights removed (%)"
ALL = "#0072B2"
"""The colour of what stands for all matrices."""


def about(matrix: Matrix) -> dict[str, Any]:
    """The columns `matrix`, `layer` (missing of embeddings) and `type`."""
    return {"matrix": matrix.name, "layer": matrix.layer, "type": matrix.type}


def tidy(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """A table of rows; `layer` is a whole number or missing."""
    made = pd.DataFrame(list(rows))
    return made.astype({"layer": "Int64"}) if "layer" in made else made


def sparsities_of(ranking: WeightRanking, sparsities: Sequence[float] = SPARSITIES) -> tuple[float, ...]:
    """Those that the units can meet: of N:M 0 and its own."""
    own = ranking.pattern.sparsity
    return tuple(sparsities) if own is None else (0.0, own)


def type_name(type_: str) -> str:
    """A type as it is read.

    >>> type_name("attention_output")
    'attention output'
    """
    return type_.replace("_", " ")


def types_in(table: pd.DataFrame) -> list[str]:
    """The types of a table in forward order."""
    there = set(table["type"])
    return [type_ for type_ in TYPE_COLOURS if type_ in there]


def even(figure: go.Figure, low: float, high: float, **place: Any) -> None:
    """The dotted line on which the two axes, both in percent, are equal."""
    figure.add_scatter(
        x=[low, high], y=[low, high], mode="lines", line={"color": theme.PRUNED, "width": 1, "dash": "dot"}, hoverinfo="skip",
        showlegend=False, **place,
    )  # fmt: skip
