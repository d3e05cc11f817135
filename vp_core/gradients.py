"""What one coordinate does to the model's outputs, to first order and without labels: one backward pass for each output.

For an example, the coordinate's mask m (1 = there, 0 = replaced by its mean μ) has ∂z/∂m = Σ_tokens ∂z/∂h · (h − μ) for an
output z of the model. These sums are what `vp_core.criteria.fisher` squares (Kwon et al. 2022 do so with the loss, which needs
labels; the outputs themselves do not, and give the Gauss-Newton matrix of the outputs' squared error).
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor
from transformers import PreTrainedModel

from vp_core.batches import Batch
from vp_core.covariance import Covariances
from vp_core.projections import Layer, find_layers
from vp_core.prune import share
from vp_core.statistics import Statistics

Watched = Mapping[str, tuple[str, bool, int, int, Tensor]]


def mask_gradients(
    model: PreTrainedModel, batches: Iterable[Batch], statistics: Statistics, covariances: Covariances
) -> dict[str, Tensor]:
    """∂z/∂m: name → (outputs·examples, n) float32, for every projection's output (`3.query`) and consumer's input
    (`3.context`, `3.activation`)."""
    private = share(model)
    for parameter in private.parameters():
        parameter.requires_grad_(False)
    watched = {k: v for layer in find_layers(model) for k, v in _watched(layer, statistics, covariances).items()}
    found: dict[str, list[Tensor]] = {name: [] for name in watched}
    for batch in batches:
        seen: dict[str, Tensor] = {}
        handles = [_watch(private, name, where, seen) for name, where in watched.items()]
        try:
            with torch.enable_grad():
                outputs = private(**_with_grad(private, batch)).logits
        finally:
            for handle in handles:
                handle.remove()
        for number in range(outputs.shape[1]):
            gradients = torch.autograd.grad(
                outputs[:, number].sum(), list(seen.values()), retain_graph=number + 1 < outputs.shape[1], allow_unused=True
            )
            for (name, values), gradient in zip(seen.items(), gradients, strict=True):
                found[name].append(_summed(watched[name], values.detach(), gradient, len(outputs)))
    return {name: torch.cat(parts) for name, parts in found.items()}


def _watched(layer: Layer, statistics: Statistics, covariances: Covariances) -> Watched:
    """name → (module path, whether its input, start, width, mean)."""
    found = {
        p.name: (p.path, False, p.start, p.d_out, statistics.mean(p.name)) for p in layer.projections.values() if not p.gate
    }
    for site, type_ in (("context", "attention_output"), ("activation", "ffn_out")):
        if type_ in layer.projections:
            p = layer.projections[type_]
            name = f"{p.layer}.{site}"
            found[name] = p.path, True, 0, p.d_in, covariances[name].mean
    return found


def _watch(model: PreTrainedModel, name: str, where: tuple[str, bool, int, int, Tensor], seen: dict[str, Tensor]):
    path, inputs, _, _, _ = where
    module = model.get_submodule(path)
    if inputs:
        return module.register_forward_pre_hook(lambda _module, args: seen.__setitem__(name, args[0]))
    return module.register_forward_hook(lambda _module, _args, output: seen.__setitem__(name, output))


def _with_grad(model: PreTrainedModel, batch: Batch) -> dict[str, Tensor]:
    """The batch's inputs with embeddings that ask for gradients, so that a graph is built though no weight does."""
    ids = batch.inputs["input_ids"]
    embedded = model.get_input_embeddings()(ids).detach().requires_grad_(True)
    return {k: v for k, v in batch.inputs.items() if k != "input_ids"} | {"inputs_embeds": embedded}


def _summed(where: tuple[str, bool, int, int, Tensor], values: Tensor, gradient: Tensor | None, examples: int) -> Tensor:
    """Σ_tokens gradient · (value − mean) for each example (examples, width); padding has no gradient."""
    _, _, start, width, mean = where
    if gradient is None:
        return torch.zeros(examples, width)
    part = slice(start, start + width)
    return (gradient[..., part] * (values[..., part] - mean.to(values.dtype))).view(examples, -1, width).sum(dim=1)
