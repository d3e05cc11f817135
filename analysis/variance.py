"""How far each neuron's output varies, layer by layer, and which neurons a criterion takes first."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from torch import Tensor

from analysis import theme
from analysis.live import STEPS, LiveFigure, Restyle, Reveal
from analysis.names import split_name, titled
from vp_core.ground.names import TYPES
from vp_core.measuring.statistics import Statistics
from vp_core.ranking.plan import Ranking, count_removed

POINTS = 256
"""Points a layer's line is drawn with; wider layers are thinned evenly along the order."""

FEW = 24
"""Units of a layer up to which each is drawn as a point of its own."""

SCORE_NAMES = {
    "variance": "variance of the output",
    "random": "variance of the output",
    "magnitude": "L2 norm of the weights",
    "weighted variance": "variance weighted by the consumer",
    "conditional variance": "variance that the others cannot predict",
    "surgeon": "error that going adds",
    "wanda": "weights times inputs (Wanda)",
    "function norm": "mean function norm",
    "fisher": "effect on the outputs (Fisher)",
}
"""What a criterion's score is: title and axis."""


def unit_name(type_: str) -> str:
    """What one unit of a column is called.

    >>> unit_name("ffn_in"), unit_name("heads"), unit_name("layer")
    ('ffn_in neuron', 'head', 'layer')
    """
    if type_ in TYPES:
        return f"{type_} neuron"
    return {"ffn neurons": "ffn neuron", "values": "value coordinate", "pairs": "query/key pair", "heads": "head"}.get(
        type_, type_
    )


def layer_table(statistics: Statistics) -> pd.DataFrame:
    """Summary of the neurons of each layer and type: min, quartiles, mean and max of their variances."""
    rows = []
    for name in statistics.moments:
        values = statistics.variance(name).numpy()
        layer, type_ = name.split(".")
        low, median, high = np.percentile(values, [25, 50, 75])
        rows.append(
            {
                "layer": int(layer), "type": type_, "neurons": len(values), "min": values.min(), "q25": low,
                "median": median, "mean": values.mean(), "q75": high, "max": values.max(),
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def neuron_table(scores: Mapping[str, Tensor], ranking: Ranking, type_: str, shares: Sequence[float] = STEPS) -> pd.DataFrame:
    """One row a unit of one projection type or kind: layer, neuron, score, rank within the layer, the sparsity it goes at.

    `gone_at` is the smallest sparsity of the slider at which the unit is removed; `shares` are the shares of units that go
    at the slider's positions. A unit that none of them takes has 1.01.
    """
    parts = []
    for name, place in ranking.place.items():
        layer, its_type = split_name(name)
        if its_type != type_:
            continue
        cuts = [count_removed(s, ranking.pool_size[name]) for s in shares]
        values = scores[name].numpy()
        order = np.argsort(values, kind="stable")
        gone_at = np.searchsorted(cuts, place, side="right") / 100  # first position whose cut exceeds the place
        parts.append(
            pd.DataFrame(
                {
                    "layer": layer,
                    "neuron": order,
                    "score": values[order],
                    "rank": np.arange(1, len(values) + 1),
                    "gone_at": gone_at[order],
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def draw_sorted(table: pd.DataFrame, criterion: str, type_: str, sparsity: float) -> LiveFigure:
    """Every neuron's score by layer, sorted, on a log scale; the pruned part turns grey and follows the slider."""
    name = SCORE_NAMES[criterion]
    unit = unit_name(type_)
    figure = theme.figure(f"{titled(name)}: every {unit}, sorted", f"{unit.split()[-1]} of the layer, lowest first", name)
    layers = sorted(table["layer"].unique())
    colours = theme.layer_colours(len(layers))
    changes: list[Restyle | Reveal] = []
    thinned = [_thin(table[table["layer"] == layer]) for layer in layers]
    for layer, part, colour in zip(layers, thinned, colours, strict=True):
        figure.add_scatter(
            x=part["rank"], y=part["score"], mode="lines+markers" if len(part) <= FEW else "lines",
            line={"color": colour, "width": 2}, name=f"layer {layer}", customdata=part["neuron"],
            hovertemplate=unit.split()[-1] + " %{customdata}: %{y:.3g}<extra>layer " + f"{layer}</extra>",
        )  # fmt: skip
    for number, part in enumerate(thinned):
        gone_at = (part["gone_at"] * 100).round().astype(int).tolist()
        shown = [y if g <= round(sparsity * 100) else None for y, g in zip(part["score"], gone_at, strict=True)]
        figure.add_scatter(
            x=part["rank"], y=shown, mode="markers+lines", connectgaps=False, hoverinfo="skip", name="removed",
            legendgroup="removed", showlegend=number == 0, line={"color": theme.PRUNED, "width": 5},
            marker={"color": theme.PRUNED, "size": 5},
        )  # fmt: skip
        changes.append(Reveal(len(layers) + number, part["score"].tolist(), gone_at))
    ticks = _decades(table["score"].clip(lower=_floor(table["score"])))
    figure.update_yaxes(type="log", tickvals=[10.0**t for t in ticks], ticktext=[f"10<sup>{t}</sup>" for t in ticks])
    return LiveFigure(figure, tuple(changes))


def draw_distribution(
    table: pd.DataFrame, scores: Mapping[str, Tensor], ranking: Ranking, criterion: str, type_: str, sparsity: float,
    shares: Sequence[float] = STEPS,
) -> LiveFigure:  # fmt: skip
    """The distribution of scores in each layer with the cut: what lies left of the line goes."""
    name = SCORE_NAMES[criterion]
    figure = theme.figure(f"Distribution by layer: {name}", f"{name} ({type_})", "layer")
    layers = sorted(table["layer"].unique())
    floor = _floor(table["score"])
    for layer, colour in zip(layers, theme.layer_colours(len(layers)), strict=True):
        values = np.log10(_thin(table[table["layer"] == layer])["score"].clip(lower=floor))
        figure.add_violin(
            x=values, y=np.full(len(values), layer), orientation="h", side="positive", width=1.6, spanmode="hard",
            points="all" if len(values) <= FEW else False, pointpos=0, marker={"size": 5},
            line={"color": colour, "width": 1.5}, name=f"layer {layer}", showlegend=False, hoverinfo="skip",
        )  # fmt: skip
    y = [v for layer in layers for v in (layer - 0.05, layer + 0.75, None)]
    cuts = cut_lines(scores, ranking, type_, floor, shares)
    frames = [[None if v is None else round(v, 4) for v in row] for row in cuts]
    changes: tuple[Restyle, ...] = ()
    if criterion != "random":  # random rows have no cut: they are not the lowest
        figure.add_scatter(
            x=frames[round(sparsity * 100)], y=y, mode="lines", line={"color": theme.ACCENT, "width": 3}, name="cut",
            connectgaps=False, hovertemplate="cut at 10^%{x:.2f}<extra></extra>",
        )  # fmt: skip
        changes = (Restyle(len(layers), "x", frames),)
    low, high = np.log10(floor), np.log10(max(table["score"].max(), floor))
    ticks = _decades(table["score"].clip(lower=floor))
    figure.update_xaxes(tickvals=ticks, ticktext=[f"10<sup>{t}</sup>" for t in ticks], range=[low - 0.15, high + 0.15])
    figure.update_yaxes(tickvals=layers if len(layers) <= 12 else layers[::2], range=[layers[0] - 0.4, layers[-1] + 1.1])
    return LiveFigure(figure, changes)


def cut_lines(
    scores: Mapping[str, Tensor], ranking: Ranking, type_: str, floor: float, shares: Sequence[float] = STEPS
) -> list[list[float | None]]:
    """For each slider position the x of three points a layer (from, to, gap): log10 of the score where the layer is cut.

    The cut lies halfway (in log) between the last of those who compete that goes and the first that stays. Where layers
    compete by something else than these scores (`scaled`, `measured`) each layer is cut at a score of its own.
    """
    names = [name for name in ranking.place if split_name(name)[1] == type_]
    if ranking.scope in ("scaled", "measured"):
        by_name = {name: _own_cuts(scores[name].numpy(), ranking, name, floor, shares) for name in names}
    else:
        by_pool = {pool: _shared_cuts(scores, ranking, pool, floor, shares) for pool in {ranking.pool[n] for n in names}}
        by_name = {name: by_pool[ranking.pool[name]] for name in names}
    return [[x for name in names for x in (by_name[name][i],) * 2 + (None,)] for i in range(len(shares))]


def _shared_cuts(
    scores: Mapping[str, Tensor], ranking: Ranking, pool: str, floor: float, shares: Sequence[float]
) -> list[float | None]:
    """Of all who compete with each other."""
    rivals = np.concatenate([scores[name].numpy() for name in ranking.place if ranking.pool[name] == pool])
    return _cuts(_logs(rivals, floor), [count_removed(share, len(rivals)) for share in shares])


def _own_cuts(values: np.ndarray, ranking: Ranking, name: str, floor: float, shares: Sequence[float]) -> list[float | None]:
    """Of one layer, from how many of it go."""
    return _cuts(_logs(values, floor), [ranking.gone(name, share) for share in shares])


def _logs(values: np.ndarray, floor: float) -> np.ndarray:
    return np.log10(np.clip(np.sort(values), floor, None))


def _cuts(ordered: np.ndarray, counts: Sequence[int]) -> list[float | None]:
    """Where sorted values are cut when so many go: between two of them, nowhere, or at the last one."""
    n = len(ordered)
    cuts: list[float | None] = []
    for k in counts:
        cuts.append(None if k == 0 else float(ordered[-1]) if k == n else float((ordered[k - 1] + ordered[k]) / 2))
    return cuts


def _thin(part: pd.DataFrame) -> pd.DataFrame:
    if len(part) <= POINTS:
        return part
    return part.iloc[np.linspace(0, len(part) - 1, POINTS).round().astype(int)]


def _decades(values: pd.Series) -> list[int]:
    """The powers of ten that enclose positive values.

    >>> _decades(pd.Series([0.02, 30.0]))
    [-2, -1, 0, 1, 2]
    """
    return list(range(int(np.floor(np.log10(values.min()))), int(np.ceil(np.log10(values.max()))) + 1))


def _floor(values: pd.Series) -> float:
    """Smallest positive value: where dead neurons (score 0) are drawn on a log scale."""
    positive = values[values > 0]
    return float(positive.min()) if len(positive) else 1e-12
