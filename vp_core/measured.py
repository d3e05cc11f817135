"""A model on the bench: everything that is measured of it on calibration texts, each once, and the plans made from that."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from vp_core.asking.batches import Batch, Encoded, make_batches
from vp_core.ground.kept import Kept
from vp_core.ground.names import WHOLE
from vp_core.ground.work import say
from vp_core.measuring.covariance import Covariances, bytes_needed, collect_covariances
from vp_core.measuring.function_norms import FunctionNorms, collect_norms
from vp_core.measuring.gradients import Gradients, collect_gradients
from vp_core.measuring.layerwise import Walk
from vp_core.measuring.statistics import Statistics, collect
from vp_core.model.projections import find_layers
from vp_core.model.units import UnitGroup, unit_groups
from vp_core.ranking import allocation
from vp_core.ranking.criteria import score_units
from vp_core.ranking.evidence import Evidence
from vp_core.ranking.plan import Plan, Ranking, rank
from vp_core.recipes import Recipe
from vp_core.replacing.ladder import Consumers, constants, weight_and_bias
from vp_core.replacing.prune import Solved, prune
from vp_core.replacing.refit import HELD_OUT, Progress, refit
from vp_core.squeezing.budget import unit_share

EWMV_BATCH = 32
"""Texts in a batch of the moving variance."""
COVARIANCE_TOKENS = 4096
"""Tokens in a batch of covariances: their products are large and want to be few."""
SOLVING_TOKENS = 2048


class Bench:
    """`model` and the texts it is measured on.

    What is measured goes to its end and is kept, whoever asked for it; a refit, for one sparsity alone, can be cancelled.
    """

    def __init__(
        self, model: PreTrainedModel, calibration: Encoded, model_id: str, data_id: str,
        covariances: Covariances | None = None, gone: Plan | None = None,
    ) -> None:  # fmt: skip
        self.model, self.calibration, self._ids = model, calibration, (model_id, data_id)
        self.layers = find_layers(model)
        self._given, self._gone = covariances, gone
        self._kept, self._solutions, self._later = Kept(), Kept(most=4, cancellable=True), Kept(most=1)

    def statistics(self, estimator: str = "exact") -> Statistics:
        """Mean and variance of the outputs of all six types."""
        model_id, data_id = self._ids
        return self._kept.once(
            ("statistics", estimator),
            lambda: collect(
                self.model, self._batches_of(estimator), estimator,
                model_id=model_id, data_id=data_id, layers=self.layers,
            ),
        )  # fmt: skip

    def covariances(self) -> Covariances:
        """Second moments where units are read; over every fifth sentence apart, to choose λ on."""
        return self._kept.once("covariances", self._collect_covariances)

    def gradients(self) -> Gradients:
        """What each coordinate does to the outputs, to first order."""
        return self._kept.once("gradients", self._collect_gradients)

    def norms(self) -> FunctionNorms:
        """Function norms of every head, attention block and feed-forward network."""
        batches = make_batches(self.calibration, np.arange(len(self.calibration)))
        model_id, data_id = self._ids
        return self._kept.once("norms", lambda: collect_norms(self.model, batches, model_id=model_id, data_id=data_id))

    def evidence(self, recipe: Recipe) -> Evidence:
        statistics = lambda: self.statistics(recipe.estimator)  # noqa: E731
        return Evidence(self.model, statistics, self.covariances, self.gradients, self.norms, recipe.seed)

    def groups(self, recipe: Recipe) -> tuple[UnitGroup, ...]:
        return unit_groups(self.layers, recipe.units, recipe.types)

    def scores(self, recipe: Recipe) -> Mapping[str, Tensor]:
        """The criterion's score of every unit: group name → (units,)."""
        return self._kept.once(
            ("scores", *_scored(recipe)), lambda: score_units(recipe.criterion, self.evidence(recipe), self.groups(recipe))
        )

    def ranking(self, recipe: Recipe) -> Ranking:
        """The order in which a recipe removes units, from one measurement."""
        return self._kept.once(("ranking", recipe.scope, *_scored(recipe), _measured_with(recipe)), lambda: self._rank(recipe))

    def plan(self, recipe: Recipe, sparsity: float) -> Plan:
        """The rows that survive."""
        last, share = self.last(recipe, sparsity)
        return replace(last.ranking(recipe).plan(share), sparsity=sparsity, budget=recipe.budget, model=self._ids[0])

    def share(self, recipe: Recipe, sparsity: float) -> float:
        """The share of units that spends this share of the budget; VPError if the units cannot meet it."""
        if recipe.budget == "units" or sparsity == 0:
            return sparsity
        key = ("share", recipe.budget, recipe.scope, *_scored(recipe), _measured_with(recipe), sparsity)
        ranking, silent = self.ranking(recipe), replace(recipe, replacement="zero")
        masked = lambda share: self._closed_form(silent, ranking, share)  # noqa: E731
        return self._kept.once(key, lambda: unit_share(ranking, self.layers, recipe.budget, sparsity, self.model, masked))

    def pruned(self, recipe: Recipe, sparsity: float) -> PreTrainedModel:
        """The model pruned by the recipe, of the old shape."""
        last, share = self.last(recipe, sparsity)
        if recipe.replacement != "refit":
            return last.closed_form(recipe, share)
        return self._solutions.once((recipe, sparsity), lambda: self._refit(recipe, last, share))

    def closed_form(self, recipe: Recipe, share: float) -> PreTrainedModel:
        """The model when this share of the units is gone, by the rungs below `refit`."""
        return self._closed_form(recipe, self.ranking(recipe), share)

    def _closed_form(self, recipe: Recipe, ranking: Ranking, share: float) -> PreTrainedModel:
        return prune(self.model, ranking.plan(share), self._constants(recipe), self._solved(recipe, ranking.counts(share)))

    def last(self, recipe: Recipe, sparsity: float) -> "tuple[Bench, float]":
        """(where the last of the recipe's steps is measured, the share of units that is gone after it)."""
        if recipe.steps == 1:
            return self, self.share(recipe, sparsity)
        return self._later.once((recipe, sparsity), lambda: self._stepwise(recipe, sparsity))

    def _stepwise(self, recipe: Recipe, sparsity: float) -> "tuple[Bench, float]":
        bench: Bench = self
        for step in range(1, recipe.steps):
            say(f"pruning and measuring again: step {step} of {recipe.steps}")
            share = bench.share(recipe, sparsity * step / recipe.steps)
            gone = bench.ranking(recipe).plan(share)
            bench = Bench(bench.closed_form(recipe, share), self.calibration, *self._ids, gone=gone)
        return bench, bench.share(recipe, sparsity)

    def _rank(self, recipe: Recipe) -> Ranking:
        scope = "per layer" if recipe.scope == "measured" else recipe.scope
        groups, scores = self.groups(recipe), self.scores(recipe)
        own = rank(self._cumulative(scores, groups), groups, scope, recipe.criterion, self._ids[0])
        if recipe.scope != "measured":
            return own
        found: dict[str, allocation.Losses] = {}
        for name, losses in allocation.measure_losses(
            Walk(self.model, self._some_batches()), groups, lambda group, n: self._without(recipe, own, group, n)
        ):
            found[name] = losses
            say(f"measuring what each layer loses: {len(found)} of {len(groups)}")
        scores = self._cumulative(allocation.scores(own, found), groups)
        return rank(scores, groups, "measured", recipe.criterion, self._ids[0])

    def _without(self, recipe: Recipe, own: Ranking, group: UnitGroup, n: int) -> PreTrainedModel:
        """The model without the first n units of one group."""
        solved = self._solved(recipe, {group.name: n})
        return prune(self.model, own.only(group.name, n), self._constants(recipe), solved)

    def _cumulative(self, scores: Mapping[str, Tensor], groups: Sequence[UnitGroup]) -> Mapping[str, Tensor]:
        """What went in an earlier step stays gone: it comes first."""
        if self._gone is None:
            return scores
        keep = self._gone.keep
        dead = {g.name: torch.stack([~keep[p.name][rows].any(dim=1) for p, rows in g.rows]).all(dim=0) for g in groups}
        return {name: values.masked_fill(dead[name], -torch.inf) for name, values in scores.items()}

    def _solved(self, recipe: Recipe, gone: Mapping[str, int]) -> Solved:
        """New weights of consumers; for single rows only from least squares on, since zero and mean leave them alone."""
        if recipe.single_rows and recipe.replacement in ("zero", "mean"):
            return {}
        # a consumer's factor depends on the order within its group, which no scope changes
        own = replace(recipe, scope="per layer")
        consumers = self._kept.once(
            ("consumers", *_scored(recipe)), lambda: Consumers(self.model, self.layers, self.ranking(own), self.covariances())
        )
        return consumers.solve(_rung(recipe), gone)

    def _constants(self, recipe: Recipe) -> Mapping[str, Tensor]:
        if recipe.single_rows or set(WHOLE) & set(recipe.units):
            return constants(recipe.replacement, self.statistics(recipe.estimator), self.groups(recipe))
        return {p.name: torch.zeros(p.d_out) for layer in self.layers for p in layer.projections.values()}

    def _refit(self, recipe: Recipe, last: "Bench", share: float) -> PreTrainedModel:
        """From the closed form of the last step towards the dense model of the first."""
        started = last.closed_form(recipe, share)
        start = {p.name: weight_and_bias(started, p) for layer in self.layers for p in layer.projections.values()}
        plan = last.ranking(recipe).plan(share)
        for step in refit(self.model, plan, self._solving_batches(), start, recipe.single_rows, self.gradients().weights):
            if isinstance(step, Progress):
                say(f"refitting: layer {step.layer} of {step.layers}")
            else:
                found = step
        return found

    def _batches_of(self, estimator: str) -> list[Batch]:
        """Sorted by length for speed, unless the order counts: a moving variance wants batches like any other."""
        everything = np.arange(len(self.calibration))
        if estimator == "exact":
            return make_batches(self.calibration, everything)
        shuffled = np.random.default_rng(0).permutation(everything)
        parts = np.split(shuffled, range(EWMV_BATCH, len(shuffled), EWMV_BATCH))
        return [batch for part in parts for batch in make_batches(self.calibration, part, sys.maxsize)]

    def _collect_covariances(self) -> Covariances:
        if self._given is not None:
            return self._given
        say(f"measuring covariances ({bytes_needed(self.layers) / 1e6:,.0f} MB)")
        everything = np.arange(len(self.calibration))
        held_out = everything % HELD_OUT == HELD_OUT - 1
        fit, apart = (make_batches(self.calibration, everything[where], COVARIANCE_TOKENS) for where in (~held_out, held_out))
        return collect_covariances(self.model, fit, apart, self.layers)

    def _collect_gradients(self) -> Gradients:
        say("measuring gradients")
        return collect_gradients(self.model, self._solving_batches(), self.statistics(), self.covariances(), self.layers)

    def _solving_batches(self) -> list[Batch]:
        """Those of gradients and of refit, which takes its token weights from them."""
        return make_batches(self.calibration, np.arange(len(self.calibration)), SOLVING_TOKENS)

    def _some_batches(self) -> list[Batch]:
        """A few sentences for the losses of layers, spread over all lengths."""
        some = np.linspace(0, len(self.calibration) - 1, min(allocation.SENTENCES, len(self.calibration))).astype(int)
        return make_batches(self.calibration, some)


def _rung(recipe: Recipe) -> str:
    """What a closed form is measured with: refit begins with least squares."""
    return "least squares" if recipe.replacement == "refit" else recipe.replacement


def _measured_with(recipe: Recipe) -> str:
    """The allocation by measured losses depends on the rung that they were measured with."""
    return _rung(recipe) if recipe.scope == "measured" else ""


def _scored(recipe: Recipe) -> tuple[object, ...]:
    """What scores depend on."""
    return recipe.criterion, recipe.types, recipe.units, recipe.estimator, recipe.facts()["seed"], recipe.steps
