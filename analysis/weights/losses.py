"""Loss against score as weights go (Compressing BERT, fig. 2 left), and the loss of masked words where a model predicts them.

The paper's loss is that of pre-training; `table` has the question's own, of the same passes as its score. To draw the paper's
figure put the column `loss` of a `masked_lm_table` of the encoder, pruned likewise, in its place.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from analysis import theme
from analysis.names import metric_name, titled
from analysis.weights.tables import ALL, PERCENT, SPARSITIES
from vp_core.asking.kinds.question import Question
from vp_core.asking.metrics import OF_TOKENS
from vp_core.comparing.losses import loss_and_score
from vp_core.comparing.masked_lm import masked_lm_loss

Pruned = Callable[[float], PreTrainedModel]
"""From a sparsity the model at it, such as `lambda s: study.pruned(recipe, s)`."""


def table(pruned: Pruned, question: Question, sparsities: Sequence[float] = SPARSITIES) -> pd.DataFrame:
    """One row a sparsity: `loss` (nats, or squared error), the `metric`, its value, low and high, and the examples n."""
    rows = []
    for sparsity in sparsities:
        asked = loss_and_score(pruned(sparsity), question)
        score = {name: getattr(asked.score, name) for name in ("metric", "value", "low", "high", "n")}
        rows.append({"sparsity": sparsity, "loss": asked.loss, **score})
    return pd.DataFrame(rows)


def masked_lm_table(
    pruned: Pruned,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    sparsities: Sequence[float] = SPARSITIES,
    seed: int = 0,
) -> pd.DataFrame:
    """One row a sparsity: `loss`, nats a masked word, the same words masked at each (`vp_core.comparing.masked_lm`)."""
    return pd.DataFrame([{"sparsity": s, "loss": masked_lm_loss(pruned(s), tokenizer, texts, seed=seed)} for s in sparsities])


def draw(losses: pd.DataFrame, loss_name: str = "evaluation loss") -> go.Figure:
    """Score over loss, a point for each sparsity with its 95 % interval. Of tokens the score is the loss itself, or exp of it:
    the loss by sparsity."""
    if losses["metric"].iloc[0] in OF_TOKENS:
        return draw_loss(losses, "loss of a token (nats)")
    metric = metric_name(losses["metric"].iloc[0])
    figure = theme.figure(f"{titled(metric)} against loss as weights go", loss_name, metric, 420)
    up, down = losses["high"] - losses["value"], losses["value"] - losses["low"]
    figure.add_scatter(
        x=losses["loss"], y=losses["value"], mode="lines+markers+text", textposition="top right",
        text=_labels(losses), line={"color": ALL, "width": 1}, marker={"size": 9},
        error_y={"type": "data", "array": up, "arrayminus": down, "thickness": 1, "color": theme.translucent(ALL, 0.4)},
        customdata=losses[["sparsity", "low", "high"]],
        hovertemplate="%{customdata[0]:.0%} removed: loss %{x:.3f}, %{y:.4f} (%{customdata[1]:.4f} to %{customdata[2]:.4f})"
        "<extra></extra>",
    )  # fmt: skip
    return figure


def _labels(losses: pd.DataFrame) -> list[str]:
    """What is written at each point: its sparsity, but for those too near to one that has a label (hovering tells them)."""
    room, shown = 0.05 * max(float(np.ptp(losses["loss"])), 1e-12), dict[int, float]()
    order = [0, *range(len(losses) - 1, 0, -1)]
    for i in order:
        loss = float(losses["loss"].iloc[i])
        if all(abs(loss - other) > room for other in shown.values()):
            shown[i] = loss
    return [f"{100 * s:.0f} %" if i in shown else "" for i, s in enumerate(losses["sparsity"])]


def draw_loss(losses: pd.DataFrame, loss_name: str = "loss of masked words (nats)") -> go.Figure:
    """Loss by sparsity."""
    figure = theme.figure(f"{titled(loss_name)} as weights go", PERCENT, loss_name, 380)
    figure.add_scatter(
        x=100 * losses["sparsity"], y=losses["loss"], mode="lines+markers", line={"color": ALL, "width": 2},
        hovertemplate="%{y:.3f} at %{x:.0f} %<extra></extra>",
    )  # fmt: skip
    return figure
