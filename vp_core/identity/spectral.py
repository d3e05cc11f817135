"""Spectral normalisation Ŵ = W·λ/σ(W) (SNIP, section 3.3; Miyato et al. 2018).

σ(W) is the largest singular value of a projection's matrix (d_out, d_in): the most it can stretch its input.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from vp_core.ground.chosen import check_types
from vp_core.ground.errors import VPError, number_or_nan
from vp_core.ground.names import TYPES
from vp_core.measuring.spectral_norms import spectral_norm
from vp_core.model.family.stack import Part
from vp_core.model.projections import Projection, as_rows, find_projections, linear_map
from vp_core.model.scatter import ScatterLinear
from vp_core.model.sharing import share

LAMBDA = 5.0
"""The paper's λ: what the largest singular value becomes."""


class SpectralNorm(nn.Module):
    """Parametrization W ↦ W·λ/σ(W), for each of `parts` of its rows by itself (GPT-2 keeps three matrices in one).

    One step of power iteration goes before each training forward pass; the gradient flows through σ = uᵀWv as well (Miyato
    et al. 2018, eq. 12). A matrix of zeros stays as it is.
    """

    def __init__(self, weight: Tensor, scale: float, parts: Sequence[Part], transposed: bool) -> None:
        super().__init__()
        self.scale, self.parts, self.transposed = scale, tuple(parts), transposed
        for i, part in enumerate(self.parts):
            matrix = self._rows(weight)[part.index]
            _, vectors = spectral_norm(matrix)
            _, _, turn = torch.linalg.svd(matrix.detach().double() @ vectors, full_matrices=False)
            self.register_buffer(f"v{i}", (vectors @ turn[0]).to(weight.dtype))

    def _rows(self, weight: Tensor) -> Tensor:
        return weight.T if self.transposed else weight

    def forward(self, weight: Tensor) -> Tensor:
        """Ŵ from `weight`, W: both (d_out, d_in), of a `Conv1D` both (d_in, d_out)."""
        rows, pieces, end = self._rows(weight), [], 0
        for i, part in enumerate(self.parts):
            matrix = rows[part.index]
            normed = matrix * self._factor(matrix, i)
            if part.step:  # parts that take turns
                rows = rows.index_copy(0, part.at(torch.arange(part.count, device=rows.device)), normed)
            else:
                pieces += [rows[end : part.start], normed]
                end = part.start + part.count
        return self._rows(torch.cat([*pieces, rows[end:]])).contiguous()

    def _factor(self, matrix: Tensor, i: int) -> Tensor:
        v: Tensor = getattr(self, f"v{i}")
        with torch.autocast(matrix.device.type, enabled=False):
            with torch.no_grad():
                u = _unit(matrix @ v)
                if self.training:
                    new = _unit(matrix.T @ u)
                    v = torch.where(new.any(), new, v)  # a matrix of zeros may still become another one
                    setattr(self, f"v{i}", v)
                    u = _unit(matrix @ v)
            sigma = u @ (matrix @ v)
        return torch.where(sigma > 0, self.scale / sigma.clamp_min(torch.finfo(sigma.dtype).tiny), 1.0)


def _unit(vector: Tensor) -> Tensor:
    return nn.functional.normalize(vector, dim=0, eps=torch.finfo(vector.dtype).tiny)


def check_lambda(value: object) -> float:
    """λ as a number above 0; VPError otherwise."""
    scale = number_or_nan(value)
    if not (0 < scale < math.inf):
        raise VPError(f"λ of spectral normalisation must be a number above 0, not {value!r}: the paper takes 5.")
    return scale


def normalise(model: PreTrainedModel, scale: float = LAMBDA, types: Sequence[str] = TYPES) -> None:
    """Put `SpectralNorm` on the chosen projections of `model`, in place, ready to train by any loop or Trainer.

    `fold` takes it off again. Raises VPError for λ ≤ 0, unknown types, and a model that has it already.
    """
    scale, chosen = check_lambda(scale), check_types(tuple(types))
    if is_normalised(model):
        raise VPError("This model is spectrally normalised already: fold it first.")
    for path, parts in _matrices(find_projections(model), chosen).items():
        put_norm(linear_map(model, path), scale, parts)


def put_norm(module: nn.Module, scale: float, parts: Sequence[Part] = ()) -> None:
    """Put `SpectralNorm` on one linear map."""
    transposed = isinstance(module, Conv1D)
    weight = module.weight
    assert isinstance(weight, Tensor)
    whole = [Part(0, weight.shape[1 if transposed else 0])]
    norm = SpectralNorm(weight, scale, parts or whole, transposed)
    # unsafe: the check would run the map once more, and what it checks (shape, type) holds by construction
    parametrize.register_parametrization(module, "weight", norm, unsafe=True)


def normalise_left(small: PreTrainedModel, dense: PreTrainedModel, scale: float = LAMBDA) -> None:
    """`normalise` for what `without` left of `dense`: every projection that is still multiplied, in place."""
    for path, parts in _matrices(find_projections(dense), TYPES).items():
        whole, before = small.get_submodule(path), linear_map(dense, path)
        module = whole.linear if isinstance(whole, ScatterLinear) else cast(nn.Linear, whole)
        if module is None:
            continue
        filled_up = isinstance(whole, ScatterLinear) and not whole.shape.wide  # with rows of zeros at the end
        rows = whole.shape.rows if filled_up else len(as_rows(module, module.weight))
        if rows != len(as_rows(before, before.weight)):
            # whole heads went: the parts of a fused matrix shrank alike
            share = Fraction(rows, len(as_rows(before, before.weight)))
            parts = [replace(p, start=p.start if p.step else int(p.start * share), count=int(p.count * share)) for p in parts]
        put_norm(module, scale, parts)


def is_normalised(model: nn.Module) -> bool:
    """Whether `normalise` is in force."""
    return any(isinstance(module, SpectralNorm) for module in model.modules())


def fold(model: nn.Module) -> None:
    """Take `SpectralNorm` off, in place: Ŵ becomes the plain weight, outputs stay what they were in evaluation."""
    for module in list(model.modules()):
        lists = getattr(module, "parametrizations", {})
        if "weight" in lists and isinstance(lists["weight"][0], SpectralNorm):
            lists["weight"].eval()  # no further step: what is folded is what was computed with
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)


def rescaled(model: PreTrainedModel, scale: float = LAMBDA, types: Sequence[str] = TYPES) -> PreTrainedModel:
    """A new model whose weights are only divided by σ/λ, nothing trained: for comparison, no substitute for a trained one.

    Raises VPError for λ ≤ 0, unknown types, and a model that is squeezed already.
    """
    copy = share(model)
    scale, chosen = check_lambda(scale), check_types(tuple(types))
    for path, parts in _matrices(find_projections(copy), chosen).items():
        module = linear_map(copy, path)
        norm = SpectralNorm(module.weight, scale, parts, isinstance(module, Conv1D)).eval()
        module.weight = nn.Parameter(norm(module.weight).detach(), requires_grad=module.weight.requires_grad)
    return copy


def _matrices(projections: Sequence[Projection], types: Sequence[str]) -> dict[str, list[Part]]:
    """Module path → parts of its rows in their order, one for each projection in it; a gate goes with its projection."""
    found: dict[str, list[Part]] = {}
    for p in projections:
        if p.type in types:
            found.setdefault(p.path, []).append(p.part)
            if p.gate:
                found.setdefault(p.gate, []).append(p.gate_part)
    return {path: sorted(parts, key=lambda part: part.start) for path, parts in found.items()}
