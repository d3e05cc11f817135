"""Rows that go while a model trains: exact counts, zeros for ever, the window's mean, and the same after a restart."""

import copy
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import tiny
import torch
from gradual_runs import FAMILIES, QUICK, Each, lessons, model_of, trained

from vp_core.gradual import narrow
from vp_core.gradual.cuts import Cuts
from vp_core.gradual.meters import Meters
from vp_core.gradual.narrow import NarrowLinear
from vp_core.gradual.rows import GradualRows
from vp_core.ground.errors import VPError
from vp_core.identity.spectral import normalise
from vp_core.model.projections import as_rows, bias_of, find_projections, gate_weight_of, linear_map, weight_of
from vp_core.squeezing.folder import load_pruned, save_pruned
from vp_core.squeezing.squeeze import squeeze
from vp_core.training.loop import train

CUTS = Cuts(first=3, every=3, share=0.2, until=0.5)
"""20, 40 and 50 % after steps 3, 6 and 9, of twelve."""
OTHERS = ("t5", "modernbert", "bart", "deberta-v2")


def values_of(run, parameter):
    """A parameter, its gradient, and AdamW's two moments."""
    state = run.optimiser.state[parameter]
    return parameter.detach(), parameter.grad, state["exp_avg"], state["exp_avg_sq"]


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_gone_is_zero_for_ever(family):
    """200 steps of AdamW with decay: weights, gradients and moments of removed rows, exactly; the others move."""
    pruner, checked = GradualRows(CUTS), []

    def look(run):
        if run.step <= 9:
            return
        checked.append(run.step)
        for p in find_projections(run.model):
            gone = ~pruner.keep[p.name]
            for path, start in ((p.path, p.start), (p.gate, p.gate_start)):
                if path:
                    module = linear_map(run.model, path)
                    weight, *rest = (as_rows(module, v)[start : start + p.d_out] for v in values_of(run, module.weight))
                    assert weight[~gone].any(dim=1).all(), (run.step, p.name)
                    assert not any(part[gone].any() for part in (weight, *rest)), (run.step, p.name)

    model = model_of(family)
    trained(model, [pruner, Each(look)], replace(QUICK, epochs=34), family=family)
    assert checked[-1] == 204 and len(checked) == 195
    sizes = {}
    for p in find_projections(model):
        total, gone = sizes.get(p.type, (0, 0))
        zero = int((weight_of(model, p) == 0).all(dim=1).sum())
        assert zero == int((~pruner.keep[p.name]).sum()) == round(pruner.removed()[p.name] * p.d_out)
        sizes[p.type] = total + p.d_out, gone + zero
    assert all(gone == round(0.5 * total) for total, gone in sizes.values())


def test_the_lowest_go_with_the_mean_of_their_window():
    """Against the variances and means that a second pair of meters saw; nested, exact, per type."""
    model, pruner, watch, kept = model_of(), GradualRows(CUTS), Meters(), []

    def before(run):  # the meters have the step, the pruner has not cut yet
        if CUTS.at(run.step) is not None:
            kept.append((run.step, dict(pruner.keep), watch.variances(), watch.means()))
            watch.reset()

    biases = {}

    def after(run):
        if CUTS.at(run.step) is not None:
            biases[run.step] = {p.name: bias_of(run.model, p).clone() for p in find_projections(run.model)}

    trained(model, [watch, Each(before), pruner, Each(after)])
    masks = [keep for _, keep, *_ in kept] + [pruner.keep]
    for (step, keep, variances, means), later in zip(kept, masks[1:], strict=True):
        for type_ in ("query", "ffn_in", "ffn_out"):
            names = [p.name for p in find_projections(model) if p.type == type_]
            there = np.concatenate([keep[name].numpy() for name in names])
            stays = np.concatenate([later[name].numpy() for name in names])
            values = np.concatenate([variances[name].numpy() for name in names])
            assert (~stays).sum() == round(CUTS.at(step) * len(stays)) and not (stays & ~there).any()
            assert values[there & ~stays].max() <= values[stays].min()
        for name in later:
            new = keep[name] & ~later[name]
            assert torch.equal(biases[step][name][new], means[name][new].float())
    assert [row["step"] for row in pruner.cuts()] == [3, 6, 9]
    assert [row["sparsity"] for row in pruner.cuts()] == [0.2, 0.4, 0.5]
    assert pruner.cuts()[-1]["removed"] == pruner.removed() == {n: 1 - k.double().mean().item() for n, k in pruner.keep.items()}


def test_the_constant_trains_on():
    model, pruner, at_cut = model_of(), GradualRows(CUTS), {}

    def see(run):
        if run.step == 9:
            at_cut.update({p.name: bias_of(run.model, p).clone() for p in find_projections(run.model)})

    trained(model, [pruner, Each(see)])
    moved = [
        (bias_of(model, p) != at_cut[p.name])[~pruner.keep[p.name]] for p in find_projections(model) if p.type == "ffn_out"
    ]
    assert torch.cat(moved).all()


def test_ties_go_by_layer_and_index():
    """Of rows that are all alike the first ones go: the first layer's."""
    pruner = GradualRows(CUTS)
    pruner.prepare(model_of(), 12)
    pruner.meters.steps = 1
    pruner.meters.ewmv = {p.name: torch.ones(p.d_out, dtype=torch.float64) for p in pruner.projections}
    keep = pruner._choose(0.25)
    assert not keep["0.query"][:16].any() and keep["0.query"][16:].all() and keep["1.query"].all()
    pruner.keep["1.query"][30:] = False  # what is gone already counts
    keep = pruner._choose(0.25)
    assert keep["1.query"].tolist() == [True] * 30 + [False] * 2 and keep["0.query"].tolist() == [False] * 14 + [True] * 18


def test_random_takes_as_many_of_each_projection():
    """The first cut of both is after the same training, so the counts are equal; later ones are nested."""
    both = [GradualRows(CUTS, criterion) for criterion in ("variance", "random")]
    for pruner in both:
        trained(model_of(), [pruner])
    variance, random = both
    assert variance.cuts()[0]["removed"] == random.cuts()[0]["removed"]
    assert any(not torch.equal(variance.keep[name], random.keep[name]) for name in variance.keep)
    other = GradualRows(CUTS, "random", seed=1)
    trained(model_of(), [other])
    assert any(not torch.equal(other.keep[name], random.keep[name]) for name in other.keep)
    seen = []
    pruner = GradualRows(CUTS, "random")
    trained(model_of(), [pruner, Each(lambda run: seen.append(dict(pruner.keep)))])
    for before, after in pairwise(seen):
        assert not any((after[name] & ~before[name]).any() for name in after)
    assert all((seen[-1][name] == random.keep[name]).all() for name in random.keep)


STOPS = [(stop, squeezed) for stop in (2, 3, 4, 9, 11) for squeezed in ("end", "each")] + [(9, "last"), (10, "last")]


@pytest.mark.parametrize(("stop", "squeezed"), STOPS)
def test_resumed_is_unbroken_to_the_bit(stop, squeezed, tmp_path):
    """With dropout; the plug is pulled before, at and after cuts."""
    whole, one = model_of(), GradualRows(CUTS, squeezed=squeezed)
    losses = trained(whole, [one])
    first = trained(model_of(), [GradualRows(CUTS, squeezed=squeezed)], folder=tmp_path, until=stop)
    model, other = model_of(), GradualRows(CUTS, squeezed=squeezed)
    again = trained(model, [other], folder=tmp_path)
    assert [*first, *again] == losses and tiny.sha(model) == tiny.sha(whole)
    assert other.plan() == one.plan() and other.cuts() == one.cuts()


@pytest.mark.parametrize("family", ["gpt2", "llama", "albert"])
def test_other_families_resume_too(family, tmp_path):
    whole, one, other = model_of(family), GradualRows(CUTS, squeezed="last"), GradualRows(CUTS, squeezed="last")
    losses = trained(whole, [one], family=family)
    first = trained(model_of(family), [GradualRows(CUTS, squeezed="last")], folder=tmp_path, until=10, family=family)
    again = trained(model := model_of(family), [other], folder=tmp_path, family=family)
    assert [*first, *again] == losses and tiny.sha(model) == tiny.sha(whole)


def outputs(model, data):
    with torch.no_grad():
        return torch.cat([model.eval()(input_ids=torch.tensor([row])).logits for row in data.data.ids])


EXACT = [(family, "last", torch.float64, 1e-10) for family in (*FAMILIES, *OTHERS)]
ALSO = [("bert", "each", torch.float64, 1e-10), ("llama", "each", torch.float64, 1e-10), ("bert", "last", torch.float32, 1e-5)]


@pytest.mark.parametrize(("family", "squeezed", "dtype", "close"), [*EXACT, *ALSO])
def test_squeezed_at_once_trains_the_same_model(family, squeezed, dtype, close, monkeypatch):
    """Losses, weights and outputs of the masked training and of the smaller one, filled up with zero rows as large ones are;
    dense shapes at the end."""
    monkeypatch.setattr(narrow, "_ALIGNMENT", 4)
    found, narrowed = [], []
    for when in ("end", squeezed):
        model, pruner = model_of(family, dtype, **tiny.NO_DROPOUT), GradualRows(CUTS, squeezed=when)
        count = Each(lambda run: narrowed.append(sum(isinstance(m, NarrowLinear) for m in run.model.modules())))
        losses = trained(model, [pruner, count], replace(QUICK, lr=3e-4), lessons(family), family=family)
        found.append((losses, dict(model.named_parameters()), outputs(model, lessons(family)), pruner))
    (losses, weights, masked, one), (small_losses, small_weights, small, other) = found
    assert not any(narrowed[:12]) and narrowed[-1] > 3 and bool(narrowed[15]) == (squeezed == "each")
    assert one.plan() == other.plan()
    np.testing.assert_allclose(small_losses, losses, rtol=close)
    assert tiny.distance(small, masked) < close * 10
    assert weights.keys() == small_weights.keys()
    for name, weight in weights.items():
        assert weight.shape == small_weights[name].shape and torch.equal(weight == 0, small_weights[name] == 0), name


@pytest.mark.parametrize("family", [*FAMILIES, *OTHERS])
def test_compact_has_the_same_outputs(family, tmp_path):
    """What is left, squeezed, in float64; saved and read it is the same still."""
    model, pruner = model_of(family, torch.float64), GradualRows(CUTS)
    dense = outputs(model, lessons(family))
    trained(model, [pruner], family=family)
    small = pruner.compact(model.cpu().eval().requires_grad_(False))
    expected = outputs(model, lessons(family))
    assert tiny.distance(outputs(small, lessons(family)), expected) < 1e-10 < 1e-3 < tiny.distance(dense, expected)
    assert small.squeezed.cost.parameters < sum(p.numel() for p in model.parameters())
    again = load_pruned(save_pruned(small, tmp_path / "small"))
    assert torch.equal(outputs(again, lessons(family)), outputs(small, lessons(family)))
    assert small.squeezed.as_json() == squeeze(model, pruner.plan()).squeezed.as_json()


@pytest.mark.parametrize("family", ["llama", "modernbert"])
def test_a_cut_of_a_gated_network_puts_the_mean_of_the_product_in_the_readers_bias(family):
    """At the moment of the cut: the reader's output changes by W·(h − mean h) of removed neurons, by hand."""
    model, pruner, at = model_of(family), GradualRows(replace(CUTS, until=0.2)), {}
    gated = [p for p in find_projections(model) if p.gate]

    watch = Meters()

    def keep(run):
        if run.step == 3:
            at["means"] = watch.means()
            at["weights"] = {p.name: linear_map(run.model, p.consumer).weight.detach().clone() for p in gated}
            at["bias"] = {p.name: linear_map(run.model, p.consumer).bias.detach().clone() for p in gated}

    def check(run):
        if run.step == 3:
            for p in gated:
                reader, gone = linear_map(run.model, p.consumer), ~pruner.keep[p.name]
                stays = pruner.keep[p.name.replace("ffn_in", "ffn_out")]
                expected = at["bias"][p.name] + (at["weights"][p.name][:, gone].double() @ at["means"][p.name][gone]).float()
                assert gone.any()
                torch.testing.assert_close(reader.bias.detach()[stays], expected[stays])
                assert not gate_weight_of(run.model, p)[gone].any() and not weight_of(run.model, p)[gone].any()
            at["checked"] = True

    trained(model, [watch, Each(keep), pruner, Each(check)], family=family)
    assert at["checked"]


def test_a_map_without_bias_gets_one_where_rows_went_and_nowhere_else():
    model, pruner = model_of("llama"), GradualRows(CUTS)
    trained(model, [pruner], family="llama")
    for p in find_projections(model):
        if p.type in ("query", "key", "value", "attention_output"):
            bias, gone = linear_map(model, p.path).bias, ~pruner.keep[p.name]
            assert not bias[~gone].any() and bias[gone].all()
    assert sum(int((~mask).sum()) for mask in pruner.keep.values()) > 100


def test_meters_rest_when_no_cut_is_to_come():
    pruner, seen = GradualRows(CUTS), []
    trained(model_of(), [pruner, Each(lambda run: seen.append(pruner.meters.steps))])
    assert seen == [1, 2, 0, 1, 2, 0, 1, 2, 0, 0, 0, 0]


def test_what_is_refused():
    def says(match, model=None, **settings):
        with pytest.raises(VPError, match=match + r".*\.$") as raised:
            train(model or model_of(), lessons(), QUICK, callbacks=[GradualRows(**{"cuts": CUTS} | settings)])
        assert "\n" not in str(raised.value)

    says("training ends after 12 steps", cuts=Cuts())
    says("no variance to cut by", cuts=replace(CUTS, first=0))
    says("criterion 'size'", criterion="size")
    says("scope 'per head'", scope="per head")
    says("time to squeeze 'now'", squeezed="now")
    pruned = model_of()
    with torch.no_grad():
        pruned.bert.encoder.layer[0].output.dense.weight[3] = 0
    says("zero already", pruned, squeezed="last")
    normalised = model_of()
    normalise(normalised, 3.0)
    says("Spectral normalisation", normalised)
    pruner = GradualRows(CUTS)
    model = model_of()
    trained(model, [pruner])
    says("squeezed already", copy.deepcopy(pruner.compact(model.eval())))
