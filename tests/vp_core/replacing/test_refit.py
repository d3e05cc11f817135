"""Refit: every projection is the regression it says it is, and the model comes nearer to the dense one."""

from itertools import cycle, product

import bench_models
import numpy as np
import pytest
import tiny
import torch
from bench_models import stage
from sklearn.linear_model import Ridge

from vp_core.ground.errors import VPError
from vp_core.measuring.covariance import READ_AT
from vp_core.model.projections import find_layers, layer_paths, weight_of
from vp_core.recipes import Recipe
from vp_core.replacing import refit as module
from vp_core.replacing.ladder import weight_and_bias
from vp_core.replacing.prune import prune
from vp_core.replacing.refit import HELD_OUT, Progress, refit
from vp_core.replacing.solve import RIDGES

pytestmark = pytest.mark.usefixtures("exact_norms")
ONCE = [family for family in bench_models.CLASSIFIERS if family != "albert"]
UNITS = {family: ("ffn neurons", "values") if family == "llama" else ("ffn neurons", "values", "pairs") for family in ONCE}
UNITS |= dict.fromkeys(bench_models.OTHERS, ("ffn neurons", "values"))


def relative_error(model, other, batches):
    """E‖z − z'‖² over the variance of z."""
    dense, found = (bench_models.outputs(m, batches) for m in (model, other))
    return ((dense - found).square().sum(dim=1).mean() / dense.var(dim=0, unbiased=False).sum()).item()


def all_weights(one):
    """Weights of 1 for every token of every projection."""
    batches = one.measured.solving_batches()
    return {p.name: [torch.ones(b.inputs["input_ids"].shape) for b in batches] for layer in one.measured.layers for p in
            layer.projections.values()}  # fmt: skip


def run(one, plan, start=None, means=True, weights=None):
    weights = weights or one.measured.gradients().weights
    steps = list(refit(one.measured.model, plan, one.measured.solving_batches(), start or {}, means, weights))
    layers = len({path for _, path in layer_paths(one.measured.model)})
    assert steps[:-1] == [Progress(i + 1, layers) for i in range(layers)]
    return steps[-1]


@pytest.mark.parametrize("family", [*ONCE, *bench_models.OTHERS])
def test_with_nothing_removed_the_target_is_the_dense_output(family):
    """So every projection finds its own weights again: also behind layer norms, and where heads share values."""
    one = stage(family, 60)
    plan = bench_models.random_ranking(one.measured.model, ("rows",)).plan(0)
    before, batches = tiny.sha(one.measured.model), one.measured.solving_batches()
    found = run(one, plan)
    assert tiny.distance(bench_models.outputs(found, batches), bench_models.outputs(one.measured.model, batches)) < 1e-6
    for layer in one.measured.layers:
        for p in layer.projections.values():
            torch.testing.assert_close(weight_of(found, p), weight_of(one.measured.model, p), atol=1e-6, rtol=0)
    assert (tiny.sha(one.measured.model), tiny.hooks(one.measured.model), tiny.hooks(found)) == (before, 0, 0)


KINDS = ("rows", "units")
BOTH = ("bert", "gpt2", "llama")


@pytest.mark.parametrize(  # both kinds where queries are separate, joined and grouped, one of them with each other family
    ("family", "kinds"),
    [*product(BOTH, KINDS), *zip([f for f in UNITS if f not in BOTH], cycle(KINDS))],
)
def test_refit_is_nearer_to_the_dense_model_than_what_it_began_with(family, kinds):
    one = stage(family, 200)
    chosen = ("rows",) if kinds == "rows" else UNITS[family]
    recipe = Recipe(criterion="variance", units=chosen, replacement="refit")
    before, errors = tiny.sha(one.measured.model), {}
    for replacement in ("zero", "mean", "least squares", "refit"):
        pruned = one.pruned(Recipe(criterion="variance", units=chosen, replacement=replacement), 0.3)
        errors[replacement] = relative_error(one.measured.model, pruned, one.measured.solving_batches())
        plan = one.plan(recipe, 0.3)
        for p in (p for layer in one.measured.layers for p in layer.projections.values()):
            gone = weight_of(pruned, p)[~plan.keep[p.name]] if p.name in plan.keep else torch.zeros(0)
            assert not gone.any(), (replacement, p.name)
    assert errors["refit"] < min(errors["zero"], errors["mean"], errors["least squares"]), errors
    assert tiny.sha(one.measured.model) == before


def flat(tensors, batches, examples=None):
    """Rows of real tokens, of these examples only."""
    rows = []
    for values, batch in zip(tensors, batches, strict=True):
        real = batch.inputs["attention_mask"].bool()
        if examples is not None:
            real = real & torch.from_numpy(np.isin(batch.examples, examples))[:, None]
        rows.append(values[real])
    return torch.cat(rows).double().numpy()


def seen(model, batches, path, at_input):
    """What passes a module, batch by batch."""
    found = []
    module = model.get_submodule(path)
    if at_input:
        handle = module.register_forward_pre_hook(lambda _m, args: found.append(args[0].detach()))
    else:
        handle = module.register_forward_hook(lambda _m, _a, output: found.append(output.detach()))
    with torch.no_grad():
        for batch in batches:
            model(**batch.inputs)
    handle.remove()
    return found


def by_scikit_learn(x, y, w, near, held_out):
    """(W', b') of weighted ridge regression towards `near`; λ is what errs least on the rows that are held out."""

    def fit(rows, ridge):
        weights = w[rows]
        centred = x[rows] - np.average(x[rows], axis=0, weights=weights)
        alpha = ridge * (weights[:, None] * centred**2).sum(0).mean()
        solved = Ridge(alpha=alpha).fit(x[rows], y[rows] - x[rows] @ near.T, sample_weight=weights)
        return near + solved.coef_, solved.intercept_

    def error(ridge):
        new, bias = fit(~held_out, ridge)
        return np.average(((x @ new.T + bias - y) ** 2).sum(1)[held_out], weights=w[held_out])

    return fit(np.full(len(x), True), min(RIDGES, key=error))


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_first_layers_projections_are_scikit_learns(family, weighted):
    """In forward order, each on what the model pruned so far hands it: nothing of the code under test but `prune`."""
    one = stage(family, 60)
    model, layer, batches = one.measured.model, one.measured.layers[0], one.measured.solving_batches()
    chosen = ("rows",) if family == "bert" else UNITS[family]
    plan = bench_models.random_ranking(model, chosen, seed=3).plan(0.4)
    means, single = chosen == ("rows",), chosen == ("rows",)
    weights = one.measured.gradients().weights if weighted else all_weights(one)
    found = run(one, plan, means=means, weights=weights)
    held_rows = np.concatenate(
        [np.repeat(b.examples, b.inputs["attention_mask"].sum(dim=1).tolist()) for b in batches]
    ) % HELD_OUT == HELD_OUT - 1  # fmt: skip
    solved, constants = {}, {p.name: torch.zeros(p.d_out).double() for a in one.measured.layers for p in a.projections.values()}
    path = {"bert": "bert.encoder.layer.0", "gpt2": "transformer.h.0", "llama": "model.layers.0"}[family]
    for types in (("query", "key", "value"), ("attention_output",), ("ffn_in",), ("ffn_out",)):
        student = prune(model, plan, constants, solved)
        for p in (layer.projections[t] for t in types):
            x = flat(seen(student, batches, p.path, True), batches)
            live = np.arange(p.d_in)
            if p.type in READ_AT:
                fed_by = layer.projections["value" if p.type == "attention_output" else "ffn_in"]
                keep = plan.keep[fed_by.name].numpy()
                if p.type == "attention_output" and family == "llama":
                    keep = np.tile(keep.reshape(-1, 1, 12), (1, 2, 1)).ravel()
                live = live[keep]
            y = flat(seen(model, batches, p.path, False), batches)[:, p.start : p.start + p.d_out]
            if p.type in READ_AT:  # the stream before the block (bert), or before the norm that the block reads through
                reader = layer.projections["query" if p.type == "attention_output" else "ffn_in"].path
                streams = []
                for m in (model, student):
                    if family == "bert":
                        streams.append(flat(seen(m, batches, reader, True), batches))
                    else:
                        streams.append(flat(seen(m, batches, path, True), batches))
                        if p.type == "ffn_out":
                            streams[-1] += flat(seen(m, batches, layer.projections["attention_output"].path, False), batches)
                y = y + streams[0] - streams[1]
            w = flat([v[..., None] for v in weights[p.name]], batches)[:, 0]
            near = weight_of(model, p).detach().double().numpy()[:, live]
            new, bias = by_scikit_learn(x[:, live], y, w, near, held_rows)
            mine, my_bias = weight_and_bias(found, p)
            keep = plan.keep[p.name].numpy() if p.name in plan.keep else np.full(p.d_out, True)
            np.testing.assert_allclose(mine[keep][:, live], new[keep], atol=2e-5, err_msg=p.name)
            np.testing.assert_allclose(my_bias[keep], bias[keep], atol=2e-4, err_msg=p.name)
            assert not mine[:, np.setdiff1d(np.arange(p.d_in), live)].any()
            if single and not keep.all():  # removed rows put out the mean of what they did
                np.testing.assert_allclose(my_bias[~keep], np.average(y, axis=0, weights=w)[~keep], atol=1e-5)
            solved[p.name] = mine, my_bias
            constants[p.name] = my_bias


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "bart", "opt", "deberta-v2", "gpt_neox"])
def test_outputs_that_are_kept_are_those_computed_anew(family, monkeypatch):
    """Of a layer whose outputs are too many to be kept every stage has passes of its own."""
    one = stage(family, 60)
    plan = bench_models.random_ranking(one.measured.model, UNITS[family], seed=2).plan(0.4)
    kept = run(one, plan, means=False)
    monkeypatch.setattr(module, "AT_ONCE", 0)
    anew = run(one, plan, means=False)
    for layer in one.measured.layers:
        for p in layer.projections.values():
            torch.testing.assert_close(weight_of(kept, p), weight_of(anew, p), rtol=0, atol=1e-9)
    assert tiny.hooks(kept) == 0 and not any("forward" in m.__dict__ for m in kept.modules())


def test_products_in_float32_solve_as_nearly():
    errors = {}
    for kind in (torch.float32, torch.float64):
        one = stage("bert", 200, bench_models.classifier("bert", kind))
        recipe = Recipe(criterion="variance", units=UNITS["bert"], replacement="refit")
        pruned = one.pruned(recipe, 0.3)
        errors[kind] = relative_error(one.measured.model, pruned, one.measured.solving_batches())
    assert errors[torch.float32] == pytest.approx(errors[torch.float64], rel=0.01)


def test_a_model_that_runs_a_layer_several_times_is_refused():
    one = stage("albert")
    for recipe, says in (
        (Recipe(replacement="refit", units=("ffn neurons",)), "same layer several times, so refit has no single input"),
        (Recipe(scope="measured", units=("ffn neurons",)), "same layer several times, so the measured allocation"),
    ):
        with pytest.raises(VPError, match=says) as raised:
            one.pruned(recipe, 0.5)
        assert "\n" not in str(raised.value) and str(raised.value).endswith(".")
    assert find_layers(one.measured.model)[0].uses == 2
