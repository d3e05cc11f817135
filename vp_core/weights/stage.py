"""How a recipe of single weights is carried out on a measured model: rank once, mask for any sparsity, put in place."""

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor
from transformers import PreTrainedModel

from vp_core.ground.kept import Kept
from vp_core.measuring.measured import Measured
from vp_core.recipes import Recipe
from vp_core.weights.criteria import prepare, score_weights
from vp_core.weights.masks import Masks
from vp_core.weights.matrices import Matrix, find_matrices
from vp_core.weights.order import WeightRanking, sort_scores
from vp_core.weights.prune import masked


class WeightStage:
    """A measured model, and what recipes of single weights make of it; each result is cached by what it depends on.

    `random` takes as many weights of every matrix as `magnitude` does. Any number of threads may use one.
    """

    def __init__(self, measured: Measured) -> None:
        self.measured = measured
        # a ranking is as large as the model, masks are a thirty-second of it
        self._kept, self._rankings, self._sorted, self._masks = Kept(), Kept(most=4), Kept(most=4), Kept(most=8)

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
        """Which weights survive."""
        return self._masks.once((recipe.ordering, sparsity), lambda: self.ranking(recipe).masks(sparsity))

    def pruned(self, recipe: Recipe, sparsity: float) -> PreTrainedModel:
        """A new model without the weights that go, and with what takes their place."""
        return masked(self.measured.model, self.matrices(recipe), self.masks(recipe, sparsity))

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
            return score_weights(recipe.criterion, evidence, matrix)

        by_row = recipe.scope == "per row"
        key = recipe.criterion, recipe.facts()["seed"], recipe.units, recipe.types, by_row
        ordered = self._sorted.once(key, lambda: sort_scores(matrices, pattern, score, by_row, recipe.criterion))
        return WeightRanking(matrices, pattern, score, ordered, recipe.criterion, recipe.scope, self.measured.model_id, like)
