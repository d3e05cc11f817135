"""Ridge regression from moments: what `vp_core.refit` solves, collected batch by batch, float64."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vp_core.covariance import gram
from vp_core.solve import DEFAULT_RIDGE, RIDGES, cholesky, choose


@dataclass(eq=False)
class Regression:
    """Moments of inputs x (tokens, n) and targets y (tokens, d): centred sums `xx` (n, n), `xy` (n, d), `yy` (d,)."""

    count: int
    x_mean: Tensor
    y_mean: Tensor
    xx: Tensor
    xy: Tensor
    yy: Tensor

    @classmethod
    def empty(cls, n: int, d: int) -> "Regression":
        return cls(0, *(torch.zeros(*shape, dtype=torch.float64) for shape in ((n,), (d,), (n, n), (n, d), (d,))))

    def add(self, x: Tensor, y: Tensor) -> None:
        """Add tokens (Chan, Golub and LeVeque's formula for products)."""
        if len(x):
            x, y = x.double(), y.double()
            x_mean, y_mean = x.mean(dim=0), y.mean(dim=0)
            x, y = x - x_mean, y - y_mean
            self._merge(Regression(len(x), x_mean, y_mean, gram(x), x.T @ y, y.square().sum(dim=0)))

    def merged(self, other: "Regression") -> "Regression":
        """Both together."""
        both = replace(self, xx=self.xx.clone(), xy=self.xy.clone())
        both._merge(other)
        return both

    def _merge(self, other: "Regression") -> None:
        count = self.count + other.count
        if not other.count:
            return
        share = self.count * other.count / count
        x, y = other.x_mean - self.x_mean, other.y_mean - self.y_mean
        self.xx += other.xx + share * torch.outer(x, x)
        self.xy += other.xy + share * torch.outer(x, y)
        self.yy = self.yy + other.yy + share * y.square()
        self.x_mean = self.x_mean + x * (other.count / count)
        self.y_mean = self.y_mean + y * (other.count / count)
        self.count = count

    def ridge(self, weight: Tensor, part: slice, ridge: float) -> tuple[Tensor, Tensor]:
        """(W' (d, n), b' (d,)) nearest to `weight`: argmin Σ‖xW'ᵀ + b' − y‖² + λ‖W' − W‖² for the targets `part`.

        λ is `ridge` times the mean over inputs that vary of Σ(x − mean)²; what does not vary keeps its weights.
        """
        varies = self.xx.diagonal() > 1e-12 * self.xx.diagonal().max()
        index = varies.nonzero().squeeze(1)
        new = weight.clone()
        if len(index):
            xx = self.xx[index][:, index]
            rest = self.xy[index, part].T - weight @ self.xx[:, index]  # what the weights as they are leave, (d, inputs)
            xx.diagonal().add_(ridge * xx.diagonal().mean())
            new[:, index] += torch.cholesky_solve(rest.T, cholesky(xx)).T
        return new, self.y_mean[part] - new @ self.x_mean

    def error(self, weight: Tensor, bias: Tensor, part: slice) -> float:
        """Mean squared error of weights on these tokens, summed over the targets."""
        residual = self.yy[part].sum() - 2 * (weight * self.xy[:, part].T).sum() + ((weight @ self.xx) * weight).sum()
        shift = self.y_mean[part] - weight @ self.x_mean - bias
        return float(residual / max(self.count, 1) + shift.square().sum())

    def best_ridge(self, held_out: "Regression", weight: Tensor, part: slice) -> float:
        """The candidate whose solution on these tokens errs least on those held out."""
        if not held_out.count or not self.count:
            return DEFAULT_RIDGE
        return choose(RIDGES, lambda ridge: held_out.error(*self.ridge(weight, part, ridge), part))
