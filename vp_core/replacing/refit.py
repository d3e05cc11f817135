"""The last rung of the ladder: every projection solved again, in forward order, against the dense model.

At each projection let x̂ be its input in the model pruned and refitted so far, and y its output in the dense model on the
same tokens; for the two that write into the residual stream, y + dense residual − pruned residual, so that drift from above
is repaired too. Surviving rows become W' = argmin ‖x̂W'ᵀ + b' − y‖² + λ‖W' − W‖², removed rows of single-row plans put out the
mean of y. No labels, no gradient steps: one pass over a few hundred sentences. λ is chosen for each projection on every fifth
sentence, which the candidates have not seen. A token counts by how much the model's outputs depend on it where the projection
writes (`vp_core.measuring.gradients`): in the last layer of most classifiers only the first token does.
The rungs below are in docs/without_fine_tuning.md#the-ladder.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce

import torch
from torch import Tensor
from transformers import PreTrainedModel

from vp_core.asking.batches import Batch
from vp_core.ground.parallel import in_parallel
from vp_core.ground.work import checkpoint
from vp_core.measuring.covariance import READ_AT, check_finite
from vp_core.measuring.layerwise import REFIT, Walk, check_once, layer_modules
from vp_core.measuring.measured import HELD_OUT
from vp_core.model.family.stack import Stack
from vp_core.model.precision import device_of, sums_at
from vp_core.model.projections import Layer, Projection, find_layers, layer_paths, weight_of
from vp_core.model.sites import Site, input_site, output_site
from vp_core.model.units import context_columns
from vp_core.ranking.plan import Plan
from vp_core.replacing.prune import Solved, prune
from vp_core.replacing.regression import Regression, Sums

ATTENTION = (("query", "key", "value"), ("attention_output",))
FFN = (("ffn_in",), ("ffn_out",))
"""Projections that share an input, in forward order."""
CHAINS = 4
"""Batches are summed in so many chains side by side, on however many cores, so that every machine rounds alike."""


@dataclass(frozen=True)
class Progress:
    """So many layers have been refitted."""

    layer: int
    layers: int


def refit(
    model: PreTrainedModel,
    plan: Plan,
    batches: Sequence[Batch],
    start: Solved,
    rows_put_out_means: bool,
    weights: Mapping[str, Sequence[Tensor]],
) -> Iterator[Progress | PreTrainedModel]:
    """Refit `model` pruned by `plan` against itself; yields Progress after each layer and the refitted model at the end.

    `start` are weights to begin from (the closed form's; columns that are zero there meet zero inputs and stay zero). Removed
    rows of query, key, value and ffn_in put out the mean of what they did if `rows_put_out_means` (single rows), else nothing
    (units, whose columns are gone). `weights` are those of tokens: projection name → (examples, tokens) for every batch. Raises
    VPError for a model that runs a layer several times (ALBERT).
    """
    check_once(model, REFIT)
    layers, stacks = find_layers(model), [stack for stack, _ in layer_paths(model)]
    work = _Refit(model, plan, batches, dict(start), rows_put_out_means, weights)
    for path, numbers in layer_modules(model).items():
        checkpoint()
        for stages in (ATTENTION, FFN):  # a decoder layer has two attention blocks before its feed-forward network
            for number in numbers:
                for members in _sharing(stages, layers[number]):
                    residual = _residual(members[0], stacks[number], path, layers[number].projections)
                    work.solve(members, residual, _live(members[0], layers[number], plan))
        work.step()
        yield Progress(work.dense.position, len(work.dense.paths))
    yield work.student.model


def _sharing(stages: Sequence[Sequence[str]], layer: Layer) -> Iterator[list[Projection]]:
    """Projections of a layer that share an input: in cross attention the query reads the decoder, key and value the encoder."""
    for stage in stages:
        for decoder in (False, True):
            members = [p for t in stage if (p := layer.projections.get(t)) and p.decoder == decoder]
            if members:
                yield members


def _residual(first: Projection, stack: Stack, path: str, projections: Mapping[str, Projection]) -> list[Site]:
    """Where to see what the residual stream holds as a projection writes into it; the sum, if there are several parts."""
    if first.type not in ("attention_output", "ffn_out") or stack.normed_writes:  # a norm or a scale away from what is written
        return []
    if not stack.pre_norm:  # the sub-layer reads the stream itself
        reader = "query" if first.type == "attention_output" else "ffn_in"
        return [input_site(projections[reader], "residual")]
    if stack.stream:
        return [Site("residual", f"{path}.{stack.stream[first.type == 'ffn_out']}", inputs=True)]
    parts = [Site("residual", path, inputs=True)]
    if first.type == "ffn_out":
        parts.append(output_site(projections["attention_output"], "residual, attention"))
    return parts


def _live(first: Projection, layer: Layer, plan: Plan) -> Tensor | None:
    """Columns of an input that the plan leaves alive; None if all."""
    feeding = {"attention_output": "value", "ffn_out": "ffn_in"}.get(first.type)
    keep = plan.keep.get(layer.projections[feeding].name) if feeding else None
    if keep is None or bool(keep.all()):
        return None
    return (context_columns(layer)[keep].flatten().sort().values) if feeding == "value" else keep.nonzero().squeeze(1)


class _Refit:
    """The two models side by side, and what has been solved so far."""

    def __init__(
        self, model: PreTrainedModel, plan: Plan, batches: Sequence[Batch], solved: dict[str, tuple[Tensor, Tensor]],
        means: bool, weights: Mapping[str, Sequence[Tensor]],
    ) -> None:  # fmt: skip
        self.model, self.plan, self.solved, self.means, self.weights = model, plan, solved, means, weights
        self.constants = {
            p.name: torch.zeros(p.d_out, dtype=torch.float64)
            for layer in find_layers(model)
            for p in layer.projections.values()
        }
        self.dense, self.student = Walk(model, batches), Walk(model, batches)
        self.student.model = prune(model, plan, self.constants, self.solved)

    def step(self) -> None:
        self.dense.step()
        self.student.step()

    def solve(self, members: Sequence[Projection], residual: Sequence[Site], live: Tensor | None) -> None:
        """Solve projections that share an input, of which the columns `live` vary (None: all): the rest are constants."""
        sums = self._sums(members, residual, live)
        for p, (fit, held_out) in zip(members, sums, strict=True):
            everything = fit.merged(held_out)
            check_finite(p.name, everything.xy)
            weight = self._weight(p)
            near = weight if live is None else weight[:, live]
            new, bias = everything.ridge(near, fit.best_ridge(held_out, near))
            self.solved[p.name] = (new if live is None else torch.zeros_like(weight).index_copy(1, live, new)), bias
            if self.means or p.type in READ_AT:
                self.constants[p.name] = everything.y_mean
        # Only these change: the whole plan anew at every step would write every weight as often as there are steps.
        names = {p.name for p in members}
        part = replace(self.plan, keep={name: keep for name, keep in self.plan.keep.items() if name in names})
        solved = {name: one for name, one in self.solved.items() if name in names}
        self.student.model = prune(self.student.model, part, self.constants, solved)

    def _weight(self, p: Projection) -> Tensor:
        """What the solution is pulled towards (d_out, d_in), float64."""
        return self.solved[p.name][0].double() if p.name in self.solved else weight_of(self.model, p).detach().cpu().double()

    def _sums(
        self, members: Sequence[Projection], residual: Sequence[Site], live: Tensor | None
    ) -> list[tuple[Regression, Regression]]:
        """For each member: over four of five sentences, and over the fifth."""
        columns, device = members[0].d_in if live is None else len(live), sums_at(device_of(self.model))

        def chain(first: int) -> list[tuple[Sums, Sums]]:
            found = [(Sums(columns, p.d_out, device), Sums(columns, p.d_out, device)) for p in members]
            for number in range(first, len(self.dense.batches), CHAINS):
                self._add(found, members, residual, live, number, target(number), seen(number))
            return found

        targets, inputs = [*residual, *map(output_site, members)], [*residual, input_site(members[0], "x")]
        with self.dense.look(targets) as target, self.student.look(inputs) as seen:
            chains = list(in_parallel(chain, range(min(CHAINS, len(self.dense.batches))), device_of(self.model)))
        return [(_moments(parts, 0), _moments(parts, 1)) for parts in zip(*chains, strict=True)]

    def _add(
        self, found: Sequence[tuple[Sums, Sums]], members: Sequence[Projection], residual: Sequence[Site],
        live: Tensor | None, number: int, target: Mapping[str, Tensor], seen: Mapping[str, Tensor],
    ) -> None:  # fmt: skip
        """Add one batch."""
        batch, x = self.dense.batches[number], seen["x"]
        mask = batch.real_tokens(members[0].decoder)
        real = torch.ones(x.shape[:2], dtype=torch.bool) if mask is None else mask.view(x.shape[:2]).bool()
        fifth = torch.from_numpy(batch.examples % HELD_OUT == HELD_OUT - 1)[:, None]
        device = sums_at(x.device)
        places = [where.to(x.device) for where in (real & ~fifth, real & fifth)]
        drift = sum(target[site.name] - seen[site.name] for site in residual)
        x = x if live is None else x[..., live]
        for p, parts in zip(members, found, strict=True):
            y = target[p.name] + drift
            for part, where in zip(parts, places, strict=True):
                weights = self.weights[p.name][number].to(x.device)[where]
                part.add(*(one.to(device) for one in (x[where], y[where], weights)))


def _moments(parts: Sequence[tuple[Sums, Sums]], which: int) -> Regression:
    """The sums of all chains together."""
    return reduce(Regression.merged, (pair[which].moments() for pair in parts))
