"""Whole recipes against each other: score against what squeezing takes out, and what that means in a few numbers."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis import theme
from analysis.names import hover_format, metric_name, titled
from analysis.second import add_legend, add_second, second_of
from vp_core.asking.metrics import OF_TOKENS, less_is_better
from vp_core.curves import CurveRow, CurveStore, known_point, order_of_points, sweep
from vp_core.ground.work import checkpoint
from vp_core.recipes import RANDOM, RECIPES, Recipe, find_recipe
from vp_core.study import Study

GRID = tuple(i / 10 for i in range(10))
COARSE = (0.0, 0.3, 0.5, 0.7, 0.8)
"""For recipes whose every point is refitted anew."""
SEEDS = (0, 1, 2)
AT = (0.3, 0.5, 0.7, 0.8)
"""Shares of the linear parameters at which the summary tells the score."""
MOST_GAP = 0.35
"""Between two measured shares: over a wider gap, as while a line is still being computed, nothing is interpolated."""
POINT = 0.01
"""One point of accuracy, F1 or correlation."""
TENTH = float(np.log(1.1))
"""Nats by which the loss of a token grows where perplexity grows by a tenth."""
COLUMNS = ("line", "sparsity", "share", "metric", "value", "low", "high", "n", "seed", "second_metric", "second")
_PARAMETERS = ("parameters_removed", "parameters")
Lines = Mapping[str, Sequence[Recipe]]
"""By the name of a line, the recipes it is the mean of: one, or random ones of several seeds."""


def lines_of(names: Sequence[str], own: Recipe | None = None, own_name: str = "my recipe") -> dict[str, list[Recipe]]:
    """The lines of named recipes, of RANDOM (three seeds), and of a recipe of one's own unless it has a name among them."""
    lines = {name: [find_recipe(name)] for name in names if name in RECIPES}
    if own is not None and own not in [one for (one,) in lines.values()]:
        lines[own_name] = [own]
    if RANDOM in names:
        units = RECIPES["units mean"]
        lines[RANDOM] = [Recipe("random", units=units.units, budget=units.budget, seed=seed) for seed in SEEDS]
    return lines


def grid_of(study: Study, recipe: Recipe) -> list[float]:
    """The sparsities a recipe is measured at: what its units can meet."""
    return study.reachable(recipe, COARSE if recipe.replacement == "refit" else GRID)


def points_of(study: Study, lines: Lines) -> list[tuple[str, Recipe, float]]:
    """(line, recipe, sparsity) in the order of computing: the shape of all curves first."""
    grids = {recipe: grid_of(study, recipe) for recipes in lines.values() for recipe in recipes}
    names = {recipe: name for name, recipes in lines.items() for recipe in recipes}
    sparsities = sorted({sparsity for grid in grids.values() for sparsity in grid})
    ordered = order_of_points(list(grids), sparsities, Recipe())
    return [(names[recipe], recipe, sparsity) for recipe, sparsity in ordered if sparsity in grids[recipe]]


def known(study: Study, lines: Lines, store: CurveStore, precision: str = "float32") -> list[CurveRow]:
    """Rows of the points that the store has already, with the column `line`."""
    found = ((name, known_point(study, recipe, s, precision, store)) for name, recipe, s in points_of(study, lines))
    return [row | {"line": name} for name, row in found if row is not None]


def measure_lines(
    study: Study,
    lines: Lines,
    store: CurveStore,
    precision: str = "float32",
    tell: Callable[[str], None] = lambda point: None,
) -> Iterator[CurveRow]:
    """Rows of `vp_core.curves` with the column `line`, as they are finished and kept; `tell` hears which point is next."""
    for name, recipe, sparsity in points_of(study, lines):
        checkpoint()
        tell(f"{name} at {sparsity:.0%}")
        for row in sweep(study, [recipe], [sparsity], None, store, precision):
            yield row | {"line": name}


def table(rows: Sequence[CurveRow]) -> pd.DataFrame:
    """A tidy table with the columns COLUMNS; `share` is that of the encoder's linear parameters that squeezing takes out, and
    `second` a further metric that goes on the same axis (`analysis.second`; "" and NaN where there is none)."""
    kept = (c for c in COLUMNS if c not in ("line", "share", "second_metric", "second"))
    made = pd.DataFrame(list(rows), columns=["line", *kept, *_PARAMETERS])
    made["share"] = made["parameters_removed"] / made["parameters"]
    metric = str(made["metric"].iloc[0]) if len(made) else ""
    made["second_metric"], made["second"] = second_of([row.get("others", "{}") for row in rows], metric)
    order = {name: i for i, name in enumerate(dict.fromkeys(made["line"]))}
    made = made.drop_duplicates(["line", "seed", "sparsity"]).sort_values(
        ["line", "seed", "sparsity"], key=lambda column: column.map(order) if column.name == "line" else column
    )
    return made[list(COLUMNS)].reset_index(drop=True)


def means(table: pd.DataFrame) -> pd.DataFrame:
    """One row for each line and sparsity: means over the seeds; the interval is the widest, `worst` and `best` the range."""
    grouped, ends = table.groupby(["line", "sparsity"], sort=False), ("min", "max")
    worst, best = ends[::-1] if len(table) and less_is_better(table["metric"].iloc[0]) else ends
    made = grouped.agg(
        share=("share", "mean"), mean=("value", "mean"), low=("low", "min"), high=("high", "max"),
        worst=("value", worst), best=("value", best), seeds=("seed", "count"), n=("n", "max"),
        second=("second", lambda values: values.mean(skipna=False)),
    )  # fmt: skip
    return made.rename(columns={"mean": "value"}).reset_index()


def summary_names(metric: str) -> tuple[str, str]:
    """What the columns of a `summary` are called that compare with dense: over the whole line, and up to where it is near.

    >>> summary_names("accuracy"), summary_names("perplexity")
    (('area', 'within a point'), ('times dense', 'within a tenth'))
    """
    return ("times dense", "within a tenth") if metric in OF_TOKENS else ("area", "within a point")


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """One row a line: score at the shares AT, area under the curve, and how much can go within a point of dense.

    Scores lie on the straight line between two measured points, and are missing beyond them and over gaps. The area is the
    mean score over the measured range of shares, as a part of the dense score. `within a point` is the share up to which
    the line stays within 0.01 of dense, from the left, interpolated.

    Perplexities are compared by their logarithm, the loss of a token: `times dense` is exp of the mean difference over the
    measured range, and `within a tenth` the share up to which perplexity is at most 1.1 times dense. So are losses of masked
    tokens, of which exp is the perplexity. Of another metric where less is better the area is above 1 where it grows.
    """
    metric = str(table["metric"].iloc[0]) if len(table) else "accuracy"
    over_all, near = summary_names(metric)
    rows: list[dict[object, object]] = []
    for name, part in means(table).groupby("line", sort=False):
        part = part.sort_values("share")
        share, value = part["share"].to_numpy(), _heights(part["value"].to_numpy(), metric)
        dense = float(value[0]) if share[0] == 0 else float("nan")
        row: dict[object, object] = {"line": name} | {at: _scores(_at(at, share, value), metric) for at in AT}
        whole = len(share) > 1 and np.diff(share).max() <= MOST_GAP
        mean = times(share, value, dense) if metric in OF_TOKENS else area(share, value, dense)
        row |= {over_all: mean if whole else float("nan")}
        row |= {near: within(share, value, dense, TENTH if metric in OF_TOKENS else POINT) if whole else float("nan")}
        rows.append(row | {"measured to": float(share[-1])})
    return pd.DataFrame(rows, columns=["line", *AT, over_all, near, "measured to"])


def _heights(values: np.ndarray, metric: str) -> np.ndarray:
    """Scores (points,) as lines are interpolated and compared, the higher the better: of tokens, their loss below 0."""
    if not less_is_better(metric):
        return values
    return -np.log(values) if metric == "perplexity" else -values


def _scores(height: float, metric: str) -> float:
    """The score of one of `_heights`."""
    if not less_is_better(metric):
        return height
    return float(np.exp(-height)) if metric == "perplexity" else -height


def _at(at: float, share: np.ndarray, value: np.ndarray) -> float:
    # what was asked for is met to half a unit, which may be a hair less
    near = np.clip(at, share[0], share[-1])
    right = min(max(int(np.searchsorted(share, near)), 1), len(share) - 1)
    apart = 0.0 if share[right] == near else share[right] - share[right - 1]
    return float(np.interp(near, share, value)) if abs(near - at) < 0.005 and apart <= MOST_GAP else float("nan")


def area(share: np.ndarray, value: np.ndarray, dense: float) -> float:
    """Mean height of a curve, `value` over `share` (points,), by the trapezoid rule, as a part of `dense`.

    NaN for a single point.

    >>> area(np.array([0.0, 0.5]), np.array([0.8, 0.4]), 0.8)
    0.75
    """
    span = share[-1] - share[0]
    return round(float(np.trapezoid(value, share) / span / dense), 12) if span > 0 and dense else float("nan")


def times(share: np.ndarray, value: np.ndarray, dense: float) -> float:
    """exp of the mean by which a curve, `value` over `share` (points,), lies below `dense`: of losses below 0 the geometric
    mean of perplexity as a multiple of dense. NaN for a single point.

    >>> times(np.array([0.0, 0.5]), -np.log([20.0, 80.0]), -np.log(20.0))
    2.0
    """
    span = share[-1] - share[0]
    return round(float(np.exp(dense - np.trapezoid(value, share) / span)), 12) if span > 0 else float("nan")


def within(share: np.ndarray, value: np.ndarray, dense: float, loss: float = POINT) -> float:
    """The share up to which a curve, `value` over `share` (points,), stays at most `loss` below `dense`.

    Its end if it never falls so far, NaN where `dense` is.

    >>> round(within(np.array([0.0, 0.5, 0.7]), np.array([0.90, 0.90, 0.88]), 0.90), 6)
    0.6
    """
    if np.isnan(dense):
        return float("nan")
    floor = dense - loss
    below = np.flatnonzero(value < floor - 1e-12)
    if not len(below):
        return float(share[-1])
    i = below[0]  # never the first point, which is the dense model
    return float(np.interp(floor, [value[i], value[i - 1]], [share[i], share[i - 1]]))


def draw(table: pd.DataFrame, metric: str) -> go.Figure:
    """Score against the share of linear parameters that goes, a line for each recipe with its 95 % intervals as bars.

    The band of RANDOM spans its seeds. The level line is one point below dense; of perplexities, a tenth above. A further
    metric of the table is dotted (`analysis.second`).
    """
    name = metric_name(metric)
    figure = theme.figure(
        f"{titled(name)} against what squeezing takes out, no fine-tuning",
        "share of the encoder's linear parameters that goes (%)", name, height=460,
    )  # fmt: skip
    if not len(table):
        theme.say(figure, "nothing measured yet")
        return figure
    shown = means(table)
    for line, colour in theme.line_colours(list(shown["line"])).items():
        _add_line(figure, shown[shown["line"] == line].sort_values("share"), line, colour, hover_format(metric))
    if table["second"].notna().any():
        second = str(table["second_metric"].iloc[0])
        for line, colour in theme.line_colours(list(shown["line"])).items():
            part = shown[shown["line"] == line].sort_values("share")
            add_second(figure, 100 * part["share"], part["second"], colour, line, second)
    if metric == "perplexity":
        theme.scores_on(figure, metric, float(shown["low"].min()), float(shown["high"].max()))
    dense = shown.loc[shown["sparsity"] == 0, "value"].to_numpy()
    if len(dense):
        near = _scores(float(_heights(dense[:1], metric)[0]) - (TENTH if metric in OF_TOKENS else POINT), metric)
        figure.add_hline(y=near, line={"color": theme.PRUNED, "width": 1, "dash": "dot"})
    figure.update_xaxes(range=[-2, 102], dtick=10)
    theme.legend_below_title(figure)
    if table["second"].notna().any():
        add_legend(figure, metric, str(table["second_metric"].iloc[0]))
    return figure


def _add_line(figure: go.Figure, part: pd.DataFrame, line: str, colour: str, as_read: str) -> None:
    x, several = 100 * part["share"], part["seeds"].max() > 1
    if several:
        figure.add_scatter(
            x=[*x, *x[::-1]], y=[*part["best"], *part["worst"][::-1]], fill="toself", mode="none", hoverinfo="skip",
            fillcolor=theme.translucent(colour, 0.2), showlegend=False, legendgroup=line, name=f"{line}: seeds",
        )  # fmt: skip
    bars = {"array": part["high"] - part["value"], "arrayminus": part["value"] - part["low"]}
    figure.add_scatter(
        x=x, y=part["value"], mode="lines+markers", name=line, legendgroup=line, line={"color": colour, "width": 2.5},
        marker={"size": 7}, customdata=part[["low", "high", "n"]].to_numpy(),
        error_y={"type": "data", "symmetric": False, "thickness": 1, "width": 3, "visible": not several, **bars},
        hovertemplate=f"%{{x:.1f}} %: %{{y:{as_read}}} (95 %: %{{customdata[0]:{as_read}}} to %{{customdata[1]:{as_read}}}, "
        "n = %{customdata[2]:,})",
    )  # fmt: skip
