"""`squeeze(pruned_model, plan) -> model`: what is pruned is gone. The smaller dense model has the same outputs.

`prune` leaves a model of the old shape whose removed rows put out constants. Here rows and columns leave both matrices they
touch (`squeezing.survivors` says which, and why that is exact), constants move into biases, and heads of unequal width are
padded with zeros to a few common ones, so that each layer runs transformers' own attention code (SDPA, masks, caches) on
narrower heads, group by group. Exact in evaluation; in training dropout on the attention weights does not touch the constants.
"""

from dataclasses import replace

import torch
from torch import nn
from transformers import PreTrainedModel

from vp_core.ground.errors import VPError
from vp_core.model.attending.dropout import set_lean
from vp_core.model.families import family_of
from vp_core.model.products import use_products
from vp_core.model.projections import Projection, find_layers, gate_weight_of, weight_of
from vp_core.model.sharing import Model, share
from vp_core.ranking.plan import Plan
from vp_core.replacing.prune import check_plan
from vp_core.squeezing.cost import cost, query_biases, sparse_cost
from vp_core.squeezing.cut.layer import Cut
from vp_core.squeezing.cut.shapes import Squeezed
from vp_core.squeezing.survivors import survivors
from vp_core.weights.dead import dead_rows, wanted_by_others
from vp_core.weights.masks import Masks
from vp_core.weights.prune import silenced


def squeeze(pruned: Model, plan: Plan) -> Model:
    """A new, smaller model with the outputs of `pruned`, the result of `vp_core.replacing.prune.prune` with this plan.

    `pruned` is not changed; what is not cut is shared with it. The new model's `squeezed.notes` say what could not be
    squeezed. Raises VPError if the plan belongs to another model, if the model was not pruned by it, for a family that is
    not supported, and for a model that is squeezed already.
    """
    assert isinstance(pruned, PreTrainedModel)
    layers = find_layers(pruned)
    check_plan(plan, [p for layer in layers for p in layer.projections.values()])
    model = share(pruned)
    set_lean(model)
    biases = query_biases(model, layers)
    result = Squeezed(cost(layers, plan, biases))
    bare = _bare(model)
    for layer, bias in zip(layers, biases, strict=True):
        for projection in layer.projections.values():
            _check_removed(model, projection, plan)
        cut = Cut(model, layer, survivors(layer, plan.keep, bias), result, plan.columns)
        cut.attention()
        cut.ffn()
        cut.inputs()
        cut.new_biases(bare)
    if result.modules:
        use_products(model)
    model.squeezed = result
    return model


def squeeze_masked(masked: Model, masks: Masks) -> Model:
    """A new model with the outputs of `masked`, whose weights are zero where `masks` say: what is wholly zero has left it.

    Rows, heads and the columns that read them (`vp_core.weights.dead`), and input columns of query, key, value and ffn_in that
    no row reads any more, where leaving them out is faster. Single zeros stay in the matrices; `save_pruned` writes them small.
    Raises VPError as `squeeze` does.
    """
    assert isinstance(masked, PreTrainedModel)
    layers = find_layers(masked)
    plan = dead_rows(layers, masks)
    model = squeeze(silenced(masked, layers, plan), plan)
    note = wanted_by_others(layers, masks, plan)
    found: Squeezed = model.squeezed
    notes, left = (*found.notes, note) if note else found.notes, sparse_cost(layers, masks, plan, query_biases(masked, layers))
    model.squeezed = replace(found, cost=left, notes=notes, sparse=True)
    return model


def _bare(model: PreTrainedModel) -> set[str]:
    """The paths of linear maps that have no bias by the model's configuration."""
    family = family_of(model.config.model_type)
    if not family.bare and not family.bias_flags:
        return set()
    with torch.device("meta"):
        plain = type(model)(model.config)
    return {path for path, module in plain.named_modules() if isinstance(module, nn.Linear) and module.bias is None}


def _check_removed(model: nn.Module, projection: Projection, plan: Plan) -> None:
    keep, read = plan.keep.get(projection.name), plan.columns.get(projection.name)
    weight = weight_of(model, projection)
    wrong = keep is not None and bool(weight[~keep].any())
    if read is not None and not wrong:
        parts = [weight, gate_weight_of(model, projection)] if projection.gate else [weight]
        wrong = any(bool(part[:, ~read].any()) for part in parts)
    if wrong:
        raise VPError("This model was not pruned by this plan: prune the model with it first, then squeeze the result.")
