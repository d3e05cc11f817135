"""Whole rows go while a model trains: Variance Pruning, section 3, and its random baseline."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from vp_core.gradual.cuts import Cuts
from vp_core.gradual.gone import check_plain, of_its_shape, rows_by_module, without_gradient, zero_rows
from vp_core.gradual.meters import Meters
from vp_core.gradual.narrow import is_narrow, narrow, widen
from vp_core.ground.errors import VPError, one_of
from vp_core.measuring.statistics import ALPHA
from vp_core.model.projections import Projection, as_rows, linear_map
from vp_core.ranking.plan import Plan, rank
from vp_core.squeezing.squeeze import squeeze
from vp_core.training.callbacks import Pruner, Run, State
from vp_core.training.held import count_zero

CRITERIA = ("variance", "random")
SQUEEZED = ("end", "last", "each")
"""When the removed rows leave the matrices: at the end, after the last cut, or after each."""


class GradualRows(Pruner):
    """At every cut the rows whose outputs vary least by the `Meters` of the time since the last cut go, and stay gone.

    Of n rows that compete (`scope`, by default those of a type in all layers) round(s·n) are gone after a cut at the share s,
    ties by layer, then index. A removed row's weights, their gradients and Adam moments are zero ever after; the mean of the
    window goes into its bias, which trains on. Under a gate a neuron is the product, both rows go, and what the consumer made
    of its mean joins the consumer's bias. Linear maps without a bias (Llama) get one, which stays 0 but for removed rows.

    `random` takes as many rows of each single projection as the variance would, by the `seed`. `squeezed` says when the rows
    leave the matrices, for speed; it changes nothing but rounding. VPError for cuts that do not fit the training, a squeezed
    or spectrally normalised model, and a family that is not supported.
    """

    def __init__(
        self, cuts: Cuts, criterion: str = "variance", scope: str = "per type", alpha: float = ALPHA, seed: int = 0,
        squeezed: str = "end",
    ) -> None:  # fmt: skip
        self.schedule, self.criterion = cuts, one_of("criterion", criterion, CRITERIA)
        self.scope = one_of("scope", scope, ("per type", "per layer", "global", "scaled"))
        self.seed, self.squeezed = seed, one_of("time to squeeze", squeezed, SQUEEZED)
        self.meters = Meters(alpha)
        self.keep: dict[str, Tensor] = {}
        self._cuts: list[dict[str, Any]] = []
        self._bare: dict[str, int] = {}
        self._by_module: dict[str, Tensor] = {}
        self._held: dict[str, Tensor] = {}

    def check(self, steps: int) -> None:
        """VPError unless all cuts come between the first step and the last."""
        self.schedule.check(steps)
        if self.schedule.first < 1:
            raise VPError("Before the first step there is no variance to cut by: let the first cut be at step 1 or later.")

    def prepare(self, model: PreTrainedModel, steps: int) -> None:
        """Check that cuts and model go together, and give biases to maps that will need one."""
        self.check(steps)
        check_plain(model)
        self.meters.prepare(model, steps)
        if self.squeezed != "end" and any(count_zero(model)):
            raise VPError("This model has rows that are zero already, which are held as they are: squeeze it at the end.")
        self.keep = {p.name: torch.ones(p.d_out, dtype=torch.bool) for p in self.projections}
        self._bare = _give_biases(model, self.projections)

    @property
    def projections(self) -> tuple[Projection, ...]:
        """The model's, in their order."""
        return self.meters.projections

    def begin(self, run: Run) -> None:
        """Nothing is gone yet."""
        self._set(run, self.keep)

    def before_step(self, run: Run) -> None:
        """Meters begin a step."""
        self.meters.before_step(run)

    def watching(self, run: Run, inputs: Mapping[str, Tensor]) -> AbstractContextManager[None]:
        """Meters look on as long as there is a cut to come."""
        return self.meters.watching(run, inputs) if run.step < self.schedule.last else nullcontext()

    def after_backward(self, run: Run) -> None:
        """What is gone gets no gradient."""
        for path, rows in self._by_module.items():
            module = run.model.get_submodule(path)
            if not is_narrow(module) and (gradient := linear_map(run.model, path).weight.grad) is not None:
                as_rows(module, gradient)[rows] = 0
        for path, places in self._held.items():
            without_gradient(linear_map(run.model, path).bias, places)

    def after_step(self, run: Run) -> None:
        """Meters take the step in, and where it is time, rows go."""
        if run.step > self.schedule.last:
            return
        self.meters.after_step(run)
        share = self.schedule.at(run.step)
        if share is not None:
            self._cut(run, share)

    def end(self, run: Run) -> None:
        """Every matrix is dense again."""
        widen(run)

    def _cut(self, run: Run, share: float) -> None:
        keep, means = self._choose(share), self.meters.means()
        widen(run)
        with torch.no_grad():
            for p in self.projections:
                rows = (self.keep[p.name] & ~keep[p.name]).nonzero().squeeze(1)
                if len(rows):
                    _remove(run, p, rows, means[p.name])
        self._set(run, keep)
        self._cuts.append({"step": run.step, "sparsity": share, "removed": self.removed()})
        self.meters.reset()
        self._narrow(run)
        gone = sum(int((~mask).sum()) for mask in keep.values())
        run.tell(f"{gone:,} of {sum(map(len, keep.values())):,} rows are gone after step {run.step:,}")

    def _choose(self, share: float) -> dict[str, Tensor]:
        """By projection name the rows (d_out,) that stay at this share: none of those that are gone."""
        variances = self.meters.variances()
        scores = {name: variances[name].masked_fill(~keep, -torch.inf) for name, keep in self.keep.items()}
        keep = dict(rank(scores, self.projections, self.scope, self.criterion).plan(share).keep)
        if self.criterion == "random":
            for name, mask in keep.items():
                order = np.random.default_rng([self.seed, *name.encode()]).permutation(len(mask))
                gone = torch.from_numpy(order[: len(mask) - int(mask.sum())])
                keep[name] = torch.ones_like(mask).index_fill_(0, gone, False)
        return keep

    def _set(self, run: Run, keep: Mapping[str, Tensor]) -> None:
        """These rows are left; what stands for nothing that is gone gets no gradient either."""
        device, model = run.accelerator.device, run.model
        self.keep = dict(keep)
        self._by_module = {path: rows.to(device) for path, rows in rows_by_module(self.projections, self.keep).items()}
        held = {path: torch.ones(width, dtype=torch.bool) for path, width in self._bare.items()}
        for p in self.projections:
            rows = (~self.keep[p.name]).nonzero().squeeze(1)
            if p.gate is None:
                if p.path in held:
                    held[p.path][p.part.at(rows)] = False
            elif len(rows):
                if p.consumer in held:
                    held[p.consumer][:] = False
                for path, part in ((p.path, p.part), (p.gate, p.gate_part)):
                    if (bias := linear_map(model, path).bias) is not None:
                        held.setdefault(path, torch.zeros(len(bias), dtype=torch.bool))[part.at(rows)] = True
        self._held = {path: places.to(device) for path, places in held.items()}

    def _narrow(self, run: Run) -> None:
        """Removed rows leave their matrices, if it is time."""
        if (self.squeezed == "each" and self._cuts) or (self.squeezed == "last" and run.step >= self.schedule.last):
            narrow(run, self._by_module)
            run.rewrap()

    def plan(self) -> Plan:
        """The rows that are left by now."""
        share = self._cuts[-1]["sparsity"] if self._cuts else 0.0
        return Plan(self.keep, self.criterion, self.scope, share)

    def removed(self) -> dict[str, float]:
        """Share of each projection's rows that is gone by now."""
        return {name: int((~mask).sum()) / len(mask) for name, mask in self.keep.items()}

    def cuts(self) -> list[dict[str, Any]]:
        """What went when."""
        return list(self._cuts)

    def compact(self, model: PreTrainedModel) -> PreTrainedModel:
        """After the training: a squeezed model with the outputs of `model`."""
        return squeeze(model, self.plan())

    def state(self) -> State:
        """Masks, cuts and meters."""
        tensors, facts = self.meters.state()
        masks = {f"keep|{name}": mask for name, mask in self.keep.items()}
        return {**masks, **{f"meters|{name}": t for name, t in tensors.items()}}, {"cuts": self._cuts, "meters": facts}

    def restore(self, run: Run, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Go on from a state, matrices as narrow as they were."""
        own = {name.removeprefix("meters|"): t for name, t in tensors.items() if name.startswith("meters|")}
        self.meters.restore(run, own, facts["meters"])
        self._cuts = list(facts["cuts"])
        self._set(run, {p.name: tensors[f"keep|{p.name}"] for p in self.projections})
        self._narrow(run)


def _give_biases(model: PreTrainedModel, projections: tuple[Projection, ...]) -> dict[str, int]:
    """Biases of 0 for the linear maps that have none and will take up constants: module path → width."""
    given: dict[str, int] = {}
    for p in projections:
        path = p.consumer if p.gate else p.path
        assert path
        module = linear_map(model, path)
        if module.bias is None:
            weight = as_rows(module, module.weight)
            module.bias = nn.Parameter(weight.new_zeros(len(weight)))
            given[path] = len(weight)
    return given


def _remove(run: Run, p: Projection, rows: Tensor, means: Tensor) -> None:
    """Rows (indices) of a projection become zero, and their mean outputs of (d_out,) take their place."""
    module, rows = linear_map(run.model, p.path), rows.to(run.accelerator.device)
    values = means.to(rows.device)[rows]
    zero_rows(module, p.part.at(rows), run.optimiser)
    if p.gate is None:
        assert module.bias is not None
        module.bias[p.part.at(rows)] = values.to(module.bias.dtype)
        return
    assert p.consumer
    gate, reader = linear_map(run.model, p.gate), linear_map(run.model, p.consumer)
    zero_rows(gate, p.gate_part.at(rows), run.optimiser)
    for one, part in ((module, p.part), (gate, p.gate_part)):
        if one.bias is not None:
            for values_there in of_its_shape(one.bias, run.optimiser):
                values_there[part.at(rows)] = 0
    constant = as_rows(reader, reader.weight)[:, rows].double() @ values
    reader.bias += constant.to(reader.bias.dtype)
