"""How alike what layers put out still is: cosine similarity of features, layer by layer (Compressing BERT, fig. 2 right)."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from vp_core.asking.batches import Batch
from vp_core.asking.forward import forward
from vp_core.ground.errors import VPError
from vp_core.measuring.tally import each_batch
from vp_core.model.projections import layer_paths
from vp_core.model.sites import Site, observed


class _Sum:
    """Cosines of one layer added up over tokens."""

    def __init__(self) -> None:
        self.total, self.tokens = 0.0, 0


def similarity(dense: PreTrainedModel, pruned: PreTrainedModel, batches: Iterable[Batch]) -> Tensor:
    """Mean over all real tokens of cos(h, h'), of the hidden states h after each layer of two models: (layers,) float64.

    Layers are counted as they run: those of an encoder, then those of its decoder, and one that is used several times (ALBERT)
    each time. A state of zeros is like nothing (0). Raises VPError if nothing was seen, for states that are not finite and for
    models whose layers are not the same.
    """
    sites = feature_sites(dense)
    if sites != feature_sites(pruned):
        raise VPError("These two models have other layers: compare a model with what was pruned from it.")

    def one(pair: nn.ModuleList, batch: Batch) -> list[tuple[float, int]]:
        first, second = (_states(model, sites, batch) for model in pair)
        return [_cosines(a, b, batch.real_tokens(site.decoder)) for (site, a), (_, b) in zip(first, second, strict=True)]

    sums: list[_Sum] = []
    for found in each_batch(nn.ModuleList([dense, pruned]), batches, one):
        sums = sums or [_Sum() for _ in found]
        for layer, (total, tokens) in zip(sums, found, strict=True):
            layer.total += total
            layer.tokens += tokens
    if not sums or not all(layer.tokens for layer in sums):
        raise VPError("There are no texts to compare features on: give at least one.")
    mean = torch.tensor([layer.total / layer.tokens for layer in sums], dtype=torch.float64)
    if not torch.isfinite(mean).all():
        raise VPError("The features of the model are NaN or infinite: check its weights.")
    return mean


def feature_sites(model: PreTrainedModel) -> tuple[Site, ...]:
    """Where each layer of a model puts out its hidden states; VPError for a family that is not supported."""
    paths = {path: "attention_output" in stack.decoder for stack, path in reversed(layer_paths(model))}
    ordered = dict.fromkeys(path for _, path in layer_paths(model))
    return tuple(Site(path, path, inputs=False, decoder=paths[path]) for path in ordered)


def _states(model: nn.Module, sites: Sequence[Site], batch: Batch) -> list[tuple[Site, Tensor]]:
    """What layers put out (tokens, d), in the order in which they run."""
    seen: list[tuple[Site, Tensor]] = []

    def see(site: Site, value: Tensor) -> None:
        seen.append((site, site.part(value).flatten(0, -2)))

    with torch.inference_mode(), observed(model, sites, see):
        forward(model, batch)
    return seen


def _cosines(one: Tensor, other: Tensor, real: Tensor | None) -> tuple[float, int]:
    """(the sum of the cosines of two times (tokens, d), how many): of those tokens that are real."""
    found = torch.cosine_similarity(one.double(), other.double(), dim=1)
    if real is not None:
        found = found[real.bool()]
    return float(found.sum()), len(found)
