"""Several processes: a real run on two, under `accelerate launch`; equal masks and weights on both, one of them writes."""

import copy

import pytest
import snip_runs
import tiny
import torch
from two_processes import on_two

from vp_core.identity.snip import run_snip as run
from vp_core.model.blocks import Block
from vp_core.squeezing.folder import load_pruned
from vp_core.training.run_folder import Checkpoint, read_log

pytestmark = pytest.mark.slow
SCRIPT = """
import json, sys
from pathlib import Path
sys.path[:0] = [{root!r}, {root!r} + "/tests"]
import torch
torch.set_num_threads(1)
import snip_runs as t
import tiny
from vp_core.identity import snip
from vp_core.training import run_folder
from vp_core.ground import store

writes, real = [], store.atomic
for module in (store, run_folder):
    module.atomic = lambda path: writes.append(Path(path).name) or real(path)
keep = run_folder.Log.keep
run_folder.Log.keep = lambda self, name, *rest: writes.append(name) or keep(self, name, *rest)

out = Path(sys.argv[1])
job = snip._Run(t.material("bert"), t.settings(sn=4.0, iterations=2), out / "run", print, lambda *news: None)
rows, hashes = [], []
while (row := job.next()) is not None:
    rows.append(row)
    hashes.append(tiny.sha(job.dense))
rank = job.accelerator.process_index
found = {{"ranks": job.accelerator.num_processes, "rows": t.plain_rows(rows), "hashes": hashes, "writes": writes,
         "gone": [b.name for b in job.gone]}}
(out / f"{{rank}}.json").write_text(json.dumps(found))
"""


PRUNED = """
import copy, json, sys
from dataclasses import replace
from pathlib import Path
sys.path[:0] = [{root!r}, {root!r} + "/tests"]
import torch
torch.set_num_threads(1)
import bench_models
import tiny
from vp_core.recipes import Recipe
from vp_core.squeezing.squeeze import squeeze
from vp_core.training.held import count_zero
from vp_core.training.loop import new_accelerator, train
from vp_core.training.schedule import Lessons, Schedule

one, accelerator = bench_models.stage("bert", 12), new_accelerator()
masked = one.pruned(Recipe(), 0.3)
small = squeeze(masked, one.plan(Recipe(), 0.3))
lessons = Lessons(bench_models.texts("bert", 36), torch.arange(36) % 3, False)
found = {{"ranks": accelerator.num_processes, "zero": [count_zero(masked)[0]]}}
for name, form in (("masked", masked), ("squeezed", small)):
    model = copy.deepcopy(form).float().requires_grad_(True)
    zeros = {{n: p == 0 for n, p in model.named_parameters()}}
    train(model, lessons, Schedule(batch=12, lr=1e-3, precision="float32"), accelerator=accelerator)
    found[name] = tiny.sha(model)
    if name == "masked":
        found["zero"].append(count_zero(model)[0])
    else:
        found["zeros left"] = all(bool((p[zeros[n]] == 0).all()) for n, p in model.named_parameters())
texts = bench_models.texts("bart", 36)  # two passes in a step: texts that end once, and twice
texts = replace(texts, ids=[[*ids, 2] if i % 3 == 0 else ids for i, ids in enumerate(texts.ids)], end_id=2)
one = bench_models.stage("bart", 12)
model = copy.deepcopy(one.pruned(Recipe(), 0.3)).float().requires_grad_(True)
small = copy.deepcopy(squeeze(model, one.plan(Recipe(), 0.3)))
twice = Lessons(texts, torch.arange(36) % 3, False)
train(small, twice, Schedule(batch=12, lr=1e-3, precision="float32"), accelerator=accelerator)
found["ends"] = tiny.sha(small)
(Path(sys.argv[1]) / f"{{accelerator.process_index}}.json").write_text(json.dumps(found))
"""


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """(folder, what each of the two processes saw) of one run with spectral normalisation."""
    return on_two(tmp_path_factory.mktemp("two"), SCRIPT)


def test_equal_masks_and_weights(both):
    """After every row, to the bit."""
    _, (first, second) = both
    assert first["ranks"] == second["ranks"] == 2
    assert first["gone"] == second["gone"] != []
    assert len(first["rows"]) == 3 and first["rows"] == second["rows"]
    assert first["hashes"] == second["hashes"] and len(set(first["hashes"])) == 3


def test_one_writes(both):
    folder, (first, second) = both
    assert second["writes"] == [] and {"run.json", "checkpoint.safetensors", "model"} <= set(first["writes"])
    assert {p.name for p in (folder / "run").iterdir()} <= {"run.json", "checkpoint.safetensors", "model", "within"}


def test_what_was_written_is_what_both_have(both):
    folder, (first, _) = both
    rows = read_log(folder / "run")["rows"]
    assert snip_runs.plain_rows(rows) == first["rows"]
    model = copy.deepcopy(snip_runs.material("bert").model)
    state = Checkpoint(folder / "run").load(model)
    assert state["gone"] == first["gone"] and tiny.sha(model) == first["hashes"][-1]
    small, gone = snip_runs.check(folder / "run", "bert", rows)
    assert gone == [Block.named(name) for name in first["gone"]]
    assert all(sigma == pytest.approx(4, rel=2e-3) for sigma in snip_runs.live_norms(small, model).values())
    assert torch.isfinite(snip_runs.logits(load_pruned(folder / "run" / "model"), "bert")).all()


def test_two_processes_train_like_one(both, tmp_path):
    """Without dropout both gradients together are the whole mini-batch's: the same blocks, nearly the same ε."""
    alone = list(run(snip_runs.material("bert"), snip_runs.settings(sn=4.0), tmp_path / "run"))
    _, (first, _) = both
    for one, two in zip(alone[1:], first["rows"][1:], strict=True):
        assert one["epsilon"] == pytest.approx(two["epsilon"], rel=2e-2)
    assert alone[1]["went"] == first["rows"][1]["went"]


def test_pruned_models_on_two_processes(tmp_path):
    """What is zero stays zero on both, in the masked form and in the squeezed one, and both have the same weights."""
    _, (first, second) = on_two(tmp_path, PRUNED)
    assert first == second and first["ranks"] == 2
    assert first["zero"][0] == first["zero"][1] > 50 and first["zeros left"] and first["masked"] != first["squeezed"]
