"""Spectral norms by power iteration.

σ(W) is the largest singular value of a projection's matrix (d_out, d_in): the most it can stretch its input.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from transformers import PreTrainedModel

from vp_core.ground.errors import VPError
from vp_core.model.projections import find_projections, weight_of

_VECTORS = 4
"""Vectors iterated together: the top one converges at the rate of the fifth singular value, equal top ones do no harm."""
_TOLERANCE = 1e-9
_MOST_STEPS = 1000


def spectral_norm(weight: Tensor, start: Tensor | None = None) -> tuple[float, Tensor]:
    """(σ(W) of `weight` (d_out, d_in), right vectors (d_in, k) to start from when it has changed a little).

    Block power iteration on WᵀW in float64, each step the best in the span of its vectors, their images and the vectors before
    (LOBPCG: nearly equal singular values take few steps as well), until σ changes by less than a billionth. A matrix of
    zeros has σ = 0. Raises VPError for weights that are NaN or infinite.

    >>> round(spectral_norm(torch.tensor([[3.0, 0.0], [0.0, 4.0]]))[0], 9)    # the last bits depend on the processor
    4.0
    """
    matrix = weight.detach().to("cpu", torch.float64)  # a few small products, and not every accelerator has float64
    if not torch.isfinite(matrix.sum()):
        raise VPError("A matrix of this model holds NaN or infinite weights: it has no spectral norm; check its checkpoint.")
    width = min(_VECTORS, *matrix.shape)
    if start is None or start.shape != (matrix.shape[1], width):
        start = torch.randn(matrix.shape[1], width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    basis, vectors, sigma = start, start, 0.0
    for _ in range(_MOST_STEPS):
        basis = torch.linalg.qr(basis)[0]
        u, s, vt = torch.linalg.svd(matrix @ basis, full_matrices=False)
        last, vectors = vectors, basis @ vt[:width].T
        before, sigma = sigma, float(s[0])
        if sigma == 0 or abs(sigma - before) <= _TOLERANCE * sigma:
            break
        basis = torch.cat([vectors, matrix.T @ (u * s)[:, :width], last], dim=1)
    return sigma, vectors


class SpectralNorms:
    """σ of every projection of a model, again and again while it trains: each time starts from the last vectors."""

    def __init__(self) -> None:
        self._vectors: dict[str, Tensor] = {}

    def __call__(self, model: PreTrainedModel) -> dict[str, float]:
        """Projection name (`3.ffn_in`) → σ."""
        found = {}
        for p in find_projections(model):
            found[p.name], self._vectors[p.name] = spectral_norm(weight_of(model, p), self._vectors.get(p.name))
        return found


def spectral_norms(model: PreTrainedModel) -> Mapping[str, float]:
    """σ of every projection: name → σ(W)."""
    return SpectralNorms()(model)
