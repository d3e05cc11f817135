"""A model with its weights masked: a new module structure, what is not masked shared with the model that came in."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from vp_core.ground.errors import VPError
from vp_core.ground.parallel import in_parallel
from vp_core.model.precision import device_of
from vp_core.model.projections import Layer, Projection, as_rows, bias_of, linear_map, weight_of
from vp_core.model.sharing import Model, share
from vp_core.ranking.plan import Plan
from vp_core.replacing.prune import prune
from vp_core.weights.masks import Masks
from vp_core.weights.matrices import Matrix

Replaced = Mapping[str, tuple[Tensor, Tensor | None]]
"""What takes the place of a matrix: name → (W' (rows, columns), b' (rows,) or None where the bias stays)."""


def masked(model: Model, matrices: Sequence[Matrix], masks: Masks, replaced: Replaced | None = None) -> Model:
    """A new model whose weights are zero where the masks say so, or what `replaced` says of a matrix, masked likewise.

    The model that came in is not changed. A map without a bias (Llama) gets one if it needs it. Raises VPError if the masks
    belong to a model of another shape.
    """
    check_masks(masks, matrices)
    by_path: dict[str, list[Matrix]] = {}
    for matrix in matrices:
        by_path.setdefault(matrix.path, []).append(matrix)

    def made(path: str) -> tuple[Tensor, Tensor | None]:
        return _made(linear_map(model, path), by_path[path], masks, replaced or {})

    parts = dict(zip(by_path, in_parallel(made, by_path, device_of(model)), strict=True))
    new = share(model, {f"{path}.weight": weight for path, (weight, _) in parts.items()})
    for path, (_, bias) in parts.items():
        if bias is not None:
            linear_map(new, path).bias = nn.Parameter(bias, requires_grad=linear_map(model, path).weight.requires_grad)
    return new


def _made(module: nn.Module, matrices: Sequence[Matrix], masks: Masks, replaced: Replaced) -> tuple[Tensor, Tensor | None]:
    """(the weight of a module with the masks of all its matrices, its bias where that is another one)."""
    old = module.weight
    assert isinstance(old, Tensor)
    old_bias: Tensor | None = getattr(module, "bias", None)
    weight, bias = old.detach().clone(), None
    for matrix in matrices:
        rows, (new, new_bias) = matrix.part.index, replaced.get(matrix.name, (None, None))
        place = as_rows(module, weight)[rows]
        if new is not None:
            place.copy_(new)
        place.masked_fill_(~masks.keep(matrix.name).to(place.device), 0)
        matrix.part.give(as_rows(module, weight), place)
        if new_bias is not None:
            if bias is None:
                bias = old.new_zeros(len(as_rows(module, weight))) if old_bias is None else old_bias.detach().clone()
            bias[rows] = new_bias.to(bias)
    return weight, bias


def check_masks(masks: Masks, matrices: Sequence[Matrix]) -> None:
    """VPError unless there is a mask of the right shape for every matrix, and none else."""
    if {matrix.name: matrix.shape for matrix in matrices} != dict(masks.shapes):
        raise VPError("These masks belong to another model, or to other matrices: make masks for these.")


def silenced(masked: Model, layers: Sequence[Layer], plan: Plan) -> Model:
    """A new model with the outputs of `masked` in which all rows that `plan` removes are zero, also those that nobody reads.

    Each keeps its bias, which is its constant; under a gate that of the product joins the bias of the matrix that reads it.
    """
    assert isinstance(masked, PreTrainedModel)
    constants: dict[str, Tensor] = {}
    for layer in layers:
        for p in layer.projections.values():
            if not plan.keep[p.name].all():
                constants[p.name] = _gated_constants(masked, p, plan) if p.gate else bias_of(masked, p)
    return prune(masked, replace(plan, columns={}), constants)


def _gated_constants(model: PreTrainedModel, p: Projection, plan: Plan) -> Tensor:
    """(d_out,) what the neurons of a gated network put out where both of their rows are empty; 0 for those nobody reads."""
    bias, nothing = bias_of(model, p).cpu(), torch.zeros(p.d_out, dtype=model.dtype)
    gone = ~plan.keep[p.name]
    empty = gone & ~weight_of(model, p).detach().any(dim=1).cpu()
    if not bool(bias[empty].any()):  # a factor of 0
        return nothing
    assert p.consumer
    reader = linear_map(model, p.consumer)
    read = as_rows(reader, reader.weight).detach().any(dim=0).cpu()
    network, name = share(model).get_submodule(p.path.rpartition(".")[0]), p.consumer.rpartition(".")[2]
    plain = nn.Linear(p.d_out, p.d_out, bias=False, dtype=model.dtype, device=model.device)  # shows what comes to it
    plain.weight = nn.Parameter(torch.eye(p.d_out, dtype=model.dtype, device=model.device))
    network.set_submodule(name, plain)
    with torch.no_grad():
        found = network.eval()(torch.zeros(1, 1, p.d_in, dtype=model.dtype, device=model.device)).flatten().cpu()
    return torch.where(empty & read, found, nothing)
