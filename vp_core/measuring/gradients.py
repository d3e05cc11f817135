"""What each coordinate does to the model's outputs, to first order and without labels: one backward pass for each output.

Where a word is the answer drawn words stand for the outputs (`vp_core.asking.kinds.answered`), with a backward pass for each.

At a token t, replacing coordinate i by its mean μ_i changes output z by about g_ti·(h_ti − μ_i) with g = ∂z/∂h. The mean over
sentences of Σ_z Σ_t (…)² is the coordinate's *effect*: the Fisher information of its mask (Theis et al. 2018) with the outputs
in place of the loss, so that no label is needed, and token by token, which ranked rows better than whole sentences did (Kwon et
al. 2022 sum over a sentence first). Σ_z Σ_i g_ti² says how much token t matters where the coordinates are put out: *weights* of
tokens for `replacing.refit`. In the last layer of a classifier that reads the first token only, all others have weight 0.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import PreTrainedModel

from vp_core.asking.batches import Batch, by_text
from vp_core.asking.kinds.answered import to_differentiate
from vp_core.measuring.covariance import READ_AT, Covariances
from vp_core.measuring.statistics import Statistics
from vp_core.measuring.tally import each_batch
from vp_core.model.family.stack import Part
from vp_core.model.precision import sums_at
from vp_core.model.projections import Layer, find_layers
from vp_core.model.sharing import share
from vp_core.model.sites import Site, input_site, observed, output_site

FLOOR = 0.1
"""Added to every token's weight, whose mean is 1: no token is forgotten altogether."""


@dataclass(frozen=True)
class Coordinates:
    """The coordinates at a site, with their `mean` (n,), float64; they come in `heads` of equal width. `writes`: the outer
    products of their gradients are wanted."""

    site: Site
    mean: Tensor
    heads: int
    writes: bool = False


@dataclass(frozen=True, eq=False)
class Gradients:
    """By name of a projection's output (`3.query`) or a consumer's input (`3.context`, `3.activation`):

    `effect` (n,) of each coordinate; `by_head` (heads,) and `whole` (1,) of all of a head's, or all, replaced together;
    `weights`: for outputs, by batch, (examples, tokens) weights of tokens, mean 1 over real ones before FLOOR is added;
    `outer`: for what writes into the residual stream, the mean over examples of Σ_t g_t g_tᵀ (d_out, d_out), float64: an
    error e there at every token changes the outputs by about E eᵀ·outer·e, squared.
    """

    effect: Mapping[str, Tensor]
    by_head: Mapping[str, Tensor]
    whole: Mapping[str, Tensor]
    weights: Mapping[str, Sequence[Tensor]]
    outer: Mapping[str, Tensor]


@dataclass
class _Sums:
    """Of one batch, or of all: sums over tokens and outputs, shaped as in Gradients, and its tokens' weights by batch."""

    effect: Tensor
    by_head: Tensor
    whole: Tensor
    weights: list[Tensor]
    outer: Tensor | None = None

    def merge(self, other: "_Sums") -> None:
        """Add other batches."""
        self._add(other)
        self.weights += other.weights

    def merge_use(self, other: "_Sums") -> None:
        """Add another use of the same module, or another output, for the same batch: its tokens are the same."""
        self._add(other)
        self.weights = [self.weights[0] + other.weights[0]]

    def _add(self, other: "_Sums") -> None:
        self.effect += other.effect
        self.by_head += other.by_head
        self.whole += other.whole
        if self.outer is not None and other.outer is not None:
            self.outer += other.outer


def collect_gradients(
    model: PreTrainedModel,
    batches: Sequence[Batch],
    statistics: Statistics,
    covariances: Covariances,
    layers: Sequence[Layer] | None = None,
) -> Gradients:
    """Effects over all `batches`, and token weights for each of them.

    `statistics` and `covariances` are of this model: they give the means. `layers` are the model's, where the caller has them.
    Raises VPError for a family that is not supported.
    """
    layers = find_layers(model) if layers is None else layers
    watched = {k: v for layer in layers for k, v in coordinates_of(layer, statistics, covariances).items()}
    watched |= {
        p.name: replace(watched[p.name], writes=True)
        for layer in layers
        for p in layer.projections.values()
        if p.type in READ_AT
    }
    still = _still(model)
    sums: dict[str, _Sums] = {}
    for found in each_batch(still, batches, lambda copy, batch: _of_batch(copy, batch, watched), "measuring gradients"):
        for name, part in found.items():
            if name in sums:
                sums[name].merge(part)
            else:
                sums[name] = part
    examples = sum(len(batch.examples) for batch in batches)
    tokens = {d: sum(int(_real(batch, d).sum()) for batch in batches) for d in (False, True)}
    outputs = {name: s for name, s in sums.items() if not watched[name].site.inputs}
    return Gradients(
        {name: s.effect / examples for name, s in sums.items()},
        {name: s.by_head / examples for name, s in sums.items()},
        {name: s.whole / examples for name, s in sums.items()},
        {name: _weights(s.weights, tokens[watched[name].site.decoder]) for name, s in outputs.items()},
        {name: s.outer / examples for name, s in sums.items() if s.outer is not None},
    )


def collect_token_weights(
    model: PreTrainedModel, batches: Sequence[Batch], layers: Sequence[Layer] | None = None
) -> dict[str, list[Tensor]]:
    """`Gradients.weights` alone, for which nothing else needs to be known, at two thirds of the cost."""
    layers = find_layers(model) if layers is None else layers
    sites = {p.name: output_site(p) for layer in layers for p in layer.projections.values()}
    found: dict[str, list[Tensor]] = {name: [] for name in sites}
    for weights in each_batch(_still(model), batches, lambda copy, batch: _weights_of_batch(copy, batch, sites)):
        for name, one in weights.items():
            found[name].append(one)
    tokens = {d: sum(int(_real(batch, d).sum()) for batch in batches) for d in (False, True)}
    return {name: _weights(one, tokens[sites[name].decoder]) for name, one in found.items()}


def _weights_of_batch(model: PreTrainedModel, batch: Batch, sites: Mapping[str, Site]) -> dict[str, Tensor]:
    """By site, Σ over outputs and coordinates of (∂z/∂h)² for every token of a batch: (examples, tokens)."""
    seen: list[tuple[Site, Tensor]] = []

    def see(site: Site, values: Tensor) -> None:
        seen.append((site, _asking(values)))

    with torch.enable_grad(), observed(model, sites.values(), see):
        outputs = to_differentiate(model, batch)
    found: dict[str, Tensor] = {}
    for gradients in _by_output(outputs, [values for _, values in seen]):
        for (site, values), gradient in zip(seen, gradients, strict=True):
            g = torch.zeros_like(values) if gradient is None else gradient
            squares = by_text(site.part(g), batch).square().sum(dim=-1).cpu()
            found[site.name] = found[site.name] + squares if site.name in found else squares
    return found


def _still(model: PreTrainedModel) -> PreTrainedModel:
    """Parameters of its own over the same storage, which ask for no gradients: only what is watched does."""
    return share(model, {name: weight.detach() for name, weight in model.named_parameters()}).requires_grad_(False)


def _weights(found: Sequence[Tensor], tokens: int) -> list[Tensor]:
    """Weights (examples, tokens) by batch, brought to mean 1 over the real tokens, and FLOOR more."""
    mean = sum(float(w.sum(dtype=torch.float64)) for w in found) / tokens
    return [w / max(mean, 1e-30) + FLOOR for w in found]


def _real(batch: Batch, decoder: bool) -> Tensor:
    mask = batch.real_tokens(decoder)
    return torch.ones(len(batch.examples)) if mask is None else mask


def coordinates_of(layer: Layer, statistics: Statistics, covariances: Covariances) -> dict[str, Coordinates]:
    """What is watched in a layer, by name: the outputs of its projections, and what its two consumers read."""
    found = {}
    for p in layer.projections.values():
        heads = p.d_out // p.head_width if p.head_width else 1
        mean = statistics.mean(p.name)  # under a gate the neuron is the product, which is watched as the consumer's input
        found[p.name] = Coordinates(output_site(p), torch.zeros_like(mean) if p.gate else mean, heads)
    heads = layer.projections["query"].d_out // (layer.projections["query"].head_width or 1)
    for type_, what in READ_AT.items():
        if consumer := layer.projections.get(type_):
            name = f"{consumer.layer}.{what}"
            found[name] = Coordinates(input_site(consumer, name), covariances[name].mean, heads if what == "context" else 1)
    return found


def _of_batch(model: PreTrainedModel, batch: Batch, watched: Mapping[str, Coordinates]) -> dict[str, _Sums]:
    """One batch: a forward pass, and a backward pass for each output or draw."""
    seen: list[tuple[Coordinates, Tensor]] = []  # a layer that runs several times (ALBERT) is seen as often

    def see(site: Site, values: Tensor) -> None:
        seen.append((watched[site.name], _asking(values)))

    with torch.enable_grad(), observed(model, [c.site for c in watched.values()], see):
        outputs = to_differentiate(model, batch)
    found: dict[str, _Sums] = {}
    for gradients in _by_output(outputs, [values for _, values in seen]):
        for (coordinates, values), gradient in zip(seen, gradients, strict=True):
            site = coordinates.site
            g = torch.zeros_like(site.part(values)) if gradient is None else site.part(gradient)
            new = _of_coordinates(coordinates, *(by_text(one, batch) for one in (g, site.part(values.detach()))))
            if site.name in found:
                found[site.name].merge_use(new)
            else:
                found[site.name] = new
    return found


def _asking(values: Tensor) -> Tensor:
    """The values, asking for gradients: no weight does, so the first that are seen begin the graph."""
    return values if values.requires_grad else values.requires_grad_(True)


def _by_output(outputs: Tensor, values: Sequence[Tensor]) -> Iterator[tuple[Tensor | None, ...]]:
    """For each column of `outputs` (examples, outputs) its gradients by `values`, None where it does not depend on them."""
    for number in range(outputs.shape[1]):
        last = number + 1 == outputs.shape[1]
        yield torch.autograd.grad(outputs[:, number].sum(), values, retain_graph=not last, allow_unused=True)


def _of_coordinates(coordinates: Coordinates, gradient: Tensor, values: Tensor) -> _Sums:
    """Of one output and one use: from ∂z/∂h and h, both (examples, tokens, n)."""
    change = gradient * (values - coordinates.mean.to(gradient))  # padding has no gradient
    heads = change.unflatten(-1, (coordinates.heads, -1)).sum(dim=-1)  # (examples, tokens, heads)
    return _Sums(
        summed(change.square(), (0, 1)),
        summed(heads.square(), (0, 1)),
        summed(heads.sum(dim=-1).square(), (0, 1))[None],
        [gradient.square().sum(dim=-1).cpu()],
        _outer(gradient.flatten(0, 1)) if coordinates.writes else None,
    )


def summed(values: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Sums over some dimensions, float64, taken where the values are (`vp_core.model.precision.sums_at`), on the processor."""
    return values.to(sums_at(values.device)).sum(dim=dims, dtype=torch.float64).cpu()


def _outer(gradient: Tensor) -> Tensor:
    """Σ g gᵀ (n, n), float64, of gradients (tokens, n)."""
    return (gradient.T @ gradient).cpu().double()


def collect_weight_effects(
    model: PreTrainedModel, batches: Sequence[Batch], layers: Sequence[Layer] | None = None
) -> dict[str, Tensor]:
    """By matrix, the mean over examples of Σ_z (∂z/∂W)² (d_out, d_in) float32: an example's tokens count together.

    Matrices are named as projections, with `.gate` behind the name for a gate. It is the empirical Fisher information with the
    outputs in place of the loss, so that no label is needed. Raises VPError for a family that is not supported.
    """
    layers = find_layers(model) if layers is None else layers
    parts: dict[str, list[tuple[str, Part]]] = {}  # module path → the matrices in it, and where
    sites: dict[str, tuple[Site, Site]] = {}
    for p in (p for layer in layers for p in layer.projections.values()):
        for name, path, part in [(p.name, p.path, p.part), *([(f"{p.name}.gate", p.gate, p.gate_part)] if p.gate else [])]:
            parts.setdefault(path, []).append((name, part))
            sites[path] = Site(path, path, True, tokens_of=p.tokens_of), Site(path, path, False, tokens_of=p.tokens_of)
    still = _still(model)
    total: dict[str, Tensor] = {}
    for found in each_batch(
        still, batches, lambda copy, batch: _squares(copy, batch, sites), "measuring what each weight does to the outputs"
    ):
        for path, squares in found.items():
            total[path] = total[path].add_(squares) if path in total else squares
    examples = sum(len(batch.examples) for batch in batches)
    return {name: total[path][part.index] / examples for path, named in parts.items() for name, part in named}


def _squares(model: PreTrainedModel, batch: Batch, sites: Mapping[str, tuple[Site, Site]]) -> dict[str, Tensor]:
    """By module path, Σ over the examples of a batch and the outputs of (∂z/∂W)², W as rows: (rows, columns)."""
    read: dict[str, list[Tensor]] = {path: [] for path in sites}
    put_out: list[tuple[str, Tensor]] = []

    def see(site: Site, values: Tensor) -> None:
        if site.inputs:
            read[site.path].append(values.detach())
            return
        put_out.append((site.path, _asking(values)))

    with torch.enable_grad(), observed(model, [site for pair in sites.values() for site in pair], see):
        outputs = to_differentiate(model, batch)
    found: dict[str, Tensor] = {}
    for gradients in _by_output(outputs, [values for _, values in put_out]):
        uses: dict[str, list[tuple[Tensor, Tensor]]] = {}  # a layer that runs several times (ALBERT) adds up its uses
        for (path, _), gradient in zip(put_out, gradients, strict=True):
            if gradient is not None:
                given = read[path][len(uses.get(path, []))]
                uses.setdefault(path, []).append((by_text(gradient, batch), by_text(given, batch)))
        for path, pairs in uses.items():
            for example in range(len(outputs)):
                whole = torch.stack([g[example].T @ x[example] for g, x in pairs]).sum(dim=0).square_()
                found[path] = found[path].add_(whole) if path in found else whole
    return {path: squares.cpu() for path, squares in found.items()}
