"""A pruning Trainer on two processes: equal masks, meters and weights on both, and those of one but for rounding."""

import json

import pytest
import torch
from safetensors.torch import load_file
from trainers import plain_model, trainer
from two_processes import on_two

from vp_core.gradual.rows import GradualRows
from vp_core.movement.ramp import Ramp
from vp_core.running.trainer import MagnitudePruning, MovementPruning, VariancePruning
from vp_core.running.trainer_state import FILE

pytestmark = pytest.mark.slow
SCRIPT = """
import json, sys
from pathlib import Path
sys.path[:0] = [{root!r}, {root!r} + "/tests"]
import torch
torch.set_num_threads(1)
import tiny
import trainers as t
from vp_core.movement.ramp import Ramp
from vp_core.running.trainer import MagnitudePruning, MovementPruning, VariancePruning

out, found = Path(sys.argv[1]), {{}}
made = {{
    "variance": VariancePruning(3, 3, 0.2, 0.6),
    "magnitude": MagnitudePruning(3, 3, 0.2, 0.6),
    "movement": MovementPruning("movement", until=0.6, strength=20.0, ramp=Ramp(0.2, 0.3)),
}}
for name, callback in made.items():
    one = t.trainer(t.plain_model(), callback, out / name, processes=2, save_strategy="steps", save_steps=8)
    one.train()
    found[name] = {{"sha": tiny.sha(one.model), "removed": callback.removed(), "cuts": callback.cuts()}}
    found[name]["ranks"] = one.args.world_size
    if one.args.process_index == 0:
        one.model.save_pretrained(out / f"{{name}} model")
again = VariancePruning(3, 3, 0.2, 0.6)
one = t.trainer(t.plain_model(seed=4), again, out / "variance", processes=2)
one.train(resume_from_checkpoint=str(out / "variance" / "checkpoint-8"))
found["resumed"] = {{"sha": tiny.sha(one.model), "removed": again.removed()}}
(out / f"{{one.args.process_index}}.json").write_text(json.dumps(found))
"""


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    return on_two(tmp_path_factory.mktemp("two"), SCRIPT)


def test_both_have_the_same(both):
    _, (first, second) = both
    assert first == second and first["variance"]["ranks"] == 2


def test_one_process_has_nearly_the_same(both, tmp_path):
    """Each step has the same eight texts, four on each."""
    folder, (first, _) = both
    alone = {
        "variance": VariancePruning(3, 3, 0.2, 0.6),
        "magnitude": MagnitudePruning(3, 3, 0.2, 0.6),
        "movement": MovementPruning("movement", until=0.6, strength=20.0, ramp=Ramp(0.2, 0.3)),
    }
    for name, callback in alone.items():
        one = trainer(plain_model(), callback, tmp_path / name, save_strategy="steps", save_steps=8)
        one.train()
        assert callback.removed() == first[name]["removed"], name
        assert callback.cuts() == json.loads(json.dumps(first[name]["cuts"])), name
        model = type(one.model).from_pretrained(folder / f"{name} model").double()
        named = dict(model.named_parameters())
        for key, mine in one.model.named_parameters():
            torch.testing.assert_close(mine, named[key], rtol=1e-6, atol=1e-8, msg=f"{name}: {key}")
    mine, theirs = (load_file(where / "variance" / "checkpoint-8" / FILE) for where in (tmp_path, folder))
    assert mine.keys() == theirs.keys()
    meters = [name for name in mine if "|meters|" in name]
    assert len(meters) > 40 and isinstance(alone["variance"].pruner, GradualRows)
    for name in meters:
        torch.testing.assert_close(mine[name], theirs[name], rtol=1e-6, atol=1e-9, msg=name)


def test_gone_on_with_on_two(both):
    _, (first, _) = both
    assert first["resumed"]["removed"] == first["variance"]["removed"]
    assert first["resumed"]["sha"] == first["variance"]["sha"]
