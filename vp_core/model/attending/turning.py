"""Attention under rotary positions whose heads each kept frequencies of their own."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vp_core.model.attending.beside import Seen, class_beside

Parts = tuple[tuple[int, int], ...]
"""What a map puts out, side by side: (coordinates by head of the key that come in so many copies, how many of these turn)."""


class Turning(nn.Module):
    """Attention under rotary positions whose heads each kept frequencies of their own; a class beside that of transformers.

    `own_frequencies` (heads of key, width / 2) are places in the table of cosines and sines: a head's coordinates i and
    i + width / 2 turn together by that frequency, and where it is one behind the table's last, not at all. The forward pass is
    that of transformers, which is handed the angle 0: what its maps of query and key put out is turned already.
    """

    own_frequencies: Tensor
    of_transformers: ClassVar[Any]
    turned_maps: Mapping[str, Parts]

    def forward(self, hidden_states: Tensor, *args: Any, position_embeddings: tuple[Tensor, Tensor], **named: Any) -> Any:
        """As the class of transformers; `position_embeddings` are cosines and sines (batch, tokens, coordinates that turn)."""
        cos, sin = (self._of_heads(part, at_rest) for part, at_rest in zip(position_embeddings, (1.0, 0.0), strict=True))
        sin = torch.cat([-sin, sin], dim=-2)  # with the other coordinate of its pair, the first one's share is subtracted
        seen = Seen(self, {name: self._turned(name, parts, cos, sin) for name, parts in self.turned_maps.items()})
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


def turn_by_own(attention: nn.Module, maps: Mapping[str, Parts], own_frequencies: Tensor) -> None:
    """Make `attention` a Turning one, in place; `own_frequencies` (heads of key, width / 2).

    `maps` are the names of the maps in it that hold query and key, with the parts that each has.
    """
    kind: Any = type(attention)
    attention.__class__ = class_beside(Turning, kind)
    attention.register_buffer("own_frequencies", own_frequencies)
    attention.turned_maps = dict(maps)  # type: ignore[assignment]
