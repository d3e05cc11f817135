"""ε and the blocks that leave, by hand."""

import numpy as np
import torch

from vp_core.identity.leaving import blocks_that_leave, estimate
from vp_core.measuring.function_norms import MINI_BATCH, FunctionNorms
from vp_core.measuring.histogram import Histogram
from vp_core.model.blocks import Block


def made(**values):
    """FunctionNorms of blocks by name (`h0_1`: head 1 of layer 0), each with these norms, one token a text."""
    names = {f"{n[1]}.{ {'h': 'head', 'a': 'attention', 'f': 'ffn'}[n[0]] }" + (f".{n[3]}" if n[0] == "h" else ""): v
             for n, v in values.items()}  # fmt: skip
    maxima = torch.tensor(np.array(list(names.values()), dtype=np.float32).T.copy())
    histogram = Histogram.empty(len(names))
    histogram.add(range(len(names)), maxima.T.contiguous())
    return FunctionNorms(tuple(Block.named(n) for n in names), histogram, maxima)


def test_estimate_by_hand():
    norms = made(h0_0=[4, 6], h0_1=[1, 2], a0=[7, 9], f0=[3, 4], h1_0=[2, 2], h1_1=[9, 9], a1=[1, 3], f1=[9, 9])
    assert estimate(norms, "heads", (1, 1)) == {"head": 1.5}
    assert estimate(norms, "joint", (1, 1)) == {"head": 1.5, "ffn": 3.5}
    assert estimate(norms, "joint", (3, 2)) == {"head": 5, "ffn": 9}
    assert estimate(norms, "ffn", (2, 1)) == {"ffn": 3.5}
    assert estimate(norms, "separate", (1, 1)) == {"attention": 2, "ffn": 3.5}
    assert estimate(norms, "layers", (1, 1)) == {"attention": 2, "ffn": 9}  # 2 + 9 < 8 + 3.5
    assert estimate(norms, "layers", (2, 1)) == {"attention": 8, "ffn": 3.5}
    assert estimate(norms, "layers", (9, 1)) == {"attention": 8, "ffn": 3.5}
    assert estimate(made(h0_0=[1], a0=[2]), "joint", (5, 5)) == {"head": 1}
    assert estimate(made(h0_0=[1], a0=[2]), "layers", (1, 1)) == {"attention": 2}


def batches_with(*shut_in):
    """Norms (texts,) of 4 mini-batches of MINI_BATCH: below 1 in whole mini-batches of these numbers, else at 2 once."""
    order = np.random.default_rng(0).permutation(4 * MINI_BATCH)
    found = np.full(4 * MINI_BATCH, 0.5)
    for number in range(4):
        if number not in shut_in:
            found[order[number * MINI_BATCH]] = 2
    return found


def test_choose_by_hand():
    norms = made(
        h0_0=batches_with(0, 1, 2, 3), h0_1=batches_with(0, 1, 2), a0=batches_with(0, 1), f0=batches_with(1, 2, 3),
        h1_0=batches_with(), h1_1=np.full(4 * MINI_BATCH, 3.0), a1=batches_with(0, 1, 2, 3), f1=batches_with(2),
    )  # fmt: skip
    h00, h01, a0, f0, h10, h11, a1, f1 = norms.blocks
    one = dict.fromkeys(("head", "attention", "ffn"), 1.0)
    assert blocks_that_leave(norms, one, "heads", 0.95) == [h00]
    assert blocks_that_leave(norms, one, "heads", 0.75) == [h00, h01]
    assert blocks_that_leave(norms, one, "heads", 1, at_least=3) == [h00, h01, h10]  # then by tokens: h11 is never shut
    never_first = made(h0_0=np.full(4 * MINI_BATCH, 3.0), h0_1=batches_with())
    assert blocks_that_leave(never_first, one, "heads", 1, at_least=1) == [never_first.blocks[1]]
    assert blocks_that_leave(norms, one, "heads", 1, at_least=99) == [h00, h01, h10, h11]
    assert blocks_that_leave(norms, one, "joint", 0.75) == [h00, f0, h01]  # f0 and h01 are equal: by layer, then kind
    assert blocks_that_leave(norms, one, "ffn", 0.9) == []
    assert blocks_that_leave(norms, one, "separate", 0.5) == [a1, f0, a0]
    # a layer: mini-batches in which both are shut, {1} of layer 0 and {2} of layer 1
    assert blocks_that_leave(norms, one, "layers", 0.26) == []
    assert blocks_that_leave(norms, one, "layers", 0.25) == [a0, f0, a1, f1]
    assert blocks_that_leave(norms, {"head": 5.0}, "joint", 0.95) == [h00, h01, h10, h11]  # no ε for networks: they never leave
    assert blocks_that_leave(norms, one, "joint", 0) == [h00, f0, h01, f1, h10, h11]
    shares = {h00: 0.1, h01: 0.1, h10: 0.1, h11: 0.1, f0: 0.3, f1: 0.3}
    assert blocks_that_leave(norms, one, "joint", 1, 0, 0.1, shares) == [h00]
    assert blocks_that_leave(norms, one, "joint", 1, 0, 0.3, shares) == [h00, f0]
