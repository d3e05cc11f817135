"""Attention and feed-forward network of one layer, cut to what is left."""

from collections.abc import Collection
from dataclasses import replace

import torch
from torch import Tensor, nn

from vp_core.model.projections import HEADED, Projection, as_rows, bias_of, gate_weight_of, linear_map
from vp_core.model.scatter import aligned, gather_pays
from vp_core.squeezing.cut.heads import Heads
from vp_core.squeezing.cut.pieces import NO_ROWS, positions
from vp_core.squeezing.cut.turning import TurningHeads


class Cut(Heads, TurningHeads):
    """Cuts one layer of `model` to what is left of it and notes the new shapes in `result`."""

    def attention(self) -> None:
        left, constants = self.left, self.bias("value").cpu().double()
        if left.whole and self.keeps_all("attention_output"):
            return
        if self.layer.rotary:
            if not left.whole:
                self.turning_heads()
            self.reader("attention_output", *self.read_by_heads(constants))
            return
        if self.layer.full_heads:
            if not left.whole:
                self.full_parts()
            columns, constants = self.full_columns(constants)
            self.reader("attention_output", columns, constants, in_index=columns if len(columns) < len(constants) else None)
            return
        if not left.whole:
            self.heads()
        columns = torch.cat([NO_ROWS, *(head.values for head in left.heads)])
        places = positions([len(head.values) for head in left.heads], left.widths)
        self.reader("attention_output", columns, constants, places, sum(left.widths[: len(left.heads)]))

    def ffn(self) -> None:
        projection = self.layer.projections.get("ffn_in")
        if projection is None:
            return
        if self.keeps_all("ffn_in") and self.keeps_all("ffn_out"):
            return
        rows, weight, bias = self.left.rows["ffn_in"], self.weight("ffn_in"), self.bias("ffn_in")
        constants = torch.zeros(projection.d_out, dtype=torch.double)  # under a gate `prune` has moved them to the reader
        if self.layer.activation:
            constants = self.model.get_submodule(self.layer.activation)(bias.cpu().double())
        room = aligned(len(rows))  # zero units fill up to a fast size: they meet zero columns, now and in training
        if not self.keeps_all("ffn_in"):
            # The activation needs something to act on, so an FFN that is gone keeps one coordinate that is never computed.
            base = None if len(rows) else weight.new_zeros(1)
            parts = {projection.path: [(_pad_rows(weight[rows], room), _pad_rows(bias[rows], room))]}
            if projection.gate:
                gate, gate_bias = gate_weight_of(self.model, projection)[rows], _gate_bias(self.model, projection)[rows]
                parts.setdefault(projection.gate, []).insert(0, (_pad_rows(gate, room), _pad_rows(gate_bias, room)))
            for path, made in parts.items():
                own = None if base is None else base.repeat(len(made))
                both, biases = torch.cat([w for w, _ in made]), torch.cat([b for _, b in made])
                self.put_reading(["ffn_in"], path, both, biases, weight, base=own)
        self.reader("ffn_out", rows, constants, torch.arange(len(rows)), room)

    def inputs(self) -> None:
        """The modules that keep all their rows: they read fewer columns, where that is faster. Last: others look at them."""
        if self.left.whole:
            self._narrow(HEADED)
        if "ffn_in" in self.layer.projections and self.keeps_all("ffn_in"):
            self._narrow(["ffn_in"])

    def _narrow(self, types: Collection[str]) -> None:
        for path, held in self.by_path(types).items():
            module = linear_map(self.model, path)
            weight = as_rows(module, module.weight).detach()
            read = self.read_by(held)
            if read is not None and gather_pays(weight, len(read)):
                bias = weight.new_zeros(len(weight)) if module.bias is None else module.bias.detach()
                self.put(path, weight[:, read], bias, module.weight, in_index=read)

    def new_biases(self, bare: Collection[str]) -> None:
        """Note maps that have a bias now and are `bare` by the configuration though nothing was cut: new weights bring one."""
        for path in dict.fromkeys(path for p in self.layer.projections.values() for path in (p.path, p.gate) if path):
            module = self.model.get_submodule(path)
            if path in bare and path not in self.result.modules and isinstance(module, nn.Linear) and module.bias is not None:
                self.put(path, module.weight, module.bias.detach(), module.weight)


def _gate_bias(model: nn.Module, projection: Projection) -> Tensor:
    """(d_out,) the gate's own bias, zeros where it has none."""
    return bias_of(model, replace(projection, path=projection.gate or "", start=projection.gate_start))


def _pad_rows(tensor: Tensor, rows: int) -> Tensor:
    """`tensor` (n, …) with zero rows at its end: (rows, …)."""
    return torch.cat([tensor, tensor.new_zeros(rows - len(tensor), *tensor.shape[1:])])
