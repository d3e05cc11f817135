"""Time to a pruned model and score without fine-tuning, against torch-pruning and torch's own `ln_structured`.

All sides are brought to the same share of the linear weights (the six projections), counted in the model that comes out; for
the masks of `ln_structured`, which leave the model as large as it was, by `squeezing.cost` on the rows that are zero. Nobody's
time includes reading and tokenising sentences, or the search for the setting that gives the share.

torch-pruning removes FFN units and heads (or dimensions of every head) of BERT. The layers that write to the residual stream
are on its ignored list, which keeps the hidden width, as in its "bottleneck" examples; else it would prune that too.
"""

import copy
import statistics
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import torch_pruning as tp
from torch.nn.utils import prune as masks
from transformers import PreTrainedModel

from benchmarks.measure import line
from vp_core.asking.batches import make_batches
from vp_core.asking.evaluate import score
from vp_core.asking.kinds.question import Question
from vp_core.ground.parallel import in_parallel
from vp_core.model.projections import find_layers, linear_map
from vp_core.ranking.plan import Plan
from vp_core.recipes import RECIPES, Recipe
from vp_core.squeezing.cost import cost, flops_per_token
from vp_core.study import Study

SHARES = (0.3, 0.5, 0.7)
TOLERANCE = 0.01
OURS = ("paper", "best")
"""Names in `vp_core.recipes.RECIPES`."""
FORMS = {"heads, per layer": (False, False), "heads, global": (False, True), "head dims, per layer": (True, False)}
"""How torch-pruning cuts: (whether dimensions of every head go, or whole heads; whether layers compete). Dimensions in
global competition are left out: one ranking of FFN units and dimensions takes hardly any of the latter."""

Make = Callable[[float], tuple[PreTrainedModel, float]]
"""A setting between 0 and 1 → the pruned model, and the share of the linear weights that went."""


class Result(NamedTuple):
    seconds: float
    share: float
    score: float


class Side(NamedTuple):
    """One way to prune, what it needs beside the model, and a quicker way that takes the same share at the same setting."""

    make: Make
    needs: str
    quick: Make


def run(study: Study, labels: np.ndarray) -> None:
    """`labels` (n,) are those of the study's calibration sentences; only Taylor importance sees them."""
    sentences = f"{len(study.calibration)} training sentences"
    own, free, labelled = {}, {}, {}
    for recipe in OURS:
        makes = partial(_ours, study, RECIPES[recipe]), partial(_squeezed, study, RECIPES[recipe])
        own[f"ours, {recipe}"] = Side(makes[0], sentences, makes[1])
    for form, (dims, globally) in FORMS.items():
        cut = partial(torch_pruning, study, dims, globally)
        plain, labelled_too = partial(cut, magnitude), partial(cut, partial(taylor, study, labels))
        free[f"torch-pruning magnitude, {form}"] = Side(plain, "nothing", plain)
        labelled[f"torch-pruning Taylor, {form}"] = Side(labelled_too, f"{sentences}, labels, gradients", plain)
    masked = partial(_ln_structured, study)
    free["torch ln_structured, all six maps"] = Side(masked, "nothing; only masks, as large as before", masked)
    sides = own | free | labelled

    dense = score(study.model, study.question)
    name = f"{study.loaded.name.rsplit('/', 1)[-1]}, {study.question.task.name} dev"
    print(f"  {name}, {dense.metric} {dense.value:.4f} of the dense model, no fine-tuning")
    print(f"  {'weights':>7}  {'':<50} {'share':>6} {'seconds':>8} {'score':>7} {'kept':>6}  needs")
    results: dict[str, list[Result]] = {side: [] for side in sides}
    for share in SHARES:
        settings = {side: find_setting(quick, share) for side, (_, _, quick) in sides.items()}
        for side, (make, needs, _) in sides.items():
            found = measured(make, study.question, settings[side])
            results[side].append(found)
            kept = found.score / dense.value
            figures = f"{found.share:6.1%} {found.seconds:8.2f} {found.score:7.4f} {kept:6.1%}"
            print(f"  {share:7.0%}  {side:<50} {figures}  {needs}", flush=True)

    seconds = {side: statistics.median(r.seconds for r in found) for side, found in results.items()}
    for mine in own:
        for side in free | labelled:
            line(f"time to a pruned model: {mine} / {side}", seconds[mine] / seconds[side], "x", "-")
        for i, share in enumerate(SHARES):
            for what, peers in (("without", free), ("with", labelled)):
                ratio = results[mine][i].score / max(results[side][i].score for side in peers)
                line(f"score at {share:.0%} of the weights gone: {mine} / best peer {what} labels", ratio, "x", "-")


def ours(study: Study, recipe: Recipe, sparsity: float) -> Result:
    """Measure, rank, prune and squeeze by a recipe, then score."""
    return measured(partial(_ours, study, recipe), study.question, sparsity)


def measured(make: Make, question: Question, setting: float) -> Result:
    """Seconds to the pruned model, the share of the linear weights that went, and the score."""
    start = time.perf_counter()
    model, share = make(setting)
    seconds = time.perf_counter() - start
    return Result(seconds, share, score(model, question).value)


def find_setting(make: Make, share: float, steps: int = 12) -> float:
    """The setting that takes a share of the linear weights within TOLERANCE, by bisection that tries `share` itself first."""
    low, high, setting = 0.0, 1.0, share
    tried: list[tuple[float, float]] = []
    for _ in range(steps):
        _, reached = make(setting)
        tried.append((abs(reached - share), setting))
        if tried[-1][0] <= TOLERANCE:
            break
        low, high = (setting, high) if reached < share else (low, setting)
        setting = (low + high) / 2
    return min(tried)[1]


def _gone(model: PreTrainedModel, dense: PreTrainedModel) -> float:
    """Share of the dense model's linear weights that `model` does not hold; what heads are padded with counts as held."""
    return 1 - flops_per_token(model, 0) / flops_per_token(dense, 0)


def _squeezed(study: Study, recipe: Recipe, sparsity: float) -> tuple[PreTrainedModel, float]:
    model = study.squeezed(recipe, sparsity)
    return model, _gone(model, study.model)


def _ours(study: Study, recipe: Recipe, sparsity: float) -> tuple[PreTrainedModel, float]:
    parts = study.loaded, study.question, study.calibration, study.data_id, study.calibration_id, study.source
    return _squeezed(Study(*parts), recipe, sparsity)  # a new study has measured nothing yet


Importance = Callable[[PreTrainedModel], tp.importance.Importance]


def magnitude(model: PreTrainedModel) -> tp.importance.Importance:
    return tp.importance.GroupMagnitudeImportance(p=2)


def taylor(study: Study, labels: np.ndarray, model: PreTrainedModel) -> tp.importance.Importance:
    """Taylor importance, with gradients of the mean loss of the calibration sentences, on all cores like our statistics."""
    targets = torch.from_numpy(np.argsort(study.question.order)[labels])
    parameters = list(model.base_model.encoder.parameters())

    def gradients(batch) -> Iterable[torch.Tensor]:
        logits = model(**batch.inputs).logits
        loss = torch.nn.functional.cross_entropy(logits, targets[batch.examples], reduction="sum") / len(labels)
        return torch.autograd.grad(loss, parameters)

    for found in in_parallel(gradients, make_batches(study.calibration, range(len(labels)))):
        for parameter, gradient in zip(parameters, found, strict=True):
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
    return tp.importance.GroupTaylorImportance()


def torch_pruning(
    study: Study, dims: bool, globally: bool, importance: Importance, ratio: float
) -> tuple[PreTrainedModel, float]:
    """The same ratio of FFN units and of heads (or of every head's dimensions) cut out of a copy of the model."""
    model = copy.deepcopy(study.model).requires_grad_(True)  # torch-pruning traces gradients, and cuts in place
    layers = [{t: linear_map(model, p.path) for t, p in layer.projections.items()} for layer in find_layers(model)]
    attentions = [model.get_submodule(layer.attention) for layer in find_layers(model)]
    head_counts = {
        maps[t]: attention.num_attention_heads
        for maps, attention in zip(layers, attentions, strict=True)
        for t in ("query", "key", "value")
    }
    residual = [maps[t] for maps in layers for t in ("attention_output", "ffn_out")]
    tp.pruner.BasePruner(
        model,
        {name: tensor[:1] for name, tensor in make_batches(study.calibration, [0])[0].inputs.items()},
        importance=importance(model),
        global_pruning=globally,
        pruning_ratio=ratio,
        num_heads=head_counts,
        prune_num_heads=not dims,
        prune_head_dims=dims,
        head_pruning_ratio=0.0 if dims else ratio,
        ignored_layers=[*residual, model.base_model.pooler, model.classifier],
        in_channel_groups={},  # the defaults are dictionaries that all pruners share: they would keep every model alive
        out_channel_groups={},
        output_transform=lambda output: output.logits.sum(),
    ).step()
    for attention, maps in zip(attentions, layers, strict=True):  # what transformers cuts heads by is the caller's to mend
        attention.all_head_size = width = maps["query"].out_features
        if dims:
            attention.attention_head_size = width // attention.num_attention_heads
        else:
            attention.num_attention_heads = width // attention.attention_head_size
    return model, _gone(model, study.model)


def _ln_structured(study: Study, amount: float) -> tuple[PreTrainedModel, float]:
    """Rows of the smallest L2 norm set to zero in every linear map; biases stay, and the shapes too."""
    model = copy.deepcopy(study.model)
    layers = find_layers(model)
    keep: dict[str, torch.Tensor] = {}
    for layer in layers:
        for projection in layer.projections.values():
            module = linear_map(model, projection.path)
            masks.ln_structured(module, "weight", amount=amount, n=2, dim=0)
            masks.remove(module, "weight")
            keep[projection.name] = module.weight.detach().any(dim=1)
    biases = [linear_map(model, layer.projections["query"].path).bias.detach() for layer in layers]
    return model, cost(layers, Plan(keep, "magnitude", "per layer", amount), biases).share_removed
