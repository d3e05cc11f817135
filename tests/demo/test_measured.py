"""The stored norms of the demo and its twin are those of the models that come with the package."""

import pytest
import torch

from vp_core.demo.norms import FOLDERS, read
from vp_core.measuring.spectral_norms import spectral_norms
from vp_core.study import open_study


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
