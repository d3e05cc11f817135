"""Statistics of every neuron over real tokens: `collect(model, batches) -> Statistics`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from vp_core.asking.batches import Batch
from vp_core.ground.errors import VPError, one_of
from vp_core.ground.names import ESTIMATORS
from vp_core.ground.store import load_tensors, save_tensors
from vp_core.measuring.moments import Moments, batch_moments, ewmv_update
from vp_core.measuring.tally import tally
from vp_core.model.projections import Layer, find_layers
from vp_core.model.sites import neuron_site

ALPHA = 0.9
"""The paper's weight of the newest batch in the moving variance (footnote 3)."""


@dataclass(frozen=True, eq=False)
class Statistics:
    """Mean and variance of every neuron: projection name (`3.ffn_in`) → moments (neurons,), float64.

    `ewmv` holds the moving variances where they were asked for. `model` and `data` are the fingerprints of what was
    measured; `tokens` counts real tokens, each as often as a shared layer sees it (ALBERT).
    """

    moments: Mapping[str, Moments]
    ewmv: Mapping[str, Tensor] | None
    model: str
    data: str

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Statistics) or self.moments.keys() != other.moments.keys():
            return False
        same = (self.estimator, self.model, self.data, self.tokens) == (other.estimator, other.model, other.data, other.tokens)
        pairs = [(self.mean(n), other.mean(n)) for n in self.moments] + [
            (self.variance(n), other.variance(n)) for n in self.moments
        ]
        return same and all(torch.equal(a, b) for a, b in pairs)

    @property
    def estimator(self) -> str:
        """The estimator of the variances, `exact` or `ewmv`."""
        return "exact" if self.ewmv is None else "ewmv"

    @property
    def tokens(self) -> int:
        """Real tokens that were seen."""
        return next(iter(self.moments.values())).count

    def mean(self, name: str) -> Tensor:
        """Mean output of the projection's neurons (d_out,)."""
        return self.moments[name].mean

    def variance(self, name: str) -> Tensor:
        """Variance of the projection's neurons (d_out,), by the estimator that was asked for."""
        return self.moments[name].variance() if self.ewmv is None else self.ewmv[name]

    def variances(self) -> dict[str, Tensor]:
        """Variances (d_out,) of all projections by name."""
        return {name: self.variance(name) for name in self.moments}

    def merge(self, other: "Statistics") -> "Statistics":
        """The statistics of both together, as if one had seen everything.

        Raises VPError for those of different models, and for `ewmv`, since a moving variance depends on the order.
        """
        if self.ewmv is not None or other.ewmv is not None:
            raise VPError("Moving variances (ewmv) cannot be merged: collect with the estimator 'exact' instead.")
        if self.model != other.model or set(self.moments) != set(other.moments):
            raise VPError("These statistics belong to different models: collect both on the same model.")
        merged = {}
        for name, moments in self.moments.items():
            merged[name] = replace(moments)
            merged[name].merge(other.moments[name])
        return Statistics(merged, None, self.model, f"{self.data}+{other.data}")

    def save(self, path: str | Path) -> None:
        """Write to a safetensors file, atomically."""
        about = {"model": self.model, "data": self.data, "tokens": str(self.tokens), "estimator": self.estimator}
        save_tensors(path, self.tensors(), kind="statistics", about=about)

    def tensors(self) -> dict[str, Tensor]:
        """All numbers by name: what `save` writes, and `from_tensors` reads."""
        tensors = {f"{name}|mean": m.mean for name, m in self.moments.items()}
        tensors |= {f"{name}|m2": m.m2 for name, m in self.moments.items()}
        tensors |= {f"{name}|rest": m.rest.expand_as(m.mean) for name, m in self.moments.items()}
        tensors |= {f"{name}|count": torch.tensor(m.count) for name, m in self.moments.items()}  # a decoder has its own
        tensors |= {f"{name}|ewmv": v for name, v in (self.ewmv or {}).items()}
        return tensors

    @classmethod
    def load(cls, path: str | Path) -> "Statistics":
        """Read what `save` wrote; VPError if the file is broken or something else."""
        tensors, about = load_tensors(path, kind="statistics")
        return cls.from_tensors(tensors, about["estimator"], about["model"], about["data"])

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], estimator: str, model: str, data: str) -> "Statistics":
        """The statistics of a model and texts, by their names, from what `tensors` gave."""
        names = [key.removesuffix("|mean") for key in tensors if key.endswith("|mean")]
        moments = {
            name: Moments(int(tensors[f"{name}|count"]), *(tensors[f"{name}|{part}"] for part in ("mean", "m2", "rest")))
            for name in names
        }
        ewmv = {name: tensors[f"{name}|ewmv"] for name in names} if estimator == "ewmv" else None
        return cls(moments, ewmv, model, data)


def collect(
    model: PreTrainedModel,
    batches: Iterable[Batch],
    estimator: str = "exact",
    alpha: float = ALPHA,
    *,
    model_id: str = "",
    data_id: str = "",
    layers: Sequence[Layer] | None = None,
) -> Statistics:
    """Mean and variance of all six projection types over the real tokens of `batches`.

    `exact` merges every batch by Chan's formula; `ewmv` adds the paper's moving variance (eq. 4), which depends on the
    batches and their order. `layers` are the model's, where the caller has them. Raises VPError for an unknown estimator, an
    empty set, activations that are NaN or infinite (the sentence names the layer), and a family that is not supported.
    """
    one_of("estimator", estimator, ESTIMATORS)
    projections = (p for layer in (find_layers(model) if layers is None else layers) for p in layer.projections.values())
    moving: dict[str, Tensor] = {}

    def each(name: str, new: Moments) -> None:
        _check_finite(name, new.m2)
        if estimator == "ewmv":
            moving[name] = ewmv_update(moving.get(name), new, alpha)

    total = tally(
        model, map(neuron_site, projections), batches, lambda _site, y, real: batch_moments(y, real),
        each=each, nothing="There are no tokens to collect statistics from: give at least one sentence.", least=2,
        ordered=estimator == "ewmv", doing="measuring statistics",
    )  # fmt: skip
    return Statistics(total, moving if estimator == "ewmv" else None, model_id, data_id)


def _check_finite(name: str, values: Tensor) -> None:
    """VPError that names the layer if the statistic (neurons,) of the projection `name` (`3.ffn_in`) is NaN or infinite."""
    if not torch.isfinite(values).all():
        layer, type_ = name.split(".")
        raise VPError(
            f"The output of {type_} in layer {layer} is not finite: this model cannot be measured; check its weights, or run "
            "it in float32."
        )
