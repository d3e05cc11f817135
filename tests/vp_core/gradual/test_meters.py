"""Meters of a model in training: equal to a plain loop over what the modules put out, in float64."""

from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
from gradual_runs import FAMILIES, QUICK, Each, lessons, model_of, trained

from vp_core.asking.batches import Encoded
from vp_core.gradual.meters import Meters, _from_sums, _sums
from vp_core.ground.errors import VPError
from vp_core.measuring.moments import batch_moments
from vp_core.model.projections import find_projections
from vp_core.training.callbacks import Callback
from vp_core.training.schedule import Lessons


class Outputs(Callback):
    """Real tokens' outputs of every projection, by step: plain hooks, plain numpy."""

    def prepare(self, model, steps):
        self.steps, self.projections = [], find_projections(model)

    def before_step(self, run):
        self.steps.append({p.name: [] for p in self.projections})

    def watching(self, run, inputs):
        return self.looking(run.model, inputs["attention_mask"].bool())

    def looking(self, model, real):
        outer, handles = self, []

        def keep(p, y):
            rows = y.detach().float().numpy()[real.numpy()]
            outer.steps[-1][p.name].append(rows.astype(np.float64))

        class Look:
            def __enter__(self):
                for p in outer.projections:
                    if p.gate:
                        module = model.get_submodule(p.consumer)
                        hook = module.register_forward_pre_hook(lambda _m, args, p=p: keep(p, args[0]))
                    else:
                        module, cut = model.get_submodule(p.path), slice(p.start, p.start + p.d_out)
                        hook = module.register_forward_hook(lambda _m, _a, y, p=p, cut=cut: keep(p, y[..., cut]))
                    handles.append(hook)

            def __exit__(self, *args):
                for handle in handles:
                    handle.remove()

        return Look()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_they_equal_a_loop_in_numpy(family, precision):
    model, outputs, meters = model_of(family), Outputs(), Meters()
    trained(model, [outputs, meters], replace(QUICK, precision=precision), until=5, family=family)
    variances, means = meters.variances(), meters.means()
    assert len(means) == len(find_projections(model)) and meters.steps == 5
    for name, mean in means.items():
        ewmv, everything = None, []
        for step in outputs.steps:
            rows = np.concatenate(step[name])
            everything.append(rows)
            variance = rows.var(axis=0, ddof=1)
            ewmv = variance if ewmv is None else 0.9 * variance + 0.1 * ewmv
        np.testing.assert_allclose(variances[name], ewmv, rtol=1e-10, atol=1e-18)
        np.testing.assert_allclose(mean, np.concatenate(everything).mean(axis=0), rtol=1e-10, atol=1e-12)
        assert meters.moments[name].count == sum(map(len, everything)) == meters.tokens
    assert tiny.hooks(model) == 0


def test_passes_of_a_step_are_one_update():
    """Texts with another number of end tokens are passes of their own, of one step."""
    data = lessons(n=16)
    ids = [[*row, 2] if i % 2 else [*row, 2, 2] for i, row in enumerate(data.data.ids)]
    both = Lessons(Encoded(ids, None, 0, 0, 12, end_id=2), data.targets, False)
    outputs, meters = Outputs(), Meters(alpha=0.3)
    trained(model_of(), [outputs, meters], replace(QUICK, epochs=1), both, until=2)
    assert [len(step["0.query"]) for step in outputs.steps] == [2, 2] and meters.steps == 2
    first, second = (np.concatenate(step["1.ffn_in"]).var(axis=0, ddof=1) for step in outputs.steps)
    np.testing.assert_allclose(meters.variances()["1.ffn_in"], 0.3 * second + 0.7 * first, rtol=1e-12)


def test_reset():
    """After it nothing of before is left, the first step begins the moving variance anew."""
    outputs, meters = Outputs(), Meters()
    trained(model_of(), [outputs, meters, Each(lambda run: run.step == 2 and meters.reset())], until=3)
    rows = np.concatenate(outputs.steps[-1]["0.value"])
    np.testing.assert_allclose(meters.variances()["0.value"], rows.var(axis=0, ddof=1), rtol=1e-12)
    np.testing.assert_allclose(meters.means()["0.value"], rows.mean(axis=0), rtol=1e-10, atol=1e-12)
    assert meters.tokens == len(rows) and meters.steps == 1


def test_watching_changes_no_bit():
    plain, watched = model_of(), model_of()
    trained(plain), trained(watched, [Meters()])
    assert tiny.sha(plain) == tiny.sha(watched)


@pytest.mark.parametrize("stop", [1, 4])
def test_resumed_they_are_the_same_to_the_bit(stop, tmp_path):
    whole, again = Meters(), Meters()
    trained(model_of(), [whole], until=7)
    trained(model_of(), [Meters()], folder=tmp_path, until=stop)
    trained(model_of(), [again], folder=tmp_path, until=7)
    assert again.steps == 7 and again.tokens == whole.tokens
    for name, value in whole.variances().items():
        assert torch.equal(value, again.variances()[name]) and torch.equal(whole.means()[name], again.means()[name])


def test_sums_of_an_accelerator_are_the_same_moments():
    """The way that is taken elsewhere, on this processor: a mean of 1e6 loses nothing."""
    draw = torch.Generator().manual_seed(0)
    y = torch.randn(50, 6, generator=draw) + 1e6
    real = (torch.rand(50, generator=draw) > 0.3).long()
    for mask in (real, None):
        found, expected = _from_sums(_sums(y, mask)), batch_moments(y, mask)
        rows = y.double().numpy()[slice(None) if mask is None else mask.bool().numpy()]
        assert found.count == expected.count == len(rows)
        np.testing.assert_allclose(found.variance(), rows.var(axis=0, ddof=1), rtol=1e-10)
        np.testing.assert_allclose(found.mean, rows.mean(axis=0), rtol=1e-14)
    assert _from_sums(_sums(y, torch.zeros(50))).count == 0


def test_what_is_refused():
    with pytest.raises(VPError, match=r"weight α 0.*\.$"):
        Meters(0)
    meters = Meters()
    meters.prepare(model_of(), 1)
    with pytest.raises(VPError, match=r"no step since the last cut.*\.$"):
        meters.means()
    trained(model_of(), [meters], until=1)
    meters.ewmv["1.ffn_in"][3] = torch.nan
    with pytest.raises(VPError, match=r"output of 1.ffn_in was not finite.*\.$"):
        meters.variances()
