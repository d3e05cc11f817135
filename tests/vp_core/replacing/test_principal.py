"""The principal basis: the same model, other coordinates, and no others leave out less."""

import numpy as np
import pytest
import tiny
import torch
from bench_models import batch_of

from vp_core.measuring.covariance import collect_covariances
from vp_core.model.projections import find_layers, weight_of
from vp_core.replacing.principal import principal, square_root

pytestmark = pytest.mark.usefixtures("exact_norms")


def turned(family):
    model, batch = batch_of(family)
    covariances = collect_covariances(model, [batch], [batch])
    return model, batch, covariances, *principal(model, covariances)


@pytest.mark.parametrize("family", tiny.TRANSFORMERS)
def test_the_model_is_the_same_and_its_covariances_are_those_that_are_measured(family):
    model, batch, _, other, found = turned(family)
    before = tiny.sha(model)
    sides = ("right", "left") if family in ("gpt2", "llama") else ("right",)
    for side in sides:
        inputs = tiny.inputs(family, side=side)
        assert tiny.distance(tiny.logits(other, inputs), tiny.logits(model, inputs)) <= 1e-9
    measured = collect_covariances(other, [batch], [batch])
    assert found.all.keys() == measured.all.keys()
    for name in measured.all:
        for one, two in ((found.all[name], measured.all[name]), (found.held_out[name], measured.held_out[name])):
            scale = two.covariance().abs().max()
            assert (one.covariance() - two.covariance()).abs().max() <= 1e-7 * scale, name
            assert (one.mean - two.mean).abs().max() <= 1e-7 * (1 + two.mean.abs().max()), name
            assert one.count == two.count
    assert tiny.sha(model) == before
    for layer in find_layers(model):
        for type_, p in layer.projections.items():
            same = torch.equal(weight_of(model, p), weight_of(other, p))
            turns = type_ in ("value", "attention_output") or (type_ in ("query", "key") and family not in tiny.ROTARY)
            assert same != turns, p.name
    if not any(m.bias is None for m in model.modules() if isinstance(m, torch.nn.Linear)):
        assert sum(p.numel() for p in other.parameters()) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("family", [f for f in tiny.TRANSFORMERS if f != "t5"])  # which has too few different states here
def test_contributions_are_uncorrelated_and_none_leaves_less(family):
    model, _, covariances, other, found = turned(family)
    for number, layer in enumerate(find_layers(model)):
        value, output = layer.projections["value"], layer.projections["attention_output"]
        width, shared = value.head_width, layer.queries_per_key
        before, after = (weight_of(m, output).detach().numpy() for m in (model, other))
        old, new = (c[f"{number}.context"].matrix().numpy() for c in (covariances, found))
        for head in range(value.d_out // width):
            parts = [slice((head * shared + i) * width, (head * shared + i + 1) * width) for i in range(shared)]
            mean_new, mean_old = (sum(c[p, p] for p in parts) / shared for c in (new, old))
            gram = sum(after[:, p].T @ after[:, p] for p in parts)
            error = gram * mean_new  # products of contributions i and j, over the coordinates of the output
            np.testing.assert_allclose(error, np.diag(np.diag(error)), atol=1e-8 * error.max())
            # Eckart and Young: the squared singular values of W C^½ from numpy, largest first
            root = np.linalg.cholesky(mean_old)
            expected = np.linalg.svd(np.concatenate([before[:, p] for p in parts]) @ root, compute_uv=False)
            np.testing.assert_allclose(np.diag(error), expected[:width] ** 2, rtol=1e-6, atol=1e-8 * expected[0] ** 2)
        if layer.rotary:
            continue
        for head in range(len(covariances[f"{number}.query"].m2)):
            q, k = covariances[f"{number}.query"].second_moment()[head], covariances[f"{number}.key"].covariance()[head]
            nq, nk = found[f"{number}.query"].second_moment()[head], found[f"{number}.key"].covariance()[head]
            scores = (nq * nk).numpy()  # E[q_i q_j]·Cov(k_i, k_j)
            np.testing.assert_allclose(scores, np.diag(np.diag(scores)), atol=1e-7 * scores.max())
            expected = np.linalg.svd(np.linalg.cholesky(q.numpy()).T @ np.linalg.cholesky(k.numpy()), compute_uv=False)
            np.testing.assert_allclose(np.diag(scores), expected**2, rtol=1e-5, atol=1e-7 * expected[0] ** 2)


def test_a_root_of_a_singular_matrix_stays_invertible():
    x = torch.randn(30, 3, dtype=torch.float64)
    for matrix in (x.T @ x, torch.diag(torch.tensor([4.0, 0, -1e-18], dtype=torch.float64)), torch.zeros(3, 3).double()):
        root, inverse = square_root(matrix)
        assert torch.isfinite(root).all() and torch.isfinite(inverse).all()
        torch.testing.assert_close(root @ inverse, torch.eye(3, dtype=torch.float64), atol=1e-6, rtol=0)
        torch.testing.assert_close(root @ root, matrix.clamp(min=0) if matrix[0, 1] == 0 else matrix, atol=1e-7, rtol=1e-7)
