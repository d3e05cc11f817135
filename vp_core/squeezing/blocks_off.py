"""Blocks that leave: as rows of a plan, masked in the old shape, or gone for good."""

from collections.abc import Collection

import torch
from torch import Tensor
from transformers import PreTrainedModel

from vp_core.model.blocks import Block
from vp_core.model.projections import find_layers
from vp_core.model.sharing import Model
from vp_core.model.units import unit_groups
from vp_core.ranking.plan import Plan
from vp_core.replacing.prune import prune
from vp_core.squeezing.squeeze import squeeze


def plan_without(model: PreTrainedModel, gone: Collection[Block]) -> Plan:
    """The rows that survive when these blocks go."""
    layers = find_layers(model)
    keep = {p.name: torch.ones(p.d_out, dtype=torch.bool) for layer in layers for p in layer.projections.values()}
    for group in unit_groups(layers, ("heads",)) if any(b.kind == "head" for b in gone) else ():
        heads = [b.head for b in gone if b.kind == "head" and b.layer == group.layer]
        for projection, rows in group.rows:
            keep[projection.name][rows[heads].flatten()] = False
    for layer in layers:
        for type_, p in layer.projections.items():
            if Block(p.layer, "ffn" if type_.startswith("ffn") else "attention") in gone:
                keep[p.name][:] = False
    removed = sum(int((~mask).sum()) for mask in keep.values())
    return Plan(keep, "blocks", "global", removed / sum(len(mask) for mask in keep.values()))


def masked_without(model: Model, gone: Collection[Block]) -> Model:
    """A new model of the old shape in which these blocks put out nothing: H(x) = x.

    A head's share goes, the bias of W_O stays as long as the attention block does. The model that came in is not changed.
    """
    zeros: dict[str, Tensor] = {}
    assert isinstance(model, PreTrainedModel)
    for layer in find_layers(model):
        zeros |= {p.name: torch.zeros(p.d_out) for p in layer.projections.values()}
    return prune(model, plan_without(model, gone), zeros)


def without(model: Model, gone: Collection[Block]) -> Model:
    """A new, smaller model that these blocks have left for good (`vp_core.squeezing.squeeze`)."""
    assert isinstance(model, PreTrainedModel)
    return squeeze(masked_without(model, gone), plan_without(model, gone))
