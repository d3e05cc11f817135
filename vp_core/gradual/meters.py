"""Mean and variance of every neuron of a model in training (Variance Pruning, section 3.1): `Meters`.

One update an optimiser step, whatever number of passes and processes it is made of: their moments are first merged into those
of the step by Chan's formula. On a processor they are summed as they come by; elsewhere nothing waits for the sums but the end
of the step.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from vp_core.asking.batches import Batch
from vp_core.ground.errors import VPError
from vp_core.measuring.moments import Moments, batch_moments, ewmv_update, two_sum
from vp_core.measuring.statistics import ALPHA
from vp_core.model.projections import Projection, find_projections
from vp_core.model.sites import Site, neuron_site, observed
from vp_core.training.callbacks import Callback, Run, State

_PARTS = ("mean", "m2", "rest")


class Meters(Callback):
    """The mean over all real tokens since the last `reset` (eq. 2), and the exponentially weighted moving variance (eq. 3, 4).

    By projection name (`3.ffn_in`), of its output or under a gate of the product, (neurons,) float64 on the CPU. `alpha` is
    the weight of the newest step. Nothing of the model's graph is kept. A layer used several times (ALBERT) adds up its uses.
    """

    def __init__(self, alpha: float = ALPHA) -> None:
        if not 0 < alpha <= 1:
            raise VPError(f"The weight α {alpha!r} of the newest variance must be above 0 and at most 1: the paper's is 0.9.")
        self.alpha = alpha
        self.projections: tuple[Projection, ...] = ()
        self._seen: list[_Pass] = []
        self.reset()

    def reset(self) -> None:
        """Forget everything: what comes after a cut is another model (section 3)."""
        self.steps = 0
        self.moments = {p.name: Moments.empty(p.d_out) for p in self.projections}
        self.ewmv: dict[str, Tensor] = {}

    @property
    def tokens(self) -> int:
        """Real tokens since the last reset, each as often as a shared layer sees it."""
        return max((moments.count for moments in self.moments.values()), default=0)

    def means(self) -> dict[str, Tensor]:
        """Mean outputs (d_out,) by projection name; VPError if nothing was seen, or what was seen is not finite."""
        return self._checked({name: moments.mean for name, moments in self.moments.items()})

    def variances(self) -> dict[str, Tensor]:
        """Moving variances (d_out,) by projection name; raises as `means` does."""
        return self._checked(self.ewmv)

    def _checked(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        if not self.steps:
            raise VPError("The meters have seen no step since the last cut: let some steps pass before the first and between.")
        for name, value in values.items():
            if not torch.isfinite(value).all():
                raise VPError(f"The output of {name} was not finite in training: choose a smaller learning rate, or float32.")
        return dict(values)

    def prepare(self, model: PreTrainedModel, steps: int) -> None:
        """Find what is to be looked at; VPError for a squeezed model, and for a family that is not supported."""
        self.projections = find_projections(model)
        self.reset()

    def before_step(self, run: Run) -> None:
        """A step that failed leaves nothing."""
        self._seen.clear()

    @contextmanager
    def watching(self, run: Run, inputs: Mapping[str, Tensor]) -> Iterator[None]:
        """Look at every neuron in one forward pass."""
        seen = _Pass(inputs)
        with observed(run.model, map(neuron_site, self.projections), seen.see):
            yield
        self._seen.append(seen)

    def after_step(self, run: Run) -> None:
        """One update with all tokens of the step, of all processes."""
        step = {p.name: Moments.empty(p.d_out) for p in self.projections}
        for seen in self._seen:
            for name, found in seen.moments():
                step[name].merge(found)
        self._seen.clear()
        if run.accelerator.num_processes > 1:
            step = self._of_all(run, step)
        for name, new in step.items():
            if new.count:
                self.ewmv[name] = ewmv_update(self.ewmv.get(name), new, self.alpha)
                self.moments[name].merge(new)
        self.steps += 1

    def _of_all(self, run: Run, step: dict[str, Moments]) -> dict[str, Moments]:
        """The moments of a step in all processes together, merged in the order of their ranks: the same everywhere."""
        parts = [getattr(m, part).expand_as(m.mean) for m in step.values() for part in _PARTS]
        counts = torch.tensor([m.count for m in step.values()], dtype=torch.float64)
        whole = {p.name: Moments.empty(p.d_out) for p in self.projections}
        for row in run.gather(torch.cat([counts, *parts])):
            values = iter(row[len(counts) :].split([len(m.mean) for m in step.values() for _ in _PARTS]))
            for name, count in zip(step, row.tolist(), strict=False):
                whole[name].merge(Moments(int(count), next(values), next(values), next(values)))
        return whole

    def state(self) -> State:
        """Means, sums of squares and moving variances, and what they are counted in."""
        tensors = {f"{name}|{part}": getattr(m, part) for name, m in self.moments.items() for part in _PARTS}
        tensors |= {f"{name}|ewmv": value for name, value in self.ewmv.items()}
        return tensors, {"meter_steps": self.steps, "tokens": {name: m.count for name, m in self.moments.items()}}

    def restore(self, run: Run, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.steps = facts["meter_steps"]
        for name, count in facts["tokens"].items():
            self.moments[name] = Moments(count, *(tensors[f"{name}|{part}"] for part in _PARTS))
        self.ewmv = {p.name: tensors[f"{p.name}|ewmv"] for p in self.projections if f"{p.name}|ewmv" in tensors}


class _Pass:
    """What one forward pass shows: by site its moments, or on an accelerator what they are made of, still there."""

    def __init__(self, inputs: Mapping[str, Tensor]) -> None:
        batch = Batch(dict(inputs), np.empty(0))
        self._real = {decoder: batch.real_tokens(decoder) for decoder in (False, True)}
        self._done: list[tuple[str, Moments]] = []
        self._sums: list[tuple[str, Tensor]] = []

    def see(self, site: Site, value: Any) -> None:
        """Take what passed a site."""
        y, real = site.part(value).detach().flatten(0, -2), self._real[site.decoder]
        if y.device.type == "cpu":
            self._done.append((site.name, batch_moments(y, real)))
        else:
            self._sums.append((site.name, _sums(y, real)))

    def moments(self) -> list[tuple[str, Moments]]:
        """(site name, moments) of all that was seen, in order."""
        if self._sums:
            parts = torch.cat([sums.flatten() for *_, sums in self._sums]).cpu().split([s.numel() for *_, s in self._sums])
            for (name, sums), part in zip(self._sums, parts, strict=True):
                self._done.append((name, _from_sums(part.view(sums.shape))))
        return self._done


def _sums(y: Tensor, real: Tensor | None) -> Tensor:
    """(4, neurons) float64, where `y` (tokens, neurons) is: tokens, the first real one, Σ and Σ² of what lies beyond it."""
    weight = torch.ones(len(y), dtype=torch.float64, device=y.device) if real is None else real.double()
    shift = y.index_select(0, weight.argmax()[None])[0].double()
    deviation = y.double() - shift
    count = weight.sum().expand_as(shift)
    return torch.stack([count, shift, weight @ deviation, weight @ deviation.square()])


def _from_sums(sums: Tensor) -> Moments:
    """What `_sums` found, as moments."""
    counts, shift, total, squares = sums
    count = int(counts[0])
    if not count:
        return Moments.empty(len(shift))
    mean, rest = two_sum(shift, total / count)
    return Moments(count, mean, (squares - total.square() / count).clamp_(min=0), rest)
