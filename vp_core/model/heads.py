"""Attention of a squeezed model whose heads are not alike: classes beside those of transformers.

They run the forward passes of transformers, which see other maps, or other sizes, than the module has.
"""

import sys
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

Parts = tuple[tuple[int, int], ...]
"""What a map puts out, side by side: (coordinates by head of the key that come in so many copies, how many of these turn)."""


class _Beside(nn.Module):
    """A class beside one of transformers: made at run time, so that copies and pickles are told of what."""

    of_transformers: ClassVar[Any]

    def __reduce_ex__(self, _protocol: Any) -> tuple[Any, ...]:
        return _blank, (type(self).__mro__[1], self.of_transformers), self.__dict__


class Turning(_Beside):
    """Attention under rotary positions whose heads each kept frequencies of their own; a class beside that of transformers.

    `own_frequencies` (heads of key, width / 2) are places in the table of cosines and sines: a head's coordinates i and
    i + width / 2 turn together by that frequency, and where it is one behind the table's last, not at all. The forward pass is
    that of transformers, which is handed the angle 0: what its maps of query and key put out is turned already.
    """

    own_frequencies: Tensor
    turned_maps: Mapping[str, Parts]

    def forward(self, hidden_states: Tensor, *args: Any, position_embeddings: tuple[Tensor, Tensor], **named: Any) -> Any:
        """As the class of transformers; `position_embeddings` are cosines and sines (batch, tokens, coordinates that turn)."""
        cos, sin = (self._of_heads(part, at_rest) for part, at_rest in zip(position_embeddings, (1.0, 0.0), strict=True))
        sin = torch.cat([-sin, sin], dim=-2)  # with the other coordinate of its pair, the first one's share is subtracted
        seen = _Seen(self, {name: self._turned(name, parts, cos, sin) for name, parts in self.turned_maps.items()})
        nothing = tuple(part.new_full((1, 1, 1), value) for part, value in zip(position_embeddings, (1.0, 0.0), strict=True))
        return self.of_transformers.forward(seen, hidden_states, *args, position_embeddings=nothing, **named)

    def _of_heads(self, table: Tensor, at_rest: float) -> Tensor:
        """From a table (batch, tokens, turning) each head's own (batch, tokens, heads of key, 1, 1, width / 2)."""
        heads, half = self.own_frequencies.shape
        wider = F.pad(table[..., : table.shape[-1] // 2], (0, 1), value=at_rest)
        return wider.index_select(-1, self.own_frequencies.flatten()).unflatten(-1, (heads, 1, 1, half))

    def _turned(self, name: str, parts: Parts, cos: Tensor, sin: Tensor) -> Callable[[Tensor], Tensor]:
        """The map of this name with turned outputs."""
        heads, half = self.own_frequencies.shape

        def turn(x: Tensor) -> Tensor:
            return x * cos + x.flip(-2) * sin

        def part(y: Tensor, copies: int, turned: int) -> Tensor:
            if not turned:
                return y
            by_head = y.unflatten(-1, (heads, copies, 2, half))
            if turned < copies:
                return torch.cat([turn(by_head[..., :turned, :, :]), by_head[..., turned:, :, :]], dim=-3).flatten(-4)
            return turn(by_head).flatten(-4)

        def forward(x: Tensor) -> Tensor:
            y = getattr(self, name)(x)
            if len(parts) == 1:
                return part(y, *parts[0])
            each = y.split([heads * copies * 2 * half for copies, _ in parts], dim=-1)
            return torch.cat([part(one, *sizes) for one, sizes in zip(each, parts, strict=True)], dim=-1)

        return forward


class _Seen:
    """A module, or a configuration, as a forward pass sees it: some of its attributes are others, all else is its own.

    One for each pass, so that several threads can use one module.
    """

    def __init__(self, module: Any, others: Mapping[str, Any]) -> None:
        self._module = module
        self.__dict__ |= others

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


Groups = tuple[tuple[int, int], ...]
"""Heads of one width beside each other: (how many, their width)."""
_GROUPED = "variance_pruning_grouped"


class Grouped(_Beside):
    """Attention whose heads come in `groups` of one width each; a class beside that of transformers.

    Its maps of query, key and value put out all coordinates of the first group's heads, then those of the second's. The forward
    pass is that of transformers, which takes each coordinate for a head (its width, `head_size`, is 1 to it): the function that
    it hands them to puts them together again, and runs the model's own attention once for each group.
    """

    groups: Groups
    head_size: str

    def forward(self, *args: Any, **named: Any) -> Any:
        """As the class of transformers."""
        config = _Seen(self.config, {"_attn_implementation": _GROUPED})
        return self.of_transformers.forward(_Seen(self, {self.head_size: 1, "config": config}), *args, **named)


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


@cache
def _class_beside(kind: Any, base: Any) -> Any:
    about = {"__doc__": kind.__doc__, "__module__": base.__module__, "of_transformers": base}
    return type(f"{kind.__name__}{base.__name__}", (kind, base), about)


def _blank(kind: Any, base: Any) -> nn.Module:
    """A module of the class `kind` beside `base`, its state still to be set."""
    found = _class_beside(kind, base)
    return found.__new__(found)


def group_heads(attention: nn.Module, head_size: str, groups: Groups) -> None:
    """Make `attention` a Grouped one, in place; `head_size` is what it calls the width of a head."""
    kind: Any = type(attention)
    attention.__class__ = _class_beside(Grouped, kind)
    attention.groups, attention.head_size = groups, head_size  # type: ignore[assignment]


def turn_by_own(attention: nn.Module, maps: Mapping[str, Parts], own_frequencies: Tensor) -> None:
    """Make `attention` a Turning one, in place; `own_frequencies` (heads of key, width / 2).

    `maps` are the names of the maps in it that hold query and key, with the parts that each has.
    """
    kind: Any = type(attention)
    attention.__class__ = _class_beside(Turning, kind)
    attention.register_buffer("own_frequencies", own_frequencies)
    attention.turned_maps = dict(maps)  # type: ignore[assignment]
