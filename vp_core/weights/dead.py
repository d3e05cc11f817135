"""What a mask leaves nothing of: rows whose weights have all gone."""

from collections.abc import Sequence

import torch
from torch import Tensor

from vp_core.model.projections import Layer
from vp_core.ranking.plan import Plan
from vp_core.weights.masks import Masks


def dead_rows(layers: Sequence[Layer], masks: Masks) -> Plan:
    """The plan that removes every row whose weights have all gone (under a gate, those of the gate as well)."""
    keep: dict[str, Tensor] = {}
    for p in (p for layer in layers for p in layer.projections.values()):
        names = (p.name, f"{p.name}.gate") if p.gate else (p.name,)
        if p.name in masks.bits:
            keep[p.name] = torch.stack([masks.keep(name).any(dim=1) for name in names]).any(dim=0)
    return Plan(keep, masks.criterion, masks.scope, masks.sparsity, masks.model)
