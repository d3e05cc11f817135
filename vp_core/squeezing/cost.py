"""What a model costs and what goes when rows go: parameters and floating-point operations, by formula and counted.

The formula, per token of a text of T tokens, over all layers:

    FLOPs = 2·(weights of the six projections) + 2·T·Σ_heads (width of query and key + width of value)

A weight costs a multiplication and an addition. The second part are the products QKᵀ and AV of attention. Embeddings, norms,
softmax and the classification head are not counted, nor is what positions cost in the scores (DeBERTa).
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from vp_core.model.projections import Layer, as_rows, bias_of, layer_paths, uses_of
from vp_core.model.scatter import ScatterLinear
from vp_core.model.units import UnitGroup, context_columns
from vp_core.ranking.plan import Plan
from vp_core.squeezing.cut.costs import Cost
from vp_core.squeezing.survivors import survivors
from vp_core.weights.dead import kept_weights, reads
from vp_core.weights.masks import Masks


def cost(layers: Sequence[Layer], plan: Plan, query_biases: Sequence[torch.Tensor] | None = None) -> Cost:
    """Count what exact squeezing leaves of the model with these `layers`.

    `query_biases`, one (d_out,) for each layer, are the constants of removed query rows, as `squeezing.survivors` wants them:
    those that are 0 leave nothing behind in the scores.
    """
    gone = {name: len(keep) - int(keep.sum()) for name, keep in plan.keep.items()}
    rows = parameters = left = linear = linear_left = attention = attention_left = 0
    for number, layer in enumerate(layers):
        projections = layer.projections
        found = survivors(layer, plan.keep, query_biases[number] if query_biases else None)
        here = sum(p.weights_of_a_row * p.d_out for p in projections.values())
        columns = {t: int(plan.columns[p.name].sum()) if p.name in plan.columns else p.d_in for t, p in projections.items()}
        kept = {t: len(r) for t, r in found.rows.items()}
        if layer.rotary:
            columns["attention_output"] = kept["value"] * layer.queries_per_key
            full = projections["key"].head_width or 0
            each = [2 * full if layer.full_heads else h.score_width + len(h.values) for h in found.turning]
            widths = sum(each) * layer.queries_per_key
        elif layer.full_heads:
            columns["attention_output"] = kept["value"]
            widths = 2 * projections["query"].d_out
        else:
            kept["query"] = sum(len(h.scores) for h in found.heads)
            kept["key"] = sum(h.score_width for h in found.heads)
            kept["value"] = columns["attention_output"] = sum(len(h.values) for h in found.heads)
            widths = kept["key"] + kept["value"]
        if "ffn_in" in kept:
            columns["ffn_out"] = kept["ffn_in"]
        here_left = sum(kept[t] * columns[t] * (2 if p.gate else 1) for t, p in projections.items())
        rows += sum(p.d_out for p in projections.values())
        parameters, left = parameters + here, left + here_left
        linear, linear_left = linear + layer.uses * here, linear_left + layer.uses * here_left
        attention += layer.uses * 2 * projections["query"].d_out
        attention_left += layer.uses * widths
    return Cost(rows, sum(gone.values()), parameters, left, linear, linear_left, attention, attention_left)


def silent_queries(layers: Sequence[Layer], groups: Sequence[UnitGroup]) -> list[torch.Tensor] | None:
    """What `cost` is told of query rows that go with these groups: zeros, (d_out,) each, but for single rows, which may put out
    anything (None)."""
    if any(group.kind == group.projection.type for group in groups):
        return None
    return [torch.zeros(layer.projections["query"].d_out) for layer in layers]


def query_biases(model: nn.Module, layers: Sequence[Layer]) -> list[torch.Tensor]:
    """What the query of each layer puts out in rows whose weights are zero, (d_out,) each: its bias, on the processor."""
    return [bias_of(model, layer.projections["query"]).cpu() for layer in layers]


def sparse_cost(layers: Sequence[Layer], masks: Masks, plan: Plan, query_biases: Sequence[torch.Tensor] | None = None) -> Cost:
    """`cost` of a model whose single weights are masked: its `parameters_left` are those that are not zero.

    `plan` is what the masks leave wholly zero (`vp_core.weights.dead.dead_rows`). FLOPs are those of whole matrices without it:
    kernels save nothing for single zeros. Weights of word embeddings are not counted.
    """
    left = 0
    for number, layer in enumerate(layers):
        found = survivors(layer, plan.keep, query_biases[number] if query_biases else None)
        rows, p = dict(found.rows), layer.projections
        if not (layer.full_heads or layer.rotary):
            nothing = rows["value"][:0]
            rows["query"] = rows["key"] = torch.cat([nothing, *(head.scores for head in found.heads)])
            rows["value"] = torch.cat([nothing, *(head.values for head in found.heads)])
            left += sum(int(reads(p["key"], masks, head.merged).sum()) for head in found.heads)
        columns = {"attention_output": context_columns(layer)[rows["value"]].flatten()}
        columns |= {"ffn_out": rows["ffn_in"]} if "ffn_in" in p else {}
        left += sum(kept_weights(one, masks, rows[t], columns.get(t)) for t, one in p.items())
    return replace(cost(layers, plan, query_biases), parameters_left=left)


def parameters(model: nn.Module) -> int:
    """All parameters of a model, embeddings and biases included, shared ones once."""
    return sum(p.numel() for p in model.parameters())


def flops_per_token(model: PreTrainedModel, length: int) -> int:
    """FLOPs per token of a text of `length` tokens by the module's formula, from the shapes the model really has.

    For dense and squeezed models; heads are counted with their padding.
    """
    total = 0
    for stack, path in layer_paths(model):
        modules = {name: model.get_submodule(f"{path}.{name}") for name in {*stack.modules.values(), stack.gate} - {None}}
        attention = model.get_submodule(f"{path}.{stack.attention}")
        name = stack.modules["query"]
        queries = _width(modules[name])
        if list(stack.modules.values()).count(name) > 1:  # key and value lie beside it, a head of each for a group of its heads
            group = getattr(attention, "num_key_value_groups", 1)
            queries = queries * group // (group + 2)
        if stack.split_size:
            queries = getattr(attention, stack.split_size)
        total += uses_of(model, stack) * (2 * sum(_weights(m) for m in modules.values()) + 2 * length * 2 * queries)
    return total


def counted_flops(model: PreTrainedModel, **inputs: torch.Tensor) -> int:
    """FLOPs of the layers in one forward pass, counted by `torch.utils.flop_counter` as the operations run.

    `inputs` are the model's, (examples, tokens) each.
    """
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(**inputs)
    paths = {path for _, path in layer_paths(model)}
    by_module = counter.get_flop_counts()
    return sum(sum(by_module[f"{type(model).__name__}.{path}"].values()) for path in paths)


def _weights(module: nn.Module) -> int:
    """Weights that are multiplied once a token."""
    if isinstance(module, ScatterLinear):
        return 0 if module.linear is None else module.linear.weight.numel()
    assert isinstance(module, nn.Linear | Conv1D)
    return module.weight.numel()


def _width(module: nn.Module) -> int:
    """Coordinates that a module puts out."""
    if isinstance(module, ScatterLinear):
        return module.shape.width or module.shape.rows
    assert isinstance(module, nn.Linear | Conv1D)
    return int(as_rows(module, module.weight).shape[0])
