"""Which blocks leave in an iteration of identity pruning: ε, and the usage of blocks (SNIP, section 3.4, steps 1 and 3)."""

from collections.abc import Mapping

from vp_core.ground.names import MODES, READINGS
from vp_core.identity.readings import Readings, passes
from vp_core.identity.usage import Usage
from vp_core.measuring.function_norms import FunctionNorms
from vp_core.model.blocks import Block


def estimate(norms: FunctionNorms, mode: str, k: tuple[int, int]) -> dict[str, float]:
    """ε by kind: the k-th smallest mean norm, for heads or attention blocks and for FFNs apart.

    In the mode `layers` both come from the layer whose two mean norms have the k-th smallest sum, as long as a layer has two.
    """
    means = norms.means()
    pairs = sorted(
        (sum(means[Block(layer, kind)] for kind in MODES["layers"]), layer)
        for layer in {b.layer for b in means}
        if all(Block(layer, kind) in means for kind in MODES["layers"])
    )
    if mode == "layers" and pairs:
        layer = pairs[min(k[0], len(pairs)) - 1][1]
        return {kind: means[Block(layer, kind)] for kind in MODES[mode]}
    there = {block.kind for block in means}
    return {kind: norms.smallest_mean((kind,), k[kind == "ffn"]) for kind in MODES[mode] if kind in there}


def blocks_that_leave(
    norms: FunctionNorms, epsilon: Mapping[str, float], mode: str, theta: float, at_least: int = 0,
    least_share: float = 0.0, shares: Mapping[Block, float] | None = None,
) -> list[Block]:  # fmt: skip
    """`chosen` by usage over the texts that these norms were measured on, where no token's norm is above ε."""
    return chosen(Usage.of_texts(norms, epsilon, mode), theta, None, at_least, least_share, shares)


def chosen(
    usage: Usage, theta: float, readings: Readings | None = None, at_least: int = 0, least_share: float = 0.0,
    shares: Mapping[Block, float] | None = None,
) -> list[Block]:  # fmt: skip
    """The blocks that leave: those whose usage passes θ, by the readings (a layer: both its blocks at once).

    If they are fewer than `at_least`, or by `shares` less than `least_share` in sum, those come in that were the identity
    most often, then at most tokens.
    """
    readings = readings or Readings()
    identity = usage.identity[readings.identity]
    found = [(identity[unit], usage.closed[unit], unit) for unit in usage.units]
    found.sort(key=lambda one: (-one[0], -one[1], one[2]))
    leaving: list[Block] = []
    for number, (share, _, unit) in enumerate(found):
        enough = number >= at_least and sum((shares or {}).get(b, 0) for b in leaving) >= least_share
        if enough and not passes(share, theta, readings.usage):
            break
        leaving += unit
    return leaving


def number_passing(usage: Usage, theta: float) -> dict[str, dict[str, int]]:
    """How many units pass θ, by what a mini-batch's identity is (`max`, `mean`) and what θ is of (`identity`, `use`)."""
    return {
        by: {of: sum(passes(share, theta, of) for share in found.values()) for of in READINGS["usage"]}
        for by, found in usage.identity.items()
    }
