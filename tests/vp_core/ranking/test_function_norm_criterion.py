"""Ranking whole blocks by their mean function norm, and putting their mean in their place."""

import bench_models
import numpy as np
import pytest
import torch
from brute_norms import brute, kept, mask_of

from vp_core.asking.batches import make_batches
from vp_core.ground.errors import VPError
from vp_core.model.projections import find_layers
from vp_core.recipes import Recipe

pytestmark = pytest.mark.usefixtures("exact_norms")


UNITS = ("heads", "attention", "feed-forward", "sublayers", "layers")


@pytest.mark.parametrize("family", bench_models.CLASSIFIERS)
def test_the_criterion_orders_by_mean_norm(family):
    """Heads, blocks and layers (both blocks summed), against brute force; lowest first."""
    data = bench_models.texts(family)
    one = bench_models.stage(family)
    expected = {n: np.concatenate([v for _, v in parts]).mean() for n, parts in brute(
        bench_models.classifier(family), make_batches(data, range(40))).items()}  # fmt: skip
    by_kind = {"attention": ("attention",), "feed-forward": ("ffn",), "layers": ("attention", "ffn")}
    for kind in UNITS:
        recipe = Recipe(units=(kind,), criterion="function norm", scope="global")
        scores, values = one.scores(recipe), {}
        for group in one.groups(recipe):
            if kind == "heads":
                values[group.name] = [expected[f"{group.layer}.head.{h}"] for h in range(len(group))]
            else:
                parts = by_kind.get(kind) or (("ffn",) if group.rows[0][0].type == "ffn_in" else ("attention",))
                values[group.name] = [sum(expected.get(f"{group.layer}.{part}", 0) for part in parts)]
            np.testing.assert_allclose(scores[group.name], values[group.name], rtol=1e-6)
        ranking = one.ranking(recipe)
        places = np.concatenate([ranking.place[name] for name in values])
        assert np.array_equal(np.argsort(places), np.argsort(np.concatenate(list(values.values())), kind="stable"))


@pytest.mark.parametrize("kind", ["rows", "ffn neurons", "values", "pairs"])
def test_other_units_have_no_function_norm(kind):
    with pytest.raises(VPError, match="whole blocks") as raised:
        bench_models.stage("bert").scores(Recipe(units=(kind,), criterion="function norm"))
    assert "\n" not in str(raised.value) and str(raised.value).endswith(".")


@pytest.mark.parametrize("share", [0.3, 0.6, 1.0])
@pytest.mark.parametrize("family", bench_models.CLASSIFIERS)
def test_mean_replacement_puts_the_mean_into_the_bias(family, share):
    """A pruned block fed with what the dense model feeds it puts out the dense block's mean over the calibration texts."""
    one = bench_models.stage(family)
    model, batches = bench_models.classifier(family), make_batches(bench_models.texts(family), range(40))
    recipe = Recipe(units=("heads", "feed-forward"), criterion="function norm", scope="global", replacement="mean")
    pruned, plan = one.pruned(recipe, share), one.plan(recipe, share)
    sums = {}
    for batch in batches:
        for p, x, y in kept(model, batch):
            mask = mask_of(batch, p)
            module = pruned.get_submodule(p.path)
            with torch.no_grad():
                new = module(torch.from_numpy(x)).numpy()
            before, after = sums.get(p.name, (0, 0))
            sums[p.name] = before + y[mask].sum(axis=0), after + new[mask].sum(axis=0)
    tokens = sum(int(b.inputs["attention_mask"].sum()) for b in batches) * (2 if family == "albert" else 1)
    assert plan.rows_removed > 0
    for name, (dense, new) in sums.items():
        np.testing.assert_allclose(new / tokens, dense / tokens, rtol=1e-8, atol=1e-8, err_msg=name)
    constant = [p for layer in find_layers(model) for p in layer.projections.values()
                if p.type == "ffn_out" and not plan.keep[p.name].any()]  # fmt: skip
    for p in constant:  # a network that is gone is its bias
        assert not pruned.get_submodule(p.path).weight.any() and pruned.get_submodule(p.path).bias.any()
    assert constant or share < 1
