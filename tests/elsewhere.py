"""A second device for machines without one: tensors that say they are on `cuda:0`, whose numbers are real and lie in memory.

    with elsewhere():                       # torch.zeros(3, device="cuda:0") is one of them from here on
        model = moved(model)                # as model.to("cuda:0")
        model(**{name: value.to("cuda:0") for name, value in batch.items()})

An operation that mixes them with tensors of the processor raises, as CUDA does; only what CUDA takes is taken: scalars (a
tensor of no dimension), and indices that lie on the processor. So a tensor made on the wrong device fails the test, and a
pass that ends has the processor's own numbers. Fake tensors (FakeTensorMode) have no numbers, on which pruning depends.
"""

import copy
from contextlib import contextmanager

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("cuda", 0)
_TAKE_INDICES = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_", "aten::_unsafe_index"}
_COPY = {"aten::copy_", "aten::_to_copy", "aten::to"}


class Elsewhere(torch.Tensor):
    """A tensor on the second device; `here` holds its numbers."""

    @staticmethod
    def __new__(cls, here):
        with torch.inference_mode(False):  # a shell counts its own versions
            shell = torch.empty_strided(here.shape, here.stride(), dtype=here.dtype, device="meta")
            made = torch.Tensor._make_subclass(cls, shell, False, device_for_backend_keys=DEVICE)
        made.here = here
        return made

    @property
    def device(self):
        return DEVICE

    @property
    def is_cuda(self):
        return True

    def __repr__(self):
        return f"Elsewhere({self.here!r})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func is nn.functional.scaled_dot_product_attention:  # its choice of a kernel asks the device
            return _attention(*args, **(kwargs or {}))
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))


class _Factories(TorchDispatchMode):
    """What is made with `device=` there is made there."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


def _attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
    """What torch's own does, written out, so that gradients pass."""
    key, value = (one.repeat_interleave(query.shape[1] // one.shape[1], dim=1) for one in (key, value))
    scores = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=DEVICE).tril()
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -torch.inf) if attn_mask.dtype == torch.bool else scores + attn_mask
    return scores.softmax(dim=-1) @ value


def _run(func, args, kwargs):
    flat, _ = tree_flatten((args, kwargs))
    tensors = [one for one in flat if isinstance(one, torch.Tensor)]
    there = any(isinstance(one, Elsewhere) for one in tensors)
    name = func._schema.name if hasattr(func, "_schema") else func.__name__
    targets = [one for one in flat if isinstance(one, torch.device)]
    if there and name not in _COPY:
        wrong = [one for one in tensors if not isinstance(one, Elsewhere) and one.dim() > 0]
        indices = tree_flatten(args[1])[0] if name in _TAKE_INDICES else []
        if any(not any(one is index for index in indices) for one in wrong) or (wrong and not isinstance(args[0], Elsewhere)):
            raise RuntimeError(f"Expected all tensors to be on the same device, but found cuda:0 and cpu in {name}")
    # to C++ a shell lies on meta: what is copied to such a place, by `to(other)`, is copied there
    away = ("cuda", "meta") if name in (*_COPY, "aten::zeros") else ("cuda",)  # zeros: autograd's own, of a gradient
    result_there = targets[0].type in away if targets else there
    args, kwargs = tree_map(lambda one: torch.device("cpu") if isinstance(one, torch.device) else one, (args, kwargs))
    if name == "aten::copy_" and there and not isinstance(args[0], Elsewhere):
        args[0].copy_(args[1].here)
        return args[0]
    if name in ("aten::copy_", "aten::cpu"):
        result_there = isinstance(args[0], Elsewhere) and name == "aten::copy_"
    if name == "aten::to" and len(args) > 1 and isinstance(args[1], torch.Tensor):
        result_there = isinstance(args[1], Elsewhere)
    known = {id(one.here): one for one in tensors if isinstance(one, Elsewhere)}
    real_args, real_kwargs = tree_map(lambda one: one.here if isinstance(one, Elsewhere) else one, (args, kwargs))
    found = func(*real_args, **real_kwargs)

    def wrapped(one):
        if not isinstance(one, torch.Tensor):
            return one
        if there and not result_there:
            return one.clone() if id(one) in known else one  # brought here: a copy, also where nothing had to be done
        return known.get(id(one), Elsewhere(one) if result_there else one)

    return tree_map(wrapped, found)


@contextmanager
def elsewhere():
    """While open there is a second device, `cuda:0`."""
    torch._C._ensureCUDADeviceGuardSet()
    before, torch.cuda._lazy_init = torch.cuda._lazy_init, lambda: None  # `device=` asks for a driver, and there is none
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(…, device=): made on the processor, then moved
    try:
        with _Factories():
            yield
    finally:
        torch._C._set_only_lift_cpu_tensors(False)
        torch.cuda._lazy_init = before


def moved(model):
    """A copy of a model on the second device."""
    memo = {}
    for old in [*model.parameters(), *model.buffers()]:
        new = Elsewhere(old.detach().clone())
        memo[id(old)] = nn.Parameter(new, requires_grad=old.requires_grad) if isinstance(old, nn.Parameter) else new
    return copy.deepcopy(model, memo)
