"""Runs with the paper's readings: where they begin, what they count, how they go on, and that older runs do."""

import json
from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
from snip_runs import QUICK, check, dense_of, live_norms, material, plain_rows, settings
from transformers.pytorch_utils import Conv1D

from vp_core.ground.errors import VPError
from vp_core.identity import snip
from vp_core.identity.readings import PAPER, Readings
from vp_core.identity.snip import run_snip as run
from vp_core.model.projections import find_projections
from vp_core.squeezing.folder import load_pruned
from vp_core.training.run_folder import LOG, read_log

pytestmark = pytest.mark.usefixtures("exact_norms")
SCHEDULE = replace(QUICK, layer_decay=0.8, epsilon=1e-6, epochs=2)


def paper(**others):
    return settings(**{"readings": PAPER, "schedule": SCHEDULE, "at_least": 0, "k": (2, 1)} | others)


def matrix(model, p):
    module = model.get_submodule(p.path)
    weight = module.weight.T if isinstance(module, Conv1D) else module.weight
    return weight.detach().double().numpy()[p.start : p.start + p.d_out]


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_it_begins_with_rescaled_weights(family, tmp_path, monkeypatch):
    """Every matrix that the first training begins with is λW/σ(W), σ by numpy; `nearest` is not asked."""
    seen, real = [], snip.train

    def told(model, *given, **how):
        seen.append({p.name: matrix(model, p) for p in find_projections(material(family).model)})
        return real(model, *given, **how)

    monkeypatch.setattr(snip, "train", told)
    monkeypatch.setattr(snip, "nearest", None)
    next(run(material(family), paper(sn=4.0), tmp_path / "run"))
    for p in find_projections(material(family).model):
        w = matrix(material(family).model, p)
        np.testing.assert_allclose(seen[0][p.name], w * 4 / np.linalg.norm(w, 2), rtol=1e-3, atol=1e-5, err_msg=p.name)


@pytest.mark.parametrize(("family", "sn"), [("bert", None), ("bert", 4.0), ("albert", None), ("gpt2", 4.0)])
def test_a_run_as_the_paper_has_it(family, sn, tmp_path):
    rows = list(run(material(family), paper(sn=sn), tmp_path / "run"))
    small, gone = check(tmp_path / "run", family, rows)
    assert len(rows) == 3 and gone
    for row in rows[1:]:
        assert row["batches"] == 2  # those of one pass of 24 texts
        left = [name for name, share in row["identity"].items() if 1 - share < 0.95]
        assert sorted(row["went"]) == sorted(left) and row["passing"]["mean"]["use"] == len(left)
        assert set(row["identity"].values()) <= {0.0, 0.5, 1.0}
    dense = material(family).model
    if sn:
        assert all(sigma == pytest.approx(sn, rel=5e-3) for sigma in live_norms(small, dense).values())
    flops = [row["flops"] for row in rows]  # ALBERT has a single layer, all of which may go
    assert flops[0] > flops[-1] >= 0 and flops == sorted(flops, reverse=True)


def test_flops_by_hand(tmp_path):
    """A text of 128 tokens, or as many as the model takes: 2 a weight and token, 2·T a coordinate of scores and values."""
    row = next(run(material("bert"), settings(), tmp_path / "run"))
    config = material("bert").model.config
    d, f, layers, length = config.hidden_size, config.intermediate_size, config.num_hidden_layers, 128
    length = min(length, config.max_position_embeddings)
    assert row["flops"] == layers * length * (2 * (4 * d * d + 2 * d * f) + 2 * length * 2 * d)


class Stop(Exception):
    pass


def test_stopped_after_counting(tmp_path):
    """What the training with the gate counted is in the checkpoint: the blocks that leave are the same."""
    whole = list(run(material("bert"), paper(), tmp_path / "whole"))

    def tell(news):
        if "blocks leave" in news:
            raise Stop

    with pytest.raises(Stop):
        list(run(material("bert"), paper(), tmp_path / "run", tell))
    again = []
    rows = list(run(material("bert"), paper(), tmp_path / "run", again.append))
    assert not any("iteration 1: training with the gate" in news for news in again)
    assert plain_rows(rows) == plain_rows(whole)
    assert tiny.sha(dense_of(tmp_path / "run", "bert")) == tiny.sha(dense_of(tmp_path / "whole", "bert"))
    assert tiny.sha(load_pruned(tmp_path / "run" / "model")) == tiny.sha(load_pruned(tmp_path / "whole" / "model"))


def test_a_run_that_was_begun_before_goes_on(tmp_path):
    """Its settings are those of version 0.7 to the letter, its rows lack what came later."""
    list(run(material("bert"), settings(iterations=1), tmp_path / "run"))
    whole = list(run(material("bert"), settings(iterations=2), tmp_path / "whole"))
    log = tmp_path / "run" / LOG
    found = json.loads(log.read_text())
    found["settings"] = {
        "mode": "joint", "theta": 0.95, "k": [1, 1], "l1": 0.01, "sn": None, "at_least": 1, "least_share": 0.0,
        "schedule": {"epochs": 1, "examples": 24, "batch": 12, "lr": 0.0003, "weight_decay": 0.01, "warm_up": 0.1,
                     "precision": "float32", "seed": 0},
        "begin": None, "model": "bert",
    }  # fmt: skip
    assert read_log(tmp_path / "whole")["settings"] == found["settings"]
    for row in found["rows"]:
        for later in ("flops", "batches", "passing"):
            row.pop(later, None)
    log.write_text(json.dumps(found))
    rows = list(run(material("bert"), settings(iterations=2), tmp_path / "run"))
    assert plain_rows(rows[2:]) == plain_rows(whole[2:]) and len(rows) == 3
    assert tiny.sha(dense_of(tmp_path / "run", "bert")) == tiny.sha(dense_of(tmp_path / "whole", "bert"))


@pytest.mark.parametrize(
    ("first", "then"), [(Readings(), PAPER), (PAPER, Readings()), (PAPER, replace(PAPER, usage="identity"))]
)
def test_a_run_does_not_go_on_with_other_readings(first, then, tmp_path):
    list(run(material("bert"), settings(iterations=1, readings=first), tmp_path / "run"))
    before = (tmp_path / "run" / LOG).read_bytes()
    with pytest.raises(VPError, match="other readings") as raised:
        list(run(material("bert"), settings(iterations=2, readings=then), tmp_path / "run"))
    assert str(raised.value).endswith(".") and (tmp_path / "run" / LOG).read_bytes() == before


def test_means_of_texts_may_be_counted_too(tmp_path):
    """Mean, but on calibration texts: at least as many pass as by the maximum."""
    readings = Readings(identity="mean", usage="use")
    rows = list(run(material("bert"), settings(iterations=1, at_least=0, k=(4, 1), readings=readings), tmp_path / "run"))
    passing = rows[1]["passing"]
    assert rows[1]["batches"] == 2 and len(rows[1]["went"]) == passing["mean"]["use"] >= passing["max"]["use"]
    assert torch.tensor(list(rows[1]["identity"].values())).max() > 0
    check(tmp_path / "run", "bert", rows)
