"""What each coordinate does to the model's outputs, to first order and without labels: one backward pass for each output.

At a token t, replacing coordinate i by its mean μ_i changes output z by about g_ti·(h_ti − μ_i) with g = ∂z/∂h. The mean over
sentences of Σ_z Σ_t (…)² is the coordinate's *effect*: the Fisher information of its mask (Theis et al. 2018) with the outputs
in place of the loss, so that no label is needed, and token by token, which ranked rows better than whole sentences did (Kwon et
al. 2022 sum over a sentence first). Σ_z Σ_i g_ti² says how much token t matters where the coordinates are put out: *weights* of
tokens for `vp_core.refit`. In the last layer of a classifier that reads the first token only, all others have weight 0.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import PreTrainedModel

from vp_core.batches import Batch
from vp_core.covariance import Covariances
from vp_core.projections import Layer, find_layers
from vp_core.prune import share
from vp_core.statistics import Statistics

FLOOR = 0.1
"""Added to every token's weight, whose mean is 1: no token is forgotten altogether."""


@dataclass(frozen=True)
class Place:
    """Coordinates of a module's output, or of its input, with their means; they come in `heads`."""

    path: str
    inputs: bool
    start: int
    mean: Tensor
    heads: int


@dataclass(frozen=True, eq=False)
class Gradients:
    """By name of a projection's output (`3.query`) or a consumer's input (`3.context`, `3.activation`):

    `effect` (n,) of each coordinate; `by_head` (heads,) and `whole` of all of a head's, or all, replaced together;
    `weights`: for outputs, by batch, (examples, tokens) weights of tokens, mean 1 over real ones before FLOOR is added.
    """

    effect: Mapping[str, Tensor]
    by_head: Mapping[str, Tensor]
    whole: Mapping[str, Tensor]
    weights: Mapping[str, Sequence[Tensor]]


@dataclass
class _Sums:
    effect: Tensor
    by_head: Tensor
    weights: list[Tensor] = field(default_factory=list)
    whole: float = 0.0


def collect_gradients(
    model: PreTrainedModel, batches: Sequence[Batch], statistics: Statistics, covariances: Covariances
) -> Gradients:
    """Effects over all `batches`, and token weights for each of them."""
    private = share(model)
    for parameter in private.parameters():
        parameter.requires_grad_(False)
    places = {k: v for layer in find_layers(model) for k, v in _places(layer, statistics, covariances).items()}
    sums = {k: _Sums(p.mean.new_zeros(len(p.mean)), p.mean.new_zeros(p.heads)) for k, p in places.items()}
    for batch in batches:
        _add(private, batch, places, sums)
    examples = sum(len(batch.examples) for batch in batches)
    mean_weight = {k: sum(float(w.sum()) for w in s.weights) for k, s in sums.items()}
    tokens = {d: sum(int(_real(batch, d).sum()) for batch in batches) for d in (False, True)}
    decoder = {p.name: p.decoder for layer in find_layers(model) for p in layer.projections.values()}
    return Gradients(
        {k: s.effect / examples for k, s in sums.items()},
        {k: s.by_head / examples for k, s in sums.items()},
        {k: torch.tensor([s.whole / examples], dtype=torch.float64) for k, s in sums.items()},
        {
            k: [w * (tokens[decoder[k]] / max(mean_weight[k], 1e-300)) + FLOOR for w in sums[k].weights]
            for k, p in places.items()
            if not p.inputs
        },
    )


def _real(batch: Batch, decoder: bool) -> Tensor:
    mask = batch.real_tokens(decoder)
    return torch.ones(len(batch.examples)) if mask is None else mask


def _places(layer: Layer, statistics: Statistics, covariances: Covariances) -> dict[str, Place]:
    found = {}
    for p in layer.projections.values():
        heads = p.d_out // p.head_width if p.head_width else 1
        mean = statistics.mean(p.name)  # under a gate the neuron is the product, which is watched as the consumer's input
        found[p.name] = Place(p.path, False, p.start, torch.zeros_like(mean) if p.gate else mean, heads)
    heads = layer.projections["query"].d_out // (layer.projections["query"].head_width or 1)
    for site, type_ in (("context", "attention_output"), ("activation", "ffn_out")):
        if type_ in layer.projections:
            p = layer.projections[type_]
            name = f"{p.layer}.{site}"
            found[name] = Place(p.path, True, 0, covariances[name].mean, heads if site == "context" else 1)
    return found


def _add(model: PreTrainedModel, batch: Batch, places: Mapping[str, Place], sums: Mapping[str, _Sums]) -> None:
    """One batch: a forward pass, and a backward pass for each output."""
    seen: list[tuple[str, Tensor]] = []  # a layer that runs several times (ALBERT) is seen as often
    handles = [_watch(model, name, place, seen) for name, place in places.items()]
    # No weight asks for gradients, so the embeddings do: a graph is built from them on.
    embeddings = model.get_input_embeddings()
    handles.append(embeddings.register_forward_hook(lambda _module, _args, output: output.detach().requires_grad_(True)))
    try:
        with torch.enable_grad():
            outputs = model(**batch.inputs).logits
    finally:
        for handle in handles:
            handle.remove()
    weights: dict[str, Tensor] = {}
    for number in range(outputs.shape[1]):
        last = number + 1 == outputs.shape[1]
        watched = [values for _, values in seen]
        gradients = torch.autograd.grad(outputs[:, number].sum(), watched, retain_graph=not last, allow_unused=True)
        for (name, values), gradient in zip(seen, gradients, strict=True):
            place = places[name]
            part = slice(place.start, place.start + len(place.mean))
            g = torch.zeros_like(values[..., part]) if gradient is None else gradient[..., part]
            _add_place(place, g, values.detach()[..., part], sums[name])
            if not place.inputs:
                weights[name] = weights.get(name, 0) + g.square().sum(dim=-1)
    for name, weight in weights.items():
        sums[name].weights.append(weight)


def _add_place(place: Place, gradient: Tensor, values: Tensor, total: _Sums) -> None:
    change = gradient * (values - place.mean.to(gradient.dtype))  # (examples, tokens, n); padding has no gradient
    total.effect += change.square().sum(dim=(0, 1), dtype=torch.float64)
    heads = change.unflatten(-1, (place.heads, -1)).sum(dim=-1)
    total.by_head += heads.square().sum(dim=(0, 1), dtype=torch.float64)
    total.whole += float(heads.sum(dim=-1).square().sum(dtype=torch.float64))


def _watch(model: PreTrainedModel, name: str, place: Place, seen: list[tuple[str, Tensor]]):
    module = model.get_submodule(place.path)
    if place.inputs:
        return module.register_forward_pre_hook(lambda _module, args: seen.append((name, args[0])))
    return module.register_forward_hook(lambda _module, _args, output: seen.append((name, output)))
