"""What a language model loses when units of one layer go, against plain loops; and `best` from its first line to its last."""

from dataclasses import replace

import bench_models
import numpy as np
import pytest
import tiny
import torch

from vp_core.asking.batches import Encoded, make_batches
from vp_core.carry_out import Stage
from vp_core.ground.errors import VPError
from vp_core.measuring.layerwise import Walk
from vp_core.measuring.measured import Measured
from vp_core.model.units import unit_groups
from vp_core.ranking import allocation
from vp_core.ranking.allocation import Losses, counts
from vp_core.ranking.estimated import brought_to, estimate_losses
from vp_core.recipes import RECIPES, STRUCTURED, Recipe
from vp_core.squeezing.cost import cost
from vp_core.squeezing.squeeze import squeeze

pytestmark = pytest.mark.usefixtures("exact_norms")
KINDS = ("ffn neurons", "values")


def staged(family, n=12):
    rng = np.random.default_rng(0)
    ids = [rng.integers(2, 99, rng.integers(4, 12)).tolist() for _ in range(n)]
    return Stage(Measured(tiny.transformer(family), Encoded(ids, None, 1, 0, 12), "m", "d"))


def plain(one, model, places):
    """Mean KL of the next word over these positions of each window, one window at a time, by numpy."""
    total, positions = 0.0, 0
    for i, where in places.items():
        with torch.no_grad():
            p, q = (
                m(input_ids=torch.tensor([one.measured.texts.ids[i]])).logits[0].double().numpy()
                for m in (one.measured.model, model)
            )
        p, q = (z - np.logaddexp.reduce(z, axis=1, keepdims=True) for z in (p, q))
        total += sum((np.exp(p[t]) * (p[t] - q[t])).sum() for t in where)
        positions += len(where)
    return total / positions


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2", "gpt_neox"])
def test_a_measured_loss_is_that_of_a_plain_loop(family, monkeypatch):
    monkeypatch.setattr(allocation, "PLACES", 4)
    one = staged(family)
    recipe = Recipe(units=KINDS, replacement="mean", scope="measured", budget="parameters", criterion="weighted variance")
    own, groups = one.ranking(replace(recipe, scope="per layer")), unit_groups(one.measured.layers, KINDS)
    batches, before = make_batches(one.measured.texts, range(12), 40), tiny.sha(one.measured.model)
    assert len(batches) > 2

    def without(group, n):
        return one.closed_form(recipe, own.only(group.name, n), {group.name: n})

    walk = Walk(one.measured.model, batches)
    places = {}
    for batch in batches:
        for i, row in zip(batch.examples, allocation.chosen(walk.model, batch, 4), strict=True):
            places[int(i)] = row.nonzero().squeeze(1).tolist()
            length = len(one.measured.texts.ids[i])
            assert len(places[int(i)]) == min(4, length - 1) and max(places[int(i)]) < length - 1
    found = dict(allocation.measure_losses(walk, groups, without))
    for group in groups:
        losses = found[group.name]
        assert losses.removed.tolist() == [0, *counts(len(group))] and losses.loss[0] == 0
        for n, loss in list(zip(losses.removed, losses.loss, strict=True))[1::3]:
            assert loss == pytest.approx(plain(one, without(group, int(n)), places), rel=1e-4, abs=1e-7)
    assert (tiny.sha(one.measured.model), tiny.hooks(one.measured.model)) == (before, 0)


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen3", "opt", "gemma2"])
@pytest.mark.parametrize("name", ["best", "best refit"])
def test_best_of_a_language_model(family, name):
    """What can go goes, to the share that is asked; the smaller model says the same."""
    one, recipe = staged(family), RECIPES[name]
    kinds = {group.kind for group in one.groups(recipe)}
    assert kinds == ({"ffn neurons", "values"} if family == "qwen3" else {"ffn neurons", "values", "pairs"})
    pruned, plan = one.pruned(recipe, 0.3), one.plan(recipe, 0.3)
    assert cost(one.measured.layers, plan).share_removed == pytest.approx(0.3, abs=0.02)
    given = tiny.inputs(family)
    assert tiny.distance(tiny.logits(squeeze(pruned, plan), given), tiny.logits(pruned, given)) < 1e-6


def test_pairs_asked_for_by_themselves_are_what_they_were():
    qwen3 = staged("qwen3")
    assert {g.kind for g in qwen3.groups(Recipe(units=("pairs",), criterion="variance"))} == {"pairs"}


@pytest.mark.parametrize("recipe", ["best", "rows refit"])
def test_a_model_that_writes_a_text_of_its_own_is_refused(recipe):
    model = tiny.transformer("t5")
    with pytest.raises(VPError) as told:
        Stage(Measured(model, bench_models.texts("t5", 6), "m", "d")).pruned(RECIPES[recipe], 0.3)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("replacement", ["zero", "mean", "least squares"])
def test_a_loss_in_closed_form_is_the_error_of_the_consumer_seen_with_the_gradients(family, replacement):
    """E eᵀΓe from the activations themselves, e what the consumer then puts out beside what it did, Γ from the gradients."""
    one = staged(family)
    recipe = Recipe(units=STRUCTURED, replacement=replacement, scope="measured", budget="parameters", criterion="surgeon")
    own = one.ranking(replace(recipe, scope="per layer"))
    effects = one.scores(replace(recipe, criterion="fisher"))
    found = estimate_losses(own, one.measured, effects, lambda group, n: one._solved(recipe, {group.name: n}))
    outer = one.measured.gradients().outer
    assert outer.keys() == {f"{layer}.{type_}" for layer in range(2) for type_ in ("attention_output", "ffn_out")}
    alone = one.scores(Recipe(units=("pairs",), criterion="fisher"))
    for group in own.groups:
        losses, n = found[group.name], counts(len(group))[2]
        if group.kind == "pairs":
            expected = alone[group.name][own.order(group.name)[:n].copy()].sum().item()
        else:
            pruned, total = one.closed_form(recipe, own.only(group.name, n), {group.name: n}), []
            for ids in one.measured.texts.ids:  # all else is as it was up to here
                y = [put_out(m, group.consumer.path, ids) for m in (one.measured.model, pruned)]
                total += [e @ outer[group.consumer.name] @ e for e in y[0] - y[1]]
            expected = torch.stack(total).mean().item()
        assert losses.loss[list(losses.removed).index(n)] == pytest.approx(expected, rel=1e-6), group.name
        assert (np.diff(losses.loss) >= -1e-12 * losses.loss.max()).all() or replacement != "least squares"


def put_out(model, path, ids):
    """(tokens, d): what a module puts out for one window."""
    kept = []
    handle = model.get_submodule(path).register_forward_hook(lambda _m, _a, output: kept.append(output[0]))
    with torch.no_grad():
        model(input_ids=torch.tensor([ids]))
    handle.remove()
    return kept[0]


def test_a_curve_is_brought_to_what_is_measured():
    losses = Losses(np.array([0, 2, 4]), np.array([0.0, 1.0, 5.0]))
    assert brought_to(losses, Losses(np.array([0, 3]), np.array([0.0, 6.0]))).loss.tolist() == [0.0, 2.0, 10.0]
    both = Losses(np.array([0, 2, 4]), np.array([0.0, 3.0, 43.0]))
    assert brought_to(losses, both).loss.tolist() == [0.0, 3.0, 43.0]
    at_three = Losses(np.array([0, 3, 4]), np.array([0.0, 6.0, 8.0]))
    assert brought_to(losses, at_three).loss.tolist() == [0.0, 2.0, 8.0]
    nothing = Losses(np.array([0, 2]), np.array([0.0, 0.0]))
    assert brought_to(nothing, Losses(np.array([0, 1]), np.array([0.0, 6.0]))).loss.tolist() == [0.0, 0.0]
