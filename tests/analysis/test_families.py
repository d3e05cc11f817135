"""The figures of families whose layers are not all alike: BART's cross attention has no feed-forward network."""

import numpy as np
import pytest
import tiny

from analysis import masks, variance
from vp_core.ground.errors import VPError
from vp_core.ground.names import SCOPES, TYPES
from vp_core.recipes import Recipe


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("family", tiny.FAMILIES[len(tiny.FIRST_TOKEN) :])
def test_figures_show_what_is_there(studies, family, scope):
    study, recipe, names = studies[family], Recipe(scope=scope), tiny.names(family)
    if (family, scope) == ("albert", "measured"):
        with pytest.raises(VPError, match="runs the same layer several times"):
            study.ranking(recipe)
        return
    ranking, scores = study.ranking(recipe), study.scores(recipe)
    plan = study.plan(recipe, 0.4)
    cells = masks.frames(ranking, [0.4])[0]
    for layer, row in enumerate(cells):
        for type_, cell in zip(TYPES, row, strict=True):
            name = f"{layer}.{type_}"
            assert np.isnan(cell) if name not in names else cell == pytest.approx(1 - plan.keep[name].double().mean().item())
    shown = np.array(masks.draw(ranking, 0.4).figure.data[0].z, dtype=float)
    assert (np.isnan(shown) == np.isnan(cells)).all()
    summary = variance.layer_table(study.statistics())
    assert sorted(f"{layer}.{type_}" for layer, type_ in zip(summary["layer"], summary["type"], strict=True)) == sorted(names)
    for type_ in TYPES:
        table = variance.neuron_table(scores, ranking, type_)
        assert len(table) == sum(p.d_out for p in study.projections((type_,)))
        variance.draw_sorted(table, "variance", type_, 0.4)
        variance.draw_distribution(table, scores, ranking, "variance", type_, 0.4)
