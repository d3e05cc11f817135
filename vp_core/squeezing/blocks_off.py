"""Blocks that leave: as rows of a plan, masked in the old shape, or gone for good; and what was trained without them,
back in the dense shapes it was cut from."""

from collections.abc import Collection, Iterator
from typing import cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from vp_core.model.blocks import Block
from vp_core.model.projections import Layer, as_rows, find_layers, linear_map
from vp_core.model.scatter import ScatterLinear
from vp_core.model.sharing import Model
from vp_core.model.units import context_columns, unit_groups
from vp_core.ranking.plan import Plan
from vp_core.replacing.prune import prune
from vp_core.squeezing.squeeze import squeeze

Cut = tuple[str, nn.Module, list[Tensor], Tensor | None]
"""A module that squeezing cut: its path, itself, the dense rows that it kept (parts of a fused one in order), and columns."""


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


def write_back(dense: PreTrainedModel, small: PreTrainedModel, plan: Plan) -> None:
    """Put the weights of `small`, what `without` left of `dense`, where they came from, in place.

    What both share is there already; blocks that have left keep whatever weights they had.
    """
    with torch.no_grad():
        for path, module, rows, columns in _cut_modules(dense, small, plan):
            there = linear_map(dense, path)
            weight, bias = _weight_and_bias(module)
            matrix, own_bias = as_rows(there, there.weight), there.bias
            kept = torch.cat(rows).sort().values
            if columns is not None and len(columns):
                # where heads that left keep their places (T5), columns of zeros are there for them
                matrix[kept[:, None], columns] = weight if weight.shape[1] == len(columns) else weight[:, columns]
            elif columns is None:
                matrix[kept] = weight
            if own_bias is not None:
                own_bias[kept] = bias


def _weight_and_bias(module: nn.Module) -> tuple[Tensor, Tensor]:
    if isinstance(module, ScatterLinear):
        return module.compact()
    linear = cast(nn.Linear, module)
    return linear.weight, linear.bias


def freeze_new_biases(dense: PreTrainedModel, small: PreTrainedModel, plan: Plan) -> None:
    """Squeezing gives every map it cuts a bias; where the dense one has none it is not to be trained."""
    for path, module, _, _ in _cut_modules(dense, small, plan):
        if linear_map(dense, path).bias is None:
            for name, parameter in module.named_parameters():
                if name.endswith("bias"):
                    parameter.requires_grad_(False)


def _cut_modules(dense: PreTrainedModel, small: PreTrainedModel, plan: Plan) -> Iterator[Cut]:
    shared = {id(p) for p in dense.parameters()}
    for layer in find_layers(dense):
        by_path: dict[str, list[Tensor]] = {}
        for p in layer.projections.values():
            kept = plan.keep[p.name].nonzero().squeeze(1)
            if p.gate:  # before the projection, as where one module holds both
                by_path.setdefault(p.gate, []).append(p.gate_part.at(kept))
            by_path.setdefault(p.path, []).append(p.part.at(kept))
        for path, rows in by_path.items():
            module = small.get_submodule(path)
            own = [p for p in module.parameters() if id(p) not in shared]
            if own and sum(len(part) for part in rows):
                columns = _columns(layer, plan) if path == layer.projections["attention_output"].path else None
                yield path, module, rows, columns


def _columns(layer: Layer, plan: Plan) -> Tensor:
    """The columns of `attention_output` that read the heads which stay."""
    return context_columns(layer)[plan.keep[layer.projections["value"].name]].flatten().sort().values
