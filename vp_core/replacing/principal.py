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

from vp_core.ground.work import say
from vp_core.measuring.covariance import CoMoments, Covariances, Packed
from vp_core.model.projections import Layer, as_rows, find_layers, linear_map
from vp_core.model.sharing import Model, share

_FLOOR = 1e-9
"""Directions with less than this share of the largest variance are treated as if they had it: T stays invertible."""


def principal(model: Model, covariances: Covariances) -> tuple[Model, Covariances]:
    """(the same model in turned coordinates, its covariances): see the module. Nothing that came in is changed."""
    maps = turns(model, covariances)
    return turned(model, maps), turned_covariances(covariances, maps)


def turns(model: Model, covariances: Covariances) -> dict[str, Tensor]:
    """How every head is turned: site name → (heads, w, w), float64, new coordinates = map · old."""
    found, layers = {}, find_layers(model)
    say("turning heads: layer", 0, len(layers))
    for number, layer in enumerate(layers, 1):
        at = layer.projections["value"].layer
        found[f"{at}.context"] = _of_values(model, layer, covariances[f"{at}.context"].matrix())
        if layer.turns:
            found[f"{at}.query"], found[f"{at}.key"] = _of_pairs(layer, covariances)
        say("turning heads: layer", number, len(layers))
    return found


def turned(model: Model, maps: Mapping[str, Tensor]) -> Model:
    """The model with its heads turned by the maps of `turns`."""
    edited: dict[str, Tensor] = {}
    for layer in find_layers(model):
        turn, at = _Turn(model, layer, edited), layer.projections["value"].layer
        turn.values(maps[f"{at}.context"])
        for type_ in ("query", "key"):
            if f"{at}.{type_}" in maps:
                turn.rows(type_, maps[f"{at}.{type_}"])
    return share(model, edited)


def turned_covariances(covariances: Covariances, maps: Mapping[str, Tensor]) -> Covariances:
    """The covariances of a model whose heads are turned by the maps of `turns`."""
    all_, held_out = (
        part.copy() if isinstance(part, Packed) else dict(part) for part in (covariances.all, covariances.held_out)
    )
    for part in (all_, held_out):
        for name, by_head in maps.items():
            if name in part:
                part[name] = _mapped(part[name], by_head)
    return Covariances(all_, held_out)


def _of_values(model: nn.Module, layer: Layer, context: Tensor) -> Tensor:
    """The maps (heads, w, w) of values, new context = map · old."""
    value, output = layer.projections["value"], layer.projections["attention_output"]
    width, shared = value.head_width or 1, layer.queries_per_key
    module = linear_map(model, output.path)
    reader = as_rows(module, module.weight).detach().cpu().double()
    maps = []
    for head in range(value.d_out // width):
        parts = _columns(head, width, shared)
        root, inverse = square_root(torch.stack([context[p, p] for p in parts]).mean(dim=0))
        seen = torch.cat([reader[:, p] for p in parts]) @ root
        _, _, vectors = torch.linalg.svd(seen, full_matrices=False)
        maps.append(vectors @ inverse)
    return torch.stack(maps).repeat_interleave(shared, dim=0)


def _columns(head: int, width: int, shared: int) -> list[slice]:
    """Heads of the query that share a head of values are read by several sets of columns: one basis for all."""
    return [slice((head * shared + i) * width, (head * shared + i + 1) * width) for i in range(shared)]


def _of_pairs(layer: Layer, covariances: Covariances) -> tuple[Tensor, Tensor]:
    """The maps (heads, w, w) of queries and of keys."""
    number = layer.projections["query"].layer
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
    return torch.stack(query_maps), torch.stack(key_maps)


class _Turn:
    """Writes the turned weights of one layer into `edited`, by parameter path."""

    def __init__(self, model: nn.Module, layer: Layer, edited: dict[str, Tensor]) -> None:
        self.model, self.layer, self.edited = model, layer, edited

    def values(self, maps: Tensor) -> None:
        """Turn values by maps (heads, w, w), and back where they are read."""
        output, width, shared = self.layer.projections["attention_output"], maps.shape[1], self.layer.queries_per_key
        module, weight, _ = self._copies(output.path)
        reader = as_rows(module, weight).detach().cpu().double()
        for head, one in enumerate(maps[::shared]):
            back = torch.linalg.inv(one)
            for p in _columns(head, width, shared):
                as_rows(module, weight)[:, p] = (reader[:, p] @ back).to(weight)
        self.rows("value", maps[::shared])

    def rows(self, type_: str, maps: Tensor) -> None:
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
