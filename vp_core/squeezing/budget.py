"""From a budget to a number of units: the smallest share of them whose squeezed model spends it.

Of time, what each layer saves is looked up in a table by the widths of its parts (`vp_core.squeezing.widths`), as ZipLM (Kurtic
et al. 2023) does; units that cost no time by it stay, and the plan that was found is timed.
"""

from collections.abc import Callable, Mapping, Sequence

from transformers import PreTrainedModel

from vp_core.ground.errors import VPError
from vp_core.ground.work import say
from vp_core.model.families import longest_input
from vp_core.model.projections import Layer
from vp_core.model.units import UnitGroup
from vp_core.ranking.plan import Ranking, everything
from vp_core.squeezing.cost import Cost, cost, silent_queries
from vp_core.squeezing.timing import length_of
from vp_core.squeezing.widths import saved_time, table_of, widths_of

FLOPS_LENGTH = 128
"""Tokens of a text whose FLOPs count, and whose forward pass is timed."""
_TOLERANCE = 0.005
_TIMED = 3
"""So many plans are timed at most, after what the table says of them was corrected by the last."""
_MISSED = 0.02
"""A saving this near to the one that was asked for is taken: two measurements of the same plan differ by as much."""
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
    masked: Callable[[Mapping[str, int]], PreTrainedModel],
) -> float:  # fmt: skip
    """The share of units that goes so that `target` of the budget is saved, to the nearest unit.

    `masked(counts)` is a model to squeeze and time, pruned of so many units of each group. Raises VPError if not even all units
    save that much.
    """
    if budget == "latency":
        return _by_time(ranking, layers, target, model, masked)
    units, silent = max(ranking.pool_size.values()), silent_queries(layers, ranking.groups)

    def saved_by(count: int) -> float:
        return saved(cost(layers, ranking.plan(count / units), silent), budget, model)

    _check_reach(budget, target, saved_by(units))
    return _nearest(saved_by, units, target) / units


def _nearest(saved_by: Callable[[int], float], units: int, target: float) -> int:
    """The number of units whose saving is nearest to the target; it rises with their number."""
    low, high = 0, units  # saved_by(low) < target <= saved_by(high), up to the tolerance
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if saved_by(middle) < target else (low, middle)
    return min((low, high), key=lambda count: abs(saved_by(count) - target))


def counts_for(ranking: Ranking, layers: Sequence[Layer], budget: str, share: float, model: PreTrainedModel) -> dict[str, int]:
    """How many units of each group go with a share of all: group name → units; of time, without those that cost none.

    Of each group of a layer the last in the order of removal stay, as many as the layer has room for at the widths that run as
    fast by this machine's table.
    """
    counts = ranking.counts(share)
    if budget != "latency":
        return counts
    table, silent = table_of(model, layers, text_length(model)), silent_queries(layers, ranking.groups)

    def time_of(number: int, counts: Mapping[str, int]) -> float:
        bias = None if silent is None else silent[number]
        return -table.saved(widths_of(layers[number], ranking.taking(counts).keep, bias))

    for group in ranking.groups:
        number = group.layer
        here = {g.name: counts[g.name] for g in ranking.groups if g.layer == number}
        low, high, time = -1, counts[group.name], time_of(number, here)  # the most that costs more, the fewest that does not
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if time_of(number, here | {group.name: middle}) <= time else (middle, high)
        counts[group.name] = high
    return counts


def _by_time(
    ranking: Ranking, layers: Sequence[Layer], target: float, model: PreTrainedModel,
    masked: Callable[[Mapping[str, int]], PreTrainedModel],
) -> float:  # fmt: skip
    table, length = table_of(model, layers, text_length(model)), text_length(model)
    units, silent = max(ranking.pool_size.values()), silent_queries(layers, ranking.groups)

    def predicted(count: int) -> float:
        return table.saved_by(layers, ranking.plan(count / units).keep, silent)

    def timed(count: int) -> float:
        counts = counts_for(ranking, layers, "latency", count / units, model)
        return saved_time(model, masked(counts), ranking.taking(counts), length)

    reach = predicted(units)
    if not within(target, reach):  # by a table of layers that are cut alike; what it says of all units is timed before a no
        reach = max(reach, timed(units))
    _check_reach("latency", target, reach)
    wanted, found = target, []
    for _ in range(_TIMED):
        count = _nearest(predicted, units, min(wanted, predicted(units)))
        found.append((count, timed(count)))
        real = found[-1][1]
        say(f"time saved: {real:.1%} of a forward pass, by the table {predicted(count):.1%}")
        if abs(real - target) <= _MISSED or (len(found) > 1 and count == found[-2][0]):
            break
        wanted += target - real
    return min(found, key=lambda one: abs(one[1] - target))[0] / units


def _check_reach(budget: str, target: float, reach: float) -> None:
    if not within(target, reach):
        raise VPError(
            f"These units can save {reach:.1%} of {_NAMES[budget]}, not {target:.1%}: "
            "ask for less, or add other kinds of units."
        )
