"""Matrix products in float32 by the library that is faster at them here, for passes through a model and for what is summed.

torch multiplies float32 matrices with MKL, which on AMD's processors with AVX-512 takes more than twice as long as oneDNN, the
other library that torch comes with (measured on an EPYC, one core: 107 against 240 GFLOP/s; docs/benchmarks.md). Both
multiply in float32, they only add up in another order. On other processors, devices and types, under torch's tracers and
counters, where weights are trained, and for products that are too small for it to pay, nothing changes.
"""

import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "8192")
"""oneDNN makes a program for each size of product, and keeps 1,024 of them: fewer than the sizes of a squeezed model, each of
whose layers has its own, times the lengths of its batches. Made anew for every product they took as long as pruning saves."""
SMALLEST = 4_000_000
"""Multiplications from which on oneDNN pays: a call of it takes 15 µs longer."""


@cache
def other_library() -> bool:
    """Whether products go to oneDNN here: on processors of AMD with AVX-512."""
    known = Path("/proc/cpuinfo")
    about = known.read_text(encoding="utf-8", errors="replace") if known.exists() else platform.processor()
    wide = torch.backends.cpu.get_cpu_capability() == "AVX512"
    there = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return wide and "AuthenticAMD" in about and there


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x Wᵀ + b for x (…, d_in), weight (d_out, d_in) and bias (d_out,): (…, d_out)."""
    found = _mapped(x, weight, bias) if other_library() else None
    return functional.linear(x, weight, bias) if found is None else found


class Product(nn.Linear):
    """An `nn.Linear` that multiplies by the faster library."""

    def forward(self, input: Tensor) -> Tensor:
        """(…, d_in) → (…, d_out)."""
        return product(input, self.weight, self.bias)


def use_products(model: nn.Module) -> None:
    """Make every plain `nn.Linear` of a model a Product, in place."""
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = Product


def use_plain_products(model: nn.Module) -> None:
    """The way back: what goes by the class of a module (quantisation) knows `nn.Linear` only. In place."""
    for module in model.modules():
        if type(module) is Product:
            module.__class__ = nn.Linear  # type: ignore[assignment]


@contextmanager
def fast_products() -> Iterator[None]:
    """While open, linear maps in this thread are multiplied by the faster library. Not those that are trained."""
    if not other_library():
        yield
        return
    with _Fast():
        yield


def by_coordinate(x: Tensor) -> Tensor:
    """xᵀ (n, tokens) of x (tokens, n), as `add_product` wants it: a copy where that is faster."""
    return x.T.contiguous() if other_library() and _fits(x) else x.T


def add_product(total: Tensor, x: Tensor, y: Tensor) -> None:
    """Add x yᵀ to `total` (n, d), of the type of x or a wider one, for x (n, tokens) and y (d, tokens): `by_coordinate`."""
    if other_library() and _fits(x, y):
        total.add_(_linear(x, y, None))
    elif total.dtype == x.dtype:
        total.addmm_(x, y.T)
    else:
        total.add_(x @ y.T)


def _fits(*given: Tensor) -> bool:
    """Whether oneDNN can take them: float32 on the processor, none of them empty."""
    return all(one.dtype == torch.float32 and one.device.type == "cpu" and one.numel() > 0 for one in given)


def _mapped(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor | None:
    """x Wᵀ + b, None where it is torch's to compute."""
    if (
        _watched()
        or x.dim() < 2
        or x.numel() * len(weight) < SMALLEST
        or not _fits(x, weight, *([] if bias is None else [bias]))
    ):
        return None
    if not torch.is_grad_enabled():
        return _linear(x, weight, bias)
    if weight.requires_grad or (bias is not None and bias.requires_grad):
        return None
    found: Tensor = _Linear.apply(x, weight, bias)
    return found


def _watched() -> bool:
    """Whether somebody looks at what torch does (tracers, counters, vmap), or has it done in another type."""
    return (
        torch.compiler.is_compiling()
        or bool(torch._C._len_torch_dispatch_stack())
        or torch.jit.is_tracing()
        or torch._C._functorch.peek_interpreter_stack() is not None
        or torch.is_autocast_enabled("cpu")
    )


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x Wᵀ + b by oneDNN, which takes hundreds of times as long for columns out of a larger matrix: they are copied."""
    found: Tensor = torch.ops.mkldnn._linear_pointwise(x.contiguous(), _dense(weight), bias, "none", [], "")
    return found


def _dense(matrix: Tensor) -> Tensor:
    """The same (n, m), its numbers without gaps by rows or by columns."""
    return matrix if matrix.T.is_contiguous() else matrix.contiguous()


class _Linear(torch.autograd.Function):
    """The same where gradients pass to what is read; weights get none."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return _linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        return _linear(gradients[0], weight.T, None), None, None


class _Fast(TorchFunctionMode):
    """Linear maps of whatever runs inside of it go to oneDNN where that is possible."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is functional.linear and not kwargs:
            x, weight, *rest = args
            found = _mapped(x, weight, rest[0] if rest else None)
        elif func is torch.addmm and not kwargs:  # GPT-2's linear maps keep their weight transposed
            bias, x, weight = args
            found = _mapped(x, weight.T, bias) if bias.dim() == 1 else None
        else:
            found = None
        return func(*args, **(kwargs or {})) if found is None else found
