"""In which order a recipe removes units, and what the panels show of it. It may take a minute to measure: a job's work."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from analysis.live import STEPS
from vp_core.ranking.plan import Ranking
from vp_core.recipes import Recipe
from vp_core.study import Study
from vp_core.weights.order import WeightRanking


@dataclass(frozen=True, eq=False)
class Order:
    """The order of removal, the scores to show (none of single weights), and the share of units at each slider position."""

    ranking: Ranking | WeightRanking
    scores: Mapping[str, Tensor]
    shares: Sequence[float]

    def share(self, sparsity: float) -> float:
        """The share of units at a position of the slider."""
        return self.shares[round(sparsity * 100)]


def order_of(study: Study, recipe: Recipe) -> Iterator[Order]:
    """The one item of a job. What it measures is kept, whoever looks."""
    if recipe.pattern:
        yield Order(study.ranking(recipe), {}, STEPS)
        return
    # Random scores say nothing: what they were dealt out from is shown.
    shown = replace(recipe, criterion="variance") if recipe.criterion == "random" else recipe
    yield Order(study.ranking(recipe), study.scores(shown), study.unit_shares(recipe, STEPS))
