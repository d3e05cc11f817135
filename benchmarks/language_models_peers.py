"""What `benchmarks.language_models` is compared with: torch-pruning on the same model, cut to the same share.

torch-pruning (1.6) removes neurons of the gated feed-forward networks; the matrices that write into the residual stream and the
head are on its ignored list, which keeps the hidden width. It is not asked to cut heads (groups share keys),
so the attention blocks stay; three quarters of the linear parameters of such models are elsewhere. `global`: neurons
of all layers compete; else each layer gives the same share.
"""

import copy
from collections.abc import Callable
from functools import partial

import torch
import torch_pruning as tp
from transformers import PreTrainedModel

from benchmarks.peers import find_setting
from vp_core.asking.batches import make_batches
from vp_core.asking.words.tokens import losses_of_tokens
from vp_core.model.projections import find_layers, linear_map
from vp_core.squeezing.cost import flops_per_token
from vp_core.study import Study

BATCH = 512
"""Tokens in a batch of gradients."""
Make = Callable[[Study, float], tuple[PreTrainedModel, float]]
"""From a study and a share of the linear parameters: the pruned model, and the share that went."""


def _torch_pruning(taylor: bool, globally: bool, study: Study, share: float) -> tuple[PreTrainedModel, float]:
    start = copy.deepcopy(study.model).requires_grad_(True)
    if taylor:
        _collect_gradients(start, study)
    make = partial(_cut, start, taylor, globally, study)
    return make(find_setting(make, share))


def _cut(start: PreTrainedModel, taylor: bool, globally: bool, study: Study, ratio: float) -> tuple[PreTrainedModel, float]:
    """The ratio of feed-forward neurons cut out of a copy of the model, which has its gradients."""
    model = copy.deepcopy(start)
    for own, other in zip(model.parameters(), start.parameters(), strict=True):
        own.grad = other.grad
    layers = find_layers(model)
    stay = [linear_map(model, p.path) for layer in layers for t, p in layer.projections.items() if t != "ffn_in"]
    tp.pruner.BasePruner(
        model,
        {"input_ids": torch.tensor([list(study.calibration.ids[0])[:16]])},
        importance=tp.importance.GroupTaylorImportance() if taylor else tp.importance.GroupMagnitudeImportance(p=2),
        global_pruning=globally,
        pruning_ratio=ratio,
        ignored_layers=[*stay, model.get_output_embeddings()],
        in_channel_groups={},  # the defaults are dictionaries that all pruners share: they would keep every model alive
        out_channel_groups={},
        output_transform=lambda output: output.logits.sum(),
    ).step()
    return model.requires_grad_(False), 1 - flops_per_token(model, 0) / flops_per_token(study.model, 0)


def _collect_gradients(model: PreTrainedModel, study: Study) -> None:
    """Gradients of the mean loss of the next token on the calibration windows, into every parameter."""
    windows = study.calibration
    tokens = sum(len(ids) - 1 for ids in windows.ids)
    for batch in make_batches(windows, range(len(windows)), BATCH):
        ids, real = batch.inputs["input_ids"], batch.inputs["attention_mask"].bool()
        states = model.base_model(**batch.inputs, use_cache=False).last_hidden_state
        told = real[:, 1:]
        losses, _ = losses_of_tokens(model, states[:, :-1][told], ids[:, 1:][told])
        (losses.sum() / tokens).backward()


PEERS: dict[str, Make] = {
    "torch-pruning magnitude": partial(_torch_pruning, False, False),
    "torch-pruning Taylor": partial(_torch_pruning, True, False),
    "torch-pruning Taylor global": partial(_torch_pruning, True, True),
}
