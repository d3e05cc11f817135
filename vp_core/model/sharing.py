"""A model's structure copied, its tensors shared: what is done to the copy never shows in the model that came in."""

import copy
from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

Model = TypeVar("Model", bound=nn.Module)


def share(model: Model, replace: Mapping[str, Tensor] | None = None, cast: torch.dtype | None = None) -> Model:
    """A structural copy of `model`: new modules, the same tensors, except those that `replace` names by parameter path.

    Nothing is copied but Python objects, so this takes milliseconds for any size, and hooks or replaced weights on the
    copy never show in the original. A tensor of `replace` has the shape (any) of the one it stands for. `cast` converts
    floating-point tensors (which copies them).
    """
    replace = replace or {}
    _make_tables(model)

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


def _make_tables(model: nn.Module) -> None:
    """Have transformers make the tables that all BEiTs share, of which place is how far from which, while gradients may pass:
    one that is first asked for within `torch.inference_mode` could not be trained through any more."""
    for module in model.modules():
        if (make := getattr(module, "generate_relative_position_index", None)) is not None:
            with torch.inference_mode(False):
                make(module.window_size)
