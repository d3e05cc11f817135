"""What is empty in surviving heads and neurons is filled: weights that cost no time, free again and trained on (Hybrid Filled).

The paper draws them uniformly at random (`uniform`), which changes what the model puts out. Here (`exact`) its outputs stay
what they are: new weights are zero, which gradients fill. They reach a zero as long as the other factor of its product is not
zero too. Where both are, one of the two is drawn at random, and the other, zero, keeps it silent:

| both are empty | drawn | why nothing changes |
|---|---|---|
| a row of value, the column of attention_output that reads it | the row of value | nothing reads it yet |
| the same row of query and key | the row of query | it adds one number to the scores of all keys, which softmax does not see |

The second holds where no position is turned into a key: under rotary positions (for both rows of a pair), and where keys are
made of positions as well (DeBERTa), only for keys without a bias there; elsewhere these rows stay zero.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from vp_core.model.projections import Layer, bias_of
from vp_core.model.units import context_columns
from vp_core.movement.scores import Scores
from vp_core.weights.dead import dead_rows
from vp_core.weights.masks import Masks

FILLS = ("exact", "uniform")
_MOMENTS = ("exp_avg", "exp_avg_sq")


def heads_left(layers: Sequence[Layer], masks: Masks | Mapping[str, Tensor]) -> dict[int, Tensor]:
    """Layer index → (heads,) bool: those of whose values something is left that is read. Heads of key and value."""
    plan = dead_rows(layers, masks)
    found = {}
    for layer in layers:
        value = layer.projections["value"]
        assert value.head_width
        found[value.layer] = plan.keep[value.name].view(-1, value.head_width).any(dim=1)
    return found


@torch.no_grad()
def fill_in(
    model: PreTrainedModel, scores: Scores, optimiser: torch.optim.Optimizer,
    new: Mapping[str, Tensor], rows: Mapping[str, Tensor], seed: int,
) -> None:  # fmt: skip
    """Free the weights `new` (`freed`), in place: zero, in `rows` (`to_draw`) drawn, and AdamW knows nothing of them."""
    draw = torch.Generator().manual_seed(seed)
    for name in sorted(new):
        place, parameter = scores.places[name], scores.trained(model, name)
        values = torch.zeros(new[name].shape)
        if name in rows:
            values[rows[name]] = drawn(values.shape, draw)[rows[name]]
        where = new[name].to(parameter.device)
        scores.write(model, name, parameter.detach(), where, values)
        for moment, tensor in optimiser.state.get(parameter, {}).items():
            if moment in _MOMENTS:
                scores.write(model, name, tensor, where, torch.zeros_like(values))
        place.mask = (place.kept().to(where.device) | where).to(place.units.keep)


def freed(layers: Sequence[Layer], masks: Masks, attention: bool = True, ffn: bool = True) -> dict[str, Tensor]:
    """Matrix name → (rows, columns) bool: weights that are masked, in heads and neurons that survive; of chosen parts."""
    plan = dead_rows(layers, masks)
    heads = heads_left(layers, masks) if attention else {}
    names = [layer.projections["ffn_in"].name for layer in layers if ffn and "ffn_in" in layer.projections]
    whole = weights_of(layers, heads, {name: plan.keep[name] for name in names})
    found = {name: one & ~masks.keep(name) for name, one in whole.items()}
    return {name: new for name, new in found.items() if new.any()}


def weights_of(layers: Sequence[Layer], heads: Mapping[int, Tensor], neurons: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Matrix name → (rows, columns) bool: the weights of these heads, (heads,) bool by layer index, and of these neurons, rows
    of ffn_in (d_out,) bool by its name."""
    found: dict[str, Tensor] = {}
    for layer in layers:
        of = layer.projections
        if of["value"].layer in heads:
            live = heads[of["value"].layer]
            for p in (of["query"], of["key"], of["value"]):
                found[p.name] = live.repeat_interleave(p.d_out // len(live))[:, None].expand(p.d_out, p.d_in)
            reader = of["attention_output"]
            read = live.repeat_interleave(reader.d_in // len(live))
            found[reader.name] = read.expand(reader.d_out, reader.d_in)
        if "ffn_in" in of and of["ffn_in"].name in neurons:
            p, reader = of["ffn_in"], of["ffn_out"]
            live = neurons[p.name]
            for name in (p.name, f"{p.name}.gate")[: 2 if p.gate else 1]:
                found[name] = live[:, None].expand(p.d_out, p.d_in)
            found[reader.name] = live.expand(reader.d_out, reader.d_in)
    return found


def to_draw(model: nn.Module, layers: Sequence[Layer], masks: Masks, fill: str) -> dict[str, Tensor]:
    """Matrix name → (rows,) bool: those whose freed weights are drawn; all of them by `uniform`, see above for `exact`."""
    if fill == "uniform":
        return {name: torch.ones(shape[0], dtype=torch.bool) for name, shape in masks.shapes.items()}
    found = {}
    for layer in layers:
        by = layer.projections
        value, reader = (masks.keep(by[t].name) for t in ("value", "attention_output"))
        read = reader.any(dim=0)[context_columns(layer)].any(dim=1)
        found[by["value"].name] = ~value.any(dim=1) & ~read
        found[by["query"].name] = _silent_queries(model, layer, masks)
    return found


def _silent_queries(model: nn.Module, layer: Layer, masks: Masks) -> Tensor:
    """(d_out,) rows of query that are empty and met by an empty row of key, whose output the softmax does not see."""
    query, key = layer.projections["query"], layer.projections["key"]
    assert key.head_width
    no_query = ~masks.keep(query.name).any(dim=1)
    silent = ~masks.keep(key.name).any(dim=1)
    if layer.rotary or key.tokens_of is not None:
        silent &= bias_of(model, key).cpu() == 0
    shape = (len(silent) // key.head_width, -1, key.head_width)  # heads of key, heads of query that share it, coordinates
    both = (no_query.view(shape) & silent.view(shape)).flatten()
    if layer.normed:  # every coordinate of a query has to do with how long the others come out
        return torch.zeros_like(both)
    if layer.rotary:
        pairs = both.view(-1, key.head_width)[:, : layer.turned]
        pairs &= pairs.roll(layer.turned // 2, dims=1)
    return both


def drawn(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """(rows, columns) float32 of U(−1/√columns, 1/√columns), as torch begins a linear map."""
    bound = shape[1] ** -0.5
    return torch.empty(tuple(shape)).uniform_(-bound, bound, generator=generator)
