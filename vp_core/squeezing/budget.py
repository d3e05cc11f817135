"""From a budget to a number of units: the smallest share of them whose squeezed model spends it."""

from collections.abc import Callable, Sequence

from transformers import PreTrainedModel

from vp_core.ground.errors import VPError
from vp_core.model.families import longest_input
from vp_core.model.projections import Layer
from vp_core.model.units import UnitGroup
from vp_core.ranking.plan import Plan, Ranking, everything
from vp_core.squeezing.cost import Cost, cost, silent_queries
from vp_core.squeezing.squeeze import squeeze
from vp_core.squeezing.timing import length_of, time_forward

FLOPS_LENGTH = 128
"""Tokens of a text whose FLOPs count, and whose forward pass is timed."""
_TOLERANCE = 0.005
_TIMED_STEPS = 6
_NAMES = {"parameters": "the encoder's linear parameters", "flops": "the FLOPs", "latency": "the time of a forward pass"}


def saved(taken: Cost, budget: str, model: PreTrainedModel) -> float:
    """The share of `budget` that goes with what a plan takes from `model` (`vp_core.squeezing.cost`).

    `parameters` are counted, `flops` those of a text of `text_length`. `latency` counts as FLOPs here: no clock is needed.
    """
    if budget == "parameters":
        return taken.share_removed
    length = text_length(model)
    return 1 - taken.flops_per_token_left(length) / taken.flops_per_token(length)


def most(layers: Sequence[Layer], groups: Sequence[UnitGroup], budget: str, model: PreTrainedModel) -> float:
    """The largest share of `budget` that these units of a model with these `layers` can save; nothing is measured for it."""
    return 1.0 if budget == "units" else saved(cost(layers, everything(groups), silent_queries(layers, groups)), budget, model)


def within(target: float, reach: float) -> bool:
    """Whether units that save `reach` at most meet a target: one a little beyond it takes all of them."""
    return target - _TOLERANCE <= reach


def text_length(model: PreTrainedModel) -> int:
    """Tokens of the text that FLOPs and time are those of: FLOPS_LENGTH, or fewer if the model has no positions for them.

    The model's own limit and not its tokeniser's: what pruning saves of a model does not change with who feeds it. Of one that
    sees, the tokens of a picture of the size it was made for.
    """
    return length_of(model.config, min(FLOPS_LENGTH, longest_input(model.config)))


def unit_share(
    ranking: Ranking, layers: Sequence[Layer], budget: str, target: float, model: PreTrainedModel,
    masked: Callable[[float], PreTrainedModel],
) -> float:  # fmt: skip
    """The share of units that goes so that `target` of the budget is saved, to the nearest unit (latency: six halvings).

    `masked(share)` is a pruned model to squeeze and time. Raises VPError if not even all units save that much.
    """
    if budget == "latency":
        return _by_time(ranking, target, model, masked)
    units, silent = max(ranking.pool_size.values()), silent_queries(layers, ranking.groups)

    def saved_by(count: int) -> float:
        return saved(cost(layers, ranking.plan(count / units), silent), budget, model)

    _check_reach(budget, target, saved_by(units))
    low, high = 0, units  # saved_by(low) < target <= saved_by(high), up to the tolerance
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if saved_by(middle) < target else (low, middle)
    nearest = min((low, high), key=lambda count: abs(saved_by(count) - target))
    return nearest / units


def _by_time(ranking: Ranking, target: float, model: PreTrainedModel, masked: Callable[[float], PreTrainedModel]) -> float:
    length = text_length(model)

    def saved_by(share: float) -> float:
        plan: Plan = ranking.plan(share)
        forms = {"dense": model, "squeezed": squeeze(masked(share), plan)}
        *_, last = time_forward(forms, 1, length, repeats=5)
        return 1 - last["squeezed"].median / last["dense"].median

    _check_reach("latency", target, saved_by(1.0))
    low, high = 0.0, 1.0
    for _ in range(_TIMED_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if saved_by(middle) < target else (low, middle)
    return high


def _check_reach(budget: str, target: float, reach: float) -> None:
    if not within(target, reach):
        raise VPError(
            f"These units can save {reach:.1%} of {_NAMES[budget]}, not {target:.1%}: "
            "ask for less, or add other kinds of units."
        )
