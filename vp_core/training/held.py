"""What was pruned stays pruned in training: what is zero when it begins gets no gradient.

A masked model of the old shape (`vp prune --format transformers`) says what is gone by nothing but zeros: a row of zeros and,
of a whole unit, a column of zeros in the matrix that reads it, or single weights. Any step of an optimiser would fill them.
Their gradients are therefore zeroed before they are clipped, so that AdamW has neither momentum nor decay to move them by.

The bias of such a row is held as well: it is the constant that was put in the neuron's place, and what a squeezed model has
in its stead is frozen too, so that both forms of a pruned model train alike, and a block that was taken out stays silent.
Nothing is lost by it: whatever another constant could do, the bias of the matrix or the layer norm that reads it can.

Of a matrix whose single weights are gone every zero is held, word embeddings' as well. Training leaves no weight at exactly 0,
so a zero is one that was put there; where one is not, to hold it changes nothing to speak of.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from vp_core.ground.errors import VPError
from vp_core.measuring.covariance import READ_AT
from vp_core.model.projections import as_rows, find_projections, layer_paths, weight_of
from vp_core.model.scatter import ScatterLinear


class Held:
    """The rows, columns and single weights of a model's projections and word embeddings that are zero now, gated, normalised
    and squeezed models included."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._zeros = [(p, p.detach() == 0) for p in _sparse(model)]
        self._parts: list[tuple[nn.Module, Tensor, Tensor]] = []
        for module, read in _maps(model):
            rows, columns, _ = _zero_in(module, read)
            if rows.any() or columns.any():
                self._parts.append((module, rows.nonzero().squeeze(1), columns.nonzero().squeeze(1)))

    def count(self) -> tuple[int, int, int]:
        """(rows, columns, entries of matrices without single weights) that are held."""
        rows, columns = sum(len(rows) for _, rows, _ in self._parts), sum(len(columns) for *_, columns in self._parts)
        return rows, columns, sum(int(zero.sum()) for _, zero in self._zeros)

    def none(self) -> "Held":
        """The same, holding nothing."""
        self._zeros, self._parts = [], []
        return self

    def hold(self) -> None:
        """Zero their gradients, in place: between the backward pass and the clipping."""
        for parameter, zero in self._zeros:
            if parameter.grad is not None:
                parameter.grad.masked_fill_(zero, 0)
        for module, rows, columns in self._parts:
            if (gradient := _parameter(module, "weight").grad) is not None:
                matrix = as_rows(module, gradient)
                matrix[rows] = 0
                matrix[:, columns] = 0
            bias = _parameter(module, "bias") if module.bias is not None else None
            if bias is not None and bias.grad is not None:
                bias.grad[rows] = 0


def _maps(model: PreTrainedModel) -> Iterator[tuple[nn.Module, bool]]:
    """Every linear map of the projections that multiplies, once, and whether units are columns of it."""
    for stack, path in layer_paths(model):
        read = {name: type_ in READ_AT for type_, name in stack.modules.items()}
        for name, is_read in (read | ({stack.gate: False} if stack.gate else {})).items():
            module = model.get_submodule(f"{path}.{name}")
            while hasattr(module, "inner"):  # a gate (`vp_core.identity.gate`)
                module = module.inner
            found = module.linear if isinstance(module, ScatterLinear) else module
            if found is not None:
                yield found, is_read


def _zero_in(module: nn.Module, read: bool) -> tuple[Tensor, Tensor, int]:
    """Which rows of a map are zero, which columns if units are `read` there, and how many weights are outside of these."""
    weight = as_rows(module, _parameter(module, "weight").detach())
    rows = ~weight.any(dim=1)
    columns = ~weight.any(dim=0) if read else torch.zeros_like(weight[0], dtype=torch.bool)
    whole = weight.numel() - int((~rows).sum()) * int((~columns).sum())
    return rows, columns, weight.numel() - int(weight.count_nonzero()) - whole


def _sparse(model: PreTrainedModel) -> list[Tensor]:
    """The matrices that single weights are gone from, as an optimiser has them."""
    if getattr(getattr(model, "squeezed", None), "sparse", False):
        return [p for p in model.parameters() if p.dim() == 2]
    found = [_parameter(module, "weight") for module, read in _maps(model) if _zero_in(module, read)[2]]
    embeddings = getattr(_input_embeddings(model), "weight", None)
    if isinstance(embeddings, Tensor) and embeddings.dim() == 2:
        used = embeddings.detach()[embeddings.detach().any(dim=1)]  # the row of padding is zero from the beginning
        found += [embeddings] if used.count_nonzero() < used.numel() else []
    return found


def _parameter(module: nn.Module, name: str) -> Tensor:
    """What an optimiser moves: under spectral normalisation the weight before it."""
    lists = getattr(module, "parametrizations", {})
    return lists[name].original if name in lists else getattr(module, name)


def count_zero(model: PreTrainedModel) -> tuple[int, int]:
    """(rows of the six projections that are zero, columns of the matrices that read units that are); not of squeezed models.

    Raises VPError for a model that is squeezed already, whose rows are gone.
    """
    rows = columns = 0
    for p in find_projections(model):
        weight = weight_of(model, p)
        rows += int((~weight.any(dim=1)).sum())
        columns += int((~weight.any(dim=0)).sum()) if p.type in READ_AT else 0
    return rows, columns


def count_single(model: PreTrainedModel) -> int:
    """Single weights of projections and word embeddings that are zero, outside of rows and columns that are; what is held.

    Of a squeezed model every zero of its matrices.
    """
    matrices = _sparse(model)
    if hasattr(model, "squeezed"):
        return sum(p.numel() - int(p.detach().count_nonzero()) for p in matrices)
    kept, embeddings = {id(p) for p in matrices}, _input_embeddings(model)
    own = getattr(embeddings, "weight", None)
    single = sum(_zero_in(module, read)[2] for module, read in _maps(model))
    return single + (own.numel() - int(own.detach().count_nonzero()) if isinstance(own, Tensor) and id(own) in kept else 0)


def said(rows: int, columns: int, weights: int = 0) -> str:
    """What a user is told of so many.

    >>> said(6220, 0), said(1, 12)
    ('6,220 rows that were zero stay zero', '1 row that was zero stays zero, and 12 columns')
    >>> said(0, 0, 5000)
    '5,000 weights that were zero stay zero'
    """
    parts = [(rows, "row"), (columns, "column"), (weights, "weight")]
    (first, what), *others = [(number, name) for number, name in parts if number]
    told = f"1 {what} that was zero stays zero" if first == 1 else f"{first:,} {what}s that were zero stay zero"
    return told + "".join(f", and {number:,} {name}{'s' if number > 1 else ''}" for number, name in others)


def check_whole(model: PreTrainedModel) -> None:
    """VPError for a squeezed model: whole blocks leave from the dense shapes, which it has lost."""
    if hasattr(model, "squeezed"):
        raise VPError(
            "This model is squeezed already, and blocks leave from the shapes it was cut from: run SNIP on the model that it "
            "was made from, or prune that one with --format transformers, whose zero rows SNIP keeps."
        )


def _input_embeddings(model: PreTrainedModel) -> torch.nn.Module | None:
    """What a model looks its tokens up in; None where transformers finds nothing (CLIP's vision tower)."""
    try:
        found: torch.nn.Module | None = model.get_input_embeddings()
    except NotImplementedError:
        return None
    return found
