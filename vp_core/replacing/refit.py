"""The last rung of the ladder: every projection solved again, in forward order, against the dense model.

At each projection let x̂ be its input in the model pruned and refitted so far, and y its output in the dense model on the
same tokens; for the two that write into the residual stream, y + dense residual − pruned residual, so that drift from above
is repaired too. Surviving rows become W' = argmin ‖x̂W'ᵀ + b' − y‖² + λ‖W' − W‖², removed rows of single-row plans put out the
mean of y. No labels, no gradient steps: one pass over a few hundred sentences. λ is chosen for each projection on every fifth
sentence, which the candidates have not seen. A token counts by how much the model's outputs depend on it where the projection
writes (`vp_core.measuring.gradients`): in the last layer of most classifiers only the first token does.
The rungs below are in docs/without_fine_tuning.md#the-ladder.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce

import torch
from torch import Tensor
from transformers import PreTrainedModel

from vp_core.asking.batches import Batch, by_text
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
AT_ONCE = 1_000_000_000
"""Bytes of a layer's outputs, over all tokens and in both models, up to which they are kept and each is computed once."""


@dataclass(frozen=True)
class Progress:
    """So many layers have been refitted."""

    layer: int
    layers: int


@dataclass(frozen=True)
class _Stage:
    """What is solved together: projections that share an input, of which the columns `live` vary (None: all; the rest are
    constants), and where the residual stream is that they write into."""

    members: Sequence[Projection]
    residual: Sequence[Site]
    live: Tensor | None

    def targets(self) -> list[Site]:
        """What is looked at in the dense model, under names of this stage's own."""
        stream = [replace(site, name=f"{self.members[0].name}, {site.name}") for site in self.residual]
        return [*map(output_site, self.members), *stream]


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
        stages = [  # a decoder layer has two attention blocks before its feed-forward network
            _Stage(members, _residual(members[0], stacks[number], path, layers[number].projections), live)
            for types in (ATTENTION, FFN)
            for number in numbers
            for members in _sharing(types, layers[number])
            for live in [_live(members[0], layers[number], plan)]
        ]
        work.layer(stages)
        yield Progress(work.student.position, len(work.student.paths))
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
        self._rows: dict[tuple[bool, int], _Rows] = {}
        self.dense, self.student = Walk(model, batches), Walk(model, batches)
        self.student.model = prune(model, plan, self.constants, self.solved)

    def layer(self, stages: Sequence[_Stage]) -> None:
        """Solve the projections of the next layer, stage by stage, and go behind it."""
        width = sum(p.d_out for stage in stages for p in stage.members)
        tokens = sum(weights.numel() for weights in self.weights[stages[0].members[0].name])
        at_once = 2 * 4 * width * tokens <= AT_ONCE  # both models' outputs
        kept = self._targets_of(stages) if at_once else {}
        for stage in stages:
            if at_once:
                self.solve(stage, partial(_of_batch, kept))
                for p in stage.members:
                    del kept[p.name]
                self.student.keep(p.path for p in stage.members if p.tokens_of is None)
            else:
                with self.dense.look(stage.targets()) as seen:
                    self.solve(stage, partial(self._looked_up, stage, seen))
        if not at_once:
            self.dense.step()
        self.student.step()

    def _targets_of(self, stages: Sequence[_Stage]) -> dict[str, list[Tensor]]:
        """Targets of all stages of a layer from one pass of the dense model: projection name → (tokens, d_out) by batch."""
        kept: dict[str, list[Tensor]] = {p.name: [] for stage in stages for p in stage.members}

        def make(number: int, seen: dict[str, Tensor]) -> dict[str, Tensor]:
            whole = {name: by_text(value, self.dense.batches[number]) for name, value in seen.items()}
            return {name: y for stage in stages for name, y in self._target(stage, number, whole).items()}

        for found in self.dense.along([site for stage in stages for site in stage.targets()], make):
            for name, y in found.items():
                kept[name].append(y)
        return kept

    def _looked_up(self, stage: _Stage, seen: Callable[[int], dict[str, Tensor]], number: int) -> dict[str, Tensor]:
        """Targets of one stage and batch from a pass of their own."""
        return self._target(stage, number, seen(number))

    def _target(self, stage: _Stage, number: int, seen: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the projections of a stage should put out, and where they write into it the stream: (tokens, d_out) by name.

        Tokens are those that are fitted on, and behind them those held out.
        """
        rows = self._tokens(stage.members[0], number)
        stream = [rows.of(seen[site.name]) for site in stage.targets()[len(stage.members) :]]
        return {p.name: sum(stream, rows.of(seen[p.name])) for p in stage.members}

    def solve(self, stage: _Stage, target: Callable[[int], dict[str, Tensor]]) -> None:
        """Solve projections that share an input; `target` gives a batch's targets by number."""
        live, members = stage.live, stage.members
        for p, (fit, held_out) in zip(members, self._sums(stage, target), strict=True):
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

    def _tokens(self, p: Projection, number: int) -> "_Rows":
        """The real tokens of a batch that a projection sees."""
        if (p.decoder, number) not in self._rows:
            batch, shape = self.student.batches[number], self.weights[p.name][number].shape
            mask = batch.real_tokens(p.decoder)
            real = torch.ones(shape, dtype=torch.bool) if mask is None else mask.view(shape).bool()
            held_out = torch.from_numpy(batch.examples % HELD_OUT == HELD_OUT - 1)[:, None]
            fitted, rest = ((real & chosen).flatten().nonzero()[:, 0] for chosen in (~held_out, held_out))
            self._rows[p.decoder, number] = _Rows(torch.cat([fitted, rest]), len(fitted))
        return self._rows[p.decoder, number]

    def _sums(self, stage: _Stage, target: Callable[[int], dict[str, Tensor]]) -> list[tuple[Regression, Regression]]:
        """For each member: over four of five sentences, and over the fifth."""
        first, live, batches = stage.members[0], stage.live, self.student.batches
        columns, device = first.d_in if live is None else len(live), sums_at(device_of(self.model))

        def chain(start: int) -> list[tuple[Sums, Sums]]:
            found = [(Sums(columns, p.d_out, device), Sums(columns, p.d_out, device)) for p in stage.members]
            for number in range(start, len(batches), CHAINS):
                rows, new, targets = self._tokens(first, number), seen(number), target(number)
                x = rows.of(new["x"]) if live is None else rows.of(new["x"])[:, live]
                for p, parts in zip(stage.members, found, strict=True):
                    y = targets[p.name] - sum(rows.of(new[site.name]) for site in stage.residual)
                    weights = rows.of(self.weights[p.name][number])
                    for part, where in zip(parts, rows.parts, strict=True):
                        part.add(*(one[where].to(device) for one in (x, y, weights)))
            return found

        with self.student.look([*stage.residual, input_site(first, "x")]) as seen:
            chains = list(in_parallel(chain, range(min(CHAINS, len(batches))), device_of(self.model)))
        return [(_moments(parts, 0), _moments(parts, 1)) for parts in zip(*chains, strict=True)]


@dataclass(frozen=True)
class _Rows:
    """The real tokens of a batch, by their places in (examples·tokens): first the `fitted` that are fitted on, then the rest,
    of every fifth text."""

    places: Tensor
    fitted: int

    @property
    def parts(self) -> tuple[slice, slice]:
        """Where the two are among the tokens."""
        return slice(self.fitted), slice(self.fitted, None)

    def of(self, values: Tensor) -> Tensor:
        """The tokens (tokens, n) of values (examples, tokens, n)."""
        return values.flatten(0, 1)[self.places.to(values.device)]


def _of_batch(kept: Mapping[str, Sequence[Tensor]], number: int) -> dict[str, Tensor]:
    return {name: by_batch[number] for name, by_batch in kept.items()}


def _moments(parts: Sequence[tuple[Sums, Sums]], which: int) -> Regression:
    """The sums of all chains together."""
    return reduce(Regression.merged, (pair[which].moments() for pair in parts))
