"""Attention whose heads are of several widths: each group of like width is one product."""

import sys
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from vp_core.model.attending.beside import Seen, class_beside

Groups = Sequence[tuple[int, int]]
"""Heads of one width beside each other: (how many, their width)."""
_GROUPED = "variance_pruning_grouped"


class Grouped(nn.Module):
    """Attention whose heads come in `groups` of one width each; a class beside that of transformers.

    Its maps of query, key and value put out all coordinates of the first group's heads, then those of the second's. The forward
    pass is that of transformers, which takes each coordinate for a head (its width, `head_size`, is 1 to it): the function that
    it hands them to puts them together again, and runs the model's own attention once for each group.
    """

    of_transformers: ClassVar[Any]
    groups: Groups
    head_size: str

    def forward(self, *args: Any, **named: Any) -> Any:
        """As the class of transformers."""
        config = Seen(self.config, {"_attn_implementation": _GROUPED})
        return self.of_transformers.forward(Seen(self, {self.head_size: 1, "config": config}), *args, **named)


def _by_group(seen: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **named: Any) -> Any:
    """Attention of each group's heads; query, key and value (batch, coordinates, tokens, 1) as transformers cut them.

    Returns (batch, tokens, coordinates, 1), and the weights of all heads (batch, heads, tokens, tokens) where there are any.
    """
    module = seen._module
    own = sys.modules[module.of_transformers.__module__]
    attend = ALL_ATTENTION_FUNCTIONS.get_interface(
        module.config._attn_implementation, getattr(own, "eager_attention_forward", None)
    )
    coordinates = [heads * width for heads, width in module.groups]
    parts = zip(*(one.squeeze(-1).split(coordinates, dim=1) for one in (query, key, value)), strict=True)
    found = []
    for (heads, width), part in zip(module.groups, parts, strict=True):
        each = (one.unflatten(1, (heads, width)).transpose(2, 3) for one in part)
        found.append(attend(module, *each, attention_mask, **named))
    contexts, weights = zip(*found, strict=True)
    return torch.cat([one.flatten(2) for one in contexts], dim=-1).unsqueeze(-1), (
        None if any(one is None for one in weights) else torch.cat(weights, dim=1)
    )


ALL_ATTENTION_FUNCTIONS.register(_GROUPED, _by_group)


def group_heads(attention: nn.Module, head_size: str, groups: Groups) -> None:
    """Make `attention` a Grouped one, in place; `head_size` is what it calls the width of a head."""
    kind: Any = type(attention)
    attention.__class__ = class_beside(Grouped, kind)
    attention.groups, attention.head_size = tuple(groups), head_size  # type: ignore[assignment]
