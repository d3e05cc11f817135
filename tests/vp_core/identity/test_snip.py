"""Iterative identity pruning: blocks really leave and weights come back to where they were cut from."""

import copy
import gc
import itertools
from dataclasses import replace

import pytest
import tiny
import torch
from snip_runs import FAMILIES, QUICK, check, dense_of, live_norms, material, plain_rows, settings
from transformers.pytorch_utils import Conv1D

from vp_core.asking.evaluate import score
from vp_core.ground.errors import VPError
from vp_core.ground.names import MODES
from vp_core.identity import snip
from vp_core.identity.l1 import TowardsIdentity
from vp_core.identity.snip import run_snip as run
from vp_core.model.blocks import Block, find_blocks, find_sublayers
from vp_core.model.projections import find_projections
from vp_core.squeezing.blocks_off import freeze_new_biases, masked_without, plan_without, without, write_back
from vp_core.squeezing.cost import parameters
from vp_core.squeezing.folder import load_pruned
from vp_core.training.schedule import Schedule

pytestmark = pytest.mark.usefixtures("exact_norms")
gc.freeze()  # what is there now need not be looked at after each training


@pytest.mark.parametrize(
    ("family", "sn"), [*((f, None) for f in FAMILIES), *((f, 4.0) for f in ("bert", "gpt2", "albert", "llama"))]
)
def test_every_family(family, sn, tmp_path):
    given = material(family)
    before = tiny.sha(given.model)
    rows = list(run(given, settings(sn=sn), tmp_path / "run"))
    assert [row["iteration"] for row in rows] == [0, 1, 2]
    small, gone = check(tmp_path / "run", family, rows)
    assert rows[0]["gone"] == [] == rows[0]["went"] and rows[0]["share_pruned"] == 0
    assert rows[0]["given"]["value"] == score(given.model, given.question).value
    for one, other in itertools.pairwise(rows):
        assert other["went"] and other["gone"] == one["gone"] + other["went"]
        assert other["parameters"] < one["parameters"] and other["share_pruned"] > one["share_pruned"]
        assert sum(other["left"].values()) == sum(one["left"].values()) - len(other["went"])
        assert set(other["identity"]) == {
            b.name for b in find_blocks(given.model) if b.kind in ("head", "ffn") and b.name not in one["gone"]
        }
    assert len(set(gone)) == len(gone) >= 2 and {b.kind for b in gone} <= {"head", "ffn"}
    assert parameters(small) < parameters(given.model)
    assert tiny.sha(given.model) == before and not any(p.grad is not None for p in given.model.parameters())
    trained = dense_of(tmp_path / "run", family)
    assert all(torch.isfinite(p).all() for p in trained.parameters()) and tiny.sha(trained) != before
    if sn:
        for name, sigma in live_norms(small, given.model).items():
            assert sigma == pytest.approx(sn, rel=2e-3), name
    assert not list((tmp_path / "run").glob(".*"))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("family", ["distilbert", "gpt2"])
def test_every_mode(family, mode, tmp_path):
    rows = list(run(material(family), settings(mode=mode, iterations=1), tmp_path / "run"))
    _, gone = check(tmp_path / "run", family, rows)
    went = rows[1]["went"]
    assert {b.kind for b in gone} <= set(MODES[mode]) and rows[1]["share_pruned"] > 0
    assert rows[1]["epsilon"].keys() == set(MODES[mode])
    if mode == "layers":
        layers = {b.layer for b in gone}
        assert all(b in gone for b in find_blocks(material(family).model, MODES[mode]) if b.layer in layers)
    else:
        assert len(went) >= 1


def test_every_training_is_seeded_by_itself(tmp_path, monkeypatch):
    """And only those with the gate have the L1 term."""
    seen, real = [], snip.train

    def told(*given, **how):
        seen.append((how["seed"], sum(one.l1 for one in how["callbacks"] if isinstance(one, TowardsIdentity))))
        return real(*given, **how)

    monkeypatch.setattr(snip, "train", told)
    list(run(material("bert"), settings(l1=0.02), tmp_path / "run"))
    assert seen == [(0, 0), (1, 0.02), (2, 0), (3, 0.02), (4, 0)]


@pytest.mark.parametrize("family", ["bert"])
def test_in_bfloat16_and_with_dropout(family, tmp_path):
    """As runs are by default where it is fast; the model is handed over in training mode, which nothing that is measured may
    see."""
    given = material(family)
    model = copy.deepcopy(given.model)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.3
    schedule = replace(QUICK, precision="bfloat16")
    kept = [list(run(replace(given, model=m), settings(sn=4.0, schedule=schedule), tmp_path / name))
            for name, m in (("eval", model), ("train", copy.deepcopy(model).train()))]  # fmt: skip
    small, _ = check(tmp_path / "eval", family, kept[0])
    assert all(sigma == pytest.approx(4, rel=5e-3) for sigma in live_norms(small, given.model).values())
    assert plain_rows(kept[0])[1:] == plain_rows(kept[1])[1:]


@pytest.mark.parametrize("family", tiny.TRANSFORMERS)
def test_weights_come_back_to_where_they_were_cut_from(family):
    """Steps of SGD on what is left, written back: cut again, it is the same model; what has left is as it was."""
    ffns = find_blocks(tiny.transformer(family), ("ffn",))
    last = find_sublayers(tiny.transformer(family))[-1].layer
    cases = ([], [Block(0, "head", 1)], [Block(0, "head", 0), ffns[-1]], [Block(last, "attention")],
             [Block(0, "head", h) for h in range(2 if family == "llama" else 4)])  # fmt: skip
    for gone in cases:
        dense, given = tiny.transformer(family), tiny.inputs(family)
        before = {n: p.detach().clone() for n, p in dense.named_parameters()}
        plan = plan_without(dense, gone)
        small = without(dense, gone)
        freeze_new_biases(dense, small, plan)
        start = tiny.logits(small, given)
        optimiser = torch.optim.SGD([p for p in small.parameters() if p.requires_grad], lr=1e-3)
        for _ in range(2):
            optimiser.zero_grad()
            small.train()(**given).logits.square().mean().backward()
            torch.nn.utils.clip_grad_norm_(small.parameters(), 1.0)
            optimiser.step()
        small.eval()
        write_back(dense, small, plan)
        trained = tiny.logits(small, given)
        assert tiny.distance(trained, start) > 1e-5
        assert tiny.distance(tiny.logits(without(dense, gone), given), trained) <= 1e-10
        assert tiny.distance(tiny.logits(masked_without(dense, gone), given), trained) <= 1e-10
        for p in find_projections(dense):
            module, rows = dense.get_submodule(p.path), ~plan.keep[p.name]
            old = before[f"{p.path}.weight"]
            weights = [w.T if isinstance(module, Conv1D) else w for w in (module.weight, old)]
            now, then = (w[p.start : p.start + p.d_out][rows] for w in weights)
            assert torch.equal(now, then)
        changed = [n for n, p in dense.named_parameters() if not torch.equal(p, before[n])]
        assert len(changed) > 10


@pytest.mark.parametrize("mode", MODES)
def test_theta_0_takes_everything_and_the_run_ends(mode, tmp_path):
    rows = list(run(material("bert"), settings(mode=mode, theta=0, iterations=5), tmp_path / "run"))
    assert len(rows) == 2  # nothing is left that a second iteration could take
    everything = {b.name for b in find_blocks(material("bert").model, MODES[mode])}
    assert set(rows[1]["gone"]) == everything
    assert all(rows[1]["left"][kind] == 0 for kind in MODES[mode])
    check(tmp_path / "run", "bert", rows)
    assert rows[1]["share_pruned"] == 1 or mode in ("heads", "ffn", "attention")
    assert list(run(material("bert"), settings(mode=mode, theta=0, iterations=5), tmp_path / "run")) == rows


def test_nothing_left_ends_the_run_early(tmp_path):
    """BART in the mode `layers`: its cross attentions are units of one block, and the last to be estimated by themselves."""
    rows = list(run(material("bart"), settings(mode="layers", at_least=3, iterations=9), tmp_path / "run"))
    assert rows[-1]["share_pruned"] == 1 and len(rows) <= 3
    check(tmp_path / "run", "bart", rows)


def test_an_iteration_may_take_nothing(tmp_path):
    rows = list(run(material("bert"), settings(theta=1, at_least=0, l1=0.0, iterations=1), tmp_path / "run"))
    assert len(rows) == 2 and rows[1]["went"] == [] and rows[1]["parameters"] == rows[0]["parameters"]
    check(tmp_path / "run", "bert", rows)


def test_the_smallest_within_a_point(tmp_path, monkeypatch):
    """`within` is the last model whose score is at least the given one's less a point."""
    real, values = snip.score, iter([0.8, 0.795, 0.7905, 0.7])

    def told(model, question):
        found = real(model, question)
        return type(found)(**{**found.__dict__, "value": next(values)})

    monkeypatch.setattr(snip, "score", told)
    rows = list(run(material("bert"), settings(), tmp_path / "run"))
    assert [row["value"] for row in rows] == [0.795, 0.7905, 0.7] and rows[0]["given"]["value"] == 0.8
    assert load_pruned(tmp_path / "run" / "within").squeezed.cost.parameters_left == rows[1]["parameters"]
    assert load_pruned(tmp_path / "run" / "model").squeezed.cost.parameters_left == rows[2]["parameters"]


@pytest.mark.parametrize(
    ("others", "says"),
    [
        ({"mode": "noses"}, "Unknown mode 'noses'"),
        ({"theta": 1.2}, "θ must be between 0 and 1"),
        ({"theta": -0.1}, "θ must be between 0 and 1"),
        ({"sn": 0}, "λ of spectral normalisation"),
        ({"sn": -5.0}, "λ of spectral normalisation"),
        ({"iterations": 0}, "at least 1"),
        ({"k": (0, 1)}, "at least 1"),
        ({"at_least": -1}, "at least"),
        ({"l1": -0.01}, "at least"),
        ({"schedule": lambda: Schedule(lr=0)}, "learning rate"),
    ],
)
def test_settings_that_cannot_be(others, says, tmp_path):
    with pytest.raises(VPError, match=says) as raised:
        others = {name: value() if callable(value) else value for name, value in others.items()}
        list(run(material("bert"), settings(**others), tmp_path / "run"))
    assert "\n" not in str(raised.value) and not (tmp_path / "run").exists()
