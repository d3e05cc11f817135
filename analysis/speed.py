"""How fast a model is on this machine with its removed rows masked, and squeezed out, beside what its FLOPs promise.

And what single zeros save: in bytes as much, in time nothing or less than nothing, until hardly any weight is left.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from analysis import theme
from analysis.live import STEPS, LiveFigure
from vp_core.ground.work import checkpoint
from vp_core.model.projections import find_layers
from vp_core.ranking.plan import Ranking
from vp_core.recipes import Recipe
from vp_core.speed import SPARSE_FORMS, SpeedRow, compare, forms_of, measure_sparse
from vp_core.squeezing.cost import cost
from vp_core.squeezing.timing import REPEATS
from vp_core.study import Study

FORMS = ("dense", "masked", "squeezed")
COLUMNS = (
    "sparsity", "form", "precision", "batch", "length", "latency_ms", "low_ms", "high_ms", "texts_per_second", "speedup",
    "flop_limit", "parameters", "megabytes", "mflops_per_token", "repeats",
)  # fmt: skip
SPARSE_TITLE = "Single zeros save bytes, not time"
SPARSE_NAMES = {
    "dense": "dense", "zeros": "single zeros, dense kernel", "CSR": "single zeros, sparse kernel (CSR)",
    "blocks": "blocks, sparse kernel (BSR)", "columns": "columns, picked and squeezed", "rows": "rows, squeezed",
}  # fmt: skip
"""What is gone and how the rest is multiplied, by the name in `vp_core.speed.SPARSE_FORMS`."""
SPARSE_COLUMNS = (
    "sparsity", "form", "batch", "length", "latency_ms", "low_ms", "high_ms", "speedup", "megabytes", "disk_megabytes",
    "repeats",
)  # fmt: skip
_SYMBOLS = {"dense": "circle", "masked": "square", "squeezed": "diamond"}
_SPARSE_SYMBOLS = dict(zip(SPARSE_FORMS, ("circle", "square", "x", "cross", "triangle-up", "diamond"), strict=True))
_HEADROOM = 1.12
"""Of the axes over the highest thing on them."""
_BARS_TO = 1.5
"""How many times as high as the highest median a bar may reach before the axis cuts it: one disturbed repeat would
squeeze all the rest."""
_EVERY = 10
_UNMEASURED_TO = 0.7
"""Sparsity up to which the axis of the limit reaches before anything is measured."""


def measure_speeds(
    study: Study,
    recipe: Recipe,
    sparsities: Sequence[float],
    batch: int,
    length: int,
    precision: str = "float32",
    repeats: int = REPEATS,
) -> Iterator[list[SpeedRow]]:
    """One sparsity after the other: rows of its three forms, better with every round. Join their last ones with `table`."""
    for sparsity in sparsities:
        checkpoint()
        for rows in compare(forms_of(study, recipe, sparsity), sparsity, batch, length, precision, repeats):
            # The dense model takes its turns anew at every sparsity, and is shown as it was then.
            yield [row | {"sparsity": sparsity} for row in rows]


def table(rows: Sequence[SpeedRow]) -> pd.DataFrame:
    """A tidy table with the columns COLUMNS, one row for each sparsity and form."""
    made = pd.DataFrame(list(rows), columns=list(COLUMNS))
    order = made["form"].map(FORMS.index)
    return made.assign(order=order).sort_values(["sparsity", "order"]).drop(columns="order").reset_index(drop=True)


def unrest(measured: pd.DataFrame) -> float:
    """How many times as long the dense model took at one sparsity as at another: 1 on a machine that does nothing else."""
    dense = measured.loc[measured["form"] == "dense", "latency_ms"]
    return float(dense.max() / dense.min()) if len(dense) else 1.0


def limit(study: Study, recipe: Recipe, length: int, sparsities: Sequence[float] = STEPS) -> pd.DataFrame:
    """How many times as fast the squeezed model would be if time followed FLOPs, from the plan of each sparsity.

    Columns sparsity and speedup; infinite where nothing is left. Exact where a sparsity is a share of units; else the plans
    are those of interpolated shares (`Study.unit_shares`), and what the units cannot save is missing.
    """
    if recipe.pattern:  # masks of every weight, not a comparison of places: fewer of them
        sparsities = study.reachable(recipe, sparsities[::_EVERY])
    if recipe.budget == "units":
        values = [study.cost(recipe, sparsity).speed_limit(length) for sparsity in sparsities]
        return pd.DataFrame({"sparsity": list(sparsities), "speedup": values})
    sparsities = study.reachable(recipe, sparsities)
    layers, ranking = find_layers(study.model), study.ranking(recipe)
    assert isinstance(ranking, Ranking)
    plans = (ranking.plan(share) for share in study.unit_shares(recipe, sparsities))
    values = [cost(layers, plan).speed_limit(length) for plan in plans]
    return pd.DataFrame({"sparsity": list(sparsities), "speedup": values})


def no_limit() -> pd.DataFrame:
    """An empty table with the columns of `limit`, for as long as the limit is not known."""
    return pd.DataFrame({"sparsity": [], "speedup": []}, dtype=float)


def draw_time(
    measured: pd.DataFrame, limits: pd.DataFrame, sparsity: float | None = None, removed: str = "share of rows removed (%)",
    example: str = "text",
) -> LiveFigure:  # fmt: skip
    """Milliseconds a text (or whatever an `example` is) takes against sparsity, with the quartiles of the repeats.

    The limit line is the dense model's time (its median over all sparsities) divided by the FLOP limit.
    """
    made = measured.assign(**{name: measured[f"{name}_ms"] / measured["batch"] for name in ("latency", "low", "high")})
    figure = theme.figure(f"Time per {example} on this machine", removed, f"milliseconds per {example}")
    top = 1.0
    if len(made):
        dense = float(made.loc[made["form"] == "dense", "latency"].median())
        top = _HEADROOM * _highest(made["latency"], made["high"])
        _add_limit(figure, limits["sparsity"], dense / limits["speedup"], "%{y:.3g} ms")
        for form, part in made.groupby("form"):
            _add_form(figure, str(form), part["sparsity"], part["latency"], part["low"], part["high"], "%{y:.3g} ms")
    else:
        theme.say(figure, "not measured yet")
    return _framed(figure, top, sparsity)


def draw_speedup(
    measured: pd.DataFrame, limits: pd.DataFrame, sparsity: float | None = None, removed: str = "share of rows removed (%)"
) -> LiveFigure:
    """How many times as fast as dense each form is, beside the FLOP limit; the dense model in the same rounds counts 1."""
    figure = theme.figure("Speed-up, beside what FLOPs promise", removed, "times as fast as dense")
    far = float(measured["sparsity"].max()) if len(measured) else _UNMEASURED_TO
    shown = limits.loc[(limits["sparsity"] <= far) & np.isfinite(limits["speedup"]), "speedup"]
    top = float(shown.max()) if len(shown) else 1.0
    _add_limit(figure, limits["sparsity"], limits["speedup"].where(np.isfinite(limits["speedup"])), "%{y:.2f} times")
    if len(measured):
        # The quartiles of a form's own repeats, against the dense median.
        dense = measured["latency_ms"] * measured["speedup"]
        made = measured.assign(low=dense / measured["high_ms"], high=dense / measured["low_ms"])
        top = max(top, _highest(made["speedup"], made["high"]))
        for form, part in made.groupby("form"):
            _add_form(figure, str(form), part["sparsity"], part["speedup"], part["low"], part["high"], "%{y:.2f} times")
    return _framed(figure, _HEADROOM * top, sparsity)


def measure_zeros(
    study: Study, recipe: Recipe, sparsities: Sequence[float], batch: int, length: int, repeats: int = REPEATS
) -> Iterator[list[SpeedRow]]:
    """Rows of `vp_core.speed.measure_sparse`: single weights go as the recipe takes them, or by magnitude."""
    pattern = recipe.pattern
    masks = (lambda sparsity: study.masks(recipe, sparsity)) if pattern and not pattern.of else None
    yield from measure_sparse(study.model, sparsities, batch, length, repeats, masks)


def sparse_table(rows: Sequence[SpeedRow]) -> pd.DataFrame:
    """A tidy table with the columns SPARSE_COLUMNS, one row for each sparsity and form."""
    made = pd.DataFrame(list(rows), columns=list(SPARSE_COLUMNS))
    order = made["form"].map(SPARSE_FORMS.index)
    return made.assign(order=order).sort_values(["sparsity", "order"]).drop(columns="order").reset_index(drop=True)


def draw_sparse(measured: pd.DataFrame, sparsity: float | None = None) -> LiveFigure:
    """How many times as fast as dense a layer's linear maps are against the share of weights that is gone, form by form.

    The axis is logarithmic: half as fast is as far from dense as twice as fast.
    """
    figure = theme.figure(SPARSE_TITLE, "share of a layer's weights removed (%)", "times as fast as dense", height=340)
    low, top = 0.5, 2.0
    if len(measured):
        low, top = min(low, float(measured["speedup"].min())), max(top, float(measured["speedup"].max()))
        for form in SPARSE_FORMS:
            part = measured[measured["form"] == form]
            if len(part):
                _add_sparse(figure, form, part)
    else:
        theme.say(figure, "not measured yet")
    low, top = low / _HEADROOM, top * _HEADROOM
    figure.update_xaxes(range=[-2, 102], dtick=10)
    ticks = [tick for tick in (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50) if low <= tick <= top]
    figure.update_yaxes(type="log", range=[np.log10(low), np.log10(top)], tickvals=ticks, ticktext=[f"{t:g}" for t in ticks])
    return LiveFigure(figure, () if sparsity is None else theme.follow(figure, sparsity, low, top))


def _add_sparse(figure, form: str, part: pd.DataFrame) -> None:
    dense = part["latency_ms"] * part["speedup"]
    shown = np.stack([dense / part["high_ms"], dense / part["low_ms"], part["disk_megabytes"]], axis=1)
    figure.add_scatter(
        x=[*(100 * part["sparsity"])], y=[*part["speedup"]], mode="lines+markers", name=SPARSE_NAMES[form], customdata=shown,
        line={"color": theme.SPARSE_COLOURS[form], "width": 2.5, "dash": "dot" if form == "dense" else "solid"},
        marker={"size": 9, "symbol": _SPARSE_SYMBOLS[form]},
        hovertemplate="%{x:.0f} %: %{y:.2f} times (quartiles %{customdata[0]:.3g} to %{customdata[1]:.3g}), "
        "%{customdata[2]:.2f} MB on disk",
    )  # fmt: skip


def _highest(middle: pd.Series, high: pd.Series) -> float:
    return float(min(high.max(), _BARS_TO * middle.max()))


def _add_limit(figure, sparsities: pd.Series, values: pd.Series, hover: str) -> None:
    figure.add_scatter(
        x=[*(100 * sparsities)], y=[None if np.isnan(v) else float(v) for v in values], mode="lines", name="FLOP limit",
        line={"color": theme.LIMIT, "width": 2, "dash": "dash"}, hovertemplate="%{x:.0f} %: " + hover,
    )  # fmt: skip


def _add_form(figure, form: str, x: pd.Series, middle: pd.Series, low: pd.Series, high: pd.Series, hover: str) -> None:
    colour = theme.FORM_COLOURS[form]
    figure.add_scatter(
        x=[*(100 * x)], y=[*middle], mode="lines+markers", name=form, line={"color": colour, "width": 2.5},
        marker={"size": 9, "symbol": _SYMBOLS[form]}, customdata=np.stack([low, high], axis=1),
        error_y={"type": "data", "symmetric": False, "array": high - middle, "arrayminus": middle - low, "thickness": 1.5},
        hovertemplate="%{x:.0f} %: " + hover + " (quartiles %{customdata[0]:.3g} to %{customdata[1]:.3g})",
    )  # fmt: skip


def _framed(figure, top: float, sparsity: float | None) -> LiveFigure:
    """Axes, legend, and a line at the slider's sparsity."""
    figure.update_yaxes(range=[0, top])
    figure.update_xaxes(range=[-2, 102], dtick=10)
    theme.legend_below_title(figure)
    return LiveFigure(figure, () if sparsity is None else theme.follow(figure, sparsity, 0, top))
