"""Turning the coordinates of every head so that as few as possible matter: `principal(model, covariances)`.

Inside a head a basis is free: with any invertible T, value rows T W_V and columns W_O T⁻¹ make the same output, and query
and key rows Aᵀ W_Q, A⁻¹ W_K the same scores. Coordinates of a trained model are as good as any; those of a singular value
decomposition, weighted by what really flows through the head, are the best there are for leaving some out:

| of a head | decomposed | coordinate i then contributes |
|---|---|---|
| value and output | W_O C^½ = U S Vᵀ (C: covariance of the context) | S_i u_i, uncorrelated with the others |
| query and key | (E[q qᵀ])^½ (Cov k)^½ = U S Vᵀ | a score of mean square S_i² |

By Eckart and Young no subspace of r coordinates leaves a smaller error of the head's output, or of its scores over pairs of
a random query and a random key (a key's mean adds the same to every score of a query, and softmax does not see it). The
model's outputs stay the same up to rounding. MoDeGPT (Lin et al. 2024) decomposes value and output so; here queries and keys
turn too. Rotary positions fix the basis of queries and keys: there values turn only.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from vp_core.ground.work import say
from vp_core.measuring.covariance import CoMoments, Covariances, Packed
from vp_core.model.projections import Layer, as_rows, find_layers, linear_map
from vp_core.model.sharing import Model, share

_FLOOR = 1e-9
"""Directions with less than this share of the largest variance are treated as if they had it: T stays invertible."""


def principal(model: Model, covariances: Covariances) -> tuple[Model, Covariances]:
    """(the same model in turned coordinates, its covariances): see the module. Nothing that came in is changed."""
    assert isinstance(model, PreTrainedModel)
    edited: dict[str, Tensor] = {}
    turned = [part.copy() if isinstance(part, Packed) else dict(part) for part in (covariances.all, covariances.held_out)]
    layers = find_layers(model)
    for number, layer in enumerate(layers, 1):
        say("turning heads: layer", number, len(layers))
        turn = _Turn(model, layer, edited)
        value = turn.values(covariances[f"{layer.projections['value'].layer}.context"].matrix())
        maps = {"context": value}
        if layer.turns:
            maps |= turn.pairs(covariances)
        for site, by_head in maps.items():
            name = f"{layer.projections['value'].layer}.{site}"
            for part in turned:
                if name in part:
                    part[name] = _mapped(part[name], by_head)
    return share(model, edited), Covariances(turned[0], turned[1])


class _Turn:
    """Writes the turned weights of one layer into `edited`, by parameter path."""

    def __init__(self, model: PreTrainedModel, layer: Layer, edited: dict[str, Tensor]) -> None:
        self.model, self.layer, self.edited = model, layer, edited

    def values(self, context: Tensor) -> Tensor:
        """Turn values; returns the maps (heads, w, w) with new context = map · old."""
        value, output = self.layer.projections["value"], self.layer.projections["attention_output"]
        width, shared = value.head_width or 1, self.layer.queries_per_key
        module, weight, _ = self._copies(output.path)
        reader = as_rows(module, weight).detach().cpu().double()
        maps = []
        for head in range(value.d_out // width):
            # heads of the query that share these values are read by several sets of columns: one basis for all
            parts = [slice((head * shared + i) * width, (head * shared + i + 1) * width) for i in range(shared)]
            root, inverse = square_root(torch.stack([context[p, p] for p in parts]).mean(dim=0))
            seen = torch.cat([reader[:, p] for p in parts]) @ root
            _, _, vectors = torch.linalg.svd(seen, full_matrices=False)
            maps.append(vectors @ inverse)
            back = torch.linalg.inv(maps[-1])
            for p in parts:
                as_rows(module, weight)[:, p] = (reader[:, p] @ back).to(weight)
        self._rows("value", torch.stack(maps))
        return torch.stack(maps).repeat_interleave(shared, dim=0)

    def pairs(self, covariances: Covariances) -> Mapping[str, Tensor]:
        """Turn queries and keys, both maps by site."""
        number = self.layer.projections["query"].layer
        queries = covariances[f"{number}.query"].second_moment()
        keys = covariances[f"{number}.key"].covariance()
        query_maps, key_maps = [], []
        for query, key in zip(queries, keys, strict=True):
            query_root, query_inverse = square_root(query)
            key_root, key_inverse = square_root(key)
            left, values, right = torch.linalg.svd(query_root @ key_root)
            scale = values.clamp(min=1e-150).sqrt()[:, None]
            query_maps.append(scale * (left.T @ query_inverse))
            key_maps.append(scale * (right @ key_inverse))
        maps = {"query": torch.stack(query_maps), "key": torch.stack(key_maps)}
        for type_, by_head in maps.items():
            self._rows(type_, by_head)
        return maps

    def _rows(self, type_: str, maps: Tensor) -> None:
        """Rows and biases of a projection, each head multiplied by its map (w, w)."""
        p = self.layer.projections[type_]
        module, weight, bias = self._copies(p.path)
        part = p.part.index
        rows = as_rows(module, weight)
        old = rows[part].cpu().double().view(len(maps), -1, p.d_in)
        rows[part] = (maps @ old).flatten(0, 1).to(weight)
        if bias is not None:
            bias[part] = (maps @ bias[part].cpu().double().view(len(maps), -1, 1)).flatten().to(bias)

    def _copies(self, path: str) -> tuple[nn.Module, Tensor, Tensor | None]:
        module = linear_map(self.model, path)
        for name in ("weight", "bias"):
            tensor = getattr(module, name)
            if tensor is not None and f"{path}.{name}" not in self.edited:
                self.edited[f"{path}.{name}"] = tensor.detach().clone()
        return module, self.edited[f"{path}.weight"], self.edited.get(f"{path}.bias")


def square_root(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """The symmetric root of a positive matrix (w, w), and its inverse; tiny and negative eigenvalues are raised."""
    values, vectors = torch.linalg.eigh(matrix)
    root = values.clamp(min=_FLOOR * float(values.max().clamp(min=1e-150))).sqrt()
    return (vectors * root) @ vectors.T, (vectors / root) @ vectors.T


def _mapped(moments: CoMoments, maps: Tensor) -> CoMoments:
    """Co-moments of M x, M block-diagonal with `maps` (heads, w, w), from those of x."""
    heads, width, _ = maps.shape
    mean = (maps @ moments.mean.view(heads, width, 1)).flatten()
    if len(moments.m2) == heads:
        return CoMoments(moments.count, mean, maps @ moments.m2 @ maps.transpose(1, 2))
    whole = torch.block_diag(*maps)
    return CoMoments(moments.count, mean, (whole @ moments.m2[0] @ whole.T)[None])
