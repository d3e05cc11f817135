"""Models of BERT's sizes with random weights, and plans that cut every type alike: speed does not depend on the values."""

import torch
from transformers import BertConfig, BertForQuestionAnswering, BertForSequenceClassification, PreTrainedModel

from vp_core.model.projections import as_rows, find_layers, find_projections, linear_map
from vp_core.model.scatter import filled
from vp_core.model.units import unit_groups
from vp_core.ranking.plan import Plan, rank
from vp_core.recipes import STRUCTURED
from vp_core.replacing.prune import prune
from vp_core.squeezing.budget import unit_share
from vp_core.squeezing.squeeze import squeeze


def bert_base(attention_dropout: float = 0.0) -> PreTrainedModel:
    torch.manual_seed(0)
    return BertForSequenceClassification(BertConfig(attention_probs_dropout_prob=attention_dropout)).eval()


def bert_large(attention_dropout: float = 0.0) -> PreTrainedModel:
    """With the head for SQuAD, as in the paper's table 2."""
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096,
        attention_probs_dropout_prob=attention_dropout,
    )  # fmt: skip
    return BertForQuestionAnswering(config).eval()


def random_plan(model: PreTrainedModel, sparsity: float) -> Plan:
    """Rows of every type drawn at random over all layers, so that heads are as ragged as chance makes them."""
    projections = find_projections(model)
    generator = torch.Generator().manual_seed(1)
    scores = {p.name: torch.rand(p.d_out, generator=generator, dtype=torch.double) for p in projections}
    return rank(scores, projections).plan(sparsity)


def squeezed(model: PreTrainedModel, sparsity: float) -> PreTrainedModel:
    """The model pruned by a random plan, with random constants, and squeezed."""
    plan = random_plan(model, sparsity)
    generator = torch.Generator().manual_seed(2)
    constants = {name: torch.randn(len(keep), generator=generator) * 0.1 for name, keep in plan.keep.items()}
    return squeeze(prune(model, plan, constants), plan)


def rows_only(model: PreTrainedModel, sparsity: float) -> PreTrainedModel:
    """As the paper squeezes (section 3.2): each matrix loses its removed rows, its output is put back into the full width.

    Nothing that reads a constant goes: every matrix keeps all of its columns, attention its heads. In place.
    """
    plan = random_plan(model, sparsity)
    for p in find_projections(model):
        module, rows = linear_map(model, p.path), plan.keep[p.name].nonzero().squeeze(1)
        weight, bias = as_rows(module, module.weight).detach(), module.bias.detach()
        new, _ = filled(weight[rows], bias[rows], base=bias.clone(), out_index=rows)
        model.set_submodule(p.path, new)
    return model


def units_squeezed(model: PreTrainedModel, sparsity: float) -> PreTrainedModel:
    """Hidden neurons, values and pairs drawn at random over all layers go with their columns, until a share of the weights has.

    The units of the recipes from `units zero` to `best`. How a real plan shares them out over the layers depends on the data.
    """
    layers = find_layers(model)
    groups, generator = unit_groups(layers, STRUCTURED), torch.Generator().manual_seed(1)
    scores = {g.name: torch.rand(len(g), generator=generator, dtype=torch.double) for g in groups}
    ranking = rank(scores, groups)
    plan = ranking.plan(unit_share(ranking, layers, "parameters", sparsity, model, lambda share: model))
    nothing = {p.name: torch.zeros(p.d_out) for p in find_projections(model)}
    return squeeze(prune(model, plan, nothing), plan)


FORMS = {
    "dense": lambda model, sparsity: model,
    "rows only": rows_only,
    "squeezed": squeezed,
    "units": units_squeezed,
}
"""What is compared in training: as it is, as the paper squeezes, the same rows as this tool squeezes them, units."""
