"""Each reading of the paper against a small computation of its own."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
from snip_runs import QUICK, material, settings
from transformers.pytorch_utils import Conv1D

from vp_core.asking.batches import make_batches
from vp_core.ground.errors import VPError
from vp_core.ground.names import PAPER_READINGS, READINGS
from vp_core.identity import snip
from vp_core.identity.gate import gated
from vp_core.identity.l1 import TowardsIdentity, weight_penalty
from vp_core.identity.leaving import chosen, number_passing
from vp_core.identity.readings import PAPER, Readings, paper_schedule, passes
from vp_core.identity.snip import run_snip as run
from vp_core.identity.spectral import normalise
from vp_core.identity.usage import Counting, Usage
from vp_core.measuring.function_norms import MINI_BATCH, FunctionNorms, collect_norms
from vp_core.model.blocks import Block, find_sublayers
from vp_core.model.projections import find_projections
from vp_core.squeezing.blocks_off import without
from vp_core.training.callbacks import Callback
from vp_core.training.checkpoint import Saved
from vp_core.training.loop import train, training
from vp_core.training.schedule import Schedule

pytestmark = pytest.mark.usefixtures("exact_norms")
H0, H1, F = Block(0, "head", 0), Block(0, "head", 1), Block(0, "ffn")


def test_the_paper_s():
    assert PAPER == Readings("rescaled", "mean", "use", "training", "norms") != Readings()
    assert {**PAPER_READINGS}.keys() == READINGS.keys() and Readings() == Readings(*(next(iter(w)) for w in READINGS.values()))
    assert paper_schedule(3) == Schedule(epochs=3, lr=1e-4, layer_decay=0.8, epsilon=1e-6, batch=32, warm_up=0.1,
                                         weight_decay=0.01, examples=None)  # fmt: skip
    for name in READINGS:
        with pytest.raises(VPError, match=f"Unknown {name} 'nose'"):
            Readings(**{name.replace("-", "_"): "nose"})


@pytest.mark.parametrize("theta", [0.0, 0.3, 0.5, 0.95, 1.0])
@pytest.mark.parametrize("flags", [[0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]])
def test_both_ways_to_read_theta(theta, flags):
    used = 1 - np.mean(flags)
    assert passes(np.mean(flags), theta, "identity") == (np.mean(flags) >= theta)
    assert passes(np.mean(flags), theta, "use") == (used < theta)


def test_who_leaves_by_each_reading():
    """0 is below ε in every mini-batch by mean and max, 1 by mean in half, the network never."""
    shut = {"max": torch.tensor([[1, 0, 0], [1, 0, 0]]).bool(), "mean": torch.tensor([[1, 1, 0], [1, 0, 0]]).bool()}
    usage = Usage.of_flags([H0, H1, F], "joint", shut, torch.tensor([1.0, 0.7, 0.1]))
    assert usage == Usage.from_json(usage.as_json()) and usage.batches == 2
    assert chosen(usage, 0.95, Readings()) == chosen(usage, 0.95, Readings(identity="mean")) == [H0]
    assert chosen(usage, 0.95, Readings(identity="max", usage="use")) == [H0]
    assert chosen(usage, 0.95, PAPER) == [H0, H1] and chosen(usage, 0.5, PAPER) == [H0]
    assert chosen(usage, 0.0, Readings(identity="mean")) == [H0, H1, F] and chosen(usage, 0.0, PAPER) == []
    assert chosen(usage, 0.95, PAPER, at_least=3) == [H0, H1, F]
    assert number_passing(usage, 0.95) == {"max": {"identity": 1, "use": 1}, "mean": {"identity": 1, "use": 2}}
    both = Usage.of_flags([Block(0, "attention"), F], "layers", {"max": torch.tensor([[1, 0], [1, 1]]).bool()}, torch.ones(2))
    assert list(both.identity["max"].values()) == [0.5] and both.alone["max"] == {Block(0, "attention"): 1.0, F: 0.5}
    assert both == Usage.from_json(both.as_json())


@pytest.mark.parametrize("family", ["bert", "albert", "bart", "gpt2"])
def test_means_of_mini_batches_of_texts(family, tmp_path):
    """One text at a time, in numpy: the mean over all tokens of a mini-batch, long texts count more."""
    model, texts = material(family).model, material(family).texts
    norms = collect_norms(model, make_batches(texts, range(len(texts))))
    alone = [collect_norms(model, make_batches(texts, [i])) for i in range(len(texts))]
    sums = np.array([one.histogram.total.numpy() for one in alone])
    tokens = np.array([one.histogram.counts.sum(dim=1).numpy() for one in alone])
    order = np.random.default_rng(0).permutation(len(texts))
    parts = np.split(order, range(MINI_BATCH, len(order), MINI_BATCH))
    expected = np.array([sums[part].sum(axis=0) / tokens[part].sum(axis=0) for part in parts])
    np.testing.assert_allclose(norms.batch_means().numpy(), expected, rtol=2e-5)
    norms.save(tmp_path / "norms.safetensors")
    assert torch.equal(FunctionNorms.load(tmp_path / "norms.safetensors").batch_means(), norms.batch_means())
    half = [collect_norms(model, make_batches(texts, part)) for part in (range(20), range(20, len(texts)))]
    torch.testing.assert_close(half[0].merge(half[1]).batch_means(), norms.batch_means())
    with pytest.raises(VPError, match="measure them again"):
        replace(norms, sums=None).batch_means()
    limit = {"head": float(norms.batch_means()[:, norms.of("head")].median())}
    usage = Usage.of_texts(norms, limit, "heads")
    for i in norms.of("head"):
        assert usage.alone["mean"][norms.blocks[i]] == pytest.approx(np.mean(expected[:, i] <= limit["head"]))
    assert "mean" not in Usage.of_texts(replace(norms, sums=None), limit, "heads").identity


class Looked(Callback):
    """Every mini-batch's norms, one use after the other, kept as they are."""

    def __init__(self, places):
        self.places, self.found = places, []

    def penalty(self, run, inputs):
        mask = inputs["attention_mask"].flatten().bool().numpy()
        step = []
        for path, kind in self.places:
            uses = [norms.detach().numpy()[:, mask] for norms in run.model.get_submodule(path).seen[kind]]
            step += list(np.concatenate(uses, axis=1))
        self.found.append(step)


@pytest.mark.parametrize("family", ["bert", "albert", "gpt2"])
def test_counted_on_the_last_pass_of_a_training(family):
    model, learnt = copy.deepcopy(material(family).model), material(family).lessons
    places = find_sublayers(model)
    means = collect_norms(model, make_batches(learnt.data, range(40))).means()
    epsilon = {kind: float(np.median([m for b, m in means.items() if b.kind == kind])) for kind in ("head", "ffn")}
    counting = Counting(places, epsilon, "joint", 4)
    look = Looked([(path, kind) for one in places for path, kind in ((one.attention, "head"), (one.ffn, "ffn")) if path])
    train(gated(model, places, epsilon), learnt, replace(QUICK, epochs=2, examples=40), callbacks=[counting, look])
    assert len(look.found) == 8
    usage = counting.usage()
    assert usage.batches == 4 and len(usage.units) == len(look.found[0]) == len(counting.blocks)
    for i, block in enumerate(counting.blocks):
        limit = epsilon[block.kind]
        last = [step[i] for step in look.found[4:]]
        assert usage.alone["max"][block] == np.mean([norms.max() <= limit for norms in last])
        assert usage.alone["mean"][block] == np.mean([norms.astype(np.float64).mean() <= limit for norms in last])
        assert usage.closed[(block,)] == pytest.approx(np.mean(np.concatenate(last) <= limit), abs=1e-6)
    assert 0 < sum(usage.alone["mean"].values()) < len(usage.units)  # some of each: the test can fail


def test_counting_goes_on_after_a_stop(tmp_path):
    """A training that is left after a step of its last pass and taken up again has the counts of one that was not."""
    learnt, schedule = material("bert").lessons, replace(QUICK, epochs=2)
    places = find_sublayers(material("bert").model)
    means = collect_norms(material("bert").model, make_batches(learnt.data, range(40))).means()
    epsilon = {kind: float(np.median([m for b, m in means.items() if b.kind == kind])) for kind in ("head", "ffn")}

    def begun():
        counting = Counting(places, epsilon, "joint", 3)
        return gated(copy.deepcopy(material("bert").model), places, epsilon), counting

    model, whole = begun()
    train(model, learnt, schedule, callbacks=[whole])
    model, first = begun()
    steps = training(model, learnt, schedule, callbacks=[first], saved=Saved(tmp_path, {}))
    while next(steps).step < 3:
        pass
    steps.close()
    model, second = begun()
    train(model, learnt, schedule, callbacks=[second], saved=Saved(tmp_path, {}))
    assert second.usage() == whole.usage() and second.usage().batches == 3


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "bart", "albert"])
@pytest.mark.parametrize("kinds", [("head", "ffn"), ("attention", "ffn"), ("ffn",), ("head",)])
def test_l1_of_weights_by_hand(family, kinds):
    """Block by block in numpy from the dense matrices; of the squeezed model what is left of them."""
    model = tiny.transformer(family, dtype=torch.float32)
    parts = find_sublayers(model)
    gone = [Block(0, "head", 1)] if family != "llama" else [Block(0, "head", 0)]
    for away in ([], gone):
        small, left = without(model, away), tuple(one.without(away) for one in parts)
        expected = sum(np.mean(values) for b, values in weights_of(model).items() if b.kind in kinds and b not in away)
        found = weight_penalty(gated(small, left, dict.fromkeys(kinds, 1e-6)).train())
        assert found.item() == pytest.approx(expected, rel=0.02 if away else 1e-5)
    assert weight_penalty(model).item() == 0
    if "attention" not in kinds:
        copied = gated(model, parts, dict.fromkeys(kinds, 1e-6))
        weight_penalty(copied).backward()
        touched = {n for n, p in copied.named_parameters() if p.grad is not None and p.grad.any()}
        assert touched and not any("embed" in n or n.endswith("bias") or "norm" in n.lower() for n in touched)


def weights_of(model):
    """Absolute values of all weights of each block, of heads by their rows and columns."""
    found = {}
    by_layer = {}
    for p in find_projections(model):
        by_layer.setdefault(p.layer, {})[p.type] = p

    def rows(path, start, number):
        module = model.get_submodule(path)
        matrix = module.weight.detach().double().numpy()
        return np.abs((matrix.T if isinstance(module, Conv1D) else matrix)[start : start + number])

    for layer, of in by_layer.items():
        heads = of["value"].d_out // of["value"].head_width
        pieces = {t: rows(p.path, p.start, p.d_out) for t, p in of.items()}
        for t in ("query", "key", "value"):
            pieces[t] = np.split(pieces[t], heads, axis=0)
        pieces["attention_output"] = np.split(pieces["attention_output"], heads, axis=1)
        for head in range(heads):
            own = [pieces[t][head].ravel() for t in ("query", "key", "value", "attention_output")]
            found[Block(layer, "head", head)] = np.concatenate(own)
        found[Block(layer, "attention")] = np.concatenate([found[Block(layer, "head", h)] for h in range(heads)])
        if "ffn_in" in of:
            p = of["ffn_in"]
            gate = [rows(p.gate, p.gate_start, p.d_out).ravel()] if p.gate else []
            found[Block(layer, "ffn")] = np.concatenate([pieces["ffn_in"].ravel(), pieces["ffn_out"].ravel(), *gate])
    return found


def test_l1_of_weights_sees_what_is_normalised():
    """Ŵ is the weight that counts: the raw one may be of any size."""
    found = []
    for factor in (1.0, 7.0):
        model = tiny.transformer("bert", dtype=torch.float32)
        with torch.no_grad():
            for p in find_projections(model):
                model.get_submodule(p.path).weight *= factor
        normalise(model, 3.0)
        found.append(weight_penalty(gated(model, find_sublayers(model), {"ffn": 1e-6}).eval()).item())
    assert found[0] == pytest.approx(found[1], rel=1e-4) and found[0] > 0


@pytest.mark.parametrize(("on", "other"), [("norms", "weights"), ("weights", "norms")])
def test_the_l1_term_of_a_run_is_the_one_that_was_asked_for(on, other, tmp_path, monkeypatch):
    seen = []
    real = snip.train

    def told(*given, callbacks=(), **how):
        seen.extend(one.on for one in callbacks if isinstance(one, TowardsIdentity))
        return real(*given, callbacks=callbacks, **how)

    monkeypatch.setattr(snip, "train", told)
    list(run(material("bert"), settings(iterations=1, readings=Readings(l1_on=on)), tmp_path / "run"))
    assert seen == [on] and other not in seen
    with pytest.raises(VPError, match="l1-on"):
        TowardsIdentity(0.1, "noses")
