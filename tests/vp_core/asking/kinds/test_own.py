"""A metric of one's own: its score against plain loops, and one sentence for whatever it does wrong, the model as it was."""

import functools

import numpy as np
import pytest
import tiny
import torch
from transformers import BatchEncoding

from vp_core.asking.evaluate import evaluate, outputs_by_batch, score
from vp_core.asking.given import dicts
from vp_core.asking.given.dicts import read_batches
from vp_core.asking.given.returned import known_by
from vp_core.asking.kinds.own import Own
from vp_core.asking.metrics import at_least, less_is_better, sums_interval
from vp_core.ground.errors import VPError

MODEL = tiny.classifier("bert")


def batches(n=6, size=4, seed=0):
    """Texts of several lengths with labels, padded batch by batch."""
    draw = torch.Generator().manual_seed(seed)
    found = []
    for number in range(n):
        width, rows = 5 + number % 3, size - number % 2
        mask = torch.ones(rows, width, dtype=torch.long)
        mask[0, 3:] = 0
        ids = torch.randint(5, 50, (rows, width), generator=draw)
        found.append({"input_ids": ids, "attention_mask": mask, "labels": torch.randint(0, 2, (rows,), generator=draw)})
    return found


def hits(model, batch):
    labels = batch.pop("labels")
    return model(**batch).logits.argmax(dim=1) == labels


def loss(model, batch):
    labels = batch["labels"]
    return torch.nn.functional.cross_entropy(model(**batch).logits, labels).item(), len(labels)


def own(metric=hits, given=None, name="my metric", **more):
    return Own.make(read_batches(batches() if given is None else given), metric, name, **more)


def logits():
    with torch.no_grad():
        return [MODEL(**{k: v for k, v in batch.items() if k != "labels"}).logits for batch in batches()]


def test_values_of_examples():
    """As an accuracy by hand; examples are right or wrong in the order of the data."""
    right = [(z.argmax(1) == b["labels"]).tolist() for z, b in zip(logits(), batches(), strict=True)]
    right = [one for row in right for one in row]
    found = score(MODEL, own())
    assert (found.metric, found.n, found.total) == ("my metric", len(right), len(right))
    assert found.value == np.mean(right) and found.right.tolist() == right and found.low < found.value < found.high
    assert not less_is_better(found.metric)


def test_a_value_and_n():
    """The loss of all examples, though batches have different numbers of them."""
    rows = [
        torch.nn.functional.cross_entropy(z, b["labels"], reduction="none") for z, b in zip(logits(), batches(), strict=True)
    ]
    found = score(MODEL, own(loss, smaller_is_better=True))
    assert found.value == pytest.approx(torch.cat(rows).mean().item(), rel=1e-6) and found.right is None
    assert found.metric == "my metric (less is better)" and less_is_better(found.metric)
    assert at_least(found.metric, 0.1, 0.2) and not at_least(found.metric, 0.2, 0.1)


def test_a_batch_without_weight_counts_nothing():
    def some(model, batch):
        return (float("nan"), 0) if len(batch["labels"]) == 3 else (2.0, 4)

    assert score(MODEL, own(some)).value == 2
    with pytest.raises(VPError, match="counts nothing"):
        score(MODEL, own(lambda model, batch: (1.0, 0)))


@pytest.mark.parametrize(
    "make",
    [list, tuple, np.array, lambda v: [torch.tensor(x) for x in v], lambda v: torch.tensor(v, dtype=torch.float16),
     lambda v: np.array(v, dtype=np.int32), lambda v: [bool(x) for x in v]],
    ids=["list", "tuple", "array", "tensors", "half", "integers", "truth"],
)  # fmt: skip
def test_whatever_holds_numbers(make):
    found = score(MODEL, own(lambda model, batch: make([1] * len(batch["labels"]))))
    assert (found.value, found.right.all()) == (1, True)


def test_two_numbers_of_a_batch_of_two():
    """A tuple is (value, n); a list, or a tensor, are the values of two examples."""
    two = [{"input_ids": torch.ones(2, 3, dtype=torch.long)}] * 2
    assert score(MODEL, own(lambda m, b: [0.0, 4.0], two)).value == 2
    assert score(MODEL, own(lambda m, b: (0.5, 4), two)).value == 0.5


def test_batches_are_as_they_were_given():
    """Rows, widths and padding; in an order of their own, each once; running scores on the way."""
    given, seen = batches(40), []

    def see(model, batch):
        seen.append({name: value.clone() for name, value in batch.items()})
        return batch["labels"].float()

    scores = list(evaluate(MODEL, own(see, given)))
    assert [one.n for one in scores] == [66, 140] and scores[0].right is None and len(seen) == 40
    for batch in seen:
        alike = [one for one in given if one["input_ids"].shape == batch["input_ids"].shape]
        assert sum(all(torch.equal(batch[name], one[name]) for name in one) for one in alike) == 1
    assert scores[-1].value == pytest.approx(torch.cat([one["labels"] for one in given]).float().mean().item())


def test_what_was_given_may_change_later():
    """One generator, one dict, the same tensor filled again: each batch is what it was when it came."""

    def loader():
        shared = {"x": torch.zeros(2, 1)}
        for number in range(3):
            shared["x"].fill_(number)
            yield shared

    given = read_batches(loader())
    assert [batch["x"][0, 0].item() for batch in given.batches] == [0, 1, 2]
    assert len(read_batches(loader)) == 6 and read_batches(BatchEncoding({"x": torch.ones(1, 1)}) for _ in "ab").places.tolist()
    assert read_batches(loader(), most=2).notes == ("The first 2 batches are used, and there are more.",)
    assert not read_batches(loader(), most=3).notes


def test_a_metric_takes_its_dict_apart_and_nothing_is_lost():
    asked = own()
    before = {name: value.clone() for name, value in asked.data.batches[0].items()}

    def apart(model, batch):
        labels = batch.pop("labels")
        batch["input_ids"].zero_()
        return labels.float()

    ruins = own(apart)
    assert score(MODEL, ruins).value == score(MODEL, ruins).value
    assert all(torch.equal(ruins.data.batches[0][name], value) for name, value in before.items())


WRONG_VALUES = {
    "nothing": (lambda m, b: None, "returned nothing for batch"),
    "text": (lambda m, b: "good", "a str without numbers"),
    "dict": (lambda m, b: {"f1": 1}, "a dict without numbers"),
    "texts": (lambda m, b: ["good"] * 4, "a list without numbers"),
    "complex": (lambda m, b: torch.ones(4, dtype=torch.complex64), "a Tensor without numbers"),
    "single": (lambda m, b: 0.5, "a single number for the 4 examples of batch"),
    "scalar": (lambda m, b: torch.tensor(0.5), "a single number for the 4 examples of batch"),
    "fewer": (lambda m, b: torch.ones(2), "2 values for the 4 examples"),
    "column": (lambda m, b: torch.ones(4, 1), r"shape \(4, 1\)"),
    "nan": (lambda m, b: torch.tensor([1, 1, float("nan"), 1]), "returned nan for example 3 of batch"),
    "inf": (lambda m, b: (float("inf"), 3), "returned inf of 3"),
    "negative n": (lambda m, b: (1.0, -3), "1 of -3"),
    "nan n": (lambda m, b: (1.0, float("nan")), "1 of nan"),
    "raises": (lambda m, b: b["label"], "failed on batch . .KeyError: no 'label'"),
    "divides": (lambda m, b: 1 / 0, "ZeroDivisionError: division by zero"),
    "gradients": (lambda m, b: m(**b).loss.backward(), "failed on batch"),
    "mixed": (lambda m, b: (1.0, 2) if b["input_ids"].shape[1] == 5 else [1.0] * len(b["labels"]), "for others: choose one"),
}


@pytest.mark.parametrize("what", WRONG_VALUES)
def test_values_that_are_none(what):
    metric, sentence = WRONG_VALUES[what]
    given = batches() if what in ("mixed",) else batches()[::2]
    before = tiny.sha(MODEL)
    with pytest.raises(VPError, match=sentence) as told:
        score(MODEL, own(metric, given))
    assert "\n" not in str(told.value) and str(told.value).endswith(".") and "'my metric'" in str(told.value)
    assert (tiny.sha(MODEL), tiny.hooks(MODEL), MODEL.training) == (before, 0, False)


def by_data(model):
    model.classifier.weight.data.mul_(1.5)


def swaps(model):
    model.classifier.weight = torch.nn.Parameter(torch.zeros_like(model.classifier.weight))


CHANGES = {
    "weights": (lambda m: m.classifier.weight.mul_(2), "its weights"),
    "weights behind their back": (by_data, "its weights"),
    "other weights": (swaps, "its weights"),
    "buffers": (lambda m: m.bert.embeddings.position_ids.add_(1), "its weights"),
    "training": (lambda m: m.train(), "its training mode"),
    "a module's training": (lambda m: m.dropout.train(), "its training mode"),
    "hooks": (lambda m: m.classifier.register_forward_hook(lambda *a: None), "hooks that stay on it"),
    "gradients": (lambda m: m.requires_grad_(not m.classifier.weight.requires_grad), "which weights ask for gradients"),
    "modules": (lambda m: setattr(m, "classifier", torch.nn.Linear(32, 2)), "its modules"),
    "more modules": (lambda m: m.add_module("more", torch.nn.Linear(1, 1)), "its modules"),
    "its forward pass": (lambda m: setattr(m, "forward", lambda **k: None), "its forward pass"),
}


@pytest.mark.parametrize("last", [False, True], ids=["at once", "at the end"])
@pytest.mark.parametrize("what", CHANGES)
def test_a_metric_that_changes_the_model(what, last):
    """Told before a whole score is there; the model, its modes and its hooks are as before, and so is the next score."""
    change, word = CHANGES[what]
    calls = []

    def metric(model, batch):
        calls.append(batch)
        if not last or len(calls) == 6:
            change(model)
        return batch["labels"].float()

    before, good = tiny.sha(MODEL), score(MODEL, own()).value
    with pytest.raises(VPError, match="changes the model") as told:
        score(MODEL, own(metric))
    assert f"({word})" in str(told.value) and str(told.value).endswith(".")
    assert (tiny.sha(MODEL), tiny.hooks(MODEL), any(m.training for m in MODEL.modules())) == (before, 0, False)
    assert all(p.requires_grad for p in MODEL.parameters()) and score(MODEL, own()).value == good


def test_a_metric_that_puts_things_back():
    """What is as it was afterwards is nobody's matter: a hook that is taken off, dropout for a moment."""

    def metric(model, batch):
        seen = []
        handle = model.classifier.register_forward_hook(lambda module, args, output: seen.append(output))
        model(**batch)
        handle.remove()
        return seen[0][:, 0]

    z = torch.cat([one[:, 0] for one in logits()])
    assert score(MODEL, own(metric)).value == pytest.approx(z.mean().item(), rel=1e-5)


def test_outputs_are_asked_one_batch_at_a_time():
    running, most = [], []

    def metric(model, batch):
        running.append(1)
        most.append(len(running))
        model(**batch)
        running.pop()
        return batch["labels"].float()

    asked = own(metric, batches(30))
    list(outputs_by_batch(MODEL, asked, [batch for _, part in asked.chunks() for batch in part]))
    assert max(most) == 1 and len(most) == 30


WRONG_BATCHES = {
    "none": ([], "There are no batches"),
    "used up": (iter([]), "not used up"),
    "a dict": ({"x": torch.ones(2)}, "a dict: put it into a list"),
    "a tensor": (torch.ones(2, 2), "a Tensor: put it into a list"),
    "a number": (3, "a int: give a list"),
    "tensors": ([torch.ones(2)], "Batch 1 of the batches is a Tensor, no dict of tensors"),
    "lists": ([{"x": [1, 2]}], "'x' in batch 1 of the batches is a list"),
    "a scalar": ([{"x": torch.ones(2)}, {"x": torch.tensor(1)}], "'x' in batch 2 .* without dimensions"),
    "no names": ([{}], "Batch 1 of the batches is empty"),
    "no rows": ([{"x": torch.ones(0, 2)}], "Batch 1 of the batches is empty"),
    "unequal": ([{"x": torch.ones(2), "y": torch.ones(3)}], r"different first dimensions \(x 2, y 3\)"),
    "a number for a name": ([{1: torch.ones(2)}], "1 in batch 1"),
    "broken": ((1 / 0 for _ in "a"), "failed on the way .ZeroDivisionError"),
    "a broken function": (lambda: 1 / 0, "function of the batches failed .ZeroDivisionError"),
}


@pytest.mark.parametrize("what", WRONG_BATCHES)
def test_batches_that_are_none(what):
    given, sentence = WRONG_BATCHES[what]
    with pytest.raises(VPError, match=sentence) as told:
        read_batches(given)
    assert "\n" not in str(told.value) and str(told.value).endswith(".")


def test_batches_without_end(monkeypatch):
    monkeypatch.setattr(dicts, "MOST_BYTES", 1000)
    endless = ({"x": torch.ones(4, 4)} for _ in iter(int, 1))
    with pytest.raises(VPError, match=r"first 16 batches hold 1,024 bytes, where 1,000 are the most"):
        read_batches(endless)
    assert len(read_batches(endless, most=3)) == 12


@pytest.mark.parametrize("name", ["accuracy", "entity_f1", "perplexity", "", " ", "x (less is better)"])
def test_names_that_mean_something_else(name):
    with pytest.raises(VPError, match="cannot be called"):
        own(name=name)


def test_no_function():
    with pytest.raises(VPError, match="The metric is a str: give a function"):
        own("accuracy")


def test_examples_of_different_batches_stay_apart():
    given = read_batches(batches())
    assert [given.length(i) for i in range(5)] == [3, 5, 5, 5, 3] and given.apart(3) == 0 and given.apart(4) == 1
    batch = given.together([2, 0])
    assert torch.equal(batch.inputs["input_ids"], batches()[0]["input_ids"][[2, 0]])
    assert given.max_length == 7 and given.facts() == read_batches(batches()).facts() != read_batches(batches(seed=1)).facts()


def test_an_interval_of_many_different_values():
    """Drawn one by one, against the normal interval of a mean."""
    values = np.random.default_rng(0).normal(3, 2, 5000)
    low, high = sums_interval(np.stack([values, np.ones(5000)], axis=1))
    half = 1.96 * values.std() / 5000**0.5
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.01)


def made(constant, default=1):
    def metric(model, batch, more=default):
        return [constant * helper(one) for one in batch["labels"]]

    return metric


def helper(value):
    return float(value)


def test_what_a_metric_is_known_by():
    """The same code with the same constants; not another constant, default or helper. Of objects: new each time."""
    assert known_by(made(2)) == known_by(made(2)) != known_by(made(3))
    assert known_by(made(2)) != known_by(made(2, default=5)) and known_by(hits) == known_by(hits) != known_by(loss)
    assert known_by(functools.partial(hits)) != known_by(functools.partial(hits))
    one = known_by(made(2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(globals(), "helper", lambda value: 0.0)
        assert known_by(made(2)) != one
