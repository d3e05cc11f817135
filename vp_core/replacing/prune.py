"""Pruning without changing the model that came in: a new module structure over the same storage."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from vp_core.ground.errors import VPError
from vp_core.model.projections import Projection, as_rows, find_projections, linear_map
from vp_core.model.sharing import Model, share
from vp_core.ranking.plan import Plan

Solved = Mapping[str, tuple[Tensor, Tensor]]
"""New weights of projections that stay: name → (W' (d_out, d_in), b' (d_out,)), any floating type."""


def prune(model: Model, plan: Plan, constants: Mapping[str, Tensor], solved: Solved | None = None) -> Model:
    """A new model in which every removed row is zero and its bias is the constant that replaces its output.

    `constants` maps a projection's name to (d_out,) values (see `vp_core.replacing.ladder`); only those of removed rows are
    used. `solved` gives projections new weights before their removed rows go. The model that came in is not changed, and what
    is not pruned is shared with it. Where the families' linear maps have no bias (Llama), those that need one get it. Raises
    VPError if the plan belongs to a model of another shape.
    """
    projections = find_projections(model)
    check_plan(plan, projections)
    edited = _solved_copies(model, projections, solved or {})
    for projection in projections:
        keep = plan.keep.get(projection.name)
        if keep is not None and not bool(keep.all()):
            _remove(model, projection, (~keep).nonzero().squeeze(1), constants[projection.name], edited)
    return _with(model, edited)


def rewritten(model: Model, solved: Solved) -> Model:
    """A new model with these weights and biases in place of the projections' own; nothing is removed.

    The model that came in is not changed, and what is not rewritten is shared with it.
    """
    return _with(model, _solved_copies(model, find_projections(model), solved))


def check_plan(plan: Plan, projections: Sequence[Projection]) -> None:
    """VPError unless every mask of the plan fits a projection."""
    rows, inputs = {p.name: p.d_out for p in projections}, {p.name: p.d_in for p in projections}
    fits = all(rows.get(name) == len(keep) for name, keep in plan.keep.items())
    if not fits or any(inputs.get(name) != len(read) for name, read in plan.columns.items()):
        raise VPError("This plan belongs to another model: make a plan for this one.")


Edited = dict[str, tuple[Tensor, Tensor]]


def _copies(model: nn.Module, path: str, edited: Edited) -> tuple[nn.Module, Tensor, Tensor]:
    """(module, its weight, its bias), copies that are kept in `edited` by module path."""
    module = linear_map(model, path)
    if path not in edited:
        weight = module.weight.detach().clone()
        bias = weight.new_zeros(len(as_rows(module, weight))) if module.bias is None else module.bias.detach().clone()
        edited[path] = weight, bias
    return module, *edited[path]


def _solved_copies(model: nn.Module, projections: Sequence[Projection], solved: Solved) -> Edited:
    """Copies of what is solved, with its new weights and biases."""
    edited: Edited = {}
    for projection in (p for p in projections if p.name in solved):
        module, weight, bias = _copies(model, projection.path, edited)
        rows, (new, new_bias) = projection.part.index, solved[projection.name]
        as_rows(module, weight)[rows] = new.to(weight)
        bias[rows] = new_bias.to(bias)
    return edited


def _with(model: Model, edited: Edited) -> Model:
    """A new structure over the model's storage, but for what was edited."""
    new = share(model, {f"{path}.weight": weight for path, (weight, _) in edited.items()})
    for path, (_, bias) in edited.items():
        module = linear_map(new, path)
        module.bias = nn.Parameter(bias, requires_grad=module.weight.requires_grad)
    return new


def _remove(model: nn.Module, projection: Projection, rows: Tensor, constants: Tensor, edited: Edited) -> None:
    """Zero these rows and set their biases."""
    module, weight, bias = _copies(model, projection.path, edited)
    own = projection.part.at(rows)
    as_rows(module, weight)[own] = 0
    values = constants.cpu()[rows].to(bias)
    if projection.gate is None:
        bias[own] = values
        return
    # The neuron is the product with the gate: both rows go, and what the consumer made of its constant joins its bias.
    assert projection.consumer
    gate, gate_weight, gate_bias = _copies(model, projection.gate, edited)
    gates = projection.gate_part.at(rows)
    as_rows(gate, gate_weight)[gates] = 0
    bias[own] = gate_bias[gates] = 0
    reader, reader_weight, reader_bias = _copies(model, projection.consumer, edited)
    reader_bias += as_rows(reader, reader_weight)[:, rows] @ values
