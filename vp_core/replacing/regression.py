"""Weighted ridge regression from moments: what `vp_core.replacing.refit` solves, collected batch by batch, float64."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vp_core.measuring.covariance import add_gram, symmetric
from vp_core.model.products import add_product, by_coordinate
from vp_core.replacing.solve import DEFAULT_RIDGE, RIDGES, best_ridge, cholesky


class Sums:
    """Weighted sums of inputs x (tokens, n) and targets y (tokens, d) about a fixed point near their means, added in place.

    The first tokens' means are that point: nothing is lost to cancellation as long as the rest are of like size. What comes in
    float32 (or less) is multiplied in float32, about that point, and what the products of each part come to is summed in
    float64: they are right to about 1e-6 of √(Σ wx²·Σ wy²). What comes in float64 is multiplied in it.
    """

    def __init__(self, n: int, d: int, device: torch.device | None = None) -> None:
        self.weight = 0.0
        exact: dict[str, Any] = {"dtype": torch.float64, "device": device}
        self._x0, self._y0 = torch.zeros(n, **exact), torch.zeros(d, **exact)
        self._x, self._y, self._yy = (torch.zeros(size, **exact) for size in (n, d, d))
        self._xx, self._xy = torch.zeros(n, n, **exact), torch.zeros(n, d, **exact)

    def add(self, x: Tensor, y: Tensor, weights: Tensor) -> None:
        """Add tokens x (tokens, n), y (tokens, d) with their `weights` (tokens,)."""
        if not len(x):
            return
        kind = torch.float64 if x.dtype == torch.float64 else torch.float32
        x, y, w = x.to(kind), y.to(kind), weights.to(kind)
        if self.weight == 0:
            self._x0, self._y0 = x.mean(dim=0).double(), y.mean(dim=0).double()
        x, y = x - self._x0.to(kind), y - self._y0.to(kind)
        self.weight += float(weights.sum(dtype=torch.float64))
        self._x += w @ x
        self._y += w @ y
        root = w.sqrt()[:, None]
        x *= root
        y *= root
        add_gram(self._xx, x)
        add_product(self._xy, by_coordinate(x), by_coordinate(y))
        self._yy += y.square_().sum(dim=0)

    def moments(self) -> "Regression":
        """The weighted means and centred sums of all that was added, on the processor."""
        total = max(self.weight, 1e-300)
        x, y = self._x / total, self._y / total
        xx = symmetric(self._xx.clone()).addr_(x, x, alpha=-total)
        xy = self._xy.addr(x, y, alpha=-total)
        found = (self._x0 + x, self._y0 + y, xx, xy, self._yy - total * y.square())
        return Regression(self.weight, *(one.cpu() for one in found))


@dataclass(eq=False)
class Regression:
    """Moments of inputs x (tokens, n) and targets y (tokens, d) of total `weight`, float64.

    Weighted means `x_mean` (n,), `y_mean` (d,); weighted centred sums `xx` (n, n), `xy` (n, d), `yy` (d,).
    """

    weight: float
    x_mean: Tensor
    y_mean: Tensor
    xx: Tensor
    xy: Tensor
    yy: Tensor

    def merged(self, other: "Regression") -> "Regression":
        """The moments of both together (Chan, Golub and LeVeque's formula for products)."""
        total = self.weight + other.weight
        if not other.weight or not self.weight:
            return self if self.weight else other
        share = self.weight * other.weight / total
        x, y = other.x_mean - self.x_mean, other.y_mean - self.y_mean
        return Regression(
            total,
            self.x_mean + x * (other.weight / total),
            self.y_mean + y * (other.weight / total),
            (self.xx + other.xx).addr_(x, x, alpha=share),
            (self.xy + other.xy).addr_(x, y, alpha=share),
            self.yy + other.yy + share * y.square(),
        )

    def ridge(self, weight: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
        """(W' (d, n), b' (d,)) with W' near `weight` (d, n): argmin Σ w‖xW'ᵀ + b' − y‖² + λ‖W' − W‖².

        λ is `ridge` times the mean over inputs of Σ w(x − mean)².
        """
        return self._near(weight, self._left(weight), ridge)

    def _left(self, weight: Tensor) -> Tensor:
        """What the weights as they are leave (n, d)."""
        return self.xy - self.xx @ weight.T

    def _near(self, weight: Tensor, left: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
        """`ridge`, from what is left."""
        new = weight
        if weight.shape[1]:
            xx = self.xx.clone()
            xx.diagonal().add_(ridge * xx.diagonal().mean().clamp(min=1e-300))
            new = weight + torch.cholesky_solve(left, cholesky(xx)).T
        return new, self.y_mean - new @ self.x_mean

    def error(self, weight: Tensor, bias: Tensor) -> float:
        """Weighted mean squared error of a linear map, `weight` (d, n) and `bias` (d,), on these tokens, summed over y."""
        residual = self.yy.sum() - 2 * (weight * self.xy.T).sum() + ((weight @ self.xx) * weight).sum()
        shift = self.y_mean - weight @ self.x_mean - bias
        return float(residual / self.weight + shift.square().sum())

    def best_ridge(self, held_out: "Regression", weight: Tensor) -> float:
        """The candidate whose solution near `weight` (d, n) on these tokens errs least on those held out.

        DEFAULT_RIDGE if there are no tokens of the one or the other.
        """
        if not held_out.weight or not self.weight:
            return DEFAULT_RIDGE
        left = self._left(weight)
        return best_ridge(RIDGES, lambda ridge: held_out.error(*self._near(weight, left, ridge)))
