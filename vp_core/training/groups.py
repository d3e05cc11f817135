"""Which parameters are trained how: weight decay for matrices only, and a learning rate that may shrink layer by layer."""

from collections.abc import Callable
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from vp_core.model.projections import layer_paths
from vp_core.training.schedule import Schedule

OWN = "vp_scores"
"""In the name of a parameter that a callback trains by its own settings: it is in none of these groups."""


def parameter_groups(model: PreTrainedModel, schedule: Schedule) -> list[dict[str, Any]]:
    """AdamW's groups: matrices decay, vectors do not; with a layer-wise decay below 1 a pair of groups for every depth.

    The head and what stands above the layers has the whole rate, the last layer rate·decay, and so on; embeddings are below
    the first. Of an encoder-decoder each stack counts from its own top.
    """
    tuned = [(name, p) for name, p in model.named_parameters() if p.requires_grad and OWN not in name]
    if schedule.layer_decay == 1:
        return _pair([p for _, p in tuned], schedule.lr, schedule.weight_decay)
    depths = depth_of(model)
    groups: list[dict[str, Any]] = []
    for depth in sorted({depths(name) for name, _ in tuned}):
        rate = schedule.lr * schedule.layer_decay**depth
        groups += _pair([p for name, p in tuned if depths(name) == depth], rate, schedule.weight_decay)
    return groups


def _pair(parameters: list[nn.Parameter], lr: float, weight_decay: float) -> list[dict[str, Any]]:
    return [
        {"params": [p for p in parameters if p.ndim > 1], "lr": lr, "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "lr": lr, "weight_decay": 0.0},
    ]


def depth_of(model: PreTrainedModel) -> Callable[[str], int]:
    """A function from a parameter's name to how many layers lie above its own: 0 for the head, layers + 1 for embeddings."""
    stacks: dict[str, list[str]] = {}
    for path in dict.fromkeys(path for _, path in layer_paths(model)):  # a decoder's come once more, for cross attention
        stacks.setdefault(path.rpartition(".")[0], []).append(path)
    tables = {path for path, module in model.named_modules() if isinstance(module, nn.Embedding)}
    lowest = 1 + max(map(len, stacks.values()))

    def depth(name: str) -> int:
        for paths in stacks.values():
            for number, path in enumerate(paths):
                if name.startswith(f"{path}."):
                    return len(paths) - number
        module = name.rpartition(".")[0]  # tables of any name (GPT-2's wpe), and what is named after them: norms, ALBERT's map
        return lowest if module in tables or "embed" in module else 0

    return depth
