"""Co-moments against numpy.cov over any split, order and merge of the batches, and any padding."""

from itertools import cycle, repeat

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vp_core.asking.batches import Batch
from vp_core.ground.errors import VPError
from vp_core.measuring.covariance import bytes_needed, co_moments, collect_covariances, sites_of
from vp_core.model.projections import find_layers


def by_numpy(x, blocks):
    """(mean, (blocks, w, w) covariance divided by the count), of the deviations from an exact mean."""
    x = np.asarray(x, dtype=np.longdouble)
    deviation = (x - x.mean(0)).reshape(len(x), blocks, -1)
    return x.mean(0).astype(float), np.einsum("tbi,tbj->bij", deviation, deviation).astype(float) / len(x)


@given(
    tokens=st.integers(2, 60), width=st.integers(1, 9), blocks=st.integers(1, 3), seed=st.integers(0, 10**6),
    mean=st.sampled_from((0.0, 1.0, 1e8)), cuts=st.lists(st.integers(0, 60), max_size=5), shuffled=st.booleans(),
)  # fmt: skip
@settings(max_examples=60)
def test_any_split_and_order_is_numpys(tokens, width, blocks, seed, mean, cuts, shuffled):
    rng = np.random.default_rng(seed)
    x = rng.normal(mean, 1, (tokens, blocks * width))
    x[:, -1] = x[:, 0]  # two coordinates that say the same
    expected_mean, expected = by_numpy(x, blocks)
    if blocks == 1 and width > 1 and mean < 1e8:
        np.testing.assert_allclose(expected[0], np.cov(x.T, bias=True), atol=1e-10)
    parts = np.split(x, sorted(min(c, tokens) for c in cuts))  # also empty ones
    if shuffled:
        rng.shuffle(parts := list(parts))
    total = co_moments(torch.from_numpy(parts[0]), blocks)
    for part in parts[1:]:
        total.merge(co_moments(torch.from_numpy(part), blocks))
    # At a mean of 1e8 a float64 mean is known to 1e-8 of a standard deviation, and covariances as well.
    tolerance = 1e-10 if mean < 1e8 else 1e-7
    assert total.count == tokens
    np.testing.assert_allclose(total.mean, expected_mean, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(total.covariance(), expected, atol=tolerance, rtol=tolerance)
    np.testing.assert_allclose(total.variance(), np.einsum("bii->bi", expected).ravel(), atol=tolerance, rtol=tolerance)
    if mean < 1e8:
        second = np.einsum("tbi,tbj->bij", x.reshape(tokens, blocks, -1), x.reshape(tokens, blocks, -1)) / tokens
        np.testing.assert_allclose(total.second_moment(), second, atol=1e-9)


@given(seed=st.integers(0, 10**6), first=st.integers(2, 30), second=st.integers(1, 30), blocks=st.integers(1, 2))
@settings(max_examples=30)
def test_without_undoes_merge(seed, first, second, blocks):
    draw = torch.Generator().manual_seed(seed)
    a, b = (torch.randn(n, 6, generator=draw, dtype=torch.float64) * 2 + 5 for n in (first, second))
    one, two, both = co_moments(a, blocks), co_moments(b, blocks), co_moments(a, blocks)
    both.merge(two)
    kept = both.m2.clone()
    rest = both.without(two)
    assert rest.count == one.count and torch.equal(both.m2, kept)  # what it was taken from is as it was
    torch.testing.assert_close(rest.mean, one.mean, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(rest.m2, one.m2, rtol=1e-10, atol=1e-9)


def caught(model, batches, sites):
    """Everything that passes each site at real tokens, one text at a time without padding: name → (tokens, n)."""
    found = {site.name: [] for site in sites}
    handles = []
    for site in sites:
        turns = cycle((True, False)) if site.tokens_of else repeat(True)

        def keep(values, site=site, turns=turns):
            if next(turns):  # DeBERTa's query and key run on the text first, and then on positions
                found[site.name].append(values[..., site.start : site.start + site.width].flatten(0, -2).double())

        module = model.get_submodule(site.path)
        if site.inputs:
            handles.append(module.register_forward_pre_hook(lambda _m, args, keep=keep: keep(args[0])))
        else:
            handles.append(module.register_forward_hook(lambda _m, _a, output, keep=keep: keep(output)))
    with torch.no_grad():
        for batch in batches:
            for row in range(len(batch.examples)):
                inputs = {name: values[row : row + 1] for name, values in batch.inputs.items()}
                if "attention_mask" in inputs:
                    real = inputs["attention_mask"][0].bool()
                    inputs |= {n: inputs[n][:, real] for n in ("input_ids", "attention_mask", "token_type_ids") if n in inputs}
                model(**inputs)
    for handle in handles:
        handle.remove()
    return {name: torch.cat(parts).numpy() for name, parts in found.items()}


@pytest.mark.parametrize("family", tiny.TRANSFORMERS)
def test_sites_of_every_family_without_their_padding(exact_norms, family):
    model = tiny.transformer(family)
    batches = [
        Batch(tiny.inputs(family), np.arange(3)),
        Batch({k: v.flip(0)[:2] for k, v in tiny.inputs(family).items()}, np.arange(3, 5)),
    ]
    sites = sites_of(find_layers(model))
    before = tiny.sha(model), tiny.hooks(model)
    found = collect_covariances(model, batches[:1], batches[1:])
    assert (tiny.sha(model), tiny.hooks(model)) == before
    assert set(found.all) == {site.name for site in sites}
    everything, first, second = (caught(model, part, sites) for part in (batches, batches[:1], batches[1:]))
    for site, blocks in sites.items():
        for moments, rows in (
            (found[site.name], everything), (found.held_out[site.name], second), (found.fitted(site.name), first)
        ):  # fmt: skip
            mean, covariance = by_numpy(rows[site.name], blocks)
            assert moments.count == len(rows[site.name])
            scale = np.abs(covariance).max()
            np.testing.assert_allclose(moments.mean, mean, atol=1e-7 * (scale**0.5 + np.abs(mean).max()))
            np.testing.assert_allclose(moments.covariance(), covariance, atol=2e-6 * scale, err_msg=site.name)
    held = sum(8 * (m.m2.numel() + m.mean.numel()) for part in (found.all, found.held_out) for m in part.values())
    assert bytes_needed(find_layers(model)) == held  # what it says is what it takes


def test_nothing_to_measure_and_what_is_not_finite_are_named():
    model = tiny.transformer("bert")
    with pytest.raises(VPError, match="no tokens to collect covariances from"):
        collect_covariances(model, [], [])
    for name, where in (("bert.encoder.layer.1.attention.self.query.bias", "query of layer 1"),
                        ("bert.encoder.layer.0.attention.self.value.weight", "context of layer 0")):  # fmt: skip
        broken = tiny.transformer("bert")
        with torch.no_grad():
            broken.get_parameter(name).view(-1)[3] = float("inf")
        with pytest.raises(VPError, match=f"The {where} is not finite") as raised:
            collect_covariances(broken, [Batch(tiny.inputs("bert"), np.arange(3))], [])
        assert "\n" not in str(raised.value)
