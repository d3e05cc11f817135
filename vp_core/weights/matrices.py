"""Which matrices have weights that can go: those of the six projections, gates among them, and the word embeddings.

Axis convention: (rows, columns) = (d_out, d_in), one neuron a row, however the module keeps it; of the embeddings a row is a
token of the vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from vp_core.ground.errors import VPError
from vp_core.ground.names import TYPES, WORD_EMBEDDINGS
from vp_core.model.family.stack import Part
from vp_core.model.projections import Layer, Projection, as_rows, find_layers


@dataclass(frozen=True)
class Matrix:
    """One weight matrix (rows, columns).

    `path` is its module's name in the model, `start` the first of its rows there, `step` as of its projection. `name` is its
    projection's (`3.query`), with `.gate` behind it for the gate of a feed-forward network, or `word_embeddings`; `type` is
    what it is chosen by. `layer` and `projection` are None for embeddings. `head_width` is how many rows of query, key and
    value, or columns of the attention output, a head has; None elsewhere.
    """

    name: str
    type: str
    path: str
    rows: int
    columns: int
    start: int = 0
    layer: int | None = None
    projection: Projection | None = None
    head_width: int | None = None
    step: int = 0

    @property
    def part(self) -> Part:
        """Where its rows are in the module."""
        return Part(self.start, self.rows, self.head_width or 0 if self.step else 0, self.step)

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.rows, self.columns

    @property
    def size(self) -> int:
        """Its weights."""
        return self.rows * self.columns


def find_matrices(
    model: PreTrainedModel, types: Sequence[str] = TYPES, layers: Sequence[Layer] | None = None
) -> tuple[Matrix, ...]:
    """The matrices of these types, layer by layer, the word embeddings last; `layers` where the caller has them.

    Raises VPError for a family that is not supported, for a model that is squeezed, for weights that are no floating-point
    numbers (quantised ones) and for weights that are NaN or infinite.
    """
    found: list[Matrix] = []
    for layer in find_layers(model) if layers is None else layers:
        for p in layer.projections.values():
            if p.type in types:
                width = layer.projections["value"].head_width if p.type == "attention_output" else p.head_width
                found.append(Matrix(p.name, p.type, p.path, p.d_out, p.d_in, p.start, p.layer, p, width, p.step))
                if p.gate:
                    found.append(Matrix(f"{p.name}.gate", p.type, p.gate, p.d_out, p.d_in, p.gate_start, p.layer, p))
    if WORD_EMBEDDINGS in types:
        found.append(_embeddings(model))
    for matrix in found:
        check_weights(matrix.name, view(model, matrix))
    return tuple(found)


def _embeddings(model: PreTrainedModel) -> Matrix:
    module = model.get_input_embeddings()
    path = next((path for path, one in model.named_modules() if one is module), None)
    if path is None or not isinstance(getattr(module, "weight", None), Tensor) or module.weight.dim() != 2:
        raise VPError("This model has no word embeddings (it reads no text): choose projection types only.")
    return Matrix(WORD_EMBEDDINGS, WORD_EMBEDDINGS, path, *module.weight.shape)


def check_weights(name: str, weight: Tensor) -> None:
    """VPError that names the matrix if its weights (rows, columns) are quantised, NaN or infinite."""
    if not weight.is_floating_point():
        raise VPError(f"The weights of {name} are {weight.dtype}, not floating-point: load the model before it was quantised.")
    if not torch.isfinite(weight.sum()) and not torch.isfinite(weight).all():
        raise VPError(f"The weights of {name} are not finite: this checkpoint is broken; choose another.")


def view(model: nn.Module, matrix: Matrix) -> Tensor:
    """A matrix of the model (rows, columns) without gradient: a view, but a copy where its rows are not side by side."""
    module = model.get_submodule(matrix.path)
    weight = module.weight
    assert isinstance(weight, Tensor)
    return as_rows(module, weight.detach())[matrix.part.index]


def bias_of(model: nn.Module, matrix: Matrix) -> Tensor:
    """The bias (rows,) float64 of a matrix, on the processor; zeros where it has none."""
    bias = getattr(model.get_submodule(matrix.path), "bias", None)
    if bias is None:
        return torch.zeros(matrix.rows, dtype=torch.float64)
    return bias.detach().cpu().double()[matrix.part.index]


def tied_with(model: PreTrainedModel, matrix: Matrix) -> tuple[str, ...]:
    """The other modules whose weight is the same tensor: what goes from one goes from all of them."""
    weight = model.get_submodule(matrix.path).weight
    others = (path for path, one in model.named_modules() if getattr(one, "weight", None) is weight)
    return tuple(path for path in others if path != matrix.path)
