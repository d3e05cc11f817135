"""Second moments where units are read: the covariance of a consumer's inputs, of queries and of keys, by head.

`collect_covariances(model, batches) -> Covariances`. Axis convention as in `measuring.moments`: (tokens, n), float64 inside.
A covariance is kept in `blocks` diagonal blocks of (w, w): one block for inputs of `ffn_out` and `attention_output`, whose
coordinates are all read together, one for each head of query and key, which meet within a head only.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor, nn

from vp_core.asking.batches import Batch
from vp_core.ground.errors import VPError
from vp_core.ground.parallel import in_parallel, per_thread
from vp_core.model.projections import Layer, find_layers
from vp_core.model.sharing import share

_PANELS = 4
"""A product XᵀX is symmetric: of its 4 × 4 panels the 10 on and above the diagonal are computed, 0.63 of the work."""


@dataclass
class CoMoments:
    """Count, mean (n,) and `m2` (blocks, w, w) = Σ (x − mean)(x − mean)ᵀ within each block; n = blocks·w, float64."""

    count: int
    mean: Tensor
    m2: Tensor

    def merge(self, other: "CoMoments") -> None:
        """Add what another one has seen (the matrix form of Chan, Golub and LeVeque's formula)."""
        count = self.count + other.count
        if count == 0:
            return
        delta = other.mean - self.mean
        parts = delta.view(len(self.m2), -1)
        with torch.inference_mode():  # both may have been made in it
            self.m2.add_(other.m2).baddbmm_(parts[:, :, None] * (self.count * other.count / count), parts[:, None, :])
        self.mean = self.mean + delta * (other.count / count)
        self.count = count

    def covariance(self) -> Tensor:
        """Covariance (blocks, w, w) over tokens, divided by their count."""
        return self.m2 / max(self.count, 1)

    def matrix(self) -> Tensor:
        """The covariance of a site of one block (n, n)."""
        return self.covariance()[0]

    def variance(self) -> Tensor:
        """(n,)"""
        return self.m2.diagonal(dim1=1, dim2=2).flatten() / max(self.count, 1)

    def second_moment(self) -> Tensor:
        """E[x xᵀ] by block (blocks, w, w)."""
        mean = self.mean.view(len(self.m2), -1)
        return self.covariance() + mean[:, :, None] * mean[:, None, :]

    def without(self, part: "CoMoments") -> "CoMoments":
        """What is left when `part`, which was merged into this, is taken out again."""
        negative = CoMoments(-part.count, part.mean, -part.m2)
        rest = replace(self, m2=self.m2.clone())
        rest.merge(negative)
        return rest


def co_moments(x: Tensor, blocks: int) -> CoMoments:
    """CoMoments of one batch `x` (tokens, n) of real tokens.

    >>> m = co_moments(torch.tensor([[0.0, 1.0], [2.0, 5.0]]), 1)    # deviations ∓(1, 2)
    >>> m.mean.tolist(), m.m2[0].tolist()
    ([1.0, 3.0], [[2.0, 4.0], [4.0, 8.0]])
    """
    x = x.to(torch.float64)
    mean = x.mean(dim=0) if len(x) else x.new_zeros(x.shape[1])
    deviation = (x - mean).view(len(x), blocks, x.shape[1] // blocks)
    if blocks > 1:
        parts = deviation.transpose(0, 1)
        return CoMoments(len(x), mean, parts.transpose(1, 2) @ parts)
    upper = x.new_zeros(x.shape[1], x.shape[1])
    add_gram(upper, deviation[:, 0])
    return CoMoments(len(x), mean, (upper.triu() + upper.triu(1).T)[None])


def add_gram(total: Tensor, x: Tensor) -> None:
    """Add XᵀX to the upper panels of `total` (n, n) for x (tokens, n); what is below them is left as it was."""
    edges = [x.shape[1] * i // _PANELS for i in range(_PANELS + 1)]
    for start, stop in pairwise(edges):
        total[start:stop, start:].addmm_(x[:, start:stop].T, x[:, start:])


@dataclass(frozen=True)
class Site:
    """Where to look: what goes into (`inputs`) or comes out of the module at `path`, coordinates `start` to `start + width`."""

    name: str
    path: str
    inputs: bool
    start: int
    width: int
    blocks: int
    decoder: bool


READ_AT = {"attention_output": "context", "ffn_out": "activation"}
"""The site at which these projections read their input."""
SITES = ("context", "activation", "query", "key", "query_input", "key_input", "ffn_input")
"""Inputs of `attention_output` and of `ffn_out`; outputs of `query` and `key` by head; variances alone of the inputs of
`query`, of `key` and `value`, and of `ffn_in`."""


def sites_of(layers: Sequence[Layer]) -> tuple[Site, ...]:
    """The sites of every layer, named like `3.context`."""
    found = []
    for layer in layers:
        for name, type_, inputs in zip(
            SITES, ("attention_output", "ffn_out", "query", "key", "query", "key", "ffn_in"), (1, 1, 0, 0, 1, 1, 1), strict=True
        ):
            p = layer.projections.get(type_)
            if p is None:
                continue
            width = p.d_in if inputs else p.d_out
            head = p.head_width or 1
            blocks = 1 if name in ("context", "activation") else width // head if not inputs else width
            start = 0 if inputs else p.start
            found.append(Site(f"{p.layer}.{name}", p.path, bool(inputs), start, width, blocks, p.decoder))
    return tuple(found)


def bytes_needed(layers: Sequence[Layer]) -> int:
    """Memory of all covariances, with those of the held-out sentences beside them."""
    return sum(2 * 8 * site.width * (site.width // site.blocks + 1) for site in sites_of(layers))


@dataclass(frozen=True, eq=False)
class Covariances:
    """`all`: site name → CoMoments over every calibration sentence; `held_out`: over one in five of them."""

    all: Mapping[str, CoMoments]
    held_out: Mapping[str, CoMoments]

    def __getitem__(self, name: str) -> CoMoments:
        return self.all[name]

    def fitted(self, name: str) -> CoMoments:
        """Over the sentences that are not held out."""
        return self.all[name].without(self.held_out[name])


@contextmanager
def _observed(model: nn.Module, sites: Iterable[Site], batch: Batch, found: dict[str, CoMoments]) -> Iterator[None]:
    """While open, a forward pass leaves the co-moments of every site over the real tokens of the batch in `found`."""
    real = {decoder: batch.real_tokens(decoder) for decoder in (False, True)}

    def add(site: Site, values: Tensor) -> None:
        x = values[..., site.start : site.start + site.width].flatten(0, -2)
        mask = real[site.decoder]
        new = co_moments(x if mask is None else x[mask.bool()], site.blocks)
        if site.name in found:
            found[site.name].merge(new)
        else:
            found[site.name] = new

    def place(site: Site):
        module = model.get_submodule(site.path)
        if site.inputs:
            return module.register_forward_pre_hook(lambda _module, inputs: add(site, inputs[0]))
        return module.register_forward_hook(lambda _module, _inputs, output: add(site, output))

    handles = [place(site) for site in sites]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def collect_covariances(model: nn.Module, batches: Iterable[Batch], held_out: Iterable[Batch]) -> Covariances:
    """Covariances over `batches` and `held_out` together, and over `held_out` alone.

    Raises VPError for an empty set, and for activations that are NaN or infinite (the sentence names the layer).
    """
    sites = sites_of(find_layers(model))
    parts = [moments_at(model, sites, part) for part in (held_out, batches)]
    if not parts[1] or next(iter(parts[1].values())).count < 2:
        raise VPError("There are no tokens to collect covariances from: give at least one sentence.")
    for name, moments in parts[0].items():
        parts[1][name].merge(moments)
    return Covariances(parts[1], parts[0])


def moments_at(model: nn.Module, sites: Sequence[Site], batches: Iterable[Batch]) -> dict[str, CoMoments]:
    """Co-moments of every site over the real tokens of `batches`: site name → CoMoments."""
    private = per_thread(lambda: share(model))

    def one(batch: Batch) -> dict[str, CoMoments]:
        hooked = private()
        found: dict[str, CoMoments] = {}
        with torch.inference_mode(), _observed(hooked, sites, batch, found):
            hooked(**batch.inputs)
        return found

    total: dict[str, CoMoments] = {}
    for found in in_parallel(one, batches):
        for name, moments in found.items():
            check_finite(name, moments.m2)
            if name in total:
                total[name].merge(moments)
            else:
                total[name] = moments
    return total


def check_finite(name: str, values: Tensor) -> None:
    """VPError that names the layer if a statistic is NaN or infinite; `name` as in `3.context`."""
    if not torch.isfinite(values.sum()):  # a sum is finite if all are, and takes no memory
        layer, what = name.split(".")
        raise VPError(
            f"The {what} of layer {layer} is not finite: this model cannot be measured; check its weights, or run it in "
            "float32."
        )
