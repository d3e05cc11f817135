"""Criteria of units against what is caught at the consumers' inputs, token by token."""

from functools import cache

import bench_models
import numpy as np
import pytest
import tiny
import torch
from bench_models import stage

from vp_core.ground.errors import VPError
from vp_core.ground.names import CRITERIA, UNITS, WHOLE
from vp_core.model.projections import weight_of
from vp_core.ranking.plan import rank
from vp_core.recipes import Recipe

pytestmark = pytest.mark.usefixtures("exact_norms")
FAMILIES = ["bert", "gpt2", "bart", "llama"]
staged = cache(lambda family: stage(family, 12))


def caught(one, p, at_input):
    """(tokens, n): what a projection reads, or what comes out of it, at real tokens."""
    rows, module = [], one.measured.model.get_submodule(p.path)

    def keep(values):
        rows.append(values.detach())

    if at_input:
        handle = module.register_forward_pre_hook(lambda _m, args: keep(args[0]))
    else:
        handle = module.register_forward_hook(lambda _m, _a, output: keep(output[..., p.start : p.start + p.d_out]))
    for batch in one.measured.solving_batches():
        with torch.no_grad():
            one.measured.model(**batch.inputs)
        rows[-1] = rows[-1][batch.inputs["attention_mask"].bool()]
    handle.remove()
    return torch.cat(rows).double().numpy()


def scores(one, criterion, *kinds):
    return one.scores(Recipe(criterion=criterion, units=kinds))


@pytest.mark.parametrize("family", FAMILIES)
def test_by_hand_at_the_consumers_inputs(family):
    one = staged(family)
    for kind, type_, fed_by in (
        ("ffn neurons", "ffn_out", "ffn_in"),
        ("values", "attention_output", "value"),
        ("heads",) * 2 + ("",),
    ):
        found = {name: scores(one, name, kind) for name in ("variance", "weighted variance", "wanda", "magnitude")}
        for number, layer in enumerate(one.measured.layers):
            consumer = layer.projections.get("attention_output" if kind == "heads" else type_)
            if consumer is None:
                continue
            group = next(g for g in one.groups(Recipe(units=(kind,))) if g.layer == number)
            x, w = caught(one, consumer, True), weight_of(one.measured.model, consumer).detach().numpy()
            norms = np.sqrt((x**2).mean(0))
            for unit, columns in enumerate(group.columns.tolist()):
                wrote = (x[:, columns] - x[:, columns].mean(0)) @ w[:, columns].T  # its contribution, token by token
                contribution = (wrote**2).sum(1).mean()
                by_variance = contribution if kind == "heads" else x[:, columns].var(0).sum()
                own = [weight_of(one.measured.model, p).detach()[r[unit]].flatten() for p, r in group.rows]
                if group.projection.gate:
                    own.append(one.measured.model.get_submodule(group.projection.gate).weight[unit].detach())
                size = np.sqrt(sum((part**2).sum().item() for part in own) + (w[:, columns] ** 2).sum())
                expected = {
                    "variance": by_variance,
                    "weighted variance": contribution,
                    "wanda": (np.abs(w[:, columns]) * norms[columns]).sum(),
                    "magnitude": size,
                }
                for name, value in expected.items():
                    assert found[name][group.name][unit].item() == pytest.approx(value, rel=1e-6), (name, kind, unit)
            if kind != "heads":  # single rows of the projection that feeds it count by the same columns
                rows = one.scores(Recipe(criterion="weighted variance", types=(fed_by,)))
                if family != "llama" or kind == "ffn neurons":
                    torch.testing.assert_close(rows[f"{number}.{fed_by}"], found["weighted variance"][group.name])


@pytest.mark.parametrize("family", ["bert", "gpt2", "bart"])
def test_a_pairs_variance_is_that_of_its_products_over_queries_and_keys(family):
    one = staged(family)
    found, gone = scores(one, "variance", "pairs"), scores(one, "conditional variance", "pairs")
    for number, layer in enumerate(one.measured.layers):
        q, k = (caught(one, layer.projections[t], False) for t in ("query", "key"))
        for i in (0, 17, 47):
            products = q[:, None, i] * (k[None, :, i] - k[:, i].mean())  # softmax does not see a key's mean
            assert found[f"{number}.pairs"][i].item() == pytest.approx((products**2).mean(), rel=1e-6)
        assert (gone[f"{number}.pairs"] <= found[f"{number}.pairs"] * (1 + 1e-9)).all()  # others can only say more of it
        best = found[f"{number}.pairs"].view(4, 12).argmax(dim=1) + torch.arange(4) * 12  # of each head
        torch.testing.assert_close(gone[f"{number}.pairs"][best], found[f"{number}.pairs"][best])


@pytest.mark.parametrize("family", FAMILIES)
def test_wanda_of_rows_weighs_what_they_read(family):
    one = staged(family)
    found = one.scores(Recipe(criterion="wanda"))
    for layer in one.measured.layers:
        for p in layer.projections.values():
            norms = np.sqrt((caught(one, p, True) ** 2).mean(0))
            expected = np.abs(weight_of(one.measured.model, p).detach().numpy()) @ norms
            np.testing.assert_allclose(found[p.name], expected, rtol=1e-6, err_msg=p.name)


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("family", bench_models.CLASSIFIERS)
def test_every_criterion_scores_every_kind(family, criterion):
    one = staged(family)
    for kind in UNITS:
        if family in tiny.ROTARY and kind == "pairs":
            continue
        if criterion == "function norm" and kind not in ("heads", *WHOLE):
            with pytest.raises(VPError, match="whole blocks"):
                scores(one, criterion, kind)
            continue
        found = scores(one, criterion, kind)
        groups = one.groups(Recipe(units=(kind,)))
        assert found.keys() == {g.name for g in groups}
        for g in groups:
            assert found[g.name].shape == (len(g),) and found[g.name].dtype == torch.float64
            assert torch.isfinite(found[g.name]).all() and (found[g.name] >= 0).all(), (g.name, criterion)
        if criterion != "conditional variance":
            assert all(found[g.name].any() for g in groups)


@pytest.mark.parametrize("scope", ["per type", "per layer", "global", "scaled"])
def test_random_takes_as_many_of_every_group_as_variance(scope):
    one = staged("bert")
    for kinds in (("ffn neurons", "values", "pairs"), ("heads",), ("rows",)):
        groups = one.groups(Recipe(units=kinds))
        mine = rank(scores(one, "variance", *kinds), groups, scope)
        seeds = [rank(one.scores(Recipe("random", units=kinds, seed=s)), groups, scope) for s in (0, 1)]
        for share in (0.1, 0.5, 0.8):
            for g in groups:
                assert mine.gone(g.name, share) == seeds[0].gone(g.name, share) == seeds[1].gone(g.name, share)
        assert any((seeds[0].place[g.name] != seeds[1].place[g.name]).any() for g in groups)


@pytest.mark.parametrize("criterion", ["conditional variance", "surgeon", "weighted variance", "fisher", "wanda"])
def test_dead_and_identical_units_go_first(criterion):
    """Unit 7 never moves, unit 9 says what unit 8 does."""
    model = tiny.transformer("bert", num_labels=3)
    with torch.no_grad():
        first, second = model.bert.encoder.layer[0].intermediate.dense, model.bert.encoder.layer[0].output.dense
        first.weight[7], first.bias[7] = 0, -60.0  # gelu(−60) = 0
        first.weight[9], first.bias[9] = first.weight[8], first.bias[8]
        second.weight[:, 7] = 1
    one = stage("bert", 60, model=model)
    order = one.ranking(Recipe(criterion=criterion, units=("ffn neurons",), scope="per layer")).order("0.ffn neurons")
    if criterion == "surgeon":  # λ makes both cost a little
        assert set(order[:2].tolist()) in ({7, 8}, {7, 9})
    else:
        assert order[0] == 7
        assert criterion != "conditional variance" or order[1] in (8, 9)
    pruned = one.pruned(
        Recipe(criterion=criterion, units=("ffn neurons",), scope="per layer", replacement="least squares"), 2 / 56
    )
    found, dense = (bench_models.outputs(m, one.measured.some_batches(64)) for m in (pruned, one.measured.model))
    if criterion in ("conditional variance", "surgeon"):
        assert tiny.distance(found, dense) < 0.1
    assert torch.isfinite(found).all()
