"""Query, key and value in narrower heads, whose coordinates stand for nothing but themselves."""

import torch
from torch import Tensor

from vp_core.model.projections import HEADED
from vp_core.squeezing.cut.pieces import Pieces, positions, starts
from vp_core.squeezing.cut.shapes import give_groups
from vp_core.squeezing.survivors import Head


class Heads(Pieces):
    """Cuts the heads of attention without rotary positions."""

    def heads(self) -> None:
        """Narrower query, key and value: rows of live heads, put into heads of a few widths, the rest of them zero."""
        heads, layer, groups = self.left.heads, self.layer, self.left.groups
        width, widths = self.left.width, self.left.widths
        if not all(len(head.values) for head in heads):
            self.note(layer.fixed_heads)
        # (neurons, inputs + 1): a row and its bias go the same way
        query, key, value = (torch.cat([self.weight(t), self.bias(t)[:, None]], dim=1).detach() for t in HEADED)
        zeros, ones = (query.new_zeros(sum(widths)) for _ in range(2))
        for head, start in zip(heads, starts(widths), strict=False):
            ones[start + len(head.scores) : start + head.score_width] = 1  # the query of a merged coordinate
        constants = query[:, -1]
        if layer.scales_by_width:  # scores are divided by the root of the narrower width, which queries make up for
            query, ones = (part * (width / (layer.projections["query"].head_width or width)) ** 0.5 for part in (query, ones))
        parts: dict[tuple[str, ...], tuple[list[Tensor], Tensor]] = {
            ("query",): ([query[head.scores] for head in heads], ones),
            ("key",): ([_with_merged(key, head, constants) for head in heads], zeros),
            ("value",): ([value[head.values] for head in heads], zeros),
        }
        if layer.split_size:  # one module for all three
            parts = {HEADED: ([rows for part, _ in parts.values() for rows in part], torch.cat([ones, zeros, zeros]))}
            widths = widths * 3
        for types, (rows, base) in parts.items():
            both, places = torch.cat([query[:0], *rows]), positions([len(r) for r in rows], widths)
            path, like = layer.projections[types[0]].path, self.weight(types[0])
            self.put_reading(types, path, both[:, :-1], both[:, -1], like, base=base, out_index=places)
        if len(groups) > 1:
            give_groups(self.model, layer.attention, groups)
            self.result.grouped[layer.attention] = groups
        else:
            self._sizes(width, groups[0][0])

    def _sizes(self, width: int, heads: int) -> None:
        """Tell the attention module how many heads there are, and how wide they all are."""
        layer, attributes = self.layer, {self.layer.head_size: width}
        if layer.split_size:
            attributes[layer.split_size] = heads * width
        if layer.total_size:
            attributes[layer.total_size] = heads * width
        if layer.head_count:
            attributes[layer.head_count] = heads
        for name, number in attributes.items():
            setattr(self.model.get_submodule(layer.attention), name, number)
        self.result.attributes[layer.attention] = attributes

    def full_columns(self, constants: Tensor) -> tuple[Tensor, Tensor]:
        """Columns of `attention_output` that vary, those of kept value rows, and all its constants."""
        return self.left.rows["value"], constants

    def full_parts(self) -> None:
        """Query, key and value at full width, constants in place of removed rows; values' constants join the reader's bias."""
        if not (self.keeps_all("query") and self.keeps_all("key")):
            self.note(self.layer.full_heads)
        for path, types in self.by_path(HEADED).items():
            parts = [(self.left.rows[t], self.weight(t), self.bias(t)) for t in types]
            bases = [torch.zeros_like(b) if t == "value" else b.clone() for t, (_, _, b) in zip(types, parts, strict=True)]
            base = torch.cat(bases)
            for type_, own in zip(types, bases, strict=True):
                self.layer.projections[type_].part.give(base, own)
            at = [self.layer.projections[t].part.at(rows) for t, (rows, _, _) in zip(types, parts, strict=True)]
            places, order = torch.cat(at).sort()
            weight, bias = torch.cat([w[rows] for rows, w, _ in parts]), torch.cat([b[rows] for rows, _, b in parts])
            self.put_reading(types, path, weight[order], bias[order], parts[0][1], base=base, out_index=places)


def _with_merged(key: Tensor, head: Head, constants: Tensor) -> Tensor:
    """Rows of `key` that a head keeps, and Σ c_i·key_i over those whose query is a constant c_i, as one row more."""
    if not len(head.merged):
        return key[head.scores]
    merged = constants[head.merged].cpu().double() @ key[head.merged].cpu().double()
    return torch.cat([key[head.scores], merged.to(key)[None]])
