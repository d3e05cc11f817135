"""The last rung of the ladder: every projection solved again, in forward order, against the dense model (METHODS section 6).

At each projection let x̂ be its input in the model pruned and refitted so far, and y its output in the dense model on the
same tokens; for the two that write into the residual stream, y + dense residual − pruned residual, so that drift from above
is repaired too. Surviving rows become W' = argmin ‖x̂W'ᵀ + b' − y‖² + λ‖W' − W‖², removed rows of single-row plans put out the
mean of y. No labels, no gradients: one pass over a few hundred sentences. λ is chosen for each projection on every fifth
sentence, which the candidates have not seen.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from vp_core.batches import Batch
from vp_core.covariance import check_finite
from vp_core.layerwise import Look, Walk, check_once, layer_modules
from vp_core.plan import Plan
from vp_core.projections import Projection, find_layers, layer_paths, linear_map, weight_of
from vp_core.prune import Solved, prune
from vp_core.regression import Regression

ATTENTION = (("query", "key", "value"), ("attention_output",))
FFN = (("ffn_in",), ("ffn_out",))
"""Projections that share an input, in forward order."""
HELD_OUT = 5
"""Every fifth sentence is held out while λ is chosen."""


@dataclass(frozen=True)
class Progress:
    """So many layers have been refitted."""

    layer: int
    layers: int


def refit(
    model: PreTrainedModel, plan: Plan, batches: Sequence[Batch], start: Solved, rows_put_out_means: bool
) -> Iterator[Progress | PreTrainedModel]:
    """Refit `model` pruned by `plan` against itself; yields Progress after each layer and the refitted model at the end.

    `start` are weights to begin from (the closed form's; columns that are zero there meet zero inputs and stay zero). Removed
    rows of query, key, value and ffn_in put out the mean of what they did if `rows_put_out_means` (single rows), else nothing
    (units, whose columns are gone). Raises VPError for a model that runs a layer several times (ALBERT).
    """
    check_once(model, "refit")
    layers, stacks = find_layers(model), [stack for stack, _ in layer_paths(model)]
    work = _Refit(model, plan, batches, dict(start), rows_put_out_means)
    for path, numbers in layer_modules(model).items():
        for stages in (ATTENTION, FFN):  # a decoder layer has two attention blocks before its feed-forward network
            for number in numbers:
                for stage in stages:
                    members = [layers[number].projections[t] for t in stage if t in layers[number].projections]
                    if members:
                        work.solve(members, _residual(members[0], stacks[number].pre_norm, path, layers[number].projections))
        work.step()
        yield Progress(work.dense.position, len(work.dense.paths))
    yield work.student.model


def _residual(first: Projection, pre_norm: bool, path: str, projections) -> Look:
    """What the residual stream holds where a projection writes into it; its sum, if there are several parts."""
    if first.type not in ("attention_output", "ffn_out"):
        return {}
    if not pre_norm:  # the sub-layer reads the stream itself
        reader = "query" if first.type == "attention_output" else "ffn_in"
        return {"residual": (projections[reader].path, True)}
    parts: dict[str, tuple[str, bool]] = {"residual": (path, True)}
    if first.type == "ffn_out":
        parts["residual, attention"] = (projections["attention_output"].path, False)
    return parts


class _Refit:
    """The two models side by side, and what has been solved so far."""

    def __init__(
        self,
        model: PreTrainedModel,
        plan: Plan,
        batches: Sequence[Batch],
        solved: dict[str, tuple[Tensor, Tensor]],
        means: bool,
    ) -> None:
        self.model, self.plan, self.solved, self.means = model, plan, solved, means
        self.constants = {
            p.name: torch.zeros(p.d_out, dtype=torch.float64)
            for layer in find_layers(model)
            for p in layer.projections.values()
        }
        self.dense, self.student = Walk(model, batches), Walk(model, batches)
        self._prune()

    def _prune(self) -> None:
        self.student.model = prune(self.model, self.plan, self.constants, self.solved)

    def step(self) -> None:
        self.dense.step()
        self.student.step()

    def solve(self, members: Sequence[Projection], residual: Look) -> None:
        """Solve projections that share an input."""
        fit, held_out = self._regressions(members, residual)
        everything = fit.merged(held_out)
        check_finite(f"{members[0].layer}.{members[0].type}", everything.xy)
        rows = 0
        for p in members:
            part = slice(rows, rows := rows + p.d_out)
            weight, _ = self._weight(p)
            ridge = fit.best_ridge(held_out, weight, part)
            self.solved[p.name] = everything.ridge(weight, part, ridge)
            if self.means or p.type in ("attention_output", "ffn_out"):
                self.constants[p.name] = everything.y_mean[part]
        self._prune()

    def _weight(self, p: Projection) -> tuple[Tensor, Tensor]:
        """What the solution is pulled towards, float64."""
        if p.name in self.solved:
            weight, bias = self.solved[p.name]
            return weight.double(), bias.double()
        module = linear_map(self.model, p.path)
        weight = weight_of(self.model, p).detach().double()
        bias = torch.zeros(p.d_out) if module.bias is None else module.bias.detach()[p.start : p.start + p.d_out]
        return weight, bias.double()

    def _regressions(self, members: Sequence[Projection], residual: Look) -> tuple[Regression, Regression]:
        """Over four of five sentences, and over the fifth."""
        width = sum(p.d_out for p in members)
        fit, held_out = (Regression.empty(members[0].d_in, width) for _ in range(2))
        outputs = {p.name: (p.path, False) for p in members}
        targets = self.dense.look({**residual, **outputs})
        inputs = self.student.look({**residual, "x": (members[0].path, True)})
        for batch, target, seen in zip(self.dense.batches, targets, inputs, strict=True):
            y = torch.cat([target[p.name][..., p.start : p.start + p.d_out] for p in members], dim=-1).double()
            for name in residual:
                y += target[name].double() - seen[name].double()
            x, mask = seen["x"], batch.real_tokens(members[0].decoder)
            real = torch.ones(x.shape[:2], dtype=torch.bool) if mask is None else mask.view(x.shape[:2]).bool()
            fifth = torch.from_numpy(batch.examples % HELD_OUT == HELD_OUT - 1)[:, None]
            fit.add(x[real & ~fifth], y[real & ~fifth])
            held_out.add(x[real & fifth], y[real & fifth])
        return fit, held_out
