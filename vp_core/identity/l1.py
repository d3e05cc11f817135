"""The L1 term of a training with gates (SNIP, section 3.4, step 2), of the blocks' norms or of their weights."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from vp_core.ground.errors import one_of
from vp_core.ground.names import READINGS
from vp_core.identity.gate import Gated
from vp_core.model.blocks import SUBLAYER
from vp_core.model.family.stack import Stack
from vp_core.model.projections import layer_paths
from vp_core.model.scatter import ScatterLinear
from vp_core.training.callbacks import Callback, Run


class TowardsIdentity(Callback):
    """Adds the L1 term of a gated model to the loss, weighed by `l1`; `on` is what it is of, `norms` or `weights`."""

    def __init__(self, l1: float, on: str = "norms") -> None:
        self.l1, self.on = l1, one_of("l1-on", on, tuple(READINGS["l1-on"]))

    def penalty(self, run: Run, inputs: Mapping[str, Tensor]) -> Tensor | None:
        """The L1 term () of the last forward pass."""
        if not self.l1:
            return None
        if self.on == "weights":
            return self.l1 * weight_penalty(run.model)
        mask = inputs.get("attention_mask")
        return self.l1 * penalty(run.model, None if mask is None else mask.flatten().float())


def penalty(model: nn.Module, mask: Tensor | None) -> Tensor:
    """The L1 term of the last training forward pass: every gated block's mean norm over real tokens, summed over blocks.

    Taken before the gates, so that a block whose gate is shut goes on shrinking (section 3.4). `mask` (tokens,) is 1 for a
    token and 0 for padding.
    """
    total = torch.zeros(())
    for module in model.modules():
        for uses in module.seen.values() if isinstance(module, Gated) else ():
            norms = torch.stack(tuple(uses)).mean(dim=0)
            total = total.to(norms.device) + (norms.mean(dim=1) if mask is None else norms @ mask / mask.sum()).sum()
    return total


def weight_penalty(model: PreTrainedModel) -> Tensor:
    """The L1 term () of the weights: every gated block's mean absolute weight, summed over blocks.

    The heads of a layer are of one size, so that their sum is their number times the mean over all of them. Weights that are
    zero were pruned and do not count. Under spectral normalisation the weights are Ŵ.
    """
    total = torch.zeros(())
    for stack, path in layer_paths(model):
        for last, kind in SUBLAYER.items():
            end = model.get_submodule(f"{path}.{stack.modules[last]}") if last in stack.modules else None
            if not isinstance(end, Gated):
                continue
            weights = list(_weights(model, stack, path, kind))
            number = sum(int(w.count_nonzero()) for w in weights)
            if number:
                blocks = end.heads if end.head_epsilon is not None else 1
                total = total.to(weights[0].device) + blocks * sum(w.abs().sum() for w in weights) / number
    return total


def _weights(model: PreTrainedModel, stack: Stack, path: str, kind: str) -> Iterator[Tensor]:
    """The matrices that are left of a layer's attention or feed-forward network, each once."""
    names = {name for type_, name in stack.modules.items() if type_.startswith("ffn") == (kind == "ffn")}
    for name in sorted(names | ({stack.gate} if stack.gate and kind == "ffn" else set())):
        module: nn.Module | None = model.get_submodule(f"{path}.{name}")
        module = module.inner if isinstance(module, Gated) else module
        module = module.linear if isinstance(module, ScatterLinear) else module
        weight = getattr(module, "weight", None)
        if isinstance(weight, Tensor):
            yield weight
