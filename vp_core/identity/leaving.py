"""Which blocks leave in an iteration of identity pruning: ε, and the usage of blocks (SNIP, section 3.4, steps 1 and 3)."""

from collections.abc import Collection, Mapping

from vp_core.ground.names import MODES
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


def leaving_together(mode: str, blocks: Collection[Block]) -> list[tuple[Block, ...]]:
    """What leaves together in a mode, out of these blocks: single blocks, or both of a layer."""
    if mode != "layers":
        return [(block,) for block in blocks if block.kind in MODES[mode]]
    layers = sorted({b.layer for b in blocks})
    return [found for n in layers if (found := tuple(b for b in blocks if b.layer == n and b.kind in MODES[mode]))]


def blocks_that_leave(
    norms: FunctionNorms, epsilon: Mapping[str, float], mode: str, theta: float, at_least: int = 0,
    least_share: float = 0.0, shares: Mapping[Block, float] | None = None,
) -> list[Block]:  # fmt: skip
    """The blocks that leave: the identity in at least θ of the mini-batches (a layer: both its blocks at once).

    If they are fewer than `at_least`, or by `shares` less than `least_share` in sum, those come in that were the identity
    most often, then at most tokens.
    """
    shut = norms.shut(epsilon)
    tokens = norms.closed_share(epsilon)
    place = {block: i for i, block in enumerate(norms.blocks)}
    found = []
    for unit in leaving_together(mode, norms.blocks):
        index = [place[block] for block in unit]
        found.append((float(shut[:, index].all(dim=1).double().mean()), float(tokens[index].mean()), unit))
    found.sort(key=lambda one: (-one[0], -one[1], one[2]))
    leaving: list[Block] = []
    for number, (share, _, unit) in enumerate(found):
        if share < theta and number >= at_least and sum((shares or {}).get(b, 0) for b in leaving) >= least_share:
            break
        leaving += unit
    return leaving
