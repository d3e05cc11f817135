"""The one module that a squeezed model has and a dense one has not: a smaller linear map between full-width neighbours."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ROW_ALIGNMENT = 16
"""Matrix products with a multiple of this many rows ran 5 to 15 % faster; zero rows fill up where that costs little."""


def aligned(rows: int) -> int:
    """Rows that are multiplied when `rows` are wanted: the next multiple of ROW_ALIGNMENT, for small maps the same.

    >>> aligned(203), aligned(208), aligned(5)
    (208, 208, 5)
    """
    return rows if rows < 4 * ROW_ALIGNMENT else -(-rows // ROW_ALIGNMENT) * ROW_ALIGNMENT


@dataclass(frozen=True)
class Shape:
    """The size of a squeezed linear map: a dense (rows, columns) matrix, of which a few more rows may be multiplied.

    `width` is the width of its output where rows are put back into a wider vector of constants (None: the output is the
    rows), `gathers` whether it picks its columns from a wider input.
    """

    columns: int
    rows: int
    width: int | None = None
    gathers: bool = False

    @property
    def plain(self) -> bool:
        """Whether torch's own Linear does."""
        return self.width is None and not self.gathers and self.columns > 0 and self.rows == aligned(self.rows) > 0


class ScatterLinear(nn.Module):
    """y = base, with y[out_index] = x[in_index] Wᵀ + b.

    `base` (width,) holds the constants of the rows that were removed; it is frozen. Without columns the map is its bias,
    without rows its base: nothing is multiplied.
    """

    base: Tensor
    out_index: Tensor
    in_index: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        if shape.rows and shape.columns:
            self.linear: nn.Linear | None = empty_linear(shape)
        else:
            self.linear = None
        if shape.rows and not shape.columns:
            self.bias = nn.Parameter(torch.empty(shape.rows, device="meta"))
        if shape.width is not None:
            self.register_buffer("base", torch.empty(shape.width, device="meta"))
            if shape.rows:
                self.register_buffer("out_index", torch.empty(shape.rows, dtype=torch.long, device="meta"))
        if shape.gathers:
            self.register_buffer("in_index", torch.empty(shape.columns, dtype=torch.long, device="meta"))

    def forward(self, x: Tensor) -> Tensor:
        """(…, d_in) → (…, width or rows)."""
        shape, lead = self.shape, x.shape[:-1]
        if shape.width is not None and not shape.rows:
            return self.base.expand(*lead, shape.width)
        if self.linear is None:
            y = self.bias.expand(*lead, shape.rows)
        else:
            y = self.linear(x[..., self.in_index] if shape.gathers else x)[..., : shape.rows]
        if shape.width is None:
            return y
        return self.base.to(y.dtype).expand(*lead, shape.width).index_copy(-1, self.out_index, y)

    def extra_repr(self) -> str:
        s = self.shape
        return f"columns={s.columns}, rows={s.rows}, width={s.width}, gathers={s.gathers}"


def empty_linear(shape: Shape) -> nn.Linear:
    """A Linear whose weights are still to be assigned (on the meta device, so no time goes into drawing them)."""
    return nn.Linear(shape.columns, aligned(shape.rows), device="meta")


def empty(shape: Shape) -> nn.Module:
    """The module for a shape, its weights still to be assigned."""
    return empty_linear(shape) if shape.plain else ScatterLinear(shape)


def filled(
    weight: Tensor,
    bias: Tensor,
    *,
    base: Tensor | None = None,
    out_index: Tensor | None = None,
    in_index: Tensor | None = None,
) -> tuple[nn.Module, Shape]:
    """The module for weight (rows, columns) and bias (rows,), and its shape; parameters, trainable as `weight` is.

    With `base` (width,) and `out_index` (rows,) the output is put into the base; with `in_index` (columns,) the input is
    picked from a wider one.
    """
    if out_index is not None and base is not None and torch.equal(out_index, torch.arange(len(base))):
        base = out_index = None
    rows, columns = weight.shape
    shape = Shape(columns, rows, None if base is None else len(base), in_index is not None and columns > 0)
    module = empty(shape)
    tensors = {"weight": weight, "bias": bias}
    if isinstance(module, ScatterLinear):
        if module.linear is not None:
            fill = aligned(rows) - rows
            tensors = {"linear.weight": F.pad(weight, (0, 0, 0, fill)), "linear.bias": F.pad(bias, (0, fill))}
        tensors |= {"base": base, "out_index": out_index, "in_index": in_index}  # type: ignore[dict-item]
    wanted = module.state_dict().keys()
    module.load_state_dict({k: v.detach().contiguous() for k, v in tensors.items() if k in wanted}, assign=True)
    module.requires_grad_(weight.requires_grad)
    return module.train(False), shape
