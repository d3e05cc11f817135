"""What 16 and 8 bits cost and save, for the dense model and for the squeezed one: score, size and speed."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pandas as pd
from transformers import PreTrainedModel

from vp_core.asking.kinds.question import Score
from vp_core.ground.names import PRECISIONS
from vp_core.ground.work import checkpoint
from vp_core.model.precision import bytes_of, device_of, in_precision
from vp_core.recipes import Recipe
from vp_core.squeezing.timing import REPEATS, time_forward
from vp_core.study import Study

FORMS = ("dense", "squeezed")
COLUMNS = (
    "sparsity", "form", "precision", "metric", "score", "low", "high", "n", "megabytes", "batch", "length", "latency_ms",
    "low_ms", "high_ms", "speedup", "repeats",
)  # fmt: skip
PrecisionRow = dict[str, Any]
Asked = Callable[[PreTrainedModel, str, str], Score]
"""The exact score of a model, given its form and the precision to run it in."""


def measure_precisions(
    study: Study,
    recipe: Recipe,
    sparsity: float,
    batch: int,
    length: int,
    ask: Asked,
    repeats: int = REPEATS,
) -> Iterator[list[PrecisionRow]]:
    """Six rows (on an accelerator four: no int8), form × precision, better each time: first speed by round, then the scores.

    Speed-ups are against the dense model in float32, with which all the others take turns.
    """
    forms = {"dense": study.model, "squeezed": study.squeezed(recipe, sparsity)}
    here = PRECISIONS if device_of(study.model).type == "cpu" else [one for one in PRECISIONS if one != "int8"]
    models = {(form, precision): in_precision(forms[form], precision) for form in FORMS for precision in here}
    rows: dict[tuple[str, str], PrecisionRow] = {}
    for key, model in models.items():
        rows[key] = {"sparsity": sparsity, "form": key[0], "precision": key[1], "megabytes": bytes_of(model) / 1e6}
    for timings in time_forward({" ".join(key): model for key, model in models.items()}, batch, length, repeats):
        dense = timings["dense float32"].median
        for key, row in rows.items():
            timing = timings[" ".join(key)]
            low, high = timing.spread
            row |= {"batch": batch, "length": length, "latency_ms": 1000 * timing.median, "low_ms": 1000 * low}
            row |= {"high_ms": 1000 * high, "speedup": dense / timing.median, "repeats": len(timing.seconds)}
        yield _copies(rows)
    for (form, precision), row in rows.items():
        checkpoint()
        score = ask(forms[form], form, precision)
        row |= {"metric": score.metric, "score": score.value, "low": score.low, "high": score.high, "n": score.n}
        yield _copies(rows)


def table(rows: Sequence[PrecisionRow]) -> pd.DataFrame:
    """A tidy table with the columns COLUMNS; what is not measured yet is missing."""
    return pd.DataFrame(list(rows), columns=list(COLUMNS))


def _copies(rows: dict[tuple[str, str], PrecisionRow]) -> list[PrecisionRow]:
    return [dict(row) for row in rows.values()]
