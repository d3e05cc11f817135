"""Two processes: the same masks, meters and weights on both, and the meters of one process on the whole mini-batches."""

from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch
from gradual_runs import QUICK, lessons, model_of
from two_processes import on_two

from vp_core.gradual.meters import Meters
from vp_core.training.loop import train

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]
SCRIPT = """
import json, sys
from pathlib import Path
sys.path[:0] = [{root!r}, {root!r} + "/tests"]
import torch
torch.set_num_threads(1)
import tiny
from gradual_runs import QUICK, Each, lessons, model_of
from vp_core.gradual.cuts import Cuts
from vp_core.gradual.meters import Meters
from vp_core.gradual.rows import GradualRows
from vp_core.gradual.weights import GradualWeights
from vp_core.training.loop import new_accelerator, train

accelerator, cuts, found = new_accelerator(), Cuts(3, 3, 0.2, 0.5), {{}}
meters, first = Meters(), {{}}
def look(run):
    if run.step == 1:
        first.update({{name: [m.count, m.mean.tolist(), m.variance().tolist()] for name, m in meters.moments.items()}})
train(model_of(**tiny.NO_DROPOUT), lessons(), QUICK, callbacks=[meters, Each(look)], accelerator=accelerator)
found["meters"] = first
pruners = [GradualRows(cuts, squeezed=when) for when in ("end", "last", "each")]
pruners += [GradualWeights(cuts), GradualRows(cuts, "random")]
for number, pruner in enumerate(pruners):
    model = model_of(**tiny.NO_DROPOUT)
    train(model, lessons(), QUICK, callbacks=[pruner], accelerator=accelerator)
    found[str(number)] = [tiny.sha(model), pruner.cuts(), [p.abs().sum().item() for p in model.parameters()]]
found["ranks"] = accelerator.num_processes
(Path(sys.argv[1]) / f"{{accelerator.process_index}}.json").write_text(json.dumps(found))
"""


def test_both_prune_alike_and_as_one_would(tmp_path):
    _, (one, two) = on_two(tmp_path, SCRIPT)
    assert one == two and one["ranks"] == 2
    from_first = {}

    class First(Meters):
        def after_step(self, run):
            super().after_step(run)
            if run.step == 1:
                from_first.update(self.moments)
                self.reset()

    train(model_of(**tiny.NO_DROPOUT), lessons(), replace(QUICK, epochs=1), callbacks=[First()])
    for name, moments in from_first.items():
        count, mean, variance = one["meters"][name]
        assert count == moments.count
        torch.testing.assert_close(torch.tensor(mean, dtype=torch.float64), moments.mean, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(torch.tensor(variance, dtype=torch.float64), moments.variance(), rtol=1e-5, atol=1e-9)
    masked, last, each = (one[str(number)][2] for number in range(3))
    torch.testing.assert_close(torch.tensor(last), torch.tensor(masked), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(torch.tensor(each), torch.tensor(masked), rtol=1e-4, atol=1e-4)
    assert [row["step"] for row in one["0"][1]] == [3, 6, 9] == [row["step"] for row in one["3"][1]]
