"""What makes a unit worth keeping: pure functions from evidence to a score per unit, one table of them.

The lowest scores go first. A score is {group name: (units,) float64}; see `vp_core.model.units` for groups. To add a criterion,
name it in `vp_core.ground.names`, write the function and put it into _SCORERS.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from vp_core.ground.errors import VPError, one_of
from vp_core.ground.names import CRITERIA, WHOLE
from vp_core.ground.parallel import in_parallel
from vp_core.ground.work import say
from vp_core.measuring.covariance import READ_AT
from vp_core.measuring.function_norms import FunctionNorms
from vp_core.measuring.gradients import Gradients
from vp_core.measuring.statistics import Statistics
from vp_core.model.blocks import SUBLAYER, Block
from vp_core.model.projections import Projection, weight_of
from vp_core.model.units import UnitGroup, row_group
from vp_core.ranking.elimination import conditional_variance, surgeon
from vp_core.ranking.evidence import Evidence, StatisticsAlone
from vp_core.ranking.readings import columns_of, consumed, contribution, pair_matrices, weights

Scores = Mapping[str, Tensor]
Criterion = Callable[[Evidence, Sequence[UnitGroup]], dict[str, Tensor]]


def variance(evidence: Evidence, groups: Sequence[UnitGroup]) -> dict[str, Tensor]:
    """Variance over tokens of what the unit puts out (Variance Pruning, eq. 2–6).

    Rows: the row's output, as in the paper. `ffn neurons` and `values`: what the consumer reads, after the activation and after
    attention. `pairs`: the score contribution q_i·k_i of a random query and key, E[q_i²]·Var(k_i), under rotary positions at a
    random distance (`vp_core.ranking.readings.turning_matrices`). `heads`, `sublayers`,
    `layers`: their contribution to the residual stream, summed over its coordinates. Group name → (units,).
    """
    return {g.name: _variance(evidence, g) for g in groups}


def _variance(evidence: Evidence, group: UnitGroup) -> Tensor:
    if group.kind in ("ffn neurons", "values"):
        return consumed(evidence, group)[0].diagonal()[group.columns].sum(dim=1)
    if group.kind == "pairs":
        return pair_matrices(evidence, group).diagonal(dim1=1, dim2=2).flatten()
    if group.kind == "heads":
        return contribution(evidence, group)
    if group.kind in WHOLE:
        outputs = [p for p, _ in group.rows if p.type in READ_AT]
        return torch.stack([evidence.statistics().variance(p.name).sum() for p in outputs]).sum()[None]
    return evidence.statistics().variance(group.name)


def weighted_variance(evidence: Evidence, groups: Sequence[UnitGroup]) -> dict[str, Tensor]:
    """Var(h_j)·‖W_:,j‖²: the consumer's output error under mean replacement, up to cross terms.

    h is what the consumer reads, also for rows of `value` and `ffn_in`; units that nothing reads as a column have `variance`.
    Group name → (units,). See docs/without_fine_tuning.md#criteria.
    """
    return {
        g.name: contribution(evidence, g) if columns_of(evidence, g) is not None else _variance(evidence, g) for g in groups
    }


def conditional(evidence: Evidence, groups: Sequence[UnitGroup]) -> dict[str, Tensor]:
    """Variance that the units kept cannot predict: pivoted Cholesky of the covariance (`vp_core.ranking.elimination`).

    Pairs and rows of query and key are predicted within their head; rows of the outputs from W C Wᵀ. Whole heads,
    sub-layers and layers have `variance`. Group name → (units,).
    """
    return _side_by_side(evidence, groups, _conditional)


def _conditional(evidence: Evidence, group: UnitGroup) -> Tensor:
    columns, kind = columns_of(evidence, group), group.kind
    if kind in ("heads", *WHOLE):
        return _variance(evidence, group)
    if columns is not None:
        matrix = consumed(evidence, group)[0]
        matrix = torch.stack([matrix[c][:, c] for c in columns.T]).sum(dim=0)
        return conditional_variance(matrix)
    if kind == "pairs":
        blocks = pair_matrices(evidence, group)
    elif kind in ("query", "key"):
        blocks = evidence.covariances()[group.name].covariance()
    elif kind not in READ_AT:  # rows of value that several columns read (grouped queries)
        return _variance(evidence, group)
    else:  # a residual coordinate: the output of a linear map whose inputs' covariance is known
        inputs = evidence.covariances()[f"{group.layer}.{READ_AT[kind]}"].matrix()
        weight = weight_of(evidence.model, group.projection).detach().cpu().double()
        blocks = (weight @ inputs @ weight.T)[None]
    return torch.cat([conditional_variance(block) for block in blocks])


def brain_surgeon(evidence: Evidence, groups: Sequence[UnitGroup]) -> dict[str, Tensor]:
    """Error that going adds to the consumer's output when what stays is re-solved (`vp_core.ranking.elimination.surgeon`).

    Heads count with all their columns. Pairs: error of the head's scores, the other pairs re-scaled. Units that nothing
    reads as a column (rows of the outputs, sub-layers, layers) have `variance`. Group name → (units,).
    """
    return _side_by_side(evidence, groups, _surgeon)


def _surgeon(evidence: Evidence, group: UnitGroup) -> Tensor:
    columns = columns_of(evidence, group)
    if columns is not None:
        return surgeon(*consumed(evidence, group), columns)
    if group.kind in ("pairs", "query", "key"):
        blocks = pair_matrices(evidence, group)  # a head's scores are the sum of its pairs
        heads = torch.eye(len(blocks)).repeat_interleave(blocks.shape[1], dim=1)
        return surgeon(torch.block_diag(*blocks), heads, torch.arange(len(group))[:, None])
    return _variance(evidence, group)


def magnitude(evidence: Evidence, groups: Sequence[UnitGroup]) -> dict[str, Tensor]:
    """L2 norm of all weights that go with the unit, rows and columns (for rows: Han et al. 2015 by row).

    Group name → (units,).
    """
    return {g.name: weights(evidence.model, g).norm(dim=1) for g in groups}


def wanda(evidence: Evidence, groups: Sequence[UnitGroup]) -> dict[str, Tensor]:
    """Σ |W_ij|·‖x_j‖₂ over the unit's weights (Wanda, Sun et al. 2023, summed to units): x_j is what W_ij multiplies.

    Of units with columns in a consumer the columns count, else the rows. Group name → (units,).
    """
    return {g.name: _wanda(evidence, g) for g in groups}


def _wanda(evidence: Evidence, group: UnitGroup) -> Tensor:
    covariances = evidence.covariances()

    def norms(site: str) -> Tensor:
        moments = covariances[site]
        return (moments.variance() + moments.mean.square()).sqrt()

    if group.consumer is not None and group.columns is not None:
        site = f"{group.layer}.{READ_AT[group.consumer.type]}"
        sums = weight_of(evidence.model, group.consumer).detach().cpu().double().abs().sum(dim=0) * norms(site)
        return sums[group.columns].sum(dim=1)
    inputs = {"query": "query_input", "key": "key_input", "value": "key_input", "ffn_in": "ffn_input"} | READ_AT
    total = torch.zeros(len(group), dtype=torch.float64)
    for p, rows in group.rows:
        sums = weight_of(evidence.model, p).detach().cpu().double().abs() @ norms(f"{p.layer}.{inputs[p.type]}")
        total += sums[rows].sum(dim=1)
    return total


def function_norm(evidence: Evidence, groups: Sequence[UnitGroup]) -> dict[str, Tensor]:
    """Mean over tokens of max_i |F(x)_i| (SNIP, section 3.4), for heads, sub-layers and layers (whose two are summed).

    Group name → (units,). Raises VPError for other units, which are no residual mapping.
    """
    return {g.name: _function_norm(evidence.norms(), g) for g in groups}


def _function_norm(norms: FunctionNorms, group: UnitGroup) -> Tensor:
    means = norms.means()
    if group.kind == "heads":
        return torch.tensor([means[Block(group.layer, "head", h)] for h in range(len(group))], dtype=torch.float64)
    if group.kind not in WHOLE:
        raise VPError(
            f"Function norms are those of whole blocks, not of {group.kind}: choose units heads, sublayers or layers."
        )
    kinds = [SUBLAYER[p.type] for p, _ in group.rows if p.type in SUBLAYER]
    return torch.tensor([sum(means[Block(group.layer, kind)] for kind in kinds)], dtype=torch.float64)


def fisher(evidence: Evidence, groups: Sequence[UnitGroup]) -> dict[str, Tensor]:
    """What replacing the unit by its mean does to the model's outputs, squared, to first order: see `measuring.gradients`.

    The Fisher information of a unit's mask (Theis et al. 2018; Kwon et al. 2022) with the outputs in place of the loss, so
    no label is needed, and token by token. A pair goes with its query, since their product falls with it; what several rows of
    the query do is added up.
    Group name → (units,).
    """
    return {g.name: _fisher(evidence.gradients(), g) for g in groups}


def _fisher(gradients: Gradients, group: UnitGroup) -> Tensor:
    if group.kind in WHOLE:
        return torch.stack([gradients.whole[p.name] for p, _ in group.rows if p.type in READ_AT]).sum(dim=0)
    if group.kind == "heads":
        return gradients.by_head[f"{group.layer}.context"].view(len(group), -1).sum(dim=1)
    if group.consumer is not None and group.columns is not None:
        return gradients.effect[f"{group.layer}.{READ_AT[group.consumer.type]}"][group.columns].sum(dim=1)
    if group.kind == "pairs":
        return gradients.effect[group.projection.name][group.rows[0][1]].sum(dim=1)
    return gradients.effect[f"{group.layer}.activation" if group.projection.gate else group.projection.name]


def random(evidence: Evidence, groups: Sequence[UnitGroup]) -> dict[str, Tensor]:
    """Random units, as many in each layer as `variance` removes there (the paper's baseline, section 3.4).

    The variances of each group are dealt out to its units at random. Any ranking of these scores then takes the same
    number from every group as the variances themselves would, at every share and in every scope. A recipe deals out the
    ranking itself (`vp_core.carry_out`), which also holds over several steps, budgets and measured losses. Group name →
    (units,).
    """
    rng = np.random.default_rng(evidence.seed)
    by_variance = variance(evidence, groups)
    return {name: scores[torch.from_numpy(rng.permutation(len(scores)))] for name, scores in by_variance.items()}


_SCORERS: Mapping[str, Criterion] = {
    "variance": variance,
    "random": random,
    "magnitude": magnitude,
    "weighted variance": weighted_variance,
    "conditional variance": conditional,
    "surgeon": brain_surgeon,
    "wanda": wanda,
    "fisher": fisher,
    "function norm": function_norm,
}


def score_units(criterion: str, evidence: Evidence, groups: Sequence[UnitGroup]) -> dict[str, Tensor]:
    """The scores of one criterion by name: group name → (units,) float64.

    Raises VPError if there is no such criterion, and if it does not fit the evidence or the units.
    """
    return _SCORERS[one_of("criterion", criterion, CRITERIA)](evidence, groups)


def score_neurons(
    criterion: str, model: PreTrainedModel, statistics: Statistics, projections: Sequence[Projection], seed: int = 0
) -> dict[str, Tensor]:
    """Scores of single rows from statistics of their outputs alone: projection name → (d_out,) float64.

    Raises VPError for criteria that need more than that: all but variance, random and magnitude.
    """
    return score_units(criterion, StatisticsAlone(model, statistics, seed), [row_group(p) for p in projections])


def _side_by_side(
    evidence: Evidence, groups: Sequence[UnitGroup], score: Callable[[Evidence, UnitGroup], Tensor]
) -> dict[str, Tensor]:
    """Groups on all cores, one core each: their matrices are small. What they need is measured before."""
    evidence.covariances()
    if any(g.kind in ("attention_output", "ffn_out", *WHOLE) for g in groups):
        evidence.statistics()
    found: dict[str, Tensor] = {}
    say("ordering units: group", 0, len(groups))
    for group, scores in zip(groups, in_parallel(lambda group: score(evidence, group), groups), strict=True):
        found[group.name] = scores
        say("ordering units: group", len(found), len(groups))
    return found
