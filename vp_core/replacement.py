"""What a removed row's output is replaced with: a constant per row."""

from collections.abc import Mapping

import torch
from torch import Tensor

from vp_core.errors import one_of
from vp_core.statistics import Statistics

REPLACEMENTS = ("mean", "zero")


def constants(replacement: str, statistics: Statistics) -> Mapping[str, Tensor]:
    """Projection name → (d_out,) constants.

    `mean` is the paper's: the row's mean output goes in the bias (section 3.1). `zero` removes the row, bias and all.
    """
    one_of("replacement", replacement, REPLACEMENTS)
    if replacement == "mean":
        return {name: moments.mean for name, moments in statistics.moments.items()}
    return {name: torch.zeros_like(moments.mean) for name, moments in statistics.moments.items()}
