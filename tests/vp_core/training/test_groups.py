"""Layer-wise decay: every parameter once, at the rate of its depth, written down family by family; epsilon reaches AdamW."""

import re

import bench_models
import pytest
import tiny
import torch
from snip_runs import QUICK, material

from vp_core.training.callbacks import Callback
from vp_core.training.groups import depth_of, parameter_groups
from vp_core.training.loop import train
from vp_core.training.schedule import Schedule

LAYER = {
    "bert": r"^bert\.encoder\.layer\.(\d+)\.",
    "gpt2": r"^transformer\.h\.(\d+)\.",
    "albert": r"^albert\.encoder\.albert_layer_groups\.0\.albert_layers\.(\d+)\.",
    "bart": r"^model\.(?:encoder|decoder)\.layers\.(\d+)\.",
    "distilbert": r"^distilbert\.transformer\.layer\.(\d+)\.",
    "modernbert": r"^model\.layers\.(\d+)\.",
}
"""Where the number of the layer is in a parameter's name; all stacks have as many layers as `layers` says."""
LOWEST = {
    "bert": r"^bert\.embeddings\.",
    "gpt2": r"^transformer\.wte\.|^transformer\.wpe\.",
    "albert": r"^albert\.embeddings\.|^albert\.encoder\.embedding_hidden_mapping_in\.",
    "bart": r"^model\.shared\.|^model\.(?:encoder|decoder)\.(?:embed_tokens|embed_positions|layernorm_embedding)\.",
    "distilbert": r"^distilbert\.embeddings\.",
    "modernbert": r"^model\.embeddings\.",
}
"""What lies below the first layer."""


def depth(family, name, layers):
    found = re.match(LAYER[family], name)
    if found:
        return layers - int(found[1])
    return layers + 1 if re.match(LOWEST[family], name) else 0


@pytest.mark.parametrize("family", LAYER)
def test_every_parameter_once_at_the_rate_of_its_depth(family):
    model = tiny.classifier(family)
    names = {id(p): name for name, p in model.named_parameters()}
    layers = 1 + max(int(m[1]) for name in names.values() if (m := re.match(LAYER[family], name)))
    schedule = Schedule(lr=1e-2, layer_decay=0.5, weight_decay=0.3)
    groups = parameter_groups(model, schedule)
    seen = [id(p) for group in groups for p in group["params"]]
    assert len(seen) == len(set(seen)) and set(seen) == set(names)
    depths = set()
    for group in groups:
        for p in group["params"]:
            name = names[id(p)]
            depths.add(depth(family, name, layers))
            assert group["lr"] == pytest.approx(1e-2 * 0.5 ** depth(family, name, layers), rel=1e-12), name
            assert group["weight_decay"] == (0.3 if p.ndim > 1 else 0), name
    assert depths == set(range(layers + 2))
    heads = [n for n in names.values() if n.startswith(("classifier", "score", "classification_head", "pre_classifier"))]
    assert heads and all(depth_of(model)(name) == 0 for name in heads)


def test_without_decay_one_rate_and_frozen_parameters_are_out():
    model = tiny.classifier("bert")
    frozen = list(model.bert.embeddings.parameters())
    for p in frozen:
        p.requires_grad_(False)
    for decay in (1.0, 0.8):
        groups = parameter_groups(model, Schedule(lr=1e-3, layer_decay=decay))
        seen = {id(p) for group in groups for p in group["params"]}
        assert seen == {id(p) for p in model.parameters() if p.requires_grad} and not seen & {id(p) for p in frozen}
    assert {group["lr"] for group in parameter_groups(model, Schedule(lr=1e-3))} == {1e-3}


class Looking(Callback):
    def __init__(self):
        self.eps, self.rates = set(), []

    def after_step(self, run):
        self.eps |= {group["eps"] for group in run.optimiser.param_groups}
        self.rates.append(sorted({group["lr"] for group in run.optimiser.param_groups}))


def test_both_reach_adamw():
    """Before the first step, and under the warm-up: all rates keep their proportion."""
    model, look = bench_models.classifier("bert", torch.float32, 2), Looking()
    layers = model.config.num_hidden_layers
    schedule = Schedule(**{**QUICK.__dict__, "epsilon": 1e-6, "layer_decay": 0.8, "warm_up": 0.5, "epochs": 2})
    train(model, material("bert").lessons, schedule, callbacks=[look])
    assert look.eps == {1e-6}
    last = look.rates[-1]
    assert len(last) == layers + 2
    assert last == pytest.approx([last[-1] * 0.8**n for n in range(layers + 1, -1, -1)])
    usual = Looking()
    train(bench_models.classifier("bert", torch.float32, 2), material("bert").lessons, QUICK, callbacks=[usual])
    assert usual.eps == {1e-8} and all(len(rates) == 1 for rates in usual.rates)


def test_epsilon_moves_the_first_step():
    """AdamW's first step is lr·g/(|g| + ε): against it by hand in float64, from the model's own gradients."""
    given, found = material("bert"), {}
    for epsilon in (1e-8, 1e-2):
        model = bench_models.classifier("bert", torch.float32, 2)
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        before = model.bert.encoder.layer[0].output.dense.bias.detach().double().clone()
        grads = {}

        class Keep(Callback):
            def after_step(self, run, grads=grads):
                grads["g"] = run.model.bert.encoder.layer[0].output.dense.bias.grad.detach().double().clone()

        schedule = Schedule(lr=1e-3, warm_up=0, weight_decay=0, batch=12, examples=12, epsilon=epsilon, precision="float32")
        train(model, given.lessons, schedule, callbacks=[Keep()])
        moved = model.bert.encoder.layer[0].output.dense.bias.detach().double() - before
        expected = -1e-3 * grads["g"] / (grads["g"].abs() + epsilon)
        torch.testing.assert_close(moved, expected, rtol=1e-3, atol=1e-7)
        found[epsilon] = float(moved.abs().mean())
    assert found[1e-2] < 0.9 * found[1e-8]
