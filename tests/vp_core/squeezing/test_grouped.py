"""Heads of several widths in one layer: the same outputs, gradients and files as with one width, and fewer coordinates."""

import copy
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import tiny
import torch

from vp_core.ground.errors import VPError
from vp_core.model.projections import find_layers, find_projections
from vp_core.model.sharing import share
from vp_core.ranking.plan import Plan
from vp_core.replacing.prune import prune
from vp_core.squeezing import survivors
from vp_core.squeezing.folder import FORMAT, FORMAT_GROUPED, _read_facts, load_pruned, save_pruned
from vp_core.squeezing.onnx import export_onnx
from vp_core.squeezing.squeeze import squeeze

pytestmark = pytest.mark.usefixtures("exact_norms")
GROUPED = ("bert", "roberta", "electra", "distilbert", "albert", *tiny.SEEING)
"""Families whose attention takes heads of any width."""


def ragged(model):
    """Of the four heads of 12, the first keeps 5 coordinates, the third 8 values, the fourth 3 of query and key."""
    keep = {}
    for p in find_projections(model):
        own = torch.rand(p.d_out, generator=torch.Generator().manual_seed(p.layer)) > 0.2
        if p.type in ("query", "key", "value"):
            own = torch.ones(p.d_out, dtype=torch.bool)
            own[5:12] = False
            own[32:36] = p.type != "value"
            own[39:48] = p.type == "value"
        keep[p.name] = own
    return Plan(keep, "by hand", "by hand", 0.3)


def both(family, monkeypatch, cost=0, **of_model):
    """(masked, squeezed) where one more group of heads costs so many coordinates."""
    monkeypatch.setattr(survivors, "GROUP_COST", cost)
    model = tiny.transformer(family, **of_model)
    plan = ragged(model)
    masked = prune(model, plan, tiny.random_constants(model))
    return masked, squeeze(masked, plan)


def test_the_groups_that_pay():
    widths = [8, 8, 8, 16, 32, 32]
    found = survivors.grouped(widths)
    assert found == ((3, 8), (3, 32))  # 16 coordinates more for the one of 16: a group of its own would save 16 - 12
    spent = sum(heads * width + survivors.GROUP_COST for heads, width in found)
    every = [
        sum(max(part) * len(part) + survivors.GROUP_COST for part in parts)
        for cuts in range(2 ** (len(widths) - 1))
        for parts in [partition(widths, cuts)]
    ]
    assert spent == min(every)
    assert survivors.grouped([]) == ()


def partition(widths, cuts):
    parts = [[widths[0]]]
    for i, width in enumerate(widths[1:]):
        if cuts >> i & 1:
            parts.append([])
        parts[-1].append(width)
    return parts


@pytest.mark.parametrize("family", tiny.TRANSFORMERS)
def test_logits_are_those_of_the_masked_model(family, monkeypatch):
    masked, squeezed = both(family, monkeypatch)
    inputs = tiny.inputs(family)
    assert tiny.distance(tiny.logits(squeezed, inputs), tiny.logits(masked, inputs)) <= 1e-10
    grouped = squeezed.squeezed.grouped
    assert (len(grouped) > 0) == (family in GROUPED or family == "bart"), family
    for layer in find_layers(masked):
        if layer.attention in grouped:  # 5 become 8, and one head of query and key keeps 3 of 12, but all of its values
            assert grouped[layer.attention] == ((1, 8), (3, 12))
            rows = squeezed.squeezed.modules[layer.projections["query"].path]
            assert rows.width == 44 and squeezed.squeezed.modules[layer.projections["attention_output"].path].columns == 44


@pytest.mark.parametrize("family", ["bert", "distilbert", "vit"])
def test_it_trains_as_with_one_width(family, monkeypatch):
    models = [copy.deepcopy(both(family, monkeypatch, cost)[1]).train() for cost in (0, 10**6)]
    assert [bool(m.squeezed.grouped) for m in models] == [True, False]
    inputs, found = tiny.inputs(family), []
    for m in models:
        steps = torch.optim.SGD(m.parameters(), lr=0.01)
        for module in m.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        for _ in range(3):
            steps.zero_grad()
            m(**inputs).logits.square().mean().backward()
            steps.step()
        found.append(tiny.logits(m.eval(), inputs))
    assert tiny.distance(found[0], found[1]) <= 1e-9
    start = tiny.logits(both(family, monkeypatch)[1], inputs)
    assert tiny.distance(found[0], start) > 1e-4


def test_other_ways_to_attend_copies_and_threads(monkeypatch):
    masked, squeezed = both("bert", monkeypatch)
    inputs = tiny.inputs("bert")
    expected = tiny.logits(squeezed, inputs)
    eager = share(squeezed)
    eager.set_attn_implementation("eager")
    assert tiny.distance(tiny.logits(eager, inputs), expected) <= 1e-5
    with torch.inference_mode():
        weights = eager(**inputs, output_attentions=True).attentions
    assert all(one.shape[1] == 4 for one in weights) and len(weights) == masked.config.num_hidden_layers
    assert all(torch.allclose(one.sum(-1), torch.ones((), dtype=one.dtype)) for one in weights)
    for other in (copy.deepcopy(squeezed), share(squeezed)):
        assert torch.equal(tiny.logits(other, inputs), expected)
    shorter = {name: value[:, :6] for name, value in inputs.items()}
    alone = tiny.logits(squeezed, shorter)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda i: tiny.logits(squeezed, shorter if i % 2 else inputs), range(20)))
    assert all(torch.equal(one, alone if i % 2 else expected) for i, one in enumerate(found))


@pytest.mark.parametrize("family", ["bert", "albert", "vit"])
def test_saved_and_loaded(family, monkeypatch, tmp_path):
    _, squeezed = both(family, monkeypatch)
    inputs = tiny.inputs(family)
    loaded = load_pruned(save_pruned(squeezed, tmp_path / "small"))
    assert _read_facts(tmp_path / "small")["format"] == FORMAT_GROUPED
    assert loaded.squeezed == squeezed.squeezed
    assert torch.equal(tiny.logits(loaded, inputs), tiny.logits(squeezed, inputs))
    one_width = both(family, monkeypatch, 10**6)[1]
    assert _read_facts(save_pruned(one_width, tmp_path / "one"))["format"] == FORMAT  # older versions read it
    assert "grouped" not in one_width.squeezed.as_json()


@pytest.mark.parametrize(
    "groups", [[[1, 8], [2, 12]], [[4, 11]], [[0, 8], [4, 11]], [[-1, 8], [4, 13]], [["x", 8]], 7], ids=str
)
def test_groups_that_do_not_fit_are_refused(groups, monkeypatch, tmp_path):
    _, squeezed = both("bert", monkeypatch)
    place = save_pruned(squeezed, tmp_path / "small") / "pruned.json"
    about = json.loads(place.read_text())
    about["squeezed"]["grouped"]["bert.encoder.layer.0.attention.self"] = groups
    place.write_text(json.dumps(about))
    with pytest.raises(VPError, match="cannot be loaded"):
        load_pruned(tmp_path / "small")


@pytest.mark.slow
def test_as_onnx(monkeypatch, tmp_path):
    pytest.importorskip("onnxruntime")
    _, squeezed = both("bert", monkeypatch, dtype=torch.float32)
    assert squeezed.squeezed.grouped
    assert export_onnx(squeezed, tmp_path / "model.onnx").is_file()  # which compares with torch
