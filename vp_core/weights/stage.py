"""How a recipe of single weights is carried out on a measured model: rank once, mask for any sparsity, put in place."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from transformers import PreTrainedModel

from vp_core.asking.batches import Encoded
from vp_core.ground.errors import VPError
from vp_core.ground.kept import Kept
from vp_core.ground.parallel import in_parallel
from vp_core.ground.work import say
from vp_core.measuring.measured import Measured
from vp_core.model.sharing import share
from vp_core.recipes import Recipe
from vp_core.replacing.by_mask import replaced
from vp_core.weights.coreset import priorities, weighted
from vp_core.weights.criteria import prepare, score_weights
from vp_core.weights.masks import Masks
from vp_core.weights.matrices import Matrix, bias_of, find_matrices, tied_with, view
from vp_core.weights.order import WeightRanking, sort_scores
from vp_core.weights.prune import Replaced, masked


class WeightStage:
    """A measured model, and what recipes of single weights make of it; each result is cached by what it depends on.

    `random` takes as many weights of every matrix as `magnitude` does. Any number of threads may use one.
    """

    def __init__(self, measured: Measured) -> None:
        self.measured = measured
        # a ranking is as large as the model, masks are a thirty-second of it
        self._kept, self._rankings, self._sorted, self._masks = Kept(), Kept(most=4), Kept(most=4), Kept(most=8)
        self._models = Kept(most=4, cancellable=True)

    def matrices(self, recipe: Recipe) -> tuple[Matrix, ...]:
        """The matrices that the recipe chooses weights from."""
        return self._kept.once(
            ("matrices", recipe.types), lambda: find_matrices(self.measured.model, recipe.types, self.measured.layers)
        )

    def ranking(self, recipe: Recipe) -> WeightRanking:
        """The order in which the recipe removes units."""
        return self._rankings.once(recipe.ordering, lambda: self._rank(recipe))

    def share(self, recipe: Recipe, sparsity: float) -> float:
        """The share of units at a sparsity: the sparsity itself."""
        return sparsity

    def shares(self, recipe: Recipe, sparsities: Sequence[float]) -> list[float]:
        """The share of units at each of many sparsities: the sparsities themselves."""
        return list(sparsities)

    def masks(self, recipe: Recipe, sparsity: float) -> Masks:
        """Which weights survive; at sparsity 0 all, and nothing has to be measured."""
        if sparsity == 0:
            everything = {m.name: torch.ones(m.shape, dtype=torch.bool) for m in self.matrices(recipe)}
            return Masks.of(everything, criterion=recipe.criterion, scope=recipe.scope, units=recipe.units[0])
        return self._masks.once((recipe.ordering, sparsity), lambda: self.ranking(recipe).masks(sparsity))

    def pruned(self, recipe: Recipe, sparsity: float) -> PreTrainedModel:
        """A new model without the weights that go, and with what takes their place; the last few that were solved are kept."""
        if recipe.replacement in ("zero", "inverse probability"):
            return self._made(recipe, sparsity)
        return share(self._models.once((recipe, sparsity), lambda: self._made(recipe, sparsity)))

    def _made(self, recipe: Recipe, sparsity: float) -> PreTrainedModel:
        masks = self.masks(recipe, sparsity)
        return masked(self.measured.model, self.matrices(recipe), masks, self._replaced(recipe, masks))

    def _replaced(self, recipe: Recipe, masks: Masks) -> Replaced:
        """What takes the place of each matrix, on all cores."""
        if recipe.replacement == "zero":
            return {}
        matrices, done = self.matrices(recipe), 0
        solve = self._drawn(recipe, masks) if recipe.replacement == "inverse probability" else self._solved(recipe, masks)
        found: dict[str, tuple[Tensor, Tensor | None]] = {}
        for matrix, new in zip(matrices, in_parallel(solve, matrices), strict=True):
            found[matrix.name], done = new, done + 1
            if recipe.replacement == "least squares":
                say("solving what stays: matrix", done, len(matrices))
        return found

    def _drawn(self, recipe: Recipe, masks: Masks) -> Callable[[Matrix], tuple[Tensor, Tensor | None]]:
        def weighed(matrix: Matrix) -> tuple[Tensor, Tensor | None]:
            weight, keep = view(self.measured.model, matrix).cpu(), masks.keep(matrix.name)[0]
            return weighted(weight, keep, priorities(weight, matrix.name, recipe.seed), matrix.name), None

        return weighed

    def _solved(self, recipe: Recipe, masks: Masks) -> Callable[[Matrix], tuple[Tensor, Tensor | None]]:
        model, inputs = self.measured.model, self.measured.inputs()

        def solved(matrix: Matrix) -> tuple[Tensor, Tensor | None]:
            p = matrix.projection
            assert p  # a recipe with word embeddings has no such replacement
            weight, bias = view(model, matrix).cpu().double(), bias_of(model, matrix)
            held_out = (inputs.fitted(p.name), inputs.held_out[p.name]) if p.name in inputs.held_out else None
            return replaced(recipe.replacement, weight, bias, masks.keep(matrix.name), inputs[p.name], held_out)

        return solved

    def notes(self, recipe: Recipe) -> tuple[str, ...]:
        """What a user should know of these units: matrices that are tied, and blocks that do not divide a matrix."""
        pattern, matrices = recipe.pattern, self.matrices(recipe)
        assert pattern
        told = []
        for matrix in matrices:
            if tied := tied_with(self.measured.model, matrix):
                told.append(
                    f"The weights of {matrix.name} are also those of {', '.join(tied)}: what goes from one goes from all."
                )
        height, width = (pattern.rows or 1, pattern.columns or 1) if not pattern.of else (1, pattern.of)
        if odd := [matrix for matrix in matrices if matrix.rows % height or matrix.columns % width]:
            first, others = odd[0], f" and {len(odd) - 1} more" if len(odd) > 1 else ""
            told.append(
                f"{pattern.name} does not divide {first.name} ({first.rows:,} x {first.columns:,}){others}: the last units "
                "there are smaller and count as one each."
            )
        return tuple(told)

    def _rank(self, recipe: Recipe) -> WeightRanking:
        pattern, evidence, matrices = (
            recipe.pattern,
            self.measured.seen_with(recipe.estimator, recipe.seed),
            self.matrices(recipe),
        )
        assert pattern
        prepare(recipe.criterion, evidence)
        like = self.ranking(replace(recipe, criterion="magnitude")) if recipe.criterion == "random" else None

        def score(matrix: Matrix) -> Tensor:
            scores = score_weights(recipe.criterion, evidence, matrix)
            # units of several weights go by their mean square, blocks of one size so by their L2 norm, as rows do
            return scores.square() if recipe.criterion == "magnitude" and not pattern.single else scores

        by_row = recipe.scope == "per row"
        key = recipe.criterion, recipe.facts()["seed"], recipe.units, recipe.types, by_row
        ordered = self._sorted.once(key, lambda: sort_scores(matrices, pattern, score, by_row, recipe.criterion))
        return WeightRanking(matrices, pattern, score, ordered, recipe.criterion, recipe.scope, self.measured.model_id, like)


def prune_weights(model: PreTrainedModel, recipe: Recipe, sparsity: float) -> tuple[PreTrainedModel, Masks]:
    """(a new model without these single weights, its masks), by a recipe that looks at no text: so for any model, also of
    pictures.

    A `Study` does it for every recipe. Raises VPError for one that needs texts, and for units other than single weights.
    """
    if not recipe.pattern:
        raise VPError(f"The recipe {recipe.describe()} is not of single weights: use prune with a plan, or ask a study.")
    if not recipe.plain:
        raise VPError(
            f"The recipe {recipe.describe()} needs texts to measure: ask a study, or take magnitude, random or coreset."
        )
    stage = WeightStage(Measured(model, Encoded([], None, 0, 0, 1), "", ""))
    return stage.pruned(recipe, sparsity), stage.masks(recipe, sparsity)
