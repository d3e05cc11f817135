"""Where to begin spectral normalisation with weights that were trained without it.

Dividing by σ/λ alone scales whole layers at once and undoes most of what pre-training learned. `nearest` finds instead
matrices with σ(W) = λ that change the outputs as little as they can: singular values above λ are cut to λ, and where all
are below, the input direction that varies least over real tokens is stretched by λ. What either does to the mean input
goes into the bias. A map without one gets none, for its model could not be saved with it (ModernBERT, T5): there the mean
counts as variation does.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from vp_core.asking.batches import Batch
from vp_core.ground.chosen import check_types
from vp_core.ground.names import TYPES
from vp_core.identity.spectral import LAMBDA, check_lambda
from vp_core.measuring.covariance import CoMoments, moments_at
from vp_core.model.projections import find_projections, linear_map
from vp_core.model.sites import input_site
from vp_core.replacing.ladder import weight_and_bias
from vp_core.replacing.prune import Solved, rewritten


def nearest(
    model: PreTrainedModel, batches: Iterable[Batch], scale: float = LAMBDA, types: Sequence[str] = TYPES
) -> PreTrainedModel:
    """A new model whose chosen projections have σ(W) = λ and nearly the outputs they had on `batches`.

    Raises VPError for λ ≤ 0, unknown types, and a set without tokens.
    """
    scale, chosen = check_lambda(scale), check_types(tuple(types))
    projections = [p for p in find_projections(model) if p.type in chosen]
    nothing = "There are no tokens to start spectral normalisation from: give at least one sentence."
    found = moments_at(model, {input_site(p): 1 for p in projections}, batches, nothing)
    bare = {p.path for p in projections if linear_map(model, p.path).bias is None}
    inputs = {p.name: _about_zero(found[p.name]) if p.path in bare else found[p.name] for p in projections}
    solved: Solved = {p.name: with_norm(*weight_and_bias(model, p), inputs[p.name], scale) for p in projections}
    start = rewritten(model, solved)
    for path in bare:
        linear_map(start, path).bias = None  # zeros
    return start


def with_norm(weight: Tensor, bias: Tensor, inputs: CoMoments, scale: float) -> tuple[Tensor, Tensor]:
    """(W' (d_out, d_in) with σ(W') = λ, b' (d_out,)): W'x + b' is near Wx + b for x with these moments.

    Rows and columns of zeros, which are pruned, stay as they are, and so does a matrix of nothing else.
    """
    old = weight.detach().double()
    rows, columns = old.any(dim=1), old.any(dim=0)
    if not rows.any():
        return old, bias.double()
    u, s, vt = torch.linalg.svd(old[rows][:, columns], full_matrices=False)
    part = (u * s.clamp(max=scale)) @ vt
    if s[0] < scale:
        part = _stretched(part, torch.linalg.eigh(inputs.matrix()[columns][:, columns])[1][:, 0], scale)
    new = torch.zeros_like(old)
    new[rows.nonzero(), columns.nonzero().squeeze(1)] = part
    return new, bias.double() + (old - new) @ inputs.mean


def _about_zero(inputs: CoMoments) -> CoMoments:
    """The same inputs' moments as if their mean were zero: E[x xᵀ] for the covariance."""
    return CoMoments(inputs.count, torch.zeros_like(inputs.mean), inputs.second_moment() * inputs.count)


def _stretched(weight: Tensor, direction: Tensor, scale: float) -> Tensor:
    """`weight` (d_out, d_in) with its images of `direction` (d_in,) replaced by one of length λ, across those of the rest."""
    rest = weight - torch.outer(weight @ direction, direction)
    u, s, _ = torch.linalg.svd(rest, full_matrices=len(rest) > rest.shape[1])
    along = s[-1] if len(s) == len(u) else s.new_zeros(())  # what the rest already stretches there: not 0 in wide matrices
    return rest + (scale**2 - along**2).sqrt() * torch.outer(u[:, -1], direction)
