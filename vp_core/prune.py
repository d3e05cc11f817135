"""Pruning without changing the model that came in: a new module structure over the same storage."""

import copy
from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from vp_core.errors import VPError
from vp_core.plan import Plan
from vp_core.projections import find_projections

Model = TypeVar("Model", bound=nn.Module)


def share(model: Model, replace: Mapping[str, Tensor] | None = None, cast: torch.dtype | None = None) -> Model:
    """A structural copy of `model`: new modules, the same tensors, except those that `replace` names by parameter path.

    Nothing is copied but Python objects, so this takes milliseconds for any size, and hooks or replaced weights on the
    copy never show in the original. `cast` converts floating-point tensors (which copies them).
    """
    replace = replace or {}

    def tensor(name: str, old: Tensor) -> Tensor:
        new = replace.get(name, old.detach())
        if cast is not None and new.is_floating_point():
            new = new.to(cast)
        return nn.Parameter(new, requires_grad=old.requires_grad) if isinstance(old, nn.Parameter) else new

    keep_as_it_is = cast is None
    memo: dict[int, object] = {}
    for name, old in [*model.named_parameters(), *model.named_buffers()]:
        memo[id(old)] = old if keep_as_it_is and name not in replace else tensor(name, old)
    return copy.deepcopy(model, memo)


def prune(model: Model, plan: Plan, constants: Mapping[str, Tensor]) -> Model:
    """A new model in which every removed row is zero and its bias is the constant that replaces its output.

    `constants` maps a projection's name to (d_out,) values (see `vp_core.replacement`); only those of removed rows are
    used. The model that came in is not changed, and what is not pruned is shared with it. Raises VPError if the plan
    belongs to a model of another shape.
    """
    replace: dict[str, Tensor] = {}
    by_name = {p.name: p for p in find_projections(model)}
    for name, keep in plan.keep.items():
        projection = by_name.get(name)
        if projection is None or projection.d_out != len(keep):
            raise VPError("This plan belongs to another model: make a plan for this one.")
        if bool(keep.all()):
            continue
        module = model.get_submodule(projection.path)
        assert isinstance(module, nn.Linear)
        rows = (~keep).nonzero().squeeze(1)
        weight, bias = module.weight.detach().clone(), module.bias.detach().clone()
        weight[rows] = 0
        bias[rows] = constants[name][rows].to(bias.dtype)
        replace[f"{projection.path}.weight"] = weight
        replace[f"{projection.path}.bias"] = bias
    return share(model, replace)
