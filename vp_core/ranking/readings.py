"""What criteria read off the evidence for one group of units: its weights, its columns in a consumer, what these carry."""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from vp_core.measuring.covariance import READ_AT
from vp_core.model.projections import as_rows, gate_weight_of, linear_map, weight_of
from vp_core.model.units import UnitGroup
from vp_core.ranking.evidence import Evidence


def weights(model: PreTrainedModel, group: UnitGroup) -> Tensor:
    """(units, weights of a unit) float64: its rows, with those of a gate, and its columns in the consumer."""
    parts = []
    for p, rows in group.rows:
        matrices = [weight_of(model, p), *([gate_weight_of(model, p)] if p.gate else [])]
        parts += [matrix[rows].flatten(1) for matrix in matrices]
    if group.consumer is not None and group.columns is not None:
        parts.append(weight_of(model, group.consumer)[:, group.columns].movedim(0, 1).flatten(1))
    return torch.cat(parts, dim=1).detach().double()


def columns_of(evidence: Evidence, group: UnitGroup) -> Tensor | None:
    """(units, columns of a unit): the consumer's columns that read it, None if there are none.

    Also of single rows of value and ffn_in, where each row is read by one column.
    """
    if group.columns is not None or group.kind not in ("value", "ffn_in"):
        return group.columns
    inputs, _ = consumed(evidence, group)
    return torch.arange(len(group))[:, None] if len(inputs) == len(group) else None  # several under grouped queries


def consumed(evidence: Evidence, group: UnitGroup) -> tuple[Tensor, Tensor]:
    """(covariance of the inputs of the group's consumer (n, n), its weight (d, n)), float64."""
    site = {"value": "context", "ffn_in": "activation"}.get(group.kind)
    if group.consumer is not None:
        site = READ_AT[group.consumer.type]
    covariance = evidence.covariances()[f"{group.layer}.{site}"].matrix()
    path = group.consumer.path if group.consumer else group.projection.consumer
    assert path
    module = linear_map(evidence.model, path)
    return covariance, as_rows(module, module.weight).detach().double()


def contribution(evidence: Evidence, group: UnitGroup) -> Tensor:
    """(units,) tr(W_u C_uu W_uᵀ): variance of a unit's contribution to the consumer's output, summed over its coordinates."""
    covariance, weight = consumed(evidence, group)
    columns = columns_of(evidence, group)
    assert columns is not None
    blocks = covariance[columns[:, :, None], columns[:, None, :]]
    gram = torch.einsum("dui,duj->uij", weight[:, columns], weight[:, columns])
    return (blocks * gram).sum(dim=(1, 2))


def pair_matrices(evidence: Evidence, group: UnitGroup) -> Tensor:
    """By head, E[q_i q_j]·Cov(k_i, k_j): the covariance of score contributions of a random query and key (heads, w, w)."""
    covariances = evidence.covariances()
    queries = covariances[f"{group.layer}.query"].second_moment()
    keys = covariances[f"{group.layer}.key"].covariance()
    if group.kind == "key":
        queries = queries.view(len(keys), -1, *queries.shape[1:]).mean(dim=1)
    return queries * keys.repeat_interleave(len(queries) // len(keys), dim=0)
