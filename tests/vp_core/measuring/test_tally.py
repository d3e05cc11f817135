"""The one pass over batches against a plain loop in numpy float64: any split, padding, a module used twice, and its errors."""

import threading
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch

from vp_core.asking.batches import Batch
from vp_core.ground.errors import VPError
from vp_core.measuring.tally import each_batch, tally
from vp_core.model.sites import Site

WIDTH = 6


class Twice(torch.nn.Module):
    """Uses `shared` twice, and `once` on tokens of its own, as a decoder has them."""

    def __init__(self):
        super().__init__()
        self.shared, self.once = torch.nn.Linear(WIDTH, WIDTH), torch.nn.Linear(WIDTH, 3)

    def forward(self, x, attention_mask, decoder_input_ids, decoder_attention_mask):
        y = self.shared(torch.tanh(self.shared(x)))
        return SimpleNamespace(logits=self.once(y.mean(dim=1, keepdim=True) + decoder_input_ids[..., None]))


SITES = (
    Site("0.in", "shared", True),
    Site("0.some", "shared", False, 1, 3),
    Site("1.out", "once", False, decoder=True),
)


@dataclass
class Sums:
    """Count and sum (n,), and the order in which batches came."""

    count: int
    total: torch.Tensor
    order: list

    def merge(self, other):
        self.count, self.total, self.order = self.count + other.count, self.total + other.total, self.order + other.order


def make(site, values, real):
    assert values.ndim == 2
    real = torch.ones(len(values)) if real is None else real
    return Sums(int(real.sum()), real.double() @ values.double(), [int(real.sum())])


def material(sizes, seed=0):
    """(model, batches) of so many examples each, of random lengths."""
    torch.manual_seed(seed)
    model, batches = Twice().double().eval(), []
    draw, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    for n in sizes:
        inputs = {"x": torch.randn(n, 7, WIDTH, generator=draw, dtype=torch.float64),
                  "decoder_input_ids": torch.randint(0, 5, (n, 4), generator=draw)}  # fmt: skip
        for name, width in (("attention_mask", 7), ("decoder_attention_mask", 4)):
            inputs[name] = torch.from_numpy((np.arange(width) < rng.integers(1, width + 1, (n, 1))).astype(int))
        batches.append(Batch(inputs, np.arange(n)))
    return model, batches


def plain_loop(model, batches):
    """Site name → rows of all real tokens (tokens, n), one example after another, numpy alone."""
    shared, once = ((m.weight.detach().numpy(), m.bias.detach().numpy()) for m in (model.shared, model.once))
    found = {site.name: [] for site in SITES}
    for batch in batches:
        given = {name: value.numpy() for name, value in batch.inputs.items()}
        for row in range(len(batch.examples)):
            real, written = (given[name][row].astype(bool) for name in ("attention_mask", "decoder_attention_mask"))
            x = given["x"][row]
            first = x @ shared[0].T + shared[1]
            second = np.tanh(first) @ shared[0].T + shared[1]
            last = (second.mean(axis=0) + given["decoder_input_ids"][row][:, None]) @ once[0].T + once[1]
            found["0.in"] += [x[real], np.tanh(first)[real]]
            found["0.some"] += [first[real, 1:4], second[real, 1:4]]
            found["1.out"].append(last[written])
    return {name: np.concatenate(rows) for name, rows in found.items()}


@pytest.mark.parametrize("sizes", [(12,), (5, 1, 6), (1,) * 12, (3, 2, 4, 1, 9, 2)])
def test_a_plain_loop_in_numpy(sizes):
    model, batches = material(sizes)
    found, expected = tally(model, iter(SITES), iter(batches), make), plain_loop(model, batches)
    assert found.keys() == expected.keys()
    for name, rows in expected.items():
        assert found[name].count == len(rows)
        np.testing.assert_allclose(found[name].total, rows.sum(axis=0), rtol=1e-12, atol=1e-12, err_msg=name)
    tokens = [int(batch.inputs["decoder_attention_mask"].sum()) for batch in batches]
    assert found["1.out"].order == tokens  # merged in the order of the batches, whichever thread was first
    assert tiny.hooks(model) == 0


def test_each_hears_every_batch_before_it_is_merged():
    model, batches = material((2, 3, 1))
    heard = []
    total = tally(model, SITES, batches, make, each=lambda name, new: heard.append((name, new.count, len(new.order))))
    masks = [(int(b.inputs["attention_mask"].sum()), int(b.inputs["decoder_attention_mask"].sum())) for b in batches]
    assert heard == [
        entry for real, written in masks for entry in (("0.in", 2 * real, 2), ("0.some", 2 * real, 2), ("1.out", written, 1))
    ]
    assert total["0.in"].count == 2 * sum(real for real, _ in masks)

    def refuse(name, new):
        raise VPError(f"The {name} is not finite.")

    with pytest.raises(VPError, match=r"0\.in is not finite"):
        tally(model, SITES, batches, make, each=refuse)
    assert tiny.hooks(model) == 0


def test_nothing_and_too_little():
    model, batches = material((1,))
    tokens = 2 * int(batches[0].inputs["attention_mask"].sum())
    assert tally(model, SITES, [], make) == {}
    with pytest.raises(VPError, match=r"^Give at least one\.$"):
        tally(model, SITES, [], make, nothing="Give at least one.")
    with pytest.raises(VPError, match=r"^Give more\.$"):
        tally(model, SITES, batches, make, nothing="Give more.", least=tokens + 1)
    assert tally(model, SITES, batches, make, nothing="Give more.", least=tokens)["0.in"].count == tokens


def test_each_thread_has_a_copy_over_the_same_weights():
    model, batches = material((1,) * 20)
    copies = list(each_batch(model, batches, lambda copy, _batch: (threading.get_ident(), copy)))
    assert len({id(copy) for _, copy in copies}) == len({thread for thread, _ in copies})
    for _, copy in copies:
        assert copy is not model and copy.shared.weight is model.shared.weight
    order = [int(n) for n in each_batch(model, batches, lambda _copy, batch: batch.inputs["attention_mask"].sum())]
    assert order == [int(batch.inputs["attention_mask"].sum()) for batch in batches]
