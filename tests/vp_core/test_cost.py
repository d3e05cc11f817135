"""Costs predicted by formula, then counted."""

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from vp_core.cost import cost
from vp_core.families import TYPES
from vp_core.plan import rank
from vp_core.projections import find_projections
from vp_core.study import Recipe


@pytest.fixture(scope="module")
def base():
    with torch.device("meta"):  # BERT-base without its memory
        return BertForSequenceClassification(BertConfig())


def plan_of(projections, sparsity, types=TYPES, scope="per type"):
    chosen = [p for p in projections if p.type in types]
    scores = {p.name: torch.rand(p.d_out, generator=torch.Generator().manual_seed(p.layer)) for p in chosen}
    return rank(scores, chosen, scope).plan(sparsity)


def test_bert_base_by_hand(base):
    # A layer: query, key, value, output 768·768 each, feed-forward 768·3072 twice: 4·589,824 + 2·2,359,296 = 7,077,888.
    # Twelve of them: 84,934,656 weights. Rows: 12·(4·768 + 3072 + 768) = 82,944.
    projections = find_projections(base)
    nothing = cost(projections, plan_of(projections, 0))
    assert (nothing.parameters, nothing.rows) == (84_934_656, 82_944)
    assert (nothing.parameters_removed, nothing.rows_removed, nothing.share_removed) == (0, 0, 0.0)
    assert nothing.flops_per_token == 169_869_312
    linear = sum(m.weight.numel() for m in base.bert.encoder.modules() if isinstance(m, torch.nn.Linear))
    assert nothing.parameters == linear
    everything = cost(projections, plan_of(projections, 1))
    assert (everything.parameters_removed, everything.rows_removed, everything.share_removed) == (84_934_656, 82_944, 1.0)
    # 25 % of each type: all rows of one type cost the same, so 25 % of the weights.
    quarter = cost(projections, plan_of(projections, 0.25))
    assert (quarter.parameters_removed, quarter.flops_per_token_removed) == (21_233_664, 42_467_328)
    # ffn_in alone, 10 %: round(0.1·12·3072) = 3,686 rows of 768 weights; ffn_out: round(0.1·12·768) = 922 rows of 3,072.
    for type_, rows, weights in (("ffn_in", 3_686, 2_830_848), ("ffn_out", 922, 2_832_384)):
        found = cost(projections, plan_of(projections, 0.1, (type_,)))
        assert (found.rows_removed, found.parameters_removed, found.parameters) == (rows, weights, 84_934_656)


@pytest.mark.parametrize("scope", ["per type", "per layer", "global"])
def test_counts_zero_rows_of_the_pruned_model(studies, scope):
    for study in studies.values():
        recipe = Recipe(scope=scope)
        pruned, found = study.pruned(recipe, 0.37), study.cost(recipe, 0.37)
        weights = [pruned.get_submodule(p.path).weight for p in study.projections()]
        zero = [(w == 0).all(dim=1) for w in weights]
        assert found.rows_removed == sum(int(z.sum()) for z in zero)
        assert found.parameters_removed == sum(int(z.sum()) * w.shape[1] for z, w in zip(zero, weights, strict=True))
        assert found.parameters == sum(w.numel() for w in weights)
