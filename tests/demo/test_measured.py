"""The stored norms of the demo and its twin are those of the models that come with the package."""

import numpy as np
import pytest
import torch

from vp_core.demo.norms import FOLDERS, read
from vp_core.ground.names import KINDS
from vp_core.ground.store import load_tensors
from vp_core.measuring.spectral_norms import spectral_norms
from vp_core.opening.study import open_study


@pytest.mark.slow
@pytest.mark.parametrize("name", FOLDERS)
def test_what_is_stored_is_what_is_measured(name):
    study = open_study(name)
    kept, sigmas = read(name, study.calibration_id)
    measured = study.measured().norms()
    assert (kept.model, kept.data, kept.blocks) == (measured.model, measured.data, measured.blocks)
    assert torch.equal(kept.histogram.count, measured.histogram.count)
    # rounding differs from processor to processor: some norms may fall into the next bin
    moved = (torch.cumsum(kept.histogram.counts - measured.histogram.counts, dim=1)).abs().amax(dim=1)
    assert moved.max() <= 0.002 * measured.histogram.count.max()
    for one, other in ((kept.histogram.mean(), measured.histogram.mean()), (kept.histogram.low, measured.histogram.low),
                       (kept.histogram.high, measured.histogram.high)):  # fmt: skip
        assert torch.allclose(one, other, rtol=1e-3)
    assert sigmas == pytest.approx(spectral_norms(study.model), rel=1e-4)


def test_norms_over_other_texts_are_not_there():
    assert read("demo-sn", "other texts") is None


def test_the_twins_norms_follow_the_demos():
    """It was trained towards the demo's hidden states: docs/identity_prior.md says what that makes of its norms."""
    means = []
    for name, folder in FOLDERS.items():
        _, about = load_tensors(folder / "norms.safetensors", kind="norms of the demo")
        norms, _ = read(name, about["data"])
        means.append({kind: [m for block, m in norms.means().items() if block.kind == kind] for kind in KINDS})
    by_kind = {kind: np.corrcoef(means[0][kind], means[1][kind])[0, 1] for kind in KINDS}
    assert by_kind["head"] == pytest.approx(0.99, abs=0.005) and by_kind["ffn"] == pytest.approx(0.97, abs=0.005)
