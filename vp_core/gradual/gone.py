"""What is gone stays gone: zero in the weights, in their gradient and in what the optimiser remembers of them.

Of AdamW a weight of zero whose gradient and moments are zero stays at zero, decay included: it shrinks what is there.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from vp_core.ground.errors import VPError
from vp_core.model.projections import Projection, as_rows


def of_its_shape(parameter: Tensor, optimiser: torch.optim.Optimizer | None) -> list[Tensor]:
    """A parameter's values, its gradient, and the moments that an optimiser keeps of it: all of its shape, to be written to."""
    state = {} if optimiser is None else optimiser.state.get(parameter, {})
    found = [parameter.detach(), parameter.grad, *state.values()]
    return [one for one in found if isinstance(one, Tensor) and one.shape == parameter.shape]


def zero_rows(module: nn.Module, rows: Tensor, optimiser: torch.optim.Optimizer | None) -> None:
    """Rows (indices) of a module's weight become zero, with all that belongs to them."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    for one in of_its_shape(weight, optimiser):
        as_rows(module, one)[rows] = 0


def without_gradient(parameter: Tensor | None, places: Tensor) -> None:
    """These places (indices, or bool of its shape) of a parameter get no gradient: between the backward pass and clipping."""
    if parameter is not None and parameter.grad is not None:
        parameter.grad[places] = 0


def rows_by_module(projections: Iterable[Projection], keep: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Module path → indices of the rows of its weight that are gone, gates among them; modules that keep all are not there."""
    found: dict[str, list[Tensor]] = {}
    for p in projections:
        rows = (~keep[p.name]).nonzero().squeeze(1)
        if len(rows):
            found.setdefault(p.path, []).append(p.part.at(rows))
            if p.gate:
                found.setdefault(p.gate, []).append(p.gate_part.at(rows))
    return {path: torch.cat(rows).sort().values for path, rows in found.items()}


def check_plain(model: nn.Module) -> None:
    """VPError for a squeezed model, and for one under spectral normalisation, whose weights are made anew in every pass."""
    if hasattr(model, "squeezed"):
        raise VPError("This model is squeezed already: prune the model that it was made from.")
    if any(hasattr(module, "parametrizations") for module in model.modules()):
        raise VPError("Spectral normalisation makes the weights anew in every step: prune while training without it (--sn).")
