"""Function norms against numpy on activations that hooks have kept: heads, attention blocks, feed-forward networks."""

import copy
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import bench_models
import numpy as np
import pytest
import tiny
import torch
from brute_norms import batches_of, brute, contributions, kept, scale_of

from vp_core.asking.batches import Batch, make_batches
from vp_core.ground.errors import VPError
from vp_core.measuring.function_norms import collect_norms, head_norms
from vp_core.measuring.histogram import edges
from vp_core.model.blocks import Block, find_sublayers
from vp_core.squeezing.blocks_off import masked_without, without

pytestmark = pytest.mark.usefixtures("exact_norms")
GRID = edges().numpy()
model_of = cache(tiny.transformer)


def compare(found, expected):
    """`found` has the histograms, means, extremes and text by text maxima of the stored norms."""
    assert {b.name for b in found.blocks} == expected.keys()
    texts = sorted({example for example, _ in next(iter(expected.values()))})
    for i, block in enumerate(found.blocks):
        norms = np.concatenate([values for _, values in expected[block.name]])
        single = norms.astype(np.float32)
        assert np.array_equal(found.histogram.counts[i], np.histogram(single.astype(float), GRID)[0]), block.name
        np.testing.assert_allclose(found.histogram.mean()[i], norms.mean(), rtol=1e-6)
        np.testing.assert_allclose([found.histogram.low[i], found.histogram.high[i]], [norms.min(), norms.max()], rtol=1e-6)
        largest = [max(v.max() for e, v in expected[block.name] if e == text) for text in texts]
        np.testing.assert_allclose(found.maxima[:, i], largest, rtol=1e-6)


@pytest.mark.parametrize("family", tiny.TRANSFORMERS)
def test_brute_force_on_stored_activations(family):
    model, batches = model_of(family), batches_of(family)
    before = tiny.sha(model)
    found = collect_norms(model, batches, model_id="m", data_id="d")
    expected = brute(model, batches)
    compare(found, expected)
    assert (found.model, found.data) == ("m", "d")
    assert found.means().keys() == set(found.blocks)
    layers = {"albert": 1, "bart": 6, "t5": 6, "mbart": 6}.get(family, 2)
    assert [len(found.of(kind)) for kind in ("head", "attention", "ffn")] == [
        layers * (2 if family == "llama" else 4), layers, 4 if family in tiny.READS_END else layers,
    ]  # fmt: skip
    assert tiny.sha(model) == before and tiny.hooks(model) == 0 and not model.training


@pytest.mark.parametrize("family", tiny.TRANSFORMERS)
def test_heads_and_bias_sum_to_the_block(family):
    """In float32 as in use, to 1e-5 of the largest value."""
    model = tiny.transformer(family, dtype=torch.float32)
    batch = Batch(tiny.inputs(family, torch.float32), np.arange(3))
    for p, x, y in kept(model, batch):
        if p.type == "attention_output":
            bias = model.get_submodule(p.path).bias
            total = contributions(model, p, x).sum(axis=0) + (0 if bias is None else bias.detach().numpy() * scale_of(model, p))
            assert np.abs(total - y).max() <= 1e-5 * np.abs(y).max()


@pytest.mark.parametrize(("tokens", "heads", "width", "d"), [(1, 1, 1, 1), (5, 3, 4, 7), (300, 2, 6, 5), (128, 4, 1, 9)])
@pytest.mark.parametrize("fused", [False, True])
def test_head_norms(tokens, heads, width, d, fused):
    """More tokens than are made at once, and weights that are a view of a transposed matrix."""
    draw = torch.Generator().manual_seed(0)
    context = torch.randn(tokens, heads * width, generator=draw, dtype=torch.float64)
    weight = torch.randn(heads * width, d, generator=draw, dtype=torch.float64).T
    weight = weight if fused else weight.contiguous()
    expected = (context.view(tokens, heads, 1, width) * weight.view(d, heads, width).permute(1, 0, 2)).sum(dim=3).abs().amax(2)
    torch.testing.assert_close(head_norms(context, weight, heads), expected.T, rtol=1e-12, atol=0)


@pytest.mark.parametrize("family", bench_models.CLASSIFIERS)
def test_any_batching_gives_the_same(family):
    model, data = bench_models.classifier(family), bench_models.texts(family, 30)
    whole = collect_norms(model, make_batches(data, range(30)))
    assert whole.maxima.shape == (30, len(whole.blocks))
    uses = 2 if family == "albert" else 1
    assert set(whole.histogram.count.tolist()) == {uses * sum(len(ids) for ids in data.ids)}
    order = np.random.default_rng(1).permutation(30)
    for batches in (
        make_batches(data, range(30), 1),  # one by one: no padding at all
        [batch for part in np.split(order, [7, 20]) for batch in make_batches(data, part, 100)],
    ):
        found = collect_norms(model, batches)
        assert torch.equal(found.histogram.counts, whole.histogram.counts)
        torch.testing.assert_close(found.maxima, whole.maxima, rtol=1e-6, atol=0)
        torch.testing.assert_close(found.histogram.total, whole.histogram.total, rtol=1e-7, atol=0)


@pytest.mark.parametrize("family", ["bert", "gpt2", "bart"])
def test_padding_never_counts(family):
    """Not even where padding is what makes the largest values: its embedding is a thousand times the others'."""
    model = copy.deepcopy(bench_models.classifier(family))
    data = bench_models.texts(family, 12)
    batches = make_batches(data, range(12))
    before = collect_norms(model, batches)
    with torch.no_grad():
        model.get_input_embeddings().weight[data.pad_id] *= 1000
    found = collect_norms(model, batches)
    assert torch.equal(found.histogram.counts, before.histogram.counts)
    torch.testing.assert_close(found.maxima, before.maxima, rtol=1e-6, atol=0)


def test_barts_decoder_counts_its_own_tokens():
    model, given = model_of("bart"), tiny.inputs("bart")
    written = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0]])
    batches = [Batch(given | {"decoder_attention_mask": written}, np.arange(3))]
    found = collect_norms(model, batches)
    compare(found, brute(model, batches))
    count = dict(zip((b.name for b in found.blocks), found.histogram.count.tolist(), strict=True))
    assert [count[n] for n in ("0.ffn", "1.head.2", "2.attention", "3.ffn", "5.head.0")] == [22, 22, 12, 12, 12]


def gone_from(family):
    ffns = [b for one in find_sublayers(model_of(family)) for b in one.blocks if b.kind == "ffn"]
    return [Block(0, "head", 1), Block(0, "head", 0), ffns[-1]]


@pytest.mark.parametrize("family", tiny.TRANSFORMERS)
def test_of_what_is_left(family):
    """A squeezed model has the norms of the masked one at the blocks that it still has."""
    model, batches, gone = model_of(family), batches_of(family), gone_from(family)
    left = tuple(one.without(gone) for one in find_sublayers(model))
    found = collect_norms(without(model, gone), batches, left)
    expected = brute(masked_without(model, gone), batches)
    assert {b.name for b in found.blocks} == expected.keys() - {b.name for b in gone}
    compare(found, {name: expected[name] for name in (b.name for b in found.blocks)})


def test_a_width_that_matrix_products_fill_up():
    """Hidden sizes of 64 and more that are no multiple of 16 get rows of zeros when a head goes."""
    settings = tiny.sizes("bert", 72, 24, 2) | tiny.NO_DROPOUT | {"vocab_size": 99}
    torch.manual_seed(0)
    model = tiny.draw_biases(tiny.build("bert", "ForSequenceClassification", **settings)).double()
    gone, batches = [Block(0, "head", 2)], batches_of("bert")
    found = collect_norms(without(model, gone), batches, tuple(one.without(gone) for one in find_sublayers(model)))
    expected = brute(masked_without(model, gone), batches)
    expected.pop("0.head.2")
    compare(found, expected)


def test_bad_input():
    model, batches = tiny.transformer("bert"), batches_of("bert")
    with pytest.raises(VPError, match="no tokens"):
        collect_norms(model, [])
    with torch.no_grad():
        model.bert.encoder.layer[1].output.dense.bias[3] = float("nan")
    with pytest.raises(VPError, match=r"function norm of 1\.ffn is not finite") as raised:
        collect_norms(model, batches)
    assert "\n" not in str(raised.value) and str(raised.value).endswith(".") and tiny.hooks(model) == 0
    with torch.no_grad():
        model.bert.encoder.layer[0].attention.self.value.weight[13] = float("inf")
    with pytest.raises(VPError, match=r"function norm of 0\.head\.\d is not finite"):
        collect_norms(model, batches)


def test_threads_do_not_meet():
    """Several at once on one model, each with the result that it has alone; the model stays what it was."""
    model, data = bench_models.classifier("bert"), bench_models.texts("bert", 24)
    parts = [range(i, i + 6) for i in range(0, 24, 6)]
    alone = [collect_norms(model, make_batches(data, part, 30)) for part in parts]
    before = tiny.sha(model)
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda part: collect_norms(model, make_batches(data, part, 30)), parts))
    for one, other in zip(alone, together, strict=True):
        assert torch.equal(one.histogram.counts, other.histogram.counts) and torch.equal(one.maxima, other.maxima)
    assert tiny.sha(model) == before and tiny.hooks(model) == 0
