"""Function norms against numpy on activations that hooks have kept: heads, attention blocks, feed-forward networks."""

import copy
import json
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import bench_models
import numpy as np
import pytest
import tiny
import torch
from transformers.pytorch_utils import Conv1D

from vp_core.batches import Batch, make_batches
from vp_core.blocks import Block, find_sublayers, masked_without, without
from vp_core.errors import VPError
from vp_core.function_norms import MINI_BATCH, FunctionNorms, collect_norms, head_norms
from vp_core.projections import find_layers
from vp_core.recipes import Recipe
from vp_core.sketch import Sketch, edges

pytestmark = pytest.mark.usefixtures("exact_norms")
GRID = edges().numpy()
model_of = cache(tiny.transformer)


def batches_of(family, seed=0):
    """Three batches, padded on both sides where the family allows it."""
    if family == "vit":
        draw = torch.Generator().manual_seed(seed)
        return [Batch({"pixel_values": torch.randn(n, 3, 32, 32, generator=draw).double()}, at)
                for n, at in ((2, np.array([3, 0])), (3, np.array([1, 2, 4])))]  # fmt: skip
    sides = ("right", "left") if family in ("gpt2", "llama") else ("right",)
    found = [Batch(tiny.inputs(family, side=side), np.arange(3) + 3 * i) for i, side in enumerate(sides)]
    more = tiny.inputs(family)
    return [*found, Batch({k: v[[2, 1]] for k, v in more.items()}, np.array([7, 6]))]


def kept(model, batch):
    """[(projection of the block's end, its input, its output)] of one forward pass, numpy (examples, tokens, d)."""
    ends = [layer.projections[t] for layer in find_layers(model) for t in ("attention_output", "ffn_out")
            if t in layer.projections]  # fmt: skip
    found, handles = [], []
    for p in ends:

        def keep(_module, given, output, p=p):
            found.append((p, given[0].double().numpy(), output.double().numpy()))

        handles.append(model.get_submodule(p.path).register_forward_hook(keep))
    with torch.no_grad():
        model(**batch.inputs)
    for handle in handles:
        handle.remove()
    return found


def contributions(model, p, x):
    """head_h·W_O_h of every head, (heads, examples, tokens, d), by plain slices."""
    module = model.get_submodule(p.path)
    weight = module.weight.detach().double().numpy()
    weight = weight if isinstance(module, Conv1D) else weight.T  # (d_in, d)
    heads = tiny.HEADS // 2 if model.config.model_type == "llama" else tiny.HEADS  # those that share a key go together
    width = len(weight) // heads
    return np.stack([x[..., h * width : (h + 1) * width] @ weight[h * width : (h + 1) * width] for h in range(heads)])


def mask_of(batch, p):
    """(examples, tokens) bool of the block's tokens; None: all are real."""
    if "pixel_values" in batch.inputs:
        return None
    if p.decoder and "decoder_input_ids" in batch.inputs:
        written = batch.inputs.get("decoder_attention_mask")
        return None if written is None else written.bool().numpy()
    return batch.inputs["attention_mask"].bool().numpy()


def brute(model, batches):
    """Block name → [(example, its norms (tokens,))], padding left out by indexing."""
    found = {}
    for batch in batches:
        for p, x, y in kept(model, batch):
            mask = mask_of(batch, p)
            blocks = {f"{p.layer}.ffn": y} if p.type == "ffn_out" else {f"{p.layer}.attention": y}
            if p.type == "attention_output":
                blocks |= {f"{p.layer}.head.{h}": one for h, one in enumerate(contributions(model, p, x))}
            for name, values in blocks.items():
                norms = np.abs(values).max(axis=-1)
                for row, example in enumerate(batch.examples):
                    real = slice(None) if mask is None else mask[row]
                    found.setdefault(name, []).append((int(example), norms[row][real]))
    return found


def compare(found, expected):
    """`found` has the histograms, means, extremes and text by text maxima of the stored norms."""
    assert {b.name for b in found.blocks} == expected.keys()
    texts = sorted({example for example, _ in next(iter(expected.values()))})
    for i, block in enumerate(found.blocks):
        norms = np.concatenate([values for _, values in expected[block.name]])
        single = norms.astype(np.float32)
        assert np.array_equal(found.sketch.counts[i], np.histogram(single.astype(float), GRID)[0]), block.name
        np.testing.assert_allclose(found.sketch.mean()[i], norms.mean(), rtol=1e-6)
        np.testing.assert_allclose([found.sketch.low[i], found.sketch.high[i]], [norms.min(), norms.max()], rtol=1e-6)
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
    layers = {"albert": 1, "bart": 6}.get(family, 2)
    assert [len(found.of(kind)) for kind in ("head", "attention", "ffn")] == [
        layers * (2 if family == "llama" else 4), layers, 4 if family == "bart" else layers,
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
            total = contributions(model, p, x).sum(axis=0) + (0 if bias is None else bias.detach().numpy())
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
    assert set(whole.sketch.count.tolist()) == {uses * sum(len(ids) for ids in data.ids)}
    order = np.random.default_rng(1).permutation(30)
    for batches in (
        make_batches(data, range(30), 1),  # one by one: no padding at all
        [batch for part in np.split(order, [7, 20]) for batch in make_batches(data, part, 100)],
    ):
        found = collect_norms(model, batches)
        assert torch.equal(found.sketch.counts, whole.sketch.counts)
        torch.testing.assert_close(found.maxima, whole.maxima, rtol=1e-6, atol=0)
        torch.testing.assert_close(found.sketch.total, whole.sketch.total, rtol=1e-7, atol=0)


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
    assert torch.equal(found.sketch.counts, before.sketch.counts)
    torch.testing.assert_close(found.maxima, before.maxima, rtol=1e-6, atol=0)


def test_barts_decoder_counts_its_own_tokens():
    model, given = model_of("bart"), tiny.inputs("bart")
    written = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0]])
    batches = [Batch(given | {"decoder_attention_mask": written}, np.arange(3))]
    found = collect_norms(model, batches)
    compare(found, brute(model, batches))
    count = dict(zip((b.name for b in found.blocks), found.sketch.count.tolist(), strict=True))
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


def made(maxima, names=("0.head.0", "0.ffn")):
    """FunctionNorms whose texts have these maxima, one token each."""
    found = torch.tensor(maxima, dtype=torch.float32)
    sketch = Sketch.empty(len(names))
    sketch.add(range(len(names)), found.T.contiguous())
    return FunctionNorms(tuple(Block.named(n) for n in names), sketch, found)


def test_identity_share_is_counted_by_hand():
    rng = np.random.default_rng(3)
    maxima = rng.uniform(0, 2, (5 * MINI_BATCH + 7, 2)) ** 3
    maxima[:40, 0] = 0.01
    norms = made(maxima)
    single = maxima.astype(np.float32)
    order = np.random.default_rng(0).permutation(len(maxima))
    parts = [single[order[i : i + MINI_BATCH]].max(axis=0) for i in range(0, len(order), MINI_BATCH)]
    assert len(parts) == 6 and np.array_equal(norms.batch_maxima().numpy(), np.stack(parts))
    for head, ffn in ((0.5, 7.6), (7.7, 7.9), (float(parts[2][0]), 1e9)):
        by_hand = [np.mean([p[0] <= np.float32(head) for p in parts]), np.mean([p[1] <= ffn for p in parts])]
        assert norms.identity_share({"head": head, "ffn": ffn}).tolist() == by_hand
    assert norms.identity_share({"ffn": 1e9}).tolist() == [0, 1]  # no ε: no gate
    closed = norms.closed_share({"head": 1.0})
    assert abs(float(closed[0]) - (maxima[:, 0] < 1).mean()) <= 1e-9 and float(closed[1]) == 0


def test_smallest_mean():
    norms = made([[3.0, 1.0, 2.0], [5.0, 1.0, 4.0]], ("0.head.0", "0.ffn", "0.head.1"))
    assert [norms.smallest_mean(("head",), k) for k in (1, 2, 9)] == [3, 4, 4]
    assert norms.smallest_mean(("head", "ffn")) == 1


def test_merging():
    model, data = bench_models.classifier("distilbert"), bench_models.texts("distilbert", 20)
    whole = collect_norms(model, make_batches(data, range(20)), model_id="m")
    one, other = (collect_norms(model, make_batches(data, r), model_id="m", data_id=d)
                  for r, d in ((range(8), "a"), (range(8, 20), "b")))  # fmt: skip
    counts = one.sketch.counts.clone()
    both = one.merge(other)
    assert torch.equal(both.sketch.counts, whole.sketch.counts) and both.data == "a+b"
    torch.testing.assert_close(both.maxima, whole.maxima, rtol=1e-6, atol=0)
    assert torch.equal(one.sketch.counts, counts)
    with pytest.raises(VPError, match="different models"):
        one.merge(collect_norms(model, make_batches(data, range(3)), model_id="another"))


ELSEWHERE = """
import json, sys
from vp_core.function_norms import FunctionNorms
found = FunctionNorms.load(sys.argv[1])
print(json.dumps([[b.name for b in found.blocks], found.sketch.counts.sum(1).tolist(), found.sketch.total.tolist(),
                  found.sketch.low.tolist(), found.sketch.high.tolist(), found.maxima.tolist(), found.model, found.data,
                  found.sketch.quantile(0.9).tolist(), found.identity_share({"head": 5.0}).tolist()]))
"""


def test_a_fresh_process_reads_what_was_saved(tmp_path, python):
    norms = collect_norms(model_of("gpt2"), batches_of("gpt2"), model_id="m", data_id="d")
    norms.save(tmp_path / "n.safetensors")
    out, err = python(ELSEWHERE, tmp_path / "n.safetensors").communicate(timeout=100)
    s = norms.sketch
    assert json.loads(out) == [
        [b.name for b in norms.blocks], s.count.tolist(), s.total.tolist(), s.low.tolist(), s.high.tolist(),
        norms.maxima.tolist(), "m", "d", s.quantile(0.9).tolist(), norms.identity_share({"head": 5.0}).tolist(),
    ], err  # fmt: skip
    (tmp_path / "n.safetensors").write_bytes(b"no")
    with pytest.raises(VPError, match="cannot be read"):
        FunctionNorms.load(tmp_path / "n.safetensors")


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
        assert torch.equal(one.sketch.counts, other.sketch.counts) and torch.equal(one.maxima, other.maxima)
    assert tiny.sha(model) == before and tiny.hooks(model) == 0


UNITS = ("heads", "attention", "feed-forward", "sublayers", "layers")


@pytest.mark.parametrize("family", bench_models.CLASSIFIERS)
def test_the_criterion_orders_by_mean_norm(family):
    """Heads, blocks and layers (both blocks summed), against brute force; lowest first."""
    data = bench_models.texts(family)
    one = bench_models.bench(family)
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


@pytest.mark.parametrize("kind", ["rows", "ffn", "values", "pairs"])
def test_other_units_have_no_function_norm(kind):
    with pytest.raises(VPError, match="whole blocks") as raised:
        bench_models.bench("bert").scores(Recipe(units=(kind,), criterion="function norm"))
    assert "\n" not in str(raised.value) and str(raised.value).endswith(".")


@pytest.mark.parametrize("share", [0.3, 0.6, 1.0])
@pytest.mark.parametrize("family", bench_models.CLASSIFIERS)
def test_mean_replacement_puts_the_mean_into_the_bias(family, share):
    """A pruned block fed with what the dense model feeds it puts out the dense block's mean over the calibration texts."""
    one = bench_models.bench(family)
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
