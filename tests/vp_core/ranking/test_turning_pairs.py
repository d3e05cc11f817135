"""Criteria of query/key pairs under rotary positions, against scores of every query with every key at every distance."""

import bench_models
import numpy as np
import pytest
import tiny
import torch
from bench_models import stage

from vp_core.model.projections import weight_of
from vp_core.ranking.readings import DISTANCE, pair_matrices
from vp_core.recipes import Recipe

pytestmark = pytest.mark.usefixtures("exact_norms")
PAIRS = Recipe(units=("pairs",))


def put_out(one, p):
    """(tokens, heads, width) numpy: what a projection puts out at real tokens."""
    rows = []
    handle = one.measured.model.get_submodule(p.path).register_forward_hook(
        lambda _m, _a, output: rows.append(output[..., p.part.index].detach())
    )
    for batch in one.measured.solving_batches():
        with torch.no_grad():
            one.measured.model(**batch.inputs)
        rows[-1] = rows[-1][batch.inputs["attention_mask"].bool()]
    handle.remove()
    return torch.cat(rows).double().numpy().reshape(-1, p.d_out // p.head_width, p.head_width)


def score_covariance(q, k, causal, base, turning):
    """(pairs, pairs): mean over queries (tokens, width) of the covariance, over all keys and distances, of what pairs add."""
    turns, pairs = turning // 2, q.shape[1] // 2
    first = [*range(turns), *range(turning, turning + pairs - turns)]  # by hand: i with i + turns, and the rest with the rest
    second = [*range(turns, turning), *range(turning + pairs - turns, 2 * pairs)]
    theta = np.concatenate([base ** (-np.arange(turns) / turns), np.zeros(pairs - turns)])
    distances = np.arange(1 - DISTANCE, 1 if causal else DISTANCE)
    total = np.zeros((pairs, pairs))
    turned = np.empty((len(k), len(distances), 2, pairs))
    for number, d in enumerate(distances):  # a key d tokens away, turned as transformers turns it
        cos, sin = np.cos(d * theta), np.sin(d * theta)
        turned[:, number, 0] = k[:, first] * cos - k[:, second] * sin
        turned[:, number, 1] = k[:, second] * cos + k[:, first] * sin
    for query in q:
        added = (turned * query[[first, second]]).sum(axis=2).reshape(-1, pairs)
        total += np.cov(added.T, bias=True)
    return total / len(q)


@pytest.mark.parametrize("family", tiny.ROTARY)
def test_every_query_with_every_key_at_every_distance(family):
    one = stage(family, 6)
    for layer, group in zip(one.measured.layers, one.groups(PAIRS), strict=True):
        query, key = (put_out(one, layer.projections[t]) for t in ("query", "key"))
        parameters = one.measured.model.config.rope_parameters
        if "rope_theta" not in parameters:
            parameters = parameters[one.measured.model.config.layer_types[group.layer]]
        found = pair_matrices(one.measured, group)
        assert found.shape == (key.shape[1], key.shape[2] // 2, key.shape[2] // 2)
        for head in range(key.shape[1]):
            shared = range(head * layer.queries_per_key, (head + 1) * layer.queries_per_key)
            how = family != "modernbert", parameters["rope_theta"], layer.turned
            expected = sum(score_covariance(query[:, h], key[:, head], *how) for h in shared)
            assert np.allclose(found[head].numpy(), expected, rtol=0, atol=1e-7 * expected.max())  # angles are float32
        variances = one.scores(PAIRS)[group.name]
        assert torch.equal(variances, found.diagonal(dim1=1, dim2=2).flatten()) and (variances > 0).all()


@pytest.mark.parametrize("family", tiny.ROTARY)
def test_every_criterion_scores_them(family):
    one = stage(family, 12)
    variance = one.scores(PAIRS)
    for criterion in ("weighted variance", "conditional variance", "surgeon", "magnitude", "wanda", "fisher", "random"):
        found = one.scores(Recipe(criterion=criterion, units=("pairs",)))
        for group in one.groups(PAIRS):
            scores = found[group.name]
            assert scores.shape == (len(group),) and torch.isfinite(scores).all() and (scores >= 0).all()
            if criterion == "magnitude":
                rows = [weight_of(one.measured.model, p).detach()[r[3]] for p, r in group.rows]
                assert scores[3].item() == pytest.approx(torch.cat([r.flatten() for r in rows]).norm().item())
            if criterion == "weighted variance":
                assert torch.equal(scores, variance[group.name])
            if criterion == "random":
                assert torch.equal(scores.sort().values, variance[group.name].sort().values)
            if criterion == "fisher":
                effect = one.measured.gradients().effect[f"{group.layer}.query"]
                assert torch.allclose(scores, effect[group.rows[0][1]].sum(dim=1))


@pytest.mark.parametrize("replacement", ["zero", "mean", "least squares", "refit"])
def test_they_put_out_nothing_whatever_takes_the_place_of_others(replacement):
    """What turns is no constant: a mean in its place would not be what it was at any position."""
    one = stage("llama", 12)
    recipe = Recipe(units=("values", "pairs"), criterion="weighted variance", replacement=replacement, budget="parameters")
    pruned, plan = one.pruned(recipe, 0.15), one.plan(recipe, 0.15)
    removed = 0
    for layer in one.measured.layers:
        for type_ in ("query", "key"):
            p = layer.projections[type_]
            gone = ~plan.keep[p.name]
            module = pruned.get_submodule(p.path)
            removed += int(gone.sum())
            assert not module.weight[gone].any() and (module.bias is None or not module.bias[gone].any())
    assert removed > 0
    assert tiny.distance(bench_models.outputs(pruned, one.measured.solving_batches()),
                         bench_models.outputs(one.measured.model, one.measured.solving_batches())) > 1e-4  # fmt: skip
