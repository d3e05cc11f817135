"""How fast a model is on this machine: as it came, with its removed rows masked, and squeezed."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

from vp_core.measuring.statistics import Statistics
from vp_core.model.precision import bytes_of, in_precision
from vp_core.model.projections import find_layers
from vp_core.ranking.criteria import score_neurons
from vp_core.ranking.plan import rank
from vp_core.recipes import Recipe
from vp_core.replacing.prune import prune
from vp_core.squeezing.cost import Cost, flops_per_token, parameters
from vp_core.squeezing.squeeze import squeeze
from vp_core.squeezing.timing import REPEATS, Timing, time_forward
from vp_core.study import Study

SpeedRow = dict[str, Any]
"""One line of a table of speeds: form, sparsity, precision, batch, length, latency with quartiles, sizes."""


@dataclass(frozen=True, eq=False)
class Forms:
    """A model as it came, with its removed rows masked, and squeezed; what the plan takes from it."""

    dense: PreTrainedModel
    masked: PreTrainedModel
    squeezed: PreTrainedModel
    cost: Cost

    def items(self) -> dict[str, PreTrainedModel]:
        """The three models by the names that tables have for them."""
        return {"dense": self.dense, "masked": self.masked, "squeezed": self.squeezed}


def forms_of(study: Study, recipe: Recipe, sparsity: float) -> Forms:
    """The three forms of a study's model at one sparsity."""
    masked = study.pruned(recipe, sparsity)
    return Forms(study.model, masked, study.squeezed(recipe, sparsity), study.cost(recipe, sparsity))


def forms_without_data(model: PreTrainedModel, sparsity: float) -> Forms:
    """Forms of a model nobody has measured on text: rows of the smallest norm (`magnitude`, per type) become zero.

    Good enough to time, since speed does not depend on the constants; its answers mean nothing.
    """
    layers = find_layers(model)
    projections = [p for layer in layers for p in layer.projections.values()]
    nothing = Statistics({}, None, "", "")
    plan = rank(score_neurons("magnitude", model, nothing, projections), projections, criterion="magnitude").plan(sparsity)
    masked = prune(model, plan, {p.name: torch.zeros(p.d_out) for p in projections})
    squeezed = squeeze(masked, plan)
    return Forms(model, masked, squeezed, squeezed.squeezed.cost)


def compare(
    forms: Forms,
    sparsity: float,
    batch: int,
    length: int,
    precision: str = "float32",
    repeats: int = REPEATS,
) -> Iterator[list[SpeedRow]]:
    """Rows of the three forms, better with every round; the last list has all repeats.

    Speed-ups are against the dense model in the same precision and the same rounds. Raises VPError for an unknown precision,
    and for a batch or length that cannot be timed.
    """
    models = {name: in_precision(model, precision) for name, model in forms.items().items()}
    for timings in time_forward(models, batch, length, repeats):
        yield [_row(name, sparsity, precision, forms, models[name], timings[name], timings["dense"]) for name in models]


def _row(
    form: str, sparsity: float, precision: str, forms: Forms, run: PreTrainedModel, timing: Timing, dense: Timing
) -> SpeedRow:
    low, high = timing.spread
    model = forms.items()[form]
    return {
        "form": form,
        "sparsity": sparsity if form != "dense" else 0.0,
        "precision": precision,
        "batch": timing.batch,
        "length": timing.length,
        "latency_ms": 1000 * timing.median,
        "low_ms": 1000 * low,
        "high_ms": 1000 * high,
        "texts_per_second": timing.texts_per_second,
        "speedup": dense.median / timing.median,
        "flop_limit": forms.cost.speed_limit(timing.length) if form == "squeezed" else 1.0,
        "parameters": parameters(model),
        "megabytes": bytes_of(run) / 1e6,
        "mflops_per_token": flops_per_token(model, timing.length) / 1e6,
        "repeats": len(timing.seconds),
    }
