"""Products of matrices in float32 by the library that this machine runs faster.

torch multiplies float32 matrices on processors with MKL, which reaches half of what AMD's AVX-512 units can: oneDNN, which
comes with torch too, was 2.2 times as fast there (EPYC, 1024 × 768 × 768, one core). Which one is taken is measured, once a
process, and oneDNN must win by far, so that a machine always decides alike. Results differ by rounding only.

oneDNN has no gradients here: where they may be asked for, in other types, under torch's tracers and counters, and for products
that are too small for it to pay, torch's own product is taken.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

SMALLEST = 4_000_000
"""Multiplications from which on oneDNN pays: a call of it takes 15 µs longer."""
_PAYS = 1.25
"""How many times as fast it must be in what is measured."""
_ROUNDS = 5


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x Wᵀ + b for x (…, d_in), weight (d_out, d_in) and bias (d_out,): (…, d_out)."""
    if _wanted(x, weight, bias) and onednn_pays():
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return F.linear(x, weight, bias)


class Product(nn.Linear):
    """An `nn.Linear` that multiplies as this machine does it faster."""

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
    """While open, this thread's linear maps multiply as `product` does, whatever model they are in."""
    if torch.is_grad_enabled() or not onednn_pays():
        yield
        return
    with _Products():
        yield


class _Products(TorchFunctionMode):
    """Hands linear maps to `product`, and those of GPT-2, whose weights are transposed."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        if func is F.linear:
            return product(*args, **named)
        if func is torch.addmm and len(args) == 3 and not named and args[0].dim() == 1:
            bias, x, weight = args
            if _wanted(x, weight.t(), bias) and onednn_pays():
                return product(x, weight.t(), bias)
        return func(*args, **named)


def _wanted(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether this is a product that oneDNN may do, large enough to ask."""
    given = (x, weight) if bias is None else (x, weight, bias)
    return (
        not torch.compiler.is_compiling()  # first: under a tracer sizes are not to be looked at
        and not torch._C._len_torch_dispatch_stack()
        and x.numel() * len(weight) >= SMALLEST
        and all(one.dtype == torch.float32 and one.device.type == "cpu" for one in given)
        and not (torch.is_grad_enabled() and any(one.requires_grad for one in given))
        and not torch.jit.is_tracing()
        and torch._C._functorch.peek_interpreter_stack() is None
        and not torch.is_autocast_enabled("cpu")
    )


@cache
def onednn_pays() -> bool:
    """Whether oneDNN is there and faster by far in a product of (512, 768) and (768, 768): measured, once a process.

    Both take turns; the fastest of five rounds counts, since other programs only ever slow one down.
    """
    if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        return False
    with torch.inference_mode():
        x, weight, bias = torch.ones(512, 768), torch.ones(768, 768), torch.ones(768)
        ways = (
            lambda: F.linear(x, weight, bias),
            lambda: torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], ""),
        )
        fastest = [float("inf")] * len(ways)
        for _ in range(_ROUNDS + 1):
            for number, way in enumerate(ways):
                start = time.perf_counter()
                way()
                fastest[number] = min(fastest[number], time.perf_counter() - start)
    own, onednn = fastest
    return own > _PAYS * onednn
