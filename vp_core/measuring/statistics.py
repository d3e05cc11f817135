"""Statistics of every neuron over real tokens: `collect(model, batches) -> Statistics`.

Hooks are born and die here, on a structural copy of the model, so nobody else ever meets them.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from vp_core.asking.batches import Batch
from vp_core.ground.errors import VPError, one_of
from vp_core.ground.names import ESTIMATORS
from vp_core.ground.parallel import in_parallel, per_thread
from vp_core.ground.store import load_tensors, save_tensors
from vp_core.measuring.moments import Moments, batch_moments, ewmv_update
from vp_core.model.projections import Projection, find_projections
from vp_core.model.sharing import share

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
        return "exact" if self.ewmv is None else "ewmv"

    @property
    def tokens(self) -> int:
        return next(iter(self.moments.values())).count

    def mean(self, name: str) -> Tensor:
        """Mean output of the projection's neurons (d_out,)."""
        return self.moments[name].mean

    def variance(self, name: str) -> Tensor:
        """Variance of the projection's neurons (d_out,), by the estimator that was asked for."""
        return self.moments[name].variance() if self.ewmv is None else self.ewmv[name]

    def variances(self) -> dict[str, Tensor]:
        """Variances of all projections by name."""
        return {name: self.variance(name) for name in self.moments}

    def merge(self, other: "Statistics") -> "Statistics":
        """Both together, as if one had seen everything; `exact` only, since a moving variance depends on the order."""
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
        tensors = {f"{name}|mean": m.mean for name, m in self.moments.items()}
        tensors |= {f"{name}|m2": m.m2 for name, m in self.moments.items()}
        tensors |= {f"{name}|rest": m.rest.expand_as(m.mean) for name, m in self.moments.items()}
        tensors |= {f"{name}|count": torch.tensor(m.count) for name, m in self.moments.items()}  # a decoder has its own
        tensors |= {f"{name}|ewmv": v for name, v in (self.ewmv or {}).items()}
        about = {"model": self.model, "data": self.data, "tokens": str(self.tokens), "estimator": self.estimator}
        save_tensors(path, tensors, kind="statistics", about=about)

    @classmethod
    def load(cls, path: str | Path) -> "Statistics":
        """Read what `save` wrote; VPError if the file is broken or something else."""
        tensors, about = load_tensors(path, kind="statistics")
        names = [key.removesuffix("|mean") for key in tensors if key.endswith("|mean")]
        moments = {
            name: Moments(int(tensors[f"{name}|count"]), *(tensors[f"{name}|{part}"] for part in ("mean", "m2", "rest")))
            for name in names
        }
        ewmv = {name: tensors[f"{name}|ewmv"] for name in names} if about["estimator"] == "ewmv" else None
        return cls(moments, ewmv, about["model"], about["data"])


@contextmanager
def measured(model: nn.Module, projections: Iterable[Projection], batch: Batch, found: dict[str, Moments]) -> Iterator[None]:
    """While open, a forward pass leaves each projection's moments over the real tokens of the batch in `found`.

    Outputs are used up as they appear and never kept: memory grows with the number of neurons, not of tokens. A layer that
    is used several times (ALBERT) adds up over its uses.
    """
    real = {decoder: batch.real_tokens(decoder) for decoder in (False, True)}

    def add(projection: Projection, values: Tensor) -> None:
        values = values[..., projection.start : projection.start + projection.d_out]
        new = batch_moments(values.flatten(0, -2), real[projection.decoder])
        if projection.name in found:
            found[projection.name].merge(new)
        else:
            found[projection.name] = new

    def place(p: Projection):
        if p.gate and p.consumer:  # the neuron is what the consumer reads
            hook = lambda _module, inputs: add(p, inputs[0])  # noqa: E731
            return model.get_submodule(p.consumer).register_forward_pre_hook(hook)
        return model.get_submodule(p.path).register_forward_hook(lambda _module, _inputs, output: add(p, output))

    handles = [place(p) for p in projections]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def moments_of_batches(model: nn.Module, batches: Iterable[Batch]) -> Iterator[dict[str, Moments]]:
    """The moments of each batch, in order: projection name → Moments."""
    projections = find_projections(model)
    private = per_thread(lambda: share(model))

    def one(batch: Batch) -> dict[str, Moments]:
        hooked = private()
        found: dict[str, Moments] = {}
        with torch.inference_mode(), measured(hooked, projections, batch, found):
            hooked(**batch.inputs)
        return found

    return in_parallel(one, batches)


def collect(
    model: nn.Module,
    batches: Iterable[Batch],
    estimator: str = "exact",
    alpha: float = ALPHA,
    *,
    model_id: str = "",
    data_id: str = "",
) -> Statistics:
    """Mean and variance of all six projection types over the real tokens of `batches`.

    `exact` merges every batch by Chan's formula; `ewmv` adds the paper's moving variance (eq. 4), which depends on the
    batches and their order. Raises VPError for an empty set and for activations that are NaN or infinite.
    """
    one_of("estimator", estimator, ESTIMATORS)
    total: dict[str, Moments] = {}
    moving: dict[str, Tensor] = {}
    for found in moments_of_batches(model, batches):
        for name, moments in found.items():
            if not torch.isfinite(moments.m2).all():
                raise VPError(
                    f"The output of {name.split('.')[1]} in layer {name.split('.')[0]} is not finite: this model cannot "
                    "be measured; check its weights, or run it in float32."
                )
            if name in total:
                total[name].merge(moments)
            else:
                total[name] = moments
            if estimator == "ewmv":
                moving[name] = ewmv_update(moving.get(name), moments, alpha)
    if not total or next(iter(total.values())).count < 2:
        raise VPError("There are no tokens to collect statistics from: give at least one sentence.")
    return Statistics(total, moving if estimator == "ewmv" else None, model_id, data_id)
