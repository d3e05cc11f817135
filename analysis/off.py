"""Which blocks are off at a threshold ε, θ on a model as it is, and the scales of ε that a slider offers."""

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch
from transformers import PreTrainedModel

from analysis import theme
from analysis.names import block_name
from vp_core.ground.names import MODES
from vp_core.identity.threshold import Threshold
from vp_core.measuring.function_norms import FunctionNorms
from vp_core.model.blocks import Block
from vp_core.model.projections import find_layers
from vp_core.squeezing.blocks_off import plan_without
from vp_core.squeezing.cost import Cost, cost

POSITIONS = 101
"""Values of ε that a slider offers."""
FIRST_SHARE = 0.1
"""The share of heads, or of attention blocks, that is off where the slider of ε starts."""


def epsilon_scale(norms: FunctionNorms, kinds: Sequence[str], positions: int = POSITIONS) -> list[str]:
    """Values of ε in even steps of its logarithm, three digits each, lowest first.

    From below the smallest norm of any token, where nothing is the identity, to above the largest, where everything is.
    """
    chosen = [i for kind in kinds for i in norms.of(kind)]
    low = norms.histogram.low[chosen].double().clamp_min(1e-6).min().item() * 0.98
    high = norms.histogram.high[chosen].double().clamp_min(2e-6).max().item() * 1.02
    return list(dict.fromkeys(f"{value:.3g}" for value in np.geomspace(low, high, positions)))


def first_epsilon(norms: FunctionNorms, mode: str, theta: float) -> tuple[str, str]:
    """ε for attention and for FFNs to begin with, on their scales (those of `epsilon_scale`).

    For attention the lowest at which FIRST_SHARE of its blocks are off; for FFNs the paper's, the smallest mean norm, or in
    the mode `ffn` the lowest at which one is off. In the mode `layers` the lowest at which one layer is off.
    """
    kinds = tuple(kind for kind in MODES[mode] if kind != "ffn") or ("head",)
    attention, ffn = _needed(norms, kinds, theta), _needed(norms, ("ffn",), theta)
    first = sorted(attention.values())[int(np.ceil(FIRST_SHARE * len(attention))) - 1]
    second = min(ffn.values()) if mode == "ffn" else norms.smallest_mean(("ffn",))
    if mode == "layers":
        both = [(attention[b], ffn[Block(b.layer, "ffn")]) for b in attention if Block(b.layer, "ffn") in ffn]
        first, second = min(both, key=sum)
    return _next(epsilon_scale(norms, kinds), first), _next(epsilon_scale(norms, ("ffn",)), second)


def _needed(norms: FunctionNorms, kinds: Sequence[str], theta: float) -> dict[Block, float]:
    """The lowest ε at which each block is the identity in at least θ of the mini-batches."""
    maxima = norms.batch_maxima().sort(dim=0).values
    place = max(int(np.ceil(theta * len(maxima) - 1e-9)) - 1, 0)
    return {norms.blocks[i]: float(maxima[place, i]) for kind in kinds for i in norms.of(kind)}


def _next(scale: Sequence[str], value: float) -> str:
    """The first of a scale that is not below a value."""
    return next((one for one in scale if float(one) >= value), scale[-1])


def off_table(norms: FunctionNorms, threshold: Threshold) -> pd.DataFrame:
    """One row a block: block, layer, kind, head, mean norm, identity, closed, taken, off.

    `identity` is the share of mini-batches in which it would be the identity, `closed` the share of tokens at which the gate
    shuts it; both are missing for kinds that the mode does not take (`taken`). Heads are off where their whole attention
    block is.
    """
    off = set(threshold.off(norms))
    identity, closed = norms.identity_share(threshold.epsilon).tolist(), norms.closed_share(threshold.epsilon).tolist()
    means, rows = norms.means(), []
    for i, block in enumerate(norms.blocks):
        taken = block.kind in MODES[threshold.mode]
        gone = block in off or (block.kind == "head" and Block(block.layer, "attention") in off)
        rows.append(
            {
                "block": block.name, "layer": block.layer, "kind": block.kind, "head": block.head, "mean": means[block],
                "identity": identity[i] if taken else np.nan, "closed": closed[i] if taken else np.nan, "taken": taken,
                "off": gone,
            }
        )  # fmt: skip
    return pd.DataFrame(rows).astype({"head": "Int64"})


def draw(table: pd.DataFrame) -> go.Figure:
    """Map of blocks, layer × (heads, attention block, FFN), coloured by identity share; what is off is crossed out."""
    layers = sorted(table["layer"].unique())
    heads = sorted(int(head) for head in table["head"].dropna().unique())
    columns: list[tuple[str, int | None]] = [("head", head) for head in heads] + [("attention", None), ("ffn", None)]
    height = theme.map_height(len(layers)) + 20
    figure = theme.figure("Blocks that are off (×)", "head · attention block · FFN", "layer", height)
    share = np.full((len(layers), len(columns)), np.nan)
    other, text = share.copy(), np.full(share.shape, "", dtype=object)
    crosses: tuple[list[int], list[int]] = ([], [])
    for row in table.to_dict("records"):
        y, x = layers.index(row["layer"]), columns.index((row["kind"], None if pd.isna(row["head"]) else int(row["head"])))
        text[y, x] = _say(row)
        if row["off"]:
            crosses[0].append(x)
            crosses[1].append(layers[y])
        else:
            (share if row["taken"] else other)[y, x] = 100 * row["identity"] if row["taken"] else 1
    common = {"y": layers, "text": text, "hovertemplate": "%{text}<extra></extra>", "xgap": 2, "ygap": 2}
    figure.add_heatmap(
        z=share, zmin=0, zmax=100, colorscale=theme.SCALE, **common,
        colorbar={"title": {"text": "identity in % of mini-batches", "side": "right"}, "thickness": 12},
    )  # fmt: skip
    grey = theme.translucent(theme.PRUNED, 0.3)
    figure.add_heatmap(
        z=other, zmin=0, zmax=1, colorscale=[[0, grey], [1, grey]], showscale=False, **common | {"hoverongaps": False}
    )
    figure.add_scatter(
        x=crosses[0], y=crosses[1], mode="markers", hoverinfo="skip", name="off", showlegend=False,
        marker={"symbol": "x-thin", "size": 11, "line": {"width": 2, "color": theme.PRUNED}},
    )  # fmt: skip
    few = len(heads) <= 16
    labels = [str(head) if few or head % 4 == 0 else "" for head in heads] + ["att.", "FFN"]
    edges = [-0.5, len(columns) - 0.5]
    figure.update_xaxes(tickvals=list(range(len(columns))), ticktext=labels, showgrid=False, zeroline=False, range=edges)
    figure.update_yaxes(tickmode="linear", dtick=1 if len(layers) <= theme.TEXT_UP_TO else 2, showgrid=False, zeroline=False)
    return figure


def _say(row: dict) -> str:
    lines = [block_name(Block.named(row["block"])) + (": off" if row["off"] else "")]
    if row["taken"]:
        lines.append(f"identity in {row['identity']:.0%} of mini-batches, at {row['closed']:.0%} of tokens")
    else:
        lines.append("of a kind that this mode leaves alone")
    return "<br>".join([*lines, f"mean norm {row['mean']:.3g}"])


def cost_without(model: PreTrainedModel, off: Collection[Block]) -> Cost:
    """What would leave the model with these blocks, by formula (`vp_core.squeezing.cost`)."""
    layers = find_layers(model)
    return cost(layers, plan_without(model, off), [torch.zeros(layer.projections["query"].d_out) for layer in layers])
