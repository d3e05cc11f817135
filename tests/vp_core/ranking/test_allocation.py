"""Measured losses against whole forward passes, their hull against brute force, and budgets that are met to the unit."""

from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import bench_models
import numpy as np
import pytest
import tiny
import torch
from bench_models import stage
from hypothesis import given, settings
from hypothesis import strategies as st

import vp_core.carry_out
import vp_core.squeezing.widths
from vp_core.asking.batches import make_batches
from vp_core.ground.errors import VPError
from vp_core.ground.kept import Kept
from vp_core.ground.work import work
from vp_core.measuring.layerwise import Walk
from vp_core.model.units import unit_groups
from vp_core.ranking import allocation
from vp_core.ranking.allocation import Losses, counts, marginal
from vp_core.recipes import Recipe
from vp_core.squeezing.cost import cost

pytestmark = pytest.mark.usefixtures("exact_norms")
STRUCTURED = ("ffn neurons", "values", "pairs")
UNITS = Recipe(units=STRUCTURED, budget="parameters", criterion="weighted variance")


@given(
    points=st.lists(st.tuples(st.integers(1, 60), st.floats(0, 100)), min_size=1, max_size=8, unique_by=lambda p: p[0]),
)
@settings(max_examples=100)
def test_the_hull_is_that_of_brute_force(points):
    """At every point the hull is the lowest chord over it."""
    x, y = np.array([(0, 0.0), *sorted(points)]).T
    hull = allocation._hull(x, y)
    assert hull[0] == 0 and hull[-1] == len(x) - 1
    for i in range(len(x)):
        chords = [y[a] + (y[b] - y[a]) * (x[i] - x[a]) / (x[b] - x[a]) for a in range(i + 1) for b in range(i, len(x)) if a < b]
        lowest = min([y[i], *chords])
        assert np.interp(x[i], x[hull], y[hull]) == pytest.approx(lowest, abs=1e-9 * (1 + y.max()))
    slopes = np.diff(y[hull]) / np.diff(x[hull])
    assert (np.diff(slopes) > 0).all() and (slopes >= 0).all()
    found = marginal(Losses(x, y), int(x[-1]))
    assert (np.diff(found) >= 0).all() and (found >= 0).all() and len(found) == x[-1]


@pytest.mark.parametrize("units", [1, 2, 5, 48, 56])
def test_marginal_losses_of_a_parabola_are_its_differences(units):
    """a·n²: the (i + 1)-th unit adds a·(2i + 1), and all of them together a·n²."""
    removed = np.array([0, *counts(units)])
    found = marginal(Losses(removed, 0.7 * removed.astype(float) ** 2), units)
    np.testing.assert_allclose(found, 0.7 * (2 * np.arange(units) + 1), rtol=1e-12)
    # a bump above the hull changes nothing where it is not on it
    if units > 5:
        bumped = 0.7 * removed.astype(float) ** 2
        straight = marginal(Losses(np.delete(removed, 3), np.delete(bumped, 3)), units)
        bumped[3] *= 3
        np.testing.assert_allclose(marginal(Losses(removed, bumped), units), straight, rtol=1e-12)
    assert not marginal(Losses(removed, np.zeros(len(removed))), units).any()


def test_scores_are_slopes_per_parameter_in_the_groups_own_order():
    model = bench_models.classifier("bert")
    ranking = bench_models.random_ranking(model, STRUCTURED)
    losses = {g.name: Losses(np.array([0, len(g)]), np.array([0.0, 3.0])) for g in ranking.groups}
    for group in ranking.groups:
        found = allocation.scores(ranking, losses)[group.name]
        ordered = found[torch.from_numpy(ranking.order(group.name).copy())]
        assert (ordered.diff() > 0).all()
        expected = 3.0 * 2 * (np.arange(len(group)) + 0.5) / len(group) ** 2 / (2 * 48)  # a row and a column of 48 go
        np.testing.assert_allclose(ordered, expected, rtol=1e-9)


def direct(one, batches, group, n, replacement, order):
    """Logits when the first `n` units of one group read as their mean (or are solved away), by a whole forward pass."""
    goes = group.columns[torch.from_numpy(order[:n].copy())].flatten()
    module = one.measured.model.get_submodule(group.consumer.path)
    mean = one.measured.covariances()[f"{group.layer}.{SITE[group.kind]}"].mean

    def hook(_module, args):
        x = args[0].clone()
        x[..., goes] = mean[goes] if replacement == "mean" else 0
        return (x,)

    handle = module.register_forward_pre_hook(hook)
    found = bench_models.outputs(one.measured.model, batches)
    handle.remove()
    return found


SITE = {"ffn neurons": "activation", "values": "context", "heads": "context"}


@pytest.mark.parametrize("family", [f for f in bench_models.CLASSIFIERS if f != "albert"])
@pytest.mark.parametrize("replacement", ["mean", "zero"])
def test_a_measured_loss_is_that_of_a_whole_forward_pass(family, replacement):
    one = stage(family, 70)  # more than the losses are measured on
    kinds = ("ffn neurons", "values")
    recipe = Recipe(units=kinds, replacement=replacement, scope="measured", budget="parameters")
    groups = unit_groups(one.measured.layers, kinds)
    own = one.ranking(replace(recipe, scope="per layer"))
    before, batches = tiny.sha(one.measured.model), make_batches(one.measured.texts, range(70), 200)
    assert len(batches) > 3

    def without(group, n):
        return one.closed_form(recipe, own.only(group.name, n), {group.name: n})

    found = dict(allocation.measure_losses(Walk(one.measured.model, batches), groups, without))
    assert found.keys() == {g.name for g in groups}
    assert sum(len(b.examples) for b in one.measured.some_batches(allocation.SENTENCES)) == 64
    dense = bench_models.outputs(one.measured.model, batches)
    scale = dense.var(dim=0, unbiased=False).sum()
    for group in groups:
        losses = found[group.name]
        assert losses.removed.tolist() == [0, *counts(len(group))] and losses.loss[0] == 0
        for n, loss in list(zip(losses.removed, losses.loss, strict=True))[1::3]:
            changed = direct(one, batches, group, n, replacement, own.order(group.name)) - dense
            # one layer at a time, logits come back in float32
            assert loss == pytest.approx((changed.square().sum(dim=1).mean() / scale).item(), rel=1e-4, abs=1e-9)
    assert (tiny.sha(one.measured.model), tiny.hooks(one.measured.model)) == (before, 0)


def test_measured_allocation_takes_where_it_costs_least():
    """A layer whose feed-forward network nobody listens to goes first and whole."""
    model = tiny.transformer("bert", num_labels=3)
    with torch.no_grad():
        model.bert.encoder.layer[0].output.dense.weight.mul_(1e-4)
        model.bert.encoder.layer[1].output.dense.weight.mul_(3)
    one = stage("bert", model=model)
    ranking = one.ranking(Recipe(units=("ffn neurons",), scope="measured", budget="parameters"))
    assert ranking.gone("0.ffn neurons", 0.5) == tiny.FFN and ranking.gone("1.ffn neurons", 0.5) == 0
    assert ranking.pool_size["0.ffn neurons"] == 2 * tiny.FFN


@pytest.mark.parametrize("budget", ["parameters", "flops"])
@pytest.mark.parametrize(
    ("units", "scope"),
    [(units, scope) for units in (STRUCTURED, ("heads",), ("rows",)) for scope in ("per type", "global")]
    + [(STRUCTURED, "measured"), (("ffn neurons",), "measured")],
)
def test_a_budget_is_met_to_the_unit(budget, units, scope, studies):
    study = studies["bert"]
    recipe = Recipe(units=units, scope=scope, budget=budget, criterion="variance")
    length = min(vp_core.squeezing.budget.FLOPS_LENGTH, study.loaded.max_length)
    layers, projections = study.measured().layers, study.projections()
    whole = sum(p.d_in * p.d_out for p in projections)
    ranking = study.ranking(recipe)
    # `per type` and `per layer` remove a unit of every competition at once
    at_once = len(set(ranking.pool.values()))
    unit = at_once * max(g.weights_of_a_unit for g in ranking.groups) / whole
    if units == ("rows",):  # the column that goes with it; a head's last value takes the whole head along
        unit = unit * 2 + (4 * tiny.HIDDEN * tiny.HIDDEN // tiny.HEADS) / whole
    reach = study.cost(replace(recipe, budget="units"), 1.0).share_removed
    before = None
    for target in (0.05, 0.2, 0.3, 0.5, 0.8):
        if budget == "flops":
            full = study.cost(replace(recipe, budget="units"), 1.0)
            reach = 1 - full.flops_per_token_left(length) / full.flops_per_token(length)
        if target > reach:
            with pytest.raises(VPError, match=rf"can save {reach:.1%} of .*, not {target:.1%}: ask for less") as raised:
                study.plan(recipe, target)
            assert "\n" not in str(raised.value)
            continue
        found = study.cost(recipe, target)
        saved = found.share_removed
        if budget == "flops":
            saved = 1 - found.flops_per_token_left(length) / found.flops_per_token(length)
        assert abs(saved - target) <= unit * (1.5 if budget == "flops" else 1), (saved, target)
        plan = study.plan(recipe, target)
        assert (plan.sparsity, plan.budget) == (target, budget)
        if before is not None:
            assert all((plan.keep[n] & ~keep).sum() == 0 for n, keep in before.keep.items())  # nested
        before = plan
        assert cost(layers, plan).rows_removed == found.rows_removed


def test_a_budget_of_time_is_met(monkeypatch, studies, tmp_path):
    """A clock that counts weights: what is asked for is saved, and units that are padded anyway stay."""

    def weights(model):
        return sum(p.numel() for m in model.bert.encoder.modules() if isinstance(m, torch.nn.Linear) for p in m.parameters())

    def clock(models, batch, length, repeats):
        yield {name: SimpleNamespace(median=weights(m), seconds=(weights(m),)) for name, m in models.items()}

    monkeypatch.setattr(vp_core.squeezing.widths, "time_forward", clock)
    monkeypatch.setattr(vp_core.squeezing.widths, "_TABLES", Kept())
    monkeypatch.setenv("VP_CACHE_DIR", str(tmp_path))
    study = studies["bert"]
    recipe = Recipe(units=STRUCTURED, budget="latency", scope="global", criterion="magnitude")
    for target in (0.2, 0.4):
        small = study.squeezed(recipe, target)
        assert abs(1 - weights(small) / weights(study.model) - target) < 0.06  # heads are padded to multiples of 8
        assert study.plan(recipe, target).sparsity == target
    assert len(list(tmp_path.glob("widths-*.json"))) == 1
    # the allocation that is timed is the recipe's own, whatever rung its losses were measured with
    measured = replace(recipe, scope="measured", replacement="least squares")
    assert 0 < study.stage().share(measured, 0.3) < 1
    with pytest.raises(VPError, match=r"of the time of a forward pass, not 99\.0%"):
        study.plan(replace(recipe, units=("ffn neurons",)), 0.99)


@pytest.mark.parametrize(
    ("steps", "scope"),
    [(1, "measured"), (3, "measured"), *((n, scope) for n in (1, 4, 16) for scope in ("per type", "scaled"))],
)
def test_steps_are_cumulative_and_counts_exact(steps, scope, monkeypatch):
    made = []

    class Watched(vp_core.carry_out.Stage):
        def __init__(self, measured, gone=None):
            super().__init__(measured, gone)
            made.append(gone)

    monkeypatch.setattr(vp_core.carry_out, "Stage", Watched)
    one = stage("bert", 16)
    recipe = Recipe(units=STRUCTURED, scope=scope, criterion="surgeon", replacement="least squares", steps=steps)
    before = tiny.sha(one.measured.model)
    plan = one.plan(recipe, 0.5)
    assert len(made) == steps - 1
    for step, (gone, later) in enumerate(pairwise([*made, plan]), start=1):
        assert sum(int((~k).sum()) for k in gone.keep.values()) > 0
        for name, keep in gone.keep.items():
            assert not (later.keep[name] & ~keep).any(), name  # what went stays gone
        expected = rows(one, recipe, 0.5 * step / steps)
        assert scope != "per type" or gone.rows_removed == expected
        assert units_gone(one, gone) == pytest.approx(0.5 * step / steps * 304, abs=2)
    assert units_gone(one, plan) == 152  # half of 2 · (56 + 48 + 48)
    pruned = one.pruned(recipe, 0.5)
    assert torch.isfinite(bench_models.outputs(pruned, one.measured.some_batches(allocation.SENTENCES))).all()
    assert tiny.sha(one.measured.model) == before


def rows(one, recipe, share):
    """Rows that go per type: a row of ffn_in, of value, and two for a pair."""
    return round(share * 112) + round(share * 96) + 2 * round(share * 96)


def units_gone(one, plan):
    return sum(int((~keep).sum()) for name, keep in plan.keep.items() if not name.endswith("key"))


def test_steps_and_the_principal_basis_in_a_study(study):
    recipe = Recipe(
        criterion="surgeon", scope="measured", replacement="refit", units=STRUCTURED, basis="principal", budget="parameters",
        steps=2,
    )  # fmt: skip
    said, before = [], tiny.sha(study.model)
    with work(hear=said.append):
        assert 0.48 < study.cost(recipe, 0.5).share_removed < 0.52
        pruned, squeezed = study.pruned(recipe, 0.5), study.squeezed(recipe, 0.5)
    for batch in study.question.chunks()[0][1]:
        with torch.inference_mode():
            assert tiny.distance(squeezed(**batch.inputs).logits, pruned(**batch.inputs).logits) <= 1e-4
    assert (tiny.sha(study.model), tiny.hooks(study.model)) == (before, 0)
    for told in ("measuring covariances", "step 1 of 2", "what each layer loses: 9 of 9", "refitting: layer 3 of 3"):
        assert any(told in one for one in said), told
