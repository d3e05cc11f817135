"""2:4 masks are those that accelerators multiply."""

import pytest
import tiny
import torch

from vp_core.ground.patterns import find_pattern
from vp_core.recipes import Recipe
from vp_core.speed import no_semi_structured
from vp_core.weights.patterns import n_of_m


@pytest.mark.parametrize("units", ["2:4", "4:8", "1:3"])
def test_each_group_has_at_most_so_many(studies, units):
    pattern = find_pattern(units)
    for family in ("bert", "gpt2"):  # one keeps its matrices transposed
        study = studies[family]
        recipe = Recipe("magnitude", scope="per matrix", replacement="zero", units=(units,))
        masks = study.masks(recipe, pattern.sparsity)
        for name in masks.bits:
            keep = masks.keep(name)
            whole = keep[:, : keep.shape[1] // pattern.of * pattern.of]  # the rest of a row is a group cut short
            assert int(whole.reshape(len(keep), -1, pattern.of).sum(dim=2).max()) <= pattern.keep, name


def test_an_accelerator_takes_them():
    if why := no_semi_structured():
        pytest.skip(why)
    weight = torch.randn(128, 256, generator=torch.Generator().manual_seed(0)).half()
    keep = n_of_m(weight.abs().float(), 2, 4)
    masked = (weight * keep).cuda()
    sparse = torch.sparse.to_sparse_semi_structured(masked)
    x = torch.randn(64, 256, generator=torch.Generator().manual_seed(1)).half().cuda()
    found, expected = torch.nn.functional.linear(x, sparse), torch.nn.functional.linear(x, masked)
    assert tiny.distance(found.float(), expected.float()) < 1e-2
