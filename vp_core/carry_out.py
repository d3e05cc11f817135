"""How a recipe is carried out on a model: `carry_out` is the whole method, a `Stage` has its steps.

A recipe in several steps goes through as many stages: in each the model as it is by then is measured anew.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from vp_core.asking.kinds.heads import check_answers, head_of, tells_words
from vp_core.ground.kept import NOWHERE, Kept
from vp_core.ground.names import WHOLE
from vp_core.ground.work import say
from vp_core.measuring.layerwise import MEASURED, REFIT, Walk, check_once
from vp_core.measuring.measured import Measured
from vp_core.model.projections import Layer, find_layers
from vp_core.model.units import UnitGroup, unit_groups, units_that_go
from vp_core.ranking import allocation, estimated
from vp_core.ranking.criteria import score_units
from vp_core.ranking.plan import Plan, Ranking, check_sparsity, rank
from vp_core.recipes import Recipe
from vp_core.replacing.ladder import Consumers, constants, weight_and_bias
from vp_core.replacing.prune import Solved, prune
from vp_core.replacing.refit import Progress, refit
from vp_core.squeezing.budget import counts_for, saved, unit_share
from vp_core.squeezing.cost import cost, silent_queries
from vp_core.weights.matrices import find_matrices

PLANS = 65
"""From the savings of so many plans, of shares of units at equal distances, those in between are interpolated."""


def carry_out(first: "Stage", recipe: Recipe, sparsity: float) -> PreTrainedModel:
    """The model of the first stage pruned by the recipe, of the old shape: the method from its first line to its last.

    Raises VPError if the units cannot meet the sparsity, or if criterion or replacement do not fit the model.
    """
    check_recipe(first.measured.model, recipe)
    last = first.after_steps(recipe, sparsity)  # measure; if there are several steps, prune and measure again
    ranking = last.ranking(recipe)  # score, rank
    gone = last.counts(recipe, sparsity)  # as many units as spend the budget
    plan = ranking.taking(gone)
    pruned = last.closed_form(recipe, plan, gone)  # replace, prune
    if recipe.replacement == "refit":
        return refitted(first.measured, plan, pruned, recipe.single_rows)
    return pruned


def check_recipe(model: PreTrainedModel, recipe: Recipe) -> None:
    """VPError if the recipe does not fit the model, told before anything is measured.

    Which units there are depends on the model (where pairs cannot go, the recipe's other units do), and a model that runs a
    layer several times has no measured allocation and no refit.
    """
    if recipe.pattern:
        find_matrices(model, recipe.types)
        return
    _groups(find_layers(model), recipe)
    if recipe.scope == "measured" or recipe.replacement == "refit" or recipe.criterion == "fisher":
        check_answers(model)
    if recipe.scope == "measured":
        check_once(model, MEASURED)
    if recipe.replacement == "refit":
        check_once(model, REFIT)


def _groups(layers: Sequence[Layer], recipe: Recipe) -> tuple[UnitGroup, ...]:
    return unit_groups(layers, units_that_go(layers, recipe.units), recipe.types)


def refitted(dense: Measured, plan: Plan, pruned: PreTrainedModel, rows_put_out_means: bool) -> PreTrainedModel:
    """`pruned`, by the plan, solved again layer by layer towards the dense model (`vp_core.replacing.refit`)."""
    start = {p.name: weight_and_bias(pruned, p) for layer in dense.layers for p in layer.projections.values()}
    weights = dense.token_weights()
    say("refitting: layer", 0, len(dense.layers))
    for step in refit(dense.model, plan, dense.solving_batches(), start, rows_put_out_means, weights):
        if isinstance(step, Progress):
            say("refitting: layer", step.layer, step.layers)
        else:
            new = step
    return new


def by_variance(recipe: Recipe) -> Recipe:
    """The recipe whose counts `random` takes."""
    return replace(recipe, criterion="variance")


class Stage:
    """A measured model, what earlier steps removed from it (`gone`), and what recipes make of it from here on.

    `random` takes as many units of every group as `variance` does, whatever the scope, the budget and the number of steps: it
    deals out the ranking of variances, and spends a budget as that does. What is pruned at random has other variances, so
    after a step it still counts by those of `like`, the stage where `variance` is after as many.

    Every result is cached by the part of the recipe that it depends on. Any number of threads may use one Stage. What is cached
    for everybody goes to its end, whoever asked for it; a refit, for one sparsity alone, can be cancelled.
    """

    def __init__(self, measured: Measured, gone: Plan | None = None) -> None:
        self.measured, self.gone, self.like = measured, gone, self
        self._kept, self._refitted, self._later = Kept(), Kept(most=4, cancellable=True), Kept(most=1)

    def groups(self, recipe: Recipe) -> tuple[UnitGroup, ...]:
        """The units that the recipe chooses from: of its kinds those that can go from this model."""
        return _groups(self.measured.layers, recipe)

    def scores(self, recipe: Recipe) -> Mapping[str, Tensor]:
        """The criterion's score of every unit: group name → (units,) float64."""
        evidence = self.measured.seen_with(recipe.estimator, recipe.seed)
        shelf = NOWHERE if recipe.plain else self.measured.shelf  # those take no time
        place = self.measured.place("the order of units", recipe.scoring.facts())
        groups = self.groups(recipe)
        return self._kept.once(
            ("scores", recipe.scoring), lambda: shelf.once(place, lambda: score_units(recipe.criterion, evidence, groups))
        )

    def ranking(self, recipe: Recipe) -> Ranking:
        """The order in which the recipe removes units."""
        return self._kept.once(("ranking", recipe.ordering), lambda: self._rank(recipe))

    def share(self, recipe: Recipe, sparsity: float) -> float:
        """The share of units that spends this share of the budget; VPError if the units cannot meet it."""
        if recipe.budget == "units" or sparsity == 0:
            return check_sparsity(sparsity)
        if recipe.criterion == "random":
            return self.like.share(by_variance(recipe), sparsity)
        ranking, measured = self.ranking(recipe), self.measured

        def masked(counts: Mapping[str, int]) -> PreTrainedModel:
            return self.closed_form(replace(recipe, replacement="zero"), ranking.taking(counts), counts)

        return self._kept.once(
            ("share", recipe.ordering, recipe.budget, sparsity),
            lambda: unit_share(ranking, measured.layers, recipe.budget, sparsity, measured.model, masked),
        )

    def counts(self, recipe: Recipe, sparsity: float) -> Mapping[str, int]:
        """How many units of each group go: group name → units; VPError if the units cannot meet the sparsity."""
        if recipe.criterion == "random":
            return self.like.counts(by_variance(recipe), sparsity)
        share, ranking, measured = self.share(recipe, sparsity), self.ranking(recipe), self.measured
        if recipe.budget != "latency":
            return ranking.counts(share)
        return self._kept.once(
            ("counts", recipe.ordering, sparsity),
            lambda: counts_for(ranking, measured.layers, recipe.budget, share, measured.model),
        )

    def shares(self, recipe: Recipe, sparsities: Sequence[float]) -> list[float]:
        """About what `share` gives for each of many sparsities, without timing: interpolated from the savings of 65 plans.

        Exact where the budget is a share of units; sparsities beyond what the units hold take all.
        """
        if recipe.budget == "units":
            return list(sparsities)
        if recipe.criterion == "random":
            return self.like.shares(by_variance(recipe), sparsities)
        shares = np.linspace(0, 1, PLANS)
        savings = self._kept.once(("savings", recipe.ordering, recipe.budget), lambda: self._savings(recipe, shares))
        return [float(share) for share in np.interp(sparsities, np.maximum.accumulate(savings), shares)]

    def _savings(self, recipe: Recipe, shares: np.ndarray) -> list[float]:
        ranking, measured = self.ranking(recipe), self.measured
        silent = silent_queries(measured.layers, ranking.groups)
        return [saved(cost(measured.layers, ranking.plan(share), silent), recipe.budget, measured.model) for share in shares]

    def plan(self, recipe: Recipe, sparsity: float) -> Plan:
        """The rows that survive; VPError if the units cannot meet the sparsity."""
        last = self.after_steps(recipe, sparsity)
        return last.ranking(recipe).taking(last.counts(recipe, sparsity), sparsity, recipe.budget)

    def pruned(self, recipe: Recipe, sparsity: float) -> PreTrainedModel:
        """`carry_out` from this stage on; of what was refitted the last few are kept."""
        if recipe.replacement != "refit":
            return carry_out(self, recipe, sparsity)
        return self._refitted.once((recipe, sparsity), lambda: carry_out(self, recipe, sparsity))

    def after_steps(self, recipe: Recipe, sparsity: float) -> "Stage":
        """The stage that the recipe's last step begins from: this one, if it has one step."""
        return self if recipe.steps == 1 else self._later.once((recipe, sparsity), lambda: self._walk(recipe, sparsity))

    def closed_form(self, recipe: Recipe, plan: Plan, gone: Mapping[str, int]) -> PreTrainedModel:
        """The model pruned by a plan that takes so many units of each group, by the rungs below `refit`."""
        return prune(self.measured.model, plan, self._constants(recipe), self._solved(recipe, gone))

    def _walk(self, recipe: Recipe, sparsity: float) -> "Stage":
        """Through all steps but the last."""
        stage = self
        for step in range(1, recipe.steps):
            say("pruning and measuring again: step", step, recipe.steps)
            stage = stage._next(recipe, sparsity * step / recipe.steps)
        return stage

    def _next(self, recipe: Recipe, sparsity: float) -> "Stage":
        """Pruned to a sparsity and measured anew."""
        gone, measured = self.counts(recipe, sparsity), self.measured
        plan = self.ranking(recipe).taking(gone)
        pruned = self.closed_form(recipe, plan, gone)
        after = Stage(Measured(pruned, measured.texts, measured.model_id, measured.data_id), plan)
        if recipe.criterion == "random":
            after.like = self.like._next(by_variance(recipe), sparsity)
        return after

    def _rank(self, recipe: Recipe) -> Ranking:
        check_recipe(self.measured.model, recipe)
        if recipe.criterion == "random":
            return self.like.ranking(by_variance(recipe)).dealt(recipe.seed, "random")
        groups, about = self.groups(recipe), (recipe.criterion, self.measured.model_id)
        scope = "per layer" if recipe.scope == "measured" else recipe.scope
        ranking = rank(self._with_gone_first(self.scores(recipe), groups), groups, scope, *about)
        if recipe.scope != "measured":
            return ranking
        place = self.measured.place("what each layer loses", recipe.ordering.facts())
        found = self.measured.shelf.once(place, lambda: allocation.as_tensors(self._losses(recipe, ranking)))
        comparable = allocation.scores(ranking, allocation.from_tensors(found))
        return rank(self._with_gone_first(comparable, groups), groups, "measured", *about)

    def _losses(self, recipe: Recipe, ranking: Ranking) -> Mapping[str, allocation.Losses]:
        """What the model's outputs lose when units of one group go alone: group name → losses."""

        def without(group: UnitGroup, units: int) -> PreTrainedModel:
            return self.closed_form(recipe, ranking.only(group.name, units), {group.name: units})

        model, longest = self.measured.model, self.measured.texts.longest
        expected = self._estimated(recipe, ranking)
        one = estimated.middle if tells_words(model) else estimated.behind
        levels = estimated.middle_and_all if head_of(model) == "target tokens" else one
        losses: dict[str, allocation.Losses] = {}
        say("measuring what each layer loses:", 0, len(ranking.groups))
        walk = Walk(model, self.measured.some_batches(allocation.texts_for(model, longest)))
        for name, lost in allocation.measure_losses(walk, ranking.groups, without, levels):
            losses[name] = estimated.brought_to(expected[name], lost)
            say("measuring what each layer loses:", len(losses), len(ranking.groups))
        return losses

    def _estimated(self, recipe: Recipe, ranking: Ranking) -> Mapping[str, allocation.Losses]:
        """The same in closed form: group name → losses."""
        measured = self.measured if tells_words(self.measured.model) else self.measured.on_some(estimated.TEXTS)
        effects = score_units("fisher", measured, ranking.groups)
        errors = None
        if recipe.rung == "least squares":
            consumers = self._consumers(recipe)
            errors = lambda group, outer: consumers.errors(group.name, outer)  # noqa: E731
        return estimated.estimate_losses(
            ranking, measured, effects, lambda group, units: self._solved(recipe, {group.name: units}), errors
        )

    def _with_gone_first(self, scores: Mapping[str, Tensor], groups: tuple[UnitGroup, ...]) -> Mapping[str, Tensor]:
        """What went in an earlier step stays gone: it comes first."""
        if self.gone is None:
            return scores
        keep = self.gone.keep
        dead = {g.name: torch.stack([~keep[p.name][rows].any(dim=1) for p, rows in g.rows]).all(dim=0) for g in groups}
        return {name: values.masked_fill(dead[name], -torch.inf) for name, values in scores.items()}

    def _constants(self, recipe: Recipe) -> Mapping[str, Tensor]:
        """What removed rows put out: projection name → (d_out,)."""
        if recipe.single_rows or set(WHOLE) & set(recipe.units):
            statistics = self.measured.seen_with(recipe.estimator, recipe.seed).statistics()
            return constants(recipe.replacement, statistics, self.groups(recipe))
        return {p.name: torch.zeros(p.d_out) for layer in self.measured.layers for p in layer.projections.values()}

    def _solved(self, recipe: Recipe, gone: Mapping[str, int]) -> Solved:
        """New weights of consumers; for single rows only from least squares on, since zero and mean leave them alone."""
        if recipe.single_rows and recipe.replacement in ("zero", "mean"):
            return {}
        return self._consumers(recipe).solve(recipe.rung, gone)

    def _consumers(self, recipe: Recipe) -> Consumers:
        # a consumer's factor depends on the order within its group, which no scope changes
        own, measured = replace(recipe, scope="per layer"), self.measured
        return self._kept.once(
            ("consumers", own.ordering),
            lambda: Consumers(
                measured.model, measured.layers, self.ranking(own), measured.covariances, measured.shelf, measured.place("")
            ),
        )
