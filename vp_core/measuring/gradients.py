"""What each coordinate does to the model's outputs, to first order and without labels: one backward pass for each output.

At a token t, replacing coordinate i by its mean μ_i changes output z by about g_ti·(h_ti − μ_i) with g = ∂z/∂h. The mean over
sentences of Σ_z Σ_t (…)² is the coordinate's *effect*: the Fisher information of its mask (Theis et al. 2018) with the outputs
in place of the loss, so that no label is needed, and token by token, which ranked rows better than whole sentences did (Kwon et
al. 2022 sum over a sentence first). Σ_z Σ_i g_ti² says how much token t matters where the coordinates are put out: *weights* of
tokens for `replacing.refit`. In the last layer of a classifier that reads the first token only, all others have weight 0.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from vp_core.asking.batches import Batch
from vp_core.ground.parallel import in_parallel, per_thread
from vp_core.measuring.covariance import Covariances
from vp_core.measuring.statistics import Statistics
from vp_core.model.projections import Layer, find_layers
from vp_core.model.sharing import share

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
    """Of one batch, or of all: sums over tokens and outputs, and the weights of its tokens."""

    effect: Tensor
    by_head: Tensor
    whole: Tensor
    weights: list[Tensor]

    def __iadd__(self, other: "_Sums") -> "_Sums":
        self.effect += other.effect
        self.by_head += other.by_head
        self.whole += other.whole
        self.weights += other.weights
        return self


def collect_gradients(
    model: PreTrainedModel, batches: Sequence[Batch], statistics: Statistics, covariances: Covariances
) -> Gradients:
    """Effects over all `batches`, and token weights for each of them."""
    places = {k: v for layer in find_layers(model) for k, v in _places(layer, statistics, covariances).items()}

    def copied() -> PreTrainedModel:
        # parameters of its own over the same storage, which ask for no gradients: only the watched places do
        own = share(model, {name: weight.detach() for name, weight in model.named_parameters()})
        return own.requires_grad_(False)

    private = per_thread(copied)

    def one(batch: Batch) -> dict[str, _Sums]:
        return _of_batch(private(), batch, places)

    sums: dict[str, _Sums] = {}
    for found in in_parallel(one, batches):
        for name, part in found.items():
            if name in sums:
                sums[name] += part
            else:
                sums[name] = part
    examples = sum(len(batch.examples) for batch in batches)
    tokens = {d: sum(int(_real(batch, d).sum()) for batch in batches) for d in (False, True)}
    decoder = {p.name: p.decoder for layer in find_layers(model) for p in layer.projections.values()}
    return Gradients(
        {name: s.effect / examples for name, s in sums.items()},
        {name: s.by_head / examples for name, s in sums.items()},
        {name: s.whole / examples for name, s in sums.items()},
        {name: _weights(s.weights, tokens[decoder[name]]) for name, s in sums.items() if not places[name].inputs},
    )


def _weights(found: Sequence[Tensor], tokens: int) -> list[Tensor]:
    """Mean 1 over the real tokens, and FLOOR more."""
    mean = sum(float(w.sum(dtype=torch.float64)) for w in found) / tokens
    return [w / max(mean, 1e-30) + FLOOR for w in found]


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


def _of_batch(model: PreTrainedModel, batch: Batch, places: Mapping[str, Place]) -> dict[str, _Sums]:
    """One batch: a forward pass, and a backward pass for each output."""
    seen: list[tuple[str, Tensor]] = []  # a layer that runs several times (ALBERT) is seen as often
    handles = [_watch(model, name, place, seen) for name, place in places.items()]
    found: dict[str, _Sums] = {}
    try:
        with torch.enable_grad():
            outputs = model(**batch.inputs).logits
    finally:
        for handle in handles:
            handle.remove()
    watched = [values for _, values in seen]
    for number in range(outputs.shape[1]):
        last = number + 1 == outputs.shape[1]
        gradients = torch.autograd.grad(outputs[:, number].sum(), watched, retain_graph=not last, allow_unused=True)
        for (name, values), gradient in zip(seen, gradients, strict=True):
            place = places[name]
            part = slice(place.start, place.start + len(place.mean))
            g = torch.zeros_like(values[..., part]) if gradient is None else gradient[..., part]
            new = _of_place(place, g, values.detach()[..., part])
            if name in found:
                new.weights = [found[name].weights[0] + new.weights[0]]
                found[name].weights = []
                found[name] += new
            else:
                found[name] = new
    return found


def _of_place(place: Place, gradient: Tensor, values: Tensor) -> _Sums:
    change = gradient * (values - place.mean.to(gradient.dtype))  # (examples, tokens, n); padding has no gradient
    heads = change.unflatten(-1, (place.heads, -1)).sum(dim=-1)
    return _Sums(
        change.square().sum(dim=(0, 1), dtype=torch.float64),
        heads.square().sum(dim=(0, 1), dtype=torch.float64),
        heads.sum(dim=-1).square().sum(dtype=torch.float64)[None],
        [gradient.square().sum(dim=-1)],
    )


def _watch(model: PreTrainedModel, name: str, place: Place, seen: list[tuple[str, Tensor]]):
    module = model.get_submodule(place.path)
    if place.inputs:
        return module.register_forward_pre_hook(lambda _module, args: seen.append((name, args[0])))

    def see(_module, _args, output: Tensor) -> None:
        if not output.requires_grad:  # no weight asks for gradients, so the first outputs do: a graph is built from them on
            output.requires_grad_(True)
        seen.append((name, output))

    return module.register_forward_hook(see)
