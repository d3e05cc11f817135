"""What a squeezed model has and a dense one has not: smaller linear maps between full-width neighbours."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vp_core.model.products import Product, product

ROW_ALIGNMENT = 16
"""Matrix products with a multiple of this many rows ran 5 to 15 % faster; zero rows fill up where that costs little."""


def aligned(rows: int) -> int:
    """Rows that are multiplied when `rows` are wanted: the next multiple of ROW_ALIGNMENT, for small maps the same.

    >>> aligned(203), aligned(208), aligned(5)
    (208, 208, 5)
    """
    return rows if rows < 4 * ROW_ALIGNMENT else -(-rows // ROW_ALIGNMENT) * ROW_ALIGNMENT


SCATTER_COST = {torch.float32: 30, torch.float64: 15, torch.bfloat16: 500, torch.float16: 500}
"""What putting one coordinate in its place costs, in multiplications of the matrix product (measured with AVX-512; types of 16
bits with AMX, before it became cheaper). Where a row saves less than that, zero rows are multiplied instead."""

GATHER_COST = {torch.float32: 30, torch.float64: 25, torch.bfloat16: 160, torch.float16: 160}
"""What picking one coordinate of the input costs, in multiplications of the matrix product (measured on a processor with
AVX-512). Where leaving columns out saves less than picking the others costs, columns of zeros are multiplied instead."""


def gather_pays(weight: Tensor, columns: int) -> bool:
    """Whether a map with this weight (rows, d_in) is faster if it picks the `columns` inputs that it reads, and skips the rest.

    >>> gather_pays(torch.empty(64, 64), 32), gather_pays(torch.empty(64, 64), 63)
    (True, False)
    """
    rows, inputs = weight.shape
    return 0 < columns < inputs and (inputs - columns) * rows > GATHER_COST[weight.dtype] * columns


@dataclass(frozen=True)
class Shape:
    """The size of a squeezed linear map: a dense (rows, columns) matrix, of which a few more rows may be multiplied.

    `width` is the width of its output where rows are put into a wider vector of constants (None: the output is the rows),
    `wide` whether zero rows are multiplied for the constants, `gathers` whether it picks its columns from a wider input.
    """

    columns: int
    rows: int
    width: int | None = None
    wide: bool = False
    gathers: bool = False

    @property
    def multiplied(self) -> int:
        """Rows that are multiplied."""
        return self.width if self.wide and self.width is not None else aligned(self.rows)

    @property
    def plain(self) -> bool:
        """Whether torch's own Linear does."""
        return self.width is None and not self.gathers and self.columns > 0 and self.rows == aligned(self.rows) > 0


class ScatterLinear(nn.Module):
    """y = base, with y[out_index] = x[in_index] Wᵀ + b.

    `base` (width,) holds the constants of the rows that were removed; it is frozen. Without columns the map is its bias,
    without rows its base: nothing is multiplied. A `wide` one multiplies zero rows in place of the removed ones; they stay
    zero in training, since no gradient reaches them.
    """

    base: Tensor
    out_index: Tensor
    in_index: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.linear = empty_linear(shape) if shape.rows and shape.columns else None
        if shape.rows and not shape.columns:
            self.bias = nn.Parameter(torch.empty(shape.rows, device="meta"))
        if shape.width is not None:
            self.register_buffer("base", torch.empty(shape.width, device="meta"))
            if shape.rows:
                self.register_buffer("out_index", torch.empty(shape.rows, dtype=torch.long, device="meta"))
        if shape.gathers:
            self.register_buffer("in_index", torch.empty(shape.columns, dtype=torch.long, device="meta"))

    @property
    def weight(self) -> Tensor | None:
        """The matrix that is multiplied, None if there is none: T5 asks its maps for their dtype."""
        return None if self.linear is None else self.linear.weight

    def forward(self, x: Tensor) -> Tensor:
        """(…, d_in) → (…, width or rows)."""
        shape, lead = self.shape, x.shape[:-1]
        if shape.width is not None and not shape.rows:
            return self.base.expand(*lead, shape.width)
        if shape.gathers:
            x = x.gather(-1, self.in_index.expand(*lead, -1))  # up to four times as fast as indexing
        if self.linear is None:
            y = self.bias.expand(*lead, shape.rows)
        elif shape.wide:
            return self._wide(x, self.linear)
        else:
            y = self.linear(x)[..., : shape.rows]
        if shape.width is None:
            return y
        # three times as fast as index_copy
        return self.base.to(y.dtype).expand(*lead, shape.width).scatter(-1, self.out_index.expand(*lead, -1), y)

    def _wide(self, x: Tensor, linear: nn.Module) -> Tensor:
        if not isinstance(linear, nn.Linear):  # quantised
            return linear(x) + self.base
        if not self.training:
            return product(x, linear.weight, linear.bias + self.base)
        kept = torch.zeros_like(self.base, dtype=torch.bool).index_fill(0, self.out_index, True)
        weight = torch.where(kept[:, None], linear.weight, linear.weight.detach())
        return F.linear(x, weight, torch.where(kept, linear.bias, linear.bias.detach())) + self.base

    def compact(self) -> tuple[Tensor, Tensor]:
        """(weight (rows, columns), bias (rows,)) without zero rows."""
        if self.linear is None:
            return self.bias.new_zeros(self.shape.rows, 0), self.bias
        weight, bias = self.linear.weight, self.linear.bias
        if self.shape.wide:
            return weight[self.out_index], bias[self.out_index]
        return weight[: self.shape.rows], bias[: self.shape.rows]

    def extra_repr(self) -> str:
        """The shape, for torch's printed form of a model."""
        s = self.shape
        return f"columns={s.columns}, rows={s.rows}, width={s.width}, wide={s.wide}, gathers={s.gathers}"


def empty_linear(shape: Shape) -> nn.Linear:
    """A Linear whose weights are still to be assigned (on the meta device, so no time goes into drawing them)."""
    return Product(shape.columns, shape.multiplied, device="meta")


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
    bias, device = bias.to(weight.device), weight.device
    base, out_index, in_index = (None if one is None else one.to(device) for one in (base, out_index, in_index))
    if out_index is not None and base is not None and torch.equal(out_index, torch.arange(len(base), device=device)):
        base = out_index = None
    rows, columns = weight.shape
    width = None if base is None else len(base)
    wide = width is not None and rows > 0 and 0 < (width - rows) * columns < SCATTER_COST[weight.dtype] * width
    shape = Shape(columns, rows, width, wide, in_index is not None and columns > 0)
    module = empty(shape)
    tensors: dict[str, Tensor | None] = {"weight": weight, "bias": bias}
    if isinstance(module, ScatterLinear):
        if module.linear is not None:
            where = out_index if wide and out_index is not None else torch.arange(rows, device=device)
            full = weight.new_zeros(shape.multiplied, columns).index_copy(0, where, weight.detach())
            tensors = {"linear.weight": full, "linear.bias": bias.new_zeros(len(full)).index_copy(0, where, bias.detach())}
        if wide and base is not None and out_index is not None:
            base = base.index_fill(0, out_index, 0)
        tensors |= {"base": base, "out_index": out_index, "in_index": in_index}
    wanted = module.state_dict().keys()
    module.load_state_dict(
        {k: v.detach().contiguous() for k, v in tensors.items() if v is not None and k in wanted}, assign=True
    )
    module.requires_grad_(weight.requires_grad)
    return module.train(False), shape


def refilled(module: ScatterLinear, dtype: torch.dtype) -> nn.Module:
    """The map of `module` in another arithmetic, its zero rows multiplied or not as pays there."""
    if module.shape.width is None or module.linear is None:
        return module.to(dtype)
    weight, bias = module.compact()
    in_index = module.in_index if module.shape.gathers else None
    base = module.base.index_fill(0, module.out_index, 0).to(dtype)
    return filled(weight.to(dtype), bias.to(dtype), base=base, out_index=module.out_index, in_index=in_index)[0]
