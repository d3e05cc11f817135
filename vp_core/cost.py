"""What goes when rows go: parameters and floating-point operations of the six projections."""

from collections.abc import Sequence
from dataclasses import dataclass

from vp_core.plan import Plan
from vp_core.projections import Projection


@dataclass(frozen=True)
class Cost:
    """Rows, weights and FLOPs per token of the model's projections, and how many of each go.

    A row of W has d_in weights and costs 2·d_in operations per token (a multiplication and an addition each). The bias
    stays: it holds the constant. Embeddings, attention products and the classifier are not counted.
    """

    rows: int
    rows_removed: int
    parameters: int
    parameters_removed: int

    @property
    def flops_per_token(self) -> int:
        return 2 * self.parameters

    @property
    def flops_per_token_removed(self) -> int:
        return 2 * self.parameters_removed

    @property
    def share_removed(self) -> float:
        """Share of the projections' weights, and so of their FLOPs, that goes."""
        return self.parameters_removed / self.parameters


def cost(projections: Sequence[Projection], plan: Plan) -> Cost:
    """Count what `plan` removes from the model whose every projection is in `projections`."""
    gone = {name: len(keep) - int(keep.sum()) for name, keep in plan.keep.items()}
    return Cost(
        rows=sum(p.d_out for p in projections),
        rows_removed=sum(gone.values()),
        parameters=sum(p.d_in * p.d_out for p in projections),
        parameters_removed=sum(p.d_in * gone.get(p.name, 0) for p in projections),
    )
