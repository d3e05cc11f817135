"""Second moments where units are read: the covariance of a consumer's inputs, of queries and of keys, by head.

`collect_covariances(model, batches) -> Covariances`. Axis convention as in `measuring.moments`: (tokens, n), float64 inside.
A covariance is kept in `blocks` diagonal blocks of (w, w): one block for inputs of `ffn_out` and `attention_output`, whose
coordinates are all read together, one for each head of query and key, which meet within a head only.

Products are taken in float32 (of a model in float64 in float64), of deviations from the batch's means, and added up in float64:
a covariance is right to about six digits of its standard deviations, at half the time of float64 throughout.
"""

from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from vp_core.asking.batches import Batch
from vp_core.ground.errors import VPError
from vp_core.measuring.tally import tally_parts
from vp_core.model.products import add_product, by_coordinate
from vp_core.model.projections import Layer, Projection, find_layers
from vp_core.model.sites import Site, input_site, output_site

_PANELS = 8
"""A product XᵀX is symmetric: of its 8 × 8 panels the 36 on and above the diagonal are computed, 0.56 of the work."""


@dataclass
class _Merged:
    """Count and mean (n,) of what is merged by the matrix form of Chan, Golub and LeVeque's formula."""

    count: int
    mean: Tensor

    def merge(self, other: Self) -> None:
        """Add what another one has seen of the same coordinates, in place."""
        count = self.count + other.count
        if count == 0:
            return
        delta = other.mean - self.mean
        with torch.inference_mode():  # both may have been made in it
            self._add(other, delta, self.count * other.count / count)
        self.mean = self.mean + delta * (other.count / count)
        self.count = count

    def _add(self, other: Self, delta: Tensor, factor: float) -> None:
        """Add another's products, and `factor`·δδᵀ for means that are δ apart."""
        raise NotImplementedError


@dataclass
class CoMoments(_Merged):
    """Count, mean (n,) and `m2` (blocks, w, w) = Σ (x − mean)(x − mean)ᵀ within each block; n = blocks·w, float64."""

    m2: Tensor

    def _add(self, other: Self, delta: Tensor, factor: float) -> None:
        parts = delta.view(len(self.m2), -1)
        self.m2.add_(other.m2).baddbmm_(parts[:, :, None] * factor, parts[:, None, :])

    def covariance(self) -> Tensor:
        """Covariance (blocks, w, w) over tokens, divided by their count."""
        return self.m2 / max(self.count, 1)

    def matrix(self) -> Tensor:
        """The covariance of a site of one block (n, n)."""
        return self.covariance()[0]

    def variance(self) -> Tensor:
        """Variance (n,) over tokens, divided by their count."""
        return self.m2.diagonal(dim1=1, dim2=2).flatten() / max(self.count, 1)

    def second_moment(self) -> Tensor:
        """E[x xᵀ] by block (blocks, w, w)."""
        mean = self.mean.view(len(self.m2), -1)
        return self.covariance() + mean[:, :, None] * mean[:, None, :]

    def without(self, part: "CoMoments") -> "CoMoments":
        """These co-moments without `part`, which was merged into them before."""
        negative = CoMoments(-part.count, part.mean, -part.m2)
        rest = replace(self, m2=self.m2.clone())
        rest.merge(negative)
        return rest


@dataclass
class _Adding(_Merged):
    """CoMoments of one block while they are added up: of `m2` the panels `upper` (n, n) on and above the diagonal."""

    upper: Tensor

    def _add(self, other: Self, delta: Tensor, factor: float) -> None:
        self.upper = self.upper.double()
        for rows, columns in _panels(len(delta)):
            sums = self.upper[rows, columns].add_(other.upper[rows, columns])
            sums.addr_(delta[rows], delta[columns], alpha=factor)

    def finished(self) -> CoMoments:
        """The same with both triangles."""
        with torch.inference_mode():  # it was made in it
            return CoMoments(self.count, self.mean, symmetric(self.upper.double())[None])


def _panels(n: int) -> Iterator[tuple[slice, slice]]:
    """Of a symmetric (n, n) the panels (rows, columns) on and above the diagonal."""
    for start, stop in pairwise(n * i // _PANELS for i in range(_PANELS + 1)):
        yield slice(start, stop), slice(start, n)


def symmetric(upper: Tensor) -> Tensor:
    """The symmetric matrix (n, n) with the upper panels of this one, in place; whatever is below them."""
    for rows, _ in _panels(len(upper)):
        block, behind = upper[rows, rows], slice(rows.stop, None)
        block.copy_(block.triu() + block.triu(1).T)
        upper[behind, rows] = upper[rows, behind].T
    return upper


def add_gram(total: Tensor, x: Tensor) -> None:
    """Add XᵀX to the upper panels of `total` (n, n), of the type of x or a wider one, for x (tokens, n); what is below them is
    left as it was."""
    by_row = by_coordinate(x)
    for rows, columns in _panels(x.shape[1]):
        add_product(total[rows, columns], by_row[rows], by_row[columns])


def co_moments(x: Tensor, blocks: int) -> CoMoments:
    """CoMoments of one batch `x` (tokens, n) of real tokens, multiplied on its device; they are on the processor.

    >>> m = co_moments(torch.tensor([[0.0, 1.0], [2.0, 5.0]]), 1)    # deviations ∓(1, 2)
    >>> m.mean.tolist(), m.m2[0].tolist()
    ([1.0, 3.0], [[2.0, 4.0], [4.0, 8.0]])
    """
    found = _of_batch(x, blocks)
    return found.finished() if isinstance(found, _Adding) else found


def _of_batch(x: Tensor, blocks: int) -> "CoMoments | _Adding":
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    n, one = x.shape[1], x.new_full((len(x),), 1 / max(len(x), 1))
    near = one @ x
    deviation = x - near
    mean = (near.double() + (one @ deviation).double()).cpu()
    if blocks == 1:
        upper = x.new_zeros(n, n)
        add_gram(upper, deviation)
        return _Adding(len(x), mean, upper.cpu())
    if blocks == n:
        m2 = deviation.square_().sum(dim=0)[:, None, None]
    else:
        parts = deviation.view(len(x), blocks, n // blocks).transpose(0, 1)
        m2 = parts.transpose(1, 2) @ parts
    return CoMoments(len(x), mean, m2.double().cpu())


READ_AT = {"attention_output": "context", "ffn_out": "activation"}
"""The site at which these projections read their input."""
SITES = {
    "context": ("attention_output", input_site, "whole"),
    "activation": ("ffn_out", input_site, "whole"),
    "query": ("query", output_site, "by head"),
    "key": ("key", output_site, "by head"),
    "query_input": ("query", input_site, "variances"),
    "key_input": ("key", input_site, "variances"),  # value reads the same
    "ffn_input": ("ffn_in", input_site, "variances"),
}
"""What is looked at in a layer: at which projection, and how much of the covariance there is kept."""


def sites_of(layers: Sequence[Layer]) -> dict[Site, int]:
    """The sites of every layer, named like `3.context`, each with the number of blocks of its covariance."""
    found = {}
    for layer in layers:
        for name, (type_, at, kept) in SITES.items():
            if p := layer.projections.get(type_):
                site = at(p, f"{p.layer}.{name}")
                width = p.d_in if site.inputs else p.d_out
                found[site] = {"whole": 1, "by head": width // (p.head_width or 1), "variances": width}[kept]
    return found


def collect_inputs(
    model: PreTrainedModel, batches: Iterable[Batch], held_out: Iterable[Batch], known: "Covariances", layers: Sequence[Layer]
) -> "Covariances":
    """The whole covariance of what every projection reads, by its name; `known` are those of `collect_covariances`.

    Batches are as there; raises VPError for activations that are NaN or infinite.
    """
    names = {p: _input_name(layer, p) for layer in layers for p in layer.projections.values()}
    readers = {name: p for p, name in reversed(names.items()) if p.type not in READ_AT}
    found = _together(
        model,
        {input_site(p, name): 1 for name, p in readers.items()},
        batches,
        held_out,
        "measuring the inputs of all matrices",
    )

    def by_projection(new: Mapping[str, CoMoments], old: Mapping[str, CoMoments]) -> dict[str, CoMoments]:
        there = {**old, **new}
        return {p.name: there[name] for p, name in names.items() if name in there}

    return Covariances(by_projection(found.all, known.all), by_projection(found.held_out, known.held_out))


def _input_name(layer: Layer, p: Projection) -> str:
    """The site at which a projection reads its input: value reads what key reads, and both what query does but for cross
    attention."""
    if p.type in READ_AT:
        return f"{p.layer}.{READ_AT[p.type]}"
    if p.type == "ffn_in":
        return f"{p.layer}.inputs of ffn_in"
    with_query = layer.projections["query"].decoder == p.decoder
    return f"{p.layer}.inputs of {'query' if with_query else 'key'}"


LARGE = 2_500_000_000
"""Bytes of covariances from which on they are taken a layer at a time and kept packed: more than those of a BERT-base."""


def pack(matrices: Tensor) -> Tensor:
    """The upper triangles (…, w(w + 1)/2) of symmetric or upper triangular ones (…, w, w), float32: a quarter of float64."""
    return matrices[..., _upper(matrices.shape[-1])].float()


def unpack(upper: Tensor, width: int) -> Tensor:
    """The upper triangular matrices (…, width, width), float64, that `pack` was given, zeros below the diagonal.

    >>> unpack(pack(torch.tensor([[1.0, 2.0], [2.0, 5.0]])), 2).tolist()
    [[1.0, 2.0], [0.0, 5.0]]
    """
    full = torch.zeros(*upper.shape[:-1], width, width, dtype=torch.float64)
    full[..., _upper(width)] = upper.double()
    return full


def _upper(width: int) -> Tensor:
    return torch.ones(width, width, dtype=torch.bool).triu()


class Packed(MutableMapping[str, CoMoments]):
    """Site name → CoMoments, kept as float32 triangles; one that is asked for is made anew, in float64."""

    def __init__(self) -> None:
        self._sites: dict[str, tuple[int, Tensor, Tensor]] = {}

    def __setitem__(self, name: str, moments: CoMoments) -> None:
        self._sites[name] = moments.count, moments.mean, pack(moments.m2)

    def __delitem__(self, name: str) -> None:
        del self._sites[name]

    def copy(self) -> "Packed":
        """Another one with the same sites."""
        new = Packed()
        new._sites = dict(self._sites)
        return new

    def __getitem__(self, name: str) -> CoMoments:
        count, mean, upper = self._sites[name]
        full = unpack(upper, len(mean) // len(upper))
        return CoMoments(count, mean, full + full.triu(1).transpose(1, 2))

    def __iter__(self) -> Iterator[str]:
        return iter(self._sites)

    def __len__(self) -> int:
        return len(self._sites)


def bytes_needed(layers: Sequence[Layer]) -> int:
    """Memory of all covariances in bytes, with those of the held-out sentences beside them."""
    sizes = ((site.width or 0, blocks) for site, blocks in sites_of(layers).items())
    return sum(2 * 8 * width * (width // blocks + 1) for width, blocks in sizes)


@dataclass(frozen=True, eq=False)
class Covariances:
    """`all`: site name (`3.context`) → CoMoments over every calibration sentence; `held_out`: over one in five of them."""

    all: Mapping[str, CoMoments]
    held_out: Mapping[str, CoMoments]

    def __getitem__(self, name: str) -> CoMoments:
        return self.all[name]

    def fitted(self, name: str) -> CoMoments:
        """A site's moments over the sentences that are not held out."""
        return self.all[name].without(self.held_out[name])


def collect_covariances(
    model: PreTrainedModel, batches: Iterable[Batch], held_out: Iterable[Batch], layers: Sequence[Layer] | None = None
) -> Covariances:
    """Covariances over `batches` and `held_out` together, and over `held_out` alone, which may be empty.

    `layers` are the model's, where the caller has them. Raises VPError if `batches` have fewer than two tokens, for activations
    that are NaN or infinite (the sentence names the layer), and for a family that is not supported.
    """
    return _together(
        model, sites_of(find_layers(model) if layers is None else layers), batches, held_out, "measuring covariances"
    )


def _together(
    model: nn.Module, sites: Mapping[Site, int], batches: Iterable[Batch], held_out: Iterable[Batch], doing: str
) -> Covariances:
    nothing = "There are no tokens to collect covariances from: give at least one sentence."
    together, apart = _moments_of(model, sites, (batches, held_out), nothing=nothing, least=2, doing=doing)
    for name, moments in apart.items():
        together[name].merge(moments)
    return Covariances(together, apart)


def moments_at(
    model: nn.Module, sites: Mapping[Site, int], batches: Iterable[Batch], nothing: str | None = None
) -> dict[str, CoMoments]:
    """Co-moments of every site, in so many blocks, over the real tokens of `batches`: site name → CoMoments.

    Raises VPError for activations that are NaN or infinite, and, with the sentence `nothing` if there is one, for no tokens.
    """
    return _moments_of(model, sites, (batches,), nothing)[0]


def _moments_of(
    model: nn.Module,
    sites: Mapping[Site, int],
    parts: Sequence[Iterable[Batch]],
    nothing: str | None = None,
    least: int = 0,
    doing: str = "",
) -> list[dict[str, CoMoments]]:
    """Of every part, in one pass; VPError, with the sentence `nothing` if there is one, for too few tokens in the first one."""

    def make(site: Site, x: Tensor, real: Tensor | None) -> CoMoments | _Adding:
        return _of_batch(x if real is None else x[real.bool()], sites[site])

    def each(name: str, new: CoMoments | _Adding) -> None:
        check_finite(name, new.upper if isinstance(new, _Adding) else new.m2)

    found: Any = tally_parts(model, sites, parts, make, each=each, nothing=nothing, least=least, doing=doing)
    return [{name: m.finished() if isinstance(m, _Adding) else m for name, m in part.items()} for part in found]


def check_finite(name: str, values: Tensor) -> None:
    """VPError that names the layer if a statistic of any shape is NaN or infinite; `name` as in `3.context`."""
    if not torch.isfinite(values.sum()):  # a sum is finite if all are, and takes no memory
        layer, what = name.split(".")
        raise VPError(
            f"The {what} of layer {layer} is not finite: this model cannot be measured; check its weights, or run it in "
            "float32."
        )
