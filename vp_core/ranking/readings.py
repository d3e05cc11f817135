"""What criteria read off the evidence for one group of units: its weights, its columns in a consumer, what these carry."""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from vp_core.measuring.covariance import READ_AT
from vp_core.model.projections import as_rows, find_layers, gate_weight_of, linear_map, weight_of
from vp_core.model.units import UnitGroup
from vp_core.ranking.evidence import Evidence

DISTANCE = 128
"""Under rotary positions a score depends on how far key and query are from each other: all distances below this count alike."""


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
    """By head, E[q_i q_j]·Cov(k_i, k_j): the covariance of score contributions of a random query and key (heads, w, w).

    Pairs under rotary positions: `turning_matrices`, by head of the key.
    """
    if group.kind == "pairs" and len(group.rows[1][1][0]) == 2:
        return turning_matrices(evidence, group)
    covariances = evidence.covariances()
    queries = covariances[f"{group.layer}.query"].second_moment()
    keys = covariances[f"{group.layer}.key"].covariance()
    if group.kind == "key":
        queries = queries.view(len(keys), -1, *queries.shape[1:]).mean(dim=1)
    return queries * keys.repeat_interleave(len(queries) // len(keys), dim=0)


def turning_matrices(evidence: Evidence, group: UnitGroup) -> Tensor:
    """The same of pairs under rotary positions (heads of key, pairs, pairs), summed over the heads of query that share a key.

    Let q and k be a pair's two coordinates as a complex number. A key that is d tokens away adds s = Re(q̄ e^{iθd} k) to the
    score, with the pair's frequency θ. Over random keys and distances a query's scores have the covariances E_q Cov(s_i, s_j):
    what of s is the same for all keys softmax does not see. With c(φ) = E e^{iφd} and m = c(θ) E k that is

        ½ Re(E[q̄_i q̄_j] (E[k_i k_j] c(θ_i + θ_j) − m_i m_j) + E[q̄_i q_j] (E[k_i k̄_j] c(θ_i − θ_j) − m_i m̄_j))

    Where nothing turns it is Σ E[q q]·Cov(k, k), and of a pair that turns fast ½ E|q|² E|k|².
    """
    layer, covariances = find_layers(evidence.model)[group.layer], evidence.covariances()
    first, second = group.rows[1][1][: (layer.projections["key"].head_width or 0) // 2].T
    queries = covariances[f"{group.layer}.query"].second_moment()
    queries = queries.view(-1, layer.queries_per_key, *queries.shape[1:]).sum(dim=1)
    keys = covariances[f"{group.layer}.key"].second_moment()
    mean = covariances[f"{group.layer}.key"].mean.view(len(keys), -1)
    (q_same, q_other), (k_same, k_other) = (_of_complex(one, first, second) for one in (queries, keys))
    theta = torch.zeros(len(first), dtype=torch.float64)
    assert layer.frequencies
    theta[: layer.turned // 2] = evidence.model.get_buffer(layer.frequencies).double().cpu()
    causal = bool(evidence.model.get_submodule(layer.attention).is_causal)
    distances = torch.arange(1 - DISTANCE, 1 if causal else DISTANCE, dtype=torch.float64)

    def c(angles: Tensor) -> Tensor:
        return torch.exp(1j * angles[..., None] * distances).mean(dim=-1)

    m = c(theta) * torch.complex(mean[:, first], mean[:, second])
    same = k_same * c(theta[:, None] + theta) - m[:, :, None] * m[:, None]
    other = k_other * c(theta[:, None] - theta) - m[:, :, None] * m[:, None].conj()
    return (q_same.conj() * same + q_other.conj() * other).real / 2


def _of_complex(moments: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """(E[z_i z_j], E[z_i z̄_j]), (heads, pairs, pairs) each, of z = x[first] + i·x[second] with E[x xᵀ] = `moments`."""
    real, imaginary = moments[:, first][..., first], moments[:, second][..., second]
    mixed = moments[:, first][..., second]
    turned = mixed.transpose(1, 2)
    return torch.complex(real - imaginary, mixed + turned), torch.complex(real + imaginary, turned - mixed)
