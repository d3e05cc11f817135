"""A model with its weights masked: a new module structure, what is not masked shared with the model that came in."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from vp_core.ground.errors import VPError
from vp_core.model.projections import as_rows, linear_map
from vp_core.model.sharing import Model, share
from vp_core.weights.masks import Masks
from vp_core.weights.matrices import Matrix

Replaced = Mapping[str, tuple[Tensor, Tensor | None]]
"""What takes the place of a matrix: name → (W' (rows, columns), b' (rows,) or None where the bias stays)."""


def masked(model: Model, matrices: Sequence[Matrix], masks: Masks, replaced: Replaced | None = None) -> Model:
    """A new model whose weights are zero where the masks say so, or what `replaced` says of a matrix, masked likewise.

    The model that came in is not changed. A map without a bias (Llama) gets one if it needs it. Raises VPError if the masks
    belong to a model of another shape.
    """
    check_masks(masks, matrices)
    weights: dict[str, Tensor] = {}
    biases: dict[str, Tensor] = {}
    for matrix in matrices:
        module = linear_map(model, matrix.path)
        if matrix.path not in weights:
            weights[matrix.path] = module.weight.detach().clone()
        rows = slice(matrix.start, matrix.start + matrix.rows)
        place, (weight, bias) = as_rows(module, weights[matrix.path])[rows], (replaced or {}).get(matrix.name, (None, None))
        if weight is not None:
            place.copy_(weight)
        place.masked_fill_(~masks.keep(matrix.name), 0)
        if bias is not None:
            if matrix.path not in biases:
                old, size = module.bias, len(as_rows(module, weights[matrix.path]))
                biases[matrix.path] = module.weight.new_zeros(size) if old is None else old.detach().clone()
            biases[matrix.path][rows] = bias.to(module.weight.dtype)
    return _with(model, weights, biases)


def check_masks(masks: Masks, matrices: Sequence[Matrix]) -> None:
    """VPError unless there is a mask of the right shape for every matrix, and none else."""
    if {matrix.name: matrix.shape for matrix in matrices} != dict(masks.shapes):
        raise VPError("These masks belong to another model, or to other matrices: make masks for these.")


def _with(model: Model, weights: Mapping[str, Tensor], biases: Mapping[str, Tensor]) -> Model:
    """A new structure over the model's storage, but for these weights and biases by module path."""
    new = share(model, {f"{path}.weight": weight for path, weight in weights.items()})
    for path, bias in biases.items():
        module = linear_map(new, path)
        module.bias = nn.Parameter(bias, requires_grad=module.weight.requires_grad)
    return new
