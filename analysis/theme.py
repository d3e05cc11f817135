"""Colours and layout of every figure: safe for colour-blind readers, legible on light and dark pages."""

import plotly.graph_objects as go
from plotly.colors import sample_colorscale

CRITERION_COLOURS = {"variance": "#0072B2", "random": "#E69F00", "magnitude": "#009E73"}
"""Okabe and Ito's palette: told apart with every common colour vision."""

FORM_COLOURS = {"dense": "#CC79A7", "masked": "#E69F00", "squeezed": "#0072B2"}
LIMIT = "#009E73"
"""From the same palette."""

ACCENT = "#D55E00"
PRUNED = "#8A8A8A"
SCALE = "Cividis"
"""Even in lightness, and read the same with and without red-green vision."""

LAYER_SCALE = "Viridis"
"""For lines: as safe as SCALE, and without its greys, which mean `removed`."""

TYPE_LABELS = {
    "query": "query",
    "key": "key",
    "value": "value",
    "attention_output": "attention<br>output",
    "ffn_in": "ffn in",
    "ffn_out": "ffn out",
}


def layer_colours(layers: int) -> list[str]:
    """One colour a layer, dark to light from the embeddings up; the palest end is left out, it vanishes on white."""
    return sample_colorscale(LAYER_SCALE, [0.9 * i / max(layers - 1, 1) for i in range(layers)])


def translucent(colour: str, alpha: float) -> str:
    """A #RRGGBB colour with an alpha, as CSS.

    >>> translucent("#0072B2", 0.2)
    'rgba(0,114,178,0.2)'
    """
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"


def legend_below_title(figure: go.Figure) -> None:
    """A legend in one line over the drawing's right end, and the title over it, so that neither meets the other."""
    figure.update_layout(
        margin={"t": 64},
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
