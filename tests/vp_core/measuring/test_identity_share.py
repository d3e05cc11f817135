"""What is made of kept function norms: shares of identity, ranks, sums of two measurements, files."""

import json
from functools import cache

import bench_models
import numpy as np
import pytest
import tiny
import torch
from brute_norms import batches_of

from vp_core.asking.batches import make_batches
from vp_core.ground.errors import VPError
from vp_core.measuring.function_norms import MINI_BATCH, FunctionNorms, collect_norms
from vp_core.measuring.histogram import Histogram
from vp_core.model.blocks import Block

pytestmark = pytest.mark.usefixtures("exact_norms")
model_of = cache(tiny.transformer)


def made(maxima, names=("0.head.0", "0.ffn")):
    """FunctionNorms whose texts have these maxima, one token each."""
    found = torch.tensor(maxima, dtype=torch.float32)
    histogram = Histogram.empty(len(names))
    histogram.add(range(len(names)), found.T.contiguous())
    return FunctionNorms(tuple(Block.named(n) for n in names), histogram, found)


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
    counts = one.histogram.counts.clone()
    both = one.merge(other)
    assert torch.equal(both.histogram.counts, whole.histogram.counts) and both.data == "a+b"
    torch.testing.assert_close(both.maxima, whole.maxima, rtol=1e-6, atol=0)
    assert torch.equal(one.histogram.counts, counts)
    with pytest.raises(VPError, match="different models"):
        one.merge(collect_norms(model, make_batches(data, range(3)), model_id="another"))


ELSEWHERE = """
import json, sys
from vp_core.measuring.function_norms import FunctionNorms
found = FunctionNorms.load(sys.argv[1])
print(json.dumps([[b.name for b in found.blocks], found.histogram.counts.sum(1).tolist(), found.histogram.total.tolist(),
                  found.histogram.low.tolist(), found.histogram.high.tolist(), found.maxima.tolist(), found.model, found.data,
                  found.histogram.quantile(0.9).tolist(), found.identity_share({"head": 5.0}).tolist()]))
"""


def test_a_fresh_process_reads_what_was_saved(tmp_path, python):
    norms = collect_norms(model_of("gpt2"), batches_of("gpt2"), model_id="m", data_id="d")
    norms.save(tmp_path / "n.safetensors")
    out, err = python(ELSEWHERE, tmp_path / "n.safetensors").communicate(timeout=300)
    s = norms.histogram
    assert json.loads(out) == [
        [b.name for b in norms.blocks], s.count.tolist(), s.total.tolist(), s.low.tolist(), s.high.tolist(),
        norms.maxima.tolist(), "m", "d", s.quantile(0.9).tolist(), norms.identity_share({"head": 5.0}).tolist(),
    ], err  # fmt: skip
    (tmp_path / "n.safetensors").write_bytes(b"no")
    with pytest.raises(VPError, match="cannot be read"):
        FunctionNorms.load(tmp_path / "n.safetensors")
