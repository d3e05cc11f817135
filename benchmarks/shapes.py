"""Models of BERT's sizes with random weights, and plans that cut every type alike: speed does not depend on the values."""

import torch
from transformers import BertConfig, BertForQuestionAnswering, BertForSequenceClassification, PreTrainedModel

from vp_core.model.projections import find_projections
from vp_core.ranking.plan import Plan, rank
from vp_core.replacing.prune import prune
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
