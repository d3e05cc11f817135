"""One model, one task: everything the app, the notebooks and the command line ask, in one place, so they agree."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from vp_core.asking.batches import Inputs, encode, make_batches
from vp_core.asking.evaluate import evaluate, outputs_by_batch
from vp_core.asking.kinds.classification import as_classification
from vp_core.asking.kinds.question import Question, Score
from vp_core.carry_out import Stage
from vp_core.ground.chosen import check_types, units_in_0_4
from vp_core.ground.errors import VPError
from vp_core.ground.kept import NOWHERE, Kept, Shelf
from vp_core.ground.names import TYPES
from vp_core.ground.store import digest
from vp_core.loading.load import LoadedModel
from vp_core.measuring.covariance import Covariances
from vp_core.measuring.measured import Measured
from vp_core.measuring.statistics import Statistics
from vp_core.model.precision import device_of
from vp_core.model.projections import Projection, find_layers
from vp_core.model.sharing import share
from vp_core.model.units import units_that_go
from vp_core.ranking.plan import Plan, Ranking, masks
from vp_core.recipes import Recipe
from vp_core.replacing.principal import turned, turned_covariances, turns
from vp_core.squeezing.budget import most, within
from vp_core.squeezing.cost import Cost, cost, query_biases, sparse_cost
from vp_core.squeezing.cut.shapes import Squeezed
from vp_core.squeezing.squeeze import squeeze, squeeze_masked
from vp_core.weights.dead import dead_rows
from vp_core.weights.masks import Masks
from vp_core.weights.order import WeightRanking
from vp_core.weights.stage import WeightStage


@dataclass(frozen=True, eq=False, repr=False)
class Study:
    """A loaded model, the question it is asked, and the texts its neurons are measured on.

    Statistics and rankings are computed once, when first asked for, and cached: in memory, with `kept_in` on disk too. Any
    number of threads may use one Study. What is asked of a recipe raises VPError if the model is squeezed already, if the units
    cannot meet the sparsity, or if the criterion or the replacement does not fit the model.
    """

    loaded: LoadedModel
    question: Question
    calibration: Inputs
    data_id: str
    calibration_id: str
    source: str
    notes: tuple[str, ...] = ()
    shelf: Shelf = NOWHERE
    _kept: Kept = field(default_factory=Kept, repr=False)

    def __repr__(self) -> str:
        question, everything = self.question, np.arange(len(self.question))
        scored = f"{question.count(everything):,} {question.task.counted}"
        asked = f"{question.task.name!r}: {question.task.metric} on {scored}"
        return f"Study({self.loaded.name!r}, {asked}, statistics on {len(self.calibration):,} {self.measured_on})"

    def kept_in(self, folder: str | Path) -> "Study":
        """The same study, which keeps in this folder what is small and took long to measure, and reads it from there.

        Whoever opens the same model and texts again, also in another process, has the same numbers at once. The folder is made
        if it is not there; it holds about 2 GB at most, of which goes what was not used for longest.
        """
        return replace(self, shelf=Shelf(folder), _kept=Kept())

    @property
    def model(self) -> PreTrainedModel:
        """The model as it was loaded."""
        return self.loaded.model

    @property
    def measured_on(self) -> str:
        """What the calibration examples are called: texts, windows of one, images."""
        return self.question.task.examples

    def measured(self, basis: str = "neurons") -> Measured:
        """All that the calibration texts say of the model in this basis, each thing measured when it is first asked for."""
        return self.stage(basis).measured

    def stage(self, basis: str = "neurons") -> Stage:
        """The model in this basis, measured, and what recipes make of it."""
        self.projections()
        return self._kept.once(("stage", basis), lambda: Stage(self._measured(basis)))

    def _measured(self, basis: str) -> Measured:
        ids = self.loaded.fingerprint, self.calibration_id
        if basis == "neurons":
            return Measured(self.model, self.calibration, *ids, shelf=self.shelf)
        plain = self.measured()
        maps = self.shelf.once(plain.place("turned heads"), lambda: turns(self.model, plain.covariances()))

        def covariances() -> Covariances:
            return turned_covariances(plain.covariances(), maps)

        return Measured(turned(self.model, maps), self.calibration, *ids, covariances, self.shelf, basis)

    def stage_of(self, recipe: Recipe) -> Stage | WeightStage:
        """Where a recipe is carried out: single weights have a stage of their own."""
        return self.weights() if recipe.pattern else self.stage(recipe.basis)

    def weights(self) -> WeightStage:
        """The measured model, and what recipes of single weights make of it."""
        measured = self.measured()
        return self._kept.once("weights", lambda: WeightStage(measured))

    def statistics(self, estimator: str = "exact") -> Statistics:
        """Statistics of all six types over the calibration sentences."""
        return self.measured().seen_with(estimator, 0).statistics()

    def projections(self, types: Sequence[str] = TYPES) -> tuple[Projection, ...]:
        """The model's projections of these types; VPError for unknown types and for a model that is squeezed already."""
        chosen = check_types(tuple(types))
        if not self.loaded.projections:
            raise VPError(f"The model {self.loaded.name!r} is squeezed already: prune the model that it was made from.")
        return tuple(p for p in self.loaded.projections if p.type in chosen)

    def scores(self, recipe: Recipe) -> Mapping[str, Tensor]:
        """The criterion's score of every unit: group name (of single rows: projection name) → (units,).

        VPError for single weights, whose scores a `WeightRanking` gives a matrix at a time.
        """
        if recipe.pattern:
            raise VPError(f"The scores of {recipe.units[0]} come a matrix at a time: ask the ranking for units_scores(matrix).")
        return self.stage(recipe.basis).scores(recipe)

    def ranking(self, recipe: Recipe) -> Ranking | WeightRanking:
        """The order in which a recipe removes units."""
        return self.stage_of(recipe).ranking(recipe)

    def masks(self, recipe: Recipe, sparsity: float) -> Masks:
        """Which single weights survive; VPError for a recipe of other units."""
        if not recipe.pattern:
            raise VPError(f"Masks are of single weights, not of {', '.join(recipe.units)}: ask for the plan instead.")
        return self.weights().masks(recipe, sparsity)

    def plan(self, recipe: Recipe, sparsity: float) -> Plan:
        """The rows that survive, of single weights those that still have an effect; at sparsity 0 all, nothing measured."""
        if recipe.pattern:
            return dead_rows(self.weights().measured.layers, self.masks(recipe, sparsity))
        if sparsity == 0:
            keep = masks((group, np.zeros(len(group), dtype=bool)) for group in self.stage().groups(recipe))
            return Plan(keep, recipe.criterion, recipe.scope, 0.0, self.loaded.fingerprint, recipe.budget)
        return self.stage(recipe.basis).plan(recipe, sparsity)

    def unit_shares(self, recipe: Recipe, sparsities: Sequence[float]) -> list[float]:
        """The share of units that each sparsity takes, without timing or measuring again: for figures that follow a slider."""
        return self.stage_of(recipe).shares(recipe, sparsities)

    def most_saved(self, recipe: Recipe) -> float:
        """The largest sparsity that the recipe's units can meet; nothing is measured for it."""
        if recipe.pattern:
            return recipe.pattern.sparsity or 1.0
        stage = self.stage()
        return most(stage.measured.layers, stage.groups(recipe), recipe.budget, self.model)

    def reachable(self, recipe: Recipe, sparsities: Sequence[float]) -> list[float]:
        """Those of the sparsities that the recipe's units can meet; of N:M 0 and its own, which may be none of them."""
        reach = self.most_saved(recipe)
        if recipe.pattern and recipe.pattern.of:
            return [*(sparsity for sparsity in sparsities if sparsity == 0), reach]
        return [sparsity for sparsity in sparsities if within(sparsity, reach)]

    def cost(self, recipe: Recipe, sparsity: float) -> Cost:
        """Rows, weights and FLOPs that go by exact squeezing, of all six types whatever the recipe's types are.

        Of single weights `parameters` are those that are not zero, while FLOPs, which kernels save only where whole rows or
        columns are gone, are as squeezing finds them.
        """
        squeezed: Squeezed | None = getattr(self.model, "squeezed", None)
        if squeezed is not None and sparsity == 0:
            return squeezed.cost
        layers = find_layers(self.model)
        if recipe.pattern:
            plan, masks = self.plan(recipe, sparsity), self.masks(recipe, sparsity)
            return sparse_cost(layers, masks, plan, query_biases(self.model, layers))
        zeros = [torch.zeros(layer.projections["query"].d_out) for layer in layers]
        silent = recipe.replacement == "zero" or not recipe.single_rows
        return cost(layers, self.plan(recipe, sparsity), zeros if silent else None)

    def pruned(self, recipe: Recipe, sparsity: float) -> PreTrainedModel:
        """A new model pruned by the recipe; `self.model` stays as it is."""
        if sparsity == 0:
            return share(self.model)
        return self.stage_of(recipe).pruned(recipe, sparsity)

    def warnings(self, recipe: Recipe) -> tuple[str, ...]:
        """What a user should know: too few calibration tokens for what the recipe solves, units that do not fit evenly."""
        notes = self.weights().notes(recipe) if recipe.pattern else ()
        if "pairs" in recipe.units and "pairs" not in (go := units_that_go(self.measured().layers, recipe.units)):
            notes = (f"No query/key pairs go from this model, whose heads need all their coordinates: {' and '.join(go)} do.",)
        solves = recipe.criterion == "surgeon" or recipe.replacement == "least squares"
        if recipe.plain or (recipe.pattern and not solves):
            return notes
        tokens, width = self.calibration.tokens, max(p.d_in for p in self.projections())
        if tokens > width:
            return notes
        return (
            *notes,
            f"{tokens:,} calibration tokens cannot tell {width:,} inputs of a matrix apart: the solutions lean on the ridge; "
            f"ask for more calibration {self.measured_on}.",
        )

    def squeezed(self, recipe: Recipe, sparsity: float) -> PreTrainedModel:
        """The smaller model with the outputs of `pruned` (see `vp_core.squeezing.squeeze`): dense, but for single zeros."""
        pruned = self.pruned(recipe, sparsity)
        if recipe.pattern:
            return squeeze_masked(pruned, self.masks(recipe, sparsity))
        return squeeze(pruned, self.plan(recipe, sparsity))

    def scored(self, recipe: Recipe, sparsity: float) -> PreTrainedModel:
        """The model that scores are taken from, wherever they are asked for: the smaller one, in the time of what is left."""
        return self.pruned(recipe, 0) if sparsity == 0 else self.squeezed(recipe, sparsity)

    def running_scores(self, recipe: Recipe, sparsity: float, precision: str = "float32") -> Iterator[Score]:
        """Scores of the pruned model as they come, the last one exact (no fine-tuning)."""
        return evaluate(self.scored(recipe, sparsity), self.question, precision)

    def score(self, recipe: Recipe, sparsity: float, precision: str = "float32") -> Score:
        """The exact score of the pruned model."""
        *_, last = self.running_scores(recipe, sparsity, precision)
        return last

    def key(self, recipe: Recipe, sparsity: float, precision: str = "float32") -> str:
        """What a score depends on, and nothing else: the same key is the same number."""
        facts = recipe.facts() | {"units": units_in_0_4(recipe.units)}
        # up to 0.5 the counts of `random` were its own here; what was scored then is another number
        own_counts = recipe.steps > 1 or recipe.budget != "units" or recipe.scope == "measured"
        drawn = ("counts of variance",) if recipe.criterion == "random" and own_counts else ()
        how = () if sparsity == 0 else (tuple(facts.items()), self.calibration_id, round(sparsity, 9), *drawn)
        # another device rounds otherwise
        where = () if (kind := device_of(self.model).type) == "cpu" else (kind,)
        # up to 0.10 fewer bits were those of the masked model, and losses were measured at more levels
        changed = sparsity > 0 and (precision != "float32" or recipe.scope == "measured")
        return digest("score 4" if changed else "score 3", self.loaded.fingerprint, self.data_id, precision, how, *where)

    def about(self, recipe: Recipe, sparsity: float) -> dict[str, Any]:
        """What a pruned folder says about where it comes from."""
        how = {name: value if isinstance(value, str | int) else ",".join(value) for name, value in recipe.facts().items()}
        whole = {"model": self.loaded.name, "fingerprint": self.loaded.fingerprint, "task": self.question.task.name}
        return whole | {"sparsity": sparsity} | how

    def predict(self, model: PreTrainedModel, texts: Sequence[tuple[str, ...]]) -> tuple[np.ndarray, bool]:
        """(probabilities (n, classes) in the task's order, or (n, 1) values of a regression; whether a text was cut).

        Probabilities of several labels are each by itself (sigmoid), of classes they add up to 1 (softmax).
        """
        question = as_classification(self.question, "A prediction of labels")
        data = encode(self.loaded.tokenizer, texts, question.data.max_length)
        task, outputs = question.task, np.empty((len(texts), len(question.order)))
        for batch, logits in outputs_by_batch(model, question, make_batches(data, range(len(data)))):
            said = logits if task.regression else logits.sigmoid() if task.multi_label else logits.softmax(dim=1)
            outputs[batch.examples] = said.numpy()
        return outputs[:, np.argsort(question.order)], data.truncated > 0
