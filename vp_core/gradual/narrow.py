"""Squeezed at once: while a model trains on, removed rows are not multiplied any more (Variance Pruning, footnote 5).

What `vp_core.squeezing.squeeze` takes out besides, the columns that read a removed row, goes on training here, and so does the
constant in the row's place: the training is the one of the masked model, up to rounding.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D

from vp_core.model.projections import as_rows, linear_map
from vp_core.training.callbacks import Run

_ALIGNMENT = 32
"""Rows that are multiplied come in multiples of this: zero rows fill up, since odd numbers cost more than they save."""


def _multiplied(rows: int) -> int:
    """Rows that are multiplied when so many are wanted, for small maps the same.

    >>> _multiplied(203), _multiplied(20)
    (224, 20)
    """
    return rows if rows < 2 * _ALIGNMENT else -(-rows // _ALIGNMENT) * _ALIGNMENT


class Scattered(torch.autograd.Function):
    """The first of (…, rows) put at `index` into a bias (width,): (…, width).

    Faster than what torch makes of its gradient; what comes after the first gets none.
    """

    @staticmethod
    def forward(ctx: Any, y: Tensor, bias: Tensor, index: Tensor) -> Tensor:
        """A fresh tensor of the constants, with y + bias at its places."""
        ctx.save_for_backward(index)
        ctx.of_bias, ctx.rows = bias.dtype, y.shape[-1]
        lead, bias = y.shape[:-1], bias.to(y.dtype)
        return bias.expand(*lead, len(bias)).scatter(-1, index.expand(*lead, -1), y[..., : len(index)] + bias[index])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, None]:
        """Gradients of y and of the bias."""
        (grad,), (index,) = grads, ctx.saved_tensors
        of_bias = grad.flatten(0, -2).sum(0).to(ctx.of_bias) if ctx.needs_input_grad[1] else None
        places = F.pad(index, (0, ctx.rows - len(index)))
        of_y = grad.gather(-1, places.expand(*grad.shape[:-1], -1))
        of_y[..., len(index) :] = 0
        return of_y, of_bias, None


class NarrowLinear(nn.Module):
    """y = bias, with x Wᵀ added at `index`: a linear map whose removed rows are not there.

    W is (rows that stay, d_in), with a few rows of zeros below, which no gradient reaches.
    """

    index: Tensor

    def __init__(self, weight: Tensor, bias: nn.Parameter | None, index: Tensor, width: int, transposed: bool) -> None:
        super().__init__()
        self.width, self.columns, self.transposed = width, weight.shape[1], transposed
        self.weight = nn.Parameter(weight) if len(index) else None
        self.bias = bias
        self.register_buffer("index", index)

    def forward(self, x: Tensor) -> Tensor:
        """(…, d_in) → (…, width)."""
        y = x.new_empty(*x.shape[:-1], 0) if self.weight is None else F.linear(x, self.weight)
        return Scattered.apply(y, y.new_zeros(self.width) if self.bias is None else self.bias, self.index)

    def extra_repr(self) -> str:
        """The shape, for torch's printed form of a model."""
        return f"columns={self.columns}, rows={len(self.index)}, width={self.width}"


def narrow(run: Run, gone: Mapping[str, Tensor]) -> None:
    """Put a NarrowLinear in place of each linear map: module path → rows (indices) that are gone.

    The optimiser goes on with the moments of what is left.
    """
    for path, rows in gone.items():
        module = linear_map(run.model, path)
        old = module.weight
        stays = torch.ones(len(as_rows(module, old)), dtype=torch.bool).index_fill_(0, rows, False)
        index = stays.nonzero().squeeze(1).to(old.device)

        def left(values: Tensor, module: nn.Module = module, index: Tensor = index) -> Tensor:
            return F.pad(as_rows(module, values)[index], (0, 0, 0, _multiplied(len(index)) - len(index)))

        new = NarrowLinear(left(old.detach()), module.bias, index, len(stays), isinstance(module, Conv1D))
        if new.weight is not None:
            new.weight.requires_grad_(old.requires_grad)
        _install(run, path, new, old, new.weight, left)


def widen(run: Run) -> None:
    """Put the dense maps back, with zeros for what is gone, in the weights and in the optimiser's moments."""
    for path, module in [(path, one) for path, one in run.model.named_modules() if isinstance(one, NarrowLinear)]:

        def whole(values: Tensor | None, module: NarrowLinear = module) -> Tensor:
            like = module.index if values is None else values
            dtype = run.model.dtype if values is None else values.dtype
            full = torch.zeros(module.width, module.columns, dtype=dtype, device=like.device)
            if values is not None:
                full[module.index] = values[: len(module.index)]
            return full.T.contiguous() if module.transposed else full

        weight = nn.Parameter(whole(None if module.weight is None else module.weight.detach()))
        new: Any = Conv1D(module.width, 1) if module.transposed else nn.Linear(module.columns, module.width, device="meta")
        if module.transposed:
            new.nx = module.columns
        new.weight, new.bias = weight, module.bias
        _install(run, path, new, module.weight, weight, whole)


def is_narrow(module: nn.Module) -> bool:
    """Whether a module's removed rows have left it."""
    return isinstance(module, NarrowLinear)


def _install(run: Run, path: str, new: nn.Module, old: Tensor | None, weight: Tensor | None, convert: Any) -> None:
    """`new` at `path`, and its weight for the old one in the optimiser, every moment converted as the weight was."""
    module = run.model.get_submodule(path)
    run.model.set_submodule(path, new.train(module.training))
    for group in run.optimiser.param_groups:
        if old is None or any(one is old for one in group["params"]):
            others = [one for one in group["params"] if one is not old]
            group["params"] = [*others, *([] if weight is None else [weight])]
            break
    kept = {} if old is None else run.optimiser.state.pop(old, {})
    if weight is not None and kept:
        run.optimiser.state[weight] = {
            key: convert(value) if isinstance(value, Tensor) and old is not None and value.shape == old.shape else value
            for key, value in kept.items()
        }
