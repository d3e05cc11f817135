"""A model for whoever may do anything with it: its tensors are copies, and what was done to it comes out."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class Watched:
    """What a model was, with tensors of its own, before somebody had it."""

    def __init__(self, model: nn.Module, before: Mapping[str, Tensor]) -> None:
        self.model, self._before = model, before
        self._modules, self._tensors = _modules(model), _tensors(model)

    def changed(self, whole: bool = False) -> str:
        """What is not as it was, in a word or two, else nothing: by versions of tensors, or, `whole`, by every number."""
        modules = _modules(self.model)
        if modules.keys() != self._modules.keys() or any(modules[name][0] != self._modules[name][0] for name in modules):
            return "its modules"
        for number, what in enumerate(("its training mode", "hooks that stay on it", "its forward pass"), start=1):
            if any(modules[name][number] != self._modules[name][number] for name in modules):
                return what
        tensors = _tensors(self.model)
        if tensors.keys() != self._tensors.keys():
            return "its weights"
        if any(tensors[name][-1] != self._tensors[name][-1] for name in tensors):
            return "which weights ask for gradients"
        if any(tensors[name][:-1] != self._tensors[name][:-1] for name in tensors):
            return self._numbers() or "its weights"
        return self._numbers() if whole else ""

    def _numbers(self) -> str:
        now = dict(_named(self.model))
        different = any(name not in now or not torch.equal(now[name], old) for name, old in self._before.items())
        return "its weights" if different else ""


@contextmanager
def with_tensors_of_its_own(model: nn.Module) -> Iterator[Watched]:
    """While open, `model`, whose modules are the caller's own, has copies of its parameters and buffers (any shape), so that
    nothing that is done to them shows anywhere else."""
    before = dict(_named(model))
    copies: dict[int, Tensor] = {}
    for module in model.modules():
        for place in (module._parameters, module._buffers):
            table: dict[str, Tensor | None] = place  # type: ignore[assignment]
            for name, old in table.items():
                if old is not None:
                    table[name] = copies[id(old)] = copies[id(old)] if id(old) in copies else _copied(old)
    yield Watched(model, before)


def _copied(old: Tensor) -> Tensor:
    new = old.detach().clone()
    return nn.Parameter(new, requires_grad=old.requires_grad) if isinstance(old, nn.Parameter) else new


def _named(model: nn.Module) -> list[tuple[str, Tensor]]:
    return [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]


def _modules(model: nn.Module) -> dict[str, tuple[Any, ...]]:
    return {
        name: (id(module), module.training, tuple(len(getattr(module, kind)) for kind in _HOOKS), "forward" in vars(module))
        for name, module in model.named_modules()
    }


def _tensors(model: nn.Module) -> dict[str, tuple[Any, ...]]:
    return {name: (id(t), t.data_ptr(), -1 if t.is_inference() else t._version, t.requires_grad) for name, t in _named(model)}
