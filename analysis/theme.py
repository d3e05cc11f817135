"""Colours and layout of every figure: safe for colour-blind readers, legible on light and dark pages."""

from collections.abc import Iterable, Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from analysis.live import STEPS, Restyle

LINE_COLOURS = {
    "variance": "#0072B2", "random": "#E69F00", "magnitude": "#009E73",
    "zero": "#009E73", "mean": "#0072B2", "least squares": "#CC79A7", "refit": "#D55E00",
    "paper": "#0072B2", "best": "#D55E00",
}  # fmt: skip
_OTHERS = ("#CC79A7", "#56B4E9", "#009E73", "#E69F00", "#8A6BBE", "#6B4E16", "#B8A800", "#444444")
"""Okabe and Ito's palette: told apart with every common colour vision."""

FORM_COLOURS = {"dense": "#CC79A7", "masked": "#E69F00", "squeezed": "#0072B2"}
SPARSE_COLOURS = {
    "dense": "#CC79A7", "zeros": "#E69F00", "CSR": "#D55E00", "blocks": "#56B4E9", "columns": "#009E73", "rows": "#0072B2",
}  # fmt: skip
LIMIT = "#009E73"
"""From the same palette."""

ACCENT = "#D55E00"
PRUNED = "#8A8A8A"
SCALE = "Cividis"
"""Even in lightness, and read the same with and without red-green vision."""

LAYER_SCALE = "Viridis"
"""For lines: as safe as SCALE, and without its greys, which mean `removed`."""

TEXT_UP_TO = 12
"""Layers up to which the cells of a map carry their number."""

KEPT, GONE = "#0072B2", "#D3D3D3"
"""What survives and what goes, where a mask itself is drawn: far apart in lightness, on light and on dark pages."""
OVERLAID = {"both": "#0072B2", "one": "#E69F00", "other": "#CC79A7", "neither": "#D3D3D3"}
"""What two masks keep."""


def layer_colours(layers: int) -> list[str]:
    """One colour a layer, dark to light from the embeddings up; the palest end is left out, it vanishes on white."""
    return sample_colorscale(LAYER_SCALE, [0.9 * i / max(layers - 1, 1) for i in range(layers)])


def line_colours(names: Iterable[str]) -> dict[str, str]:
    """A colour for each name, those that are often met always the same; in the order of LINE_COLOURS, then of appearance.

    >>> line_colours(["mine", "variance", "mine"])
    {'variance': '#0072B2', 'mine': '#CC79A7'}
    """
    names = list(dict.fromkeys(names))
    found = {name: colour for name, colour in LINE_COLOURS.items() if name in names}
    free = [colour for colour in _OTHERS if colour not in found.values()] or list(_OTHERS)
    others = [name for name in names if name not in found]
    return found | {name: free[i % len(free)] for i, name in enumerate(others)}


def translucent(colour: str, alpha: float) -> str:
    """A #RRGGBB colour with an alpha, as CSS.

    >>> translucent("#0072B2", 0.2)
    'rgba(0,114,178,0.2)'
    """
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"


def legend_below_title(figure: go.Figure, lines: int = 1) -> None:
    """A legend in so many lines over the drawing's right end, and the title over it, so that neither meets the other."""
    figure.update_layout(
        margin={"t": 40 + 24 * lines},
        title={"y": 1, "yref": "container", "yanchor": "top", "pad": {"t": 10}},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 1, "xanchor": "right"},
    )


def figure(title: str, x: str, y: str, height: int = 380) -> go.Figure:
    """An empty figure with its title and axis titles."""
    made = go.Figure()
    made.update_layout(
        template="plotly_white",
        title={"text": title, "font": {"size": 15}, "x": 0, "xref": "paper"},
        xaxis={"title": {"text": x}},
        yaxis={"title": {"text": y}},
        height=height,
        margin={"l": 70, "r": 20, "t": 44, "b": 56},
        hoverlabel={"namelength": -1},
    )
    return made


def scores_on(figure: go.Figure, metric: str, low: float, high: float) -> tuple[float, float]:
    """Room for scores from `low` to `high` on the upright axis, and its ends; perplexities, which differ by factors, on a
    logarithmic one."""
    if metric != "perplexity":
        pad = 0.05 * (high - low)
        figure.update_yaxes(range=[low - pad, high + pad])
        return low - pad, high + pad
    ends = np.log10([low, high]) + np.array([-0.05, 0.05]) * max(np.log10(high / low), 0.2)
    figure.update_yaxes(type="log", range=ends.tolist(), tickformat="~s", nticks=8)
    bottom, top = (10.0**ends).tolist()
    return bottom, top


def map_height(layers: int) -> int:
    """The height in pixels of a map with a row for each layer."""
    return max(300, 110 + 22 * layers)


def step_scale(position: int, last: int) -> list[list[object]]:
    """The colours of values 0..`last` at a position of the slider: what is at most the position is gone, the rest is kept.

    >>> step_scale(1, 4)
    [[0.0, '#D3D3D3'], [0.375, '#D3D3D3'], [0.375, '#0072B2'], [1.0, '#0072B2']]
    """
    cut = (position + 0.5) / last
    return [[0.0, GONE], [cut, GONE], [cut, KEPT], [1.0, KEPT]]


def follow(
    figure: go.Figure, sparsity: float, low: float, high: float, heights: Sequence[float | None] = ()
) -> tuple[Restyle, ...]:
    """An upright line from `low` to `high` at a sparsity, and a dot at its height where `heights` (one for each of STEPS) are
    given; what changes in them from one position of the slider to the next."""
    percent, here, number = [100 * s for s in STEPS], round(100 * sparsity), len(figure.data)
    slider = {"hoverinfo": "skip", "name": "slider", "showlegend": False}
    figure.add_scatter(
        x=[percent[here]] * 2, y=[low, high], mode="lines", line={"color": ACCENT, "width": 1.5, "dash": "dot"}, **slider
    )
    changes = [Restyle(number, "x", [[p, p] for p in percent])]
    if heights:
        dots = [[height] for height in heights]
        marker = {"color": ACCENT, "size": 13, "symbol": "circle-open", "line": {"width": 3}}
        figure.add_scatter(x=[percent[here]], y=dots[here], mode="markers", marker=marker, **slider)
        changes += [Restyle(number + 1, "x", [[p] for p in percent]), Restyle(number + 1, "y", dots)]
    return tuple(changes)


def placeholder(title: str, sentence: str, height: int = 380) -> go.Figure:
    """An empty figure that says what is being waited for."""
    made = figure(title, " ", " ", height)
    made.update_xaxes(visible=False, range=[0, 1])
    made.update_yaxes(visible=False, range=[0, 1])
    say(made, sentence)
    return made


def say(figure: go.Figure, sentence: str) -> None:
    """A sentence in the middle of a figure."""
    centre = {"x": 0.5, "y": 0.5, "xref": "paper", "yref": "paper", "showarrow": False}
    figure.add_annotation(text=sentence, font={"size": 14}, **centre)
