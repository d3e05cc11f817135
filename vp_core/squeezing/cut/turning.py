"""Query, key and value in narrower heads under rotary positions, where coordinates go in pairs."""

from collections.abc import Sequence

import torch
from torch import Tensor

from vp_core.model.family.stack import ROTARY_NOTE, Part
from vp_core.model.projections import HEADED, Layer
from vp_core.model.scatter import gather_pays
from vp_core.model.units import context_columns
from vp_core.squeezing.cut.pieces import NO_ROWS, Pieces, positions
from vp_core.squeezing.cut.shapes import give_frequencies
from vp_core.squeezing.survivors import TurningHead


class TurningHeads(Pieces):
    """Cuts the heads of attention under rotary positions."""

    def turning_heads(self) -> None:
        """Query, key and value of live heads under rotary positions, in heads of one width.

        Rows that went by themselves are constants at their places. Heads that are narrower than they were turn by frequencies
        of their own; in others all places are as they were, so that what transformers does with them is right.
        """
        layer, left, full = self.layer, self.left, self.layer.projections["key"].head_width or 1
        self._note_places()
        if not all(len(head.values) for head in left.turning):
            self.note(layer.fixed_heads)
        heads = left.turning
        scale = (left.width / full) ** 0.5 if layer.scales_by_width else 1.0  # what scores are divided by, on the query's side
        copies = {"query": layer.queries_per_key, "key": 1, "value": 1}
        made = {}
        for type_, many in copies.items():
            factor = scale if type_ == "query" else 1.0
            weight, bias = factor * self.weight(type_).detach(), factor * self.bias(type_)
            old, new = _moved(layer, heads, type_, left.width)
            stays = torch.isin(old, left.rows[type_])
            base = bias.new_zeros(max(len(heads), 1) * many * left.width)
            if type_ != "value":
                base[new[~stays]] = bias[old[~stays]]
            made[type_] = (weight[old[stays]], bias[old[stays]], base, new[stays])
        for path, types in self.by_path(HEADED).items():
            weights, biases, bases, places = zip(*(made[type_] for type_ in types), strict=True)
            base, at = torch.cat(bases), []
            for number, (own, place) in enumerate(zip(bases, places, strict=True)):
                start, step = sum(len(one) for one in bases[:number]), 0
                if layer.projections[types[0]].step:  # heads of query, key and value take turns
                    start, step = number * left.width, len(types) * left.width
                part = Part(start, len(own), left.width if step else 0, step)
                part.give(base, own)
                at.append(part.at(place))
            where, order = torch.cat(at).sort()
            weight, bias, like = torch.cat(weights)[order], torch.cat(biases)[order], self.weight(types[0])
            self.put_reading(types, path, weight, bias, like, base=base, out_index=where)
        if left.width < full:
            self._own_frequencies()

    def _note_places(self) -> None:
        """Tell of rows of query and key that went, but whose partners did not."""
        layer, left = self.layer, self.left
        shared = {"query": layer.queries_per_key, "key": 1}
        alone = any(len(left.rows[t]) < many * sum(head.score_width for head in left.turning) for t, many in shared.items())
        if alone:
            self.note(layer.full_heads or ROTARY_NOTE)

    def _own_frequencies(self) -> None:
        path, heads = self.layer.attention, self.left.turning
        index = torch.full((max(len(heads), 1), self.left.width // 2), self.layer.turned // 2)
        for own, head in zip(index, heads, strict=False):
            own[: len(head.pairs)] = head.pairs
        self.result.attributes[path] = {self.layer.head_size: self.left.width}
        setattr(self.model.get_submodule(path), self.layer.head_size, self.left.width)
        give_frequencies(self.model, path, index)
        self.result.turning[path] = (index.shape[0], index.shape[1])

    def read_by_heads(self, constants: Tensor) -> tuple[Tensor, Tensor, Tensor | None, int, Tensor | None]:
        """What `reader` is told of the heads under rotary positions: `constants` (value rows,) are those of removed values."""
        left, shared = self.left, self.layer.queries_per_key
        full = self.layer.projections["key"].head_width or 1
        columns = context_columns(self.layer)[left.rows["value"]].flatten().sort().values
        counts = [len(head.values) for head in left.turning for _ in range(shared)]
        places, room = positions(counts, [left.width] * len(counts)), len(counts) * left.width
        constants = constants.view(-1, 1, full).expand(-1, shared, -1).flatten()
        picks = gather_pays(self.weight("attention_output")[self.left.rows["attention_output"], :room], len(columns))
        return (columns, constants, places, room, None) if not picks else (columns, constants, None, 0, places)


def _moved(layer: Layer, heads: Sequence[TurningHead], type_: str, width: int) -> tuple[Tensor, Tensor]:
    """(rows of live heads as they were, their places now), (rows,) each, under rotary positions.

    Places in narrower heads of `width` are those that a Turning attention wants: pairs first in both halves, then what does not
    turn. In others they are as before, but for the heads that left. Values come first in their heads.
    """
    full, copies = layer.projections[type_].head_width or 1, layer.queries_per_key if type_ == "query" else 1
    old, new = [NO_ROWS], [NO_ROWS]
    for position, head in enumerate(heads):
        if type_ == "value":
            within = head.values - head.number * full
            places = torch.arange(len(within))
        else:
            within = torch.cat([head.pairs, layer.turned // 2 + head.pairs, head.still])
            (first, rest), half = torch.arange(width // 2).tensor_split([len(head.pairs)]), width // 2
            narrow = torch.cat([first, half + first, torch.cat([rest, half + rest])[: len(head.still)]])
            places = within if width == full else narrow
        for copy in range(copies):
            old.append((head.number * copies + copy) * full + within)
            new.append((position * copies + copy) * width + places)
    return torch.cat(old), torch.cat(new)
