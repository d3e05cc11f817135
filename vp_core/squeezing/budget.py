"""From a budget to a number of units: the smallest share of them whose squeezed model spends it."""

from collections.abc import Callable, Sequence

from transformers import PreTrainedModel

from vp_core.ground.errors import VPError
from vp_core.model.families import longest_input
from vp_core.model.projections import Layer
from vp_core.ranking.plan import Plan, Ranking
from vp_core.squeezing.cost import Cost, cost
from vp_core.squeezing.squeeze import squeeze
from vp_core.squeezing.timing import time_forward

FLOPS_LENGTH = 128
"""Tokens of a text whose FLOPs count, and whose forward pass is timed."""
_TOLERANCE = 0.005
_TIMED_STEPS = 6
_NAMES = {"parameters": "the encoder's linear parameters", "flops": "the FLOPs", "latency": "the time of a forward pass"}


def unit_share(
    ranking: Ranking, layers: Sequence[Layer], budget: str, target: float, model: PreTrainedModel,
    masked: Callable[[float], PreTrainedModel],
) -> float:  # fmt: skip
    """The share of units that goes so that `target` of the budget is saved, to the nearest unit (latency: six halvings).

    `masked(share)` is a pruned model to squeeze and time. Raises VPError if not even all units save that much.
    """
    if budget == "latency":
        return _by_time(ranking, target, model, masked)
    length = min(FLOPS_LENGTH, longest_input(model.config))

    def saved(count: int) -> float:
        found = cost(layers, ranking.plan(count / most), None)
        return found.share_removed if budget == "parameters" else saved_flops(found, length)

    most = max(ranking.group_size.values())
    if saved(most) < target - _TOLERANCE:
        raise _unmet(budget, target, saved(most))
    low, high = 0, most  # saved(low) < target <= saved(high), up to the tolerance
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if saved(middle) < target else (low, middle)
    nearest = min((low, high), key=lambda count: abs(saved(count) - target))
    return nearest / most


def saved_flops(found: Cost, length: int) -> float:
    """Share of the FLOPs of a text of this length that goes."""
    return 1 - found.flops_per_token_left(length) / found.flops_per_token(length)


def _by_time(ranking: Ranking, target: float, model: PreTrainedModel, masked: Callable[[float], PreTrainedModel]) -> float:
    length = min(FLOPS_LENGTH, longest_input(model.config))

    def saved(share: float) -> float:
        plan: Plan = ranking.plan(share)
        forms = {"dense": model, "squeezed": squeeze(masked(share), plan)}
        *_, last = time_forward(forms, 1, length, repeats=5)
        return 1 - last["squeezed"].median / last["dense"].median

    most = saved(1.0)
    if most < target - _TOLERANCE:
        raise _unmet("latency", target, most)
    low, high = 0.0, 1.0
    for _ in range(_TIMED_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if saved(middle) < target else (low, middle)
    return high


def _unmet(budget: str, target: float, most: float) -> VPError:
    return VPError(
        f"These units can save {most:.1%} of {_NAMES[budget]}, not {target:.1%}: ask for less, or add other kinds of units."
    )
