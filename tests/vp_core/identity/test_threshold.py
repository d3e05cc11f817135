"""Thresholds on a model as it is: what is off is counted by hand, and the model is the one without it."""

from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch

from vp_core.asking.evaluate import score
from vp_core.ground.errors import VPError
from vp_core.ground.names import MODES
from vp_core.identity.gate import Gated
from vp_core.identity.threshold import Threshold, key, model_under, running_scores
from vp_core.measuring.function_norms import MINI_BATCH
from vp_core.model.blocks import Block, find_blocks
from vp_core.squeezing.blocks_off import masked_without

FAMILIES = ("bert", "distilbert", "gpt2", "albert", "bart")


def middle(study, q=0.5):
    """ε that shut about a share q of the tokens of each kind's blocks."""
    norms = study.measured().norms()
    found = norms.histogram.quantile(q)
    return float(found[norms.of("head")].median()), float(found[norms.of("ffn")].median())


def largest(study):
    """ε for heads and networks, just above the largest norms in a text of about half of them."""
    norms = study.measured().norms()
    tops = norms.maxima.amax(dim=0)
    return tuple(float(tops[norms.of(kind)].median()) for kind in ("head", "ffn"))


def off_by_hand(norms, threshold):
    """Names of blocks shut in at least θ of random mini-batches; a layer counts where both its blocks are shut."""
    maxima = norms.maxima.numpy()
    order = np.random.default_rng(0).permutation(len(maxima))
    parts = [maxima[order[i : i + MINI_BATCH]].max(axis=0) for i in range(0, len(order), MINI_BATCH)]
    limit = {kind: threshold.ffn if kind == "ffn" else threshold.attention for kind in MODES[threshold.mode]}
    shut = {b: np.array([p[i] <= np.float32(limit.get(b.kind, -1)) for p in parts]) for i, b in enumerate(norms.blocks)}
    found = set()
    for block in norms.blocks:
        if block.kind not in limit:
            continue
        together = (
            [b for b in norms.blocks if b.layer == block.layer and b.kind in limit] if threshold.mode == "layers" else [block]
        )
        if np.all([shut[b] for b in together], axis=0).mean() >= threshold.theta:
            found.add(block.name)
    return found


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("family", ["bert", "bart"])
def test_off_is_counted_by_hand(studies, family, mode):
    study = studies[family]
    norms = study.measured().norms()
    seen = set()
    for q in (0.3, 0.5, 0.9, 1.0):
        tops = norms.maxima.amax(dim=0)
        attention = "head" if "head" in MODES[mode] else "attention"
        epsilon = [float(tops[norms.of(kind)].quantile(q)) for kind in (attention, "ffn")]
        for theta in (0.0, 0.4, 0.95, 1.0):
            threshold = Threshold(*epsilon, theta, mode)
            found = [b.name for b in threshold.off(norms)]
            assert set(found) == off_by_hand(norms, threshold) and len(set(found)) == len(found)
            seen.add(len(found))
    assert len(seen) >= 2 and Threshold(1e-9, 1e-9, mode=mode).off(norms) == []
    everything = {b for b in norms.blocks if b.kind in MODES[mode]}
    assert set(Threshold(1e9, 1e9, mode=mode).off(norms)) == everything


@pytest.mark.parametrize("family", FAMILIES)
def test_without_gates_it_is_the_masked_model(studies, family):
    study = studies[family]
    before = tiny.sha(study.model)
    threshold = Threshold(*largest(study), theta=0.3)
    off = threshold.off(study.measured().norms())
    everything = find_blocks(study.model, ("head", "ffn"))
    assert 0 < len(off) < len(everything) or (family == "albert" and off)
    model, masked = model_under(study, threshold), masked_without(study.model, off)
    assert tiny.sha(model) == tiny.sha(masked)
    *_, last = running_scores(study, threshold)
    assert last.value == score(masked, study.question).value and last.final
    assert tiny.sha(study.model) == before and tiny.hooks(study.model) == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_gates_shut_the_rest_token_by_token(studies, family):
    """ε at the middle of the norms: outputs differ from those without gates, and are those of hooks on the same model."""
    study = studies[family]
    threshold = replace(Threshold(*middle(study), theta=1.0, mode="separate"), gate=True)
    model = model_under(study, threshold)
    assert any(isinstance(m, Gated) for m in model.modules()) and not any(isinstance(m, Gated) for m in study.model.modules())
    oracle = masked_without(study.model, threshold.off(study.measured().norms()))
    for module, epsilon in ((m, m.epsilon) for m in model.modules() if isinstance(m, Gated)):
        path = next(p for p, m in model.named_modules() if m is module)

        def hook(_module, _args, output, epsilon=epsilon):
            return output * (output.abs().amax(dim=-1, keepdim=True) > epsilon)

        oracle.get_submodule(path).register_forward_hook(hook)
    inputs = study.question.chunks()[0][1][0].inputs
    with torch.no_grad():
        found, expected, plain = (
            m(**inputs).logits for m in (model, oracle, model_under(study, replace(threshold, gate=False)))
        )
    assert tiny.distance(found, expected) <= 1e-4 and tiny.distance(found, plain) > 1e-3
    *_, last = running_scores(study, threshold)
    assert last.value == score(model, study.question).value


def test_keys(studies):
    """A score without gates depends on the blocks that are off alone."""
    study = studies["bert"]
    head, ffn = largest(study)
    one = Threshold(head, ffn, theta=0.3)
    nearly = replace(one, attention=head * (1 + 1e-6), theta=0.31)
    norms = study.measured().norms()
    assert one.off(norms) and set(nearly.off(norms)) == set(one.off(norms))
    assert key(study, one) == key(study, nearly) != key(study, Threshold(1e-9, 1e-9))
    assert key(study, Threshold(1e-9, 1e-9, mode="heads")) == key(study, Threshold(1e-8, 1e-9, mode="layers"))
    gates = [key(study, replace(t, gate=True)) for t in (one, nearly)]
    assert len({*gates, key(study, one)}) == 3
    assert key(studies["distilbert"], Threshold(1e-9, 1e-9)) != key(study, Threshold(1e-9, 1e-9))


def test_epsilon_by_kind():
    assert Threshold(1.0, 2.0).epsilon == {"head": 1.0, "ffn": 2.0}
    assert Threshold(1.0, 2.0, mode="layers").epsilon == {"attention": 1.0, "ffn": 2.0}
    assert Threshold(1.0, 2.0, mode="ffn").epsilon == {"ffn": 2.0}
    assert Block(0, "head", 0).kind in Threshold(1.0, 2.0, mode="heads").epsilon


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ((0, 1.0), "ε must be a number above 0"),
        ((1.0, -2.0), "ε must be a number above 0"),
        ((1.0, float("nan")), "ε must be a number above 0"),
        ((1.0, 1.0, 1.5), "θ must be between 0 and 1"),
        ((1.0, 1.0, -0.1), "θ must be between 0 and 1"),
        ((1.0, 1.0, 0.95, "noses"), "Unknown mode"),
    ],
)
def test_bad_input(values, says):
    changed = dict(zip(("attention", "ffn", "theta", "mode"), values, strict=False))
    for refused in (lambda: Threshold(*values), lambda: replace(Threshold(1.0, 1.0), **changed)):
        with pytest.raises(VPError, match=says) as raised:
            refused()
        assert "\n" not in str(raised.value)
