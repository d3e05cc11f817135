"""From scores of weights to scores of blocks, from kept blocks to a mask, and N of every M neighbours.

Blocks at the ends of a matrix may be cut short: a block's score is the mean over the weights it has.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from vp_core.ground.patterns import Pattern

_FEW = 16
"""Up to so many neighbours each is compared with each, which is faster than sorting them."""


def by_block(scores: Tensor, pattern: Pattern) -> Tensor:
    """The mean score of each block: (rows, columns) → (rows of blocks, blocks in a row); single weights are as they are.

    >>> by_block(torch.tensor([[1.0, 3.0, 5.0], [1.0, 3.0, 7.0]]), Pattern(2, 2)).tolist()
    [[2.0, 6.0]]
    """
    shape = scores.shape[0], scores.shape[1]
    height, width = pattern.block(shape)
    if (height, width) == (1, 1):
        return scores
    up, across = pattern.grid(shape)
    padded = F.pad(scores, (0, across * width - shape[1], 0, up * height - shape[0]))
    sums = padded.view(up, height, across, width).sum(dim=(1, 3), dtype=torch.float64)
    return (sums / (_sides(shape[0], height)[:, None] * _sides(shape[1], width))).to(scores.dtype)


def _sides(length: int, side: int) -> Tensor:
    """The lengths of the parts of `length` in steps of `side`, the last of which may be shorter."""
    starts = torch.arange(0, length, side)
    return (length - starts).clamp(max=side).double()


def expanded(keep: Tensor, pattern: Pattern, shape: tuple[int, int]) -> Tensor:
    """The mask (rows, columns) of kept blocks (rows of blocks, blocks in a row).

    >>> expanded(torch.tensor([[True, False]]), Pattern(2, 2), (2, 3)).tolist()
    [[True, True, False], [True, True, False]]
    """
    height, width = pattern.block(shape)
    if (height, width) == (1, 1):
        return keep
    return keep.repeat_interleave(height, dim=0)[: shape[0]].repeat_interleave(width, dim=1)[:, : shape[1]]


def n_of_m(scores: Tensor, keep: int, of: int) -> Tensor:
    """The mask (rows, columns) that keeps the `keep` highest of every `of` neighbours in a row; of equal ones the later stay.

    A last group that is shorter is filled up with weights that go first, so it keeps no more than the others.

    >>> n_of_m(torch.tensor([[4.0, 1.0, 2.0, 3.0, 9.0]]), 2, 4).tolist()
    [[True, False, False, True, True]]
    """
    rows, columns = scores.shape
    groups = -(-columns // of)
    padded = F.pad(scores, (0, groups * of - columns), value=-1.0).view(rows, groups, of)
    return (_places(padded) >= of - keep).view(rows, groups * of)[:, :columns].contiguous()


def _places(scores: Tensor) -> Tensor:
    """The place of each score among those of its group (…, of), from the lowest; the earlier of equal ones is lower."""
    of = scores.shape[-1]
    if of > _FEW:
        return scores.argsort(dim=-1, stable=True).argsort(dim=-1)
    places = torch.zeros(scores.shape, dtype=torch.int8)
    for other in range(of):
        lower = scores[..., other, None] < scores
        lower[..., other + 1 :] |= (scores[..., other, None] == scores)[..., other + 1 :]
        places += lower
    return places
