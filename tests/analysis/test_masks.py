"""The heat map against masks counted one by one, at every position of the slider."""

import json

import numpy as np
import pytest
import tiny

from analysis import masks
from analysis.live import STEPS
from vp_core.ground.errors import VPError
from vp_core.ground.names import TYPES
from vp_core.recipes import Recipe


def counted(kept):
    """Share of removed rows (positions, layers, types), from the masks themselves."""
    cells = np.full((101, tiny.LAYERS, len(TYPES)), np.nan)
    for name, keep in kept.items():
        layer, type_ = name.split(".")
        cells[:, int(layer), TYPES.index(type_)] = (~keep).sum(axis=1) / keep.shape[1]
    return cells


def test_frames_are_the_plans_at_all_positions(any_case, kept):
    _, ranking = any_case
    frames = masks.frames(ranking)
    assert frames.shape == (101, tiny.LAYERS, 6) and len(STEPS) == 101
    np.testing.assert_array_equal(frames, counted(kept(ranking)))
    drawn = masks.draw(ranking, 0.0)
    (change,) = drawn.changes
    np.testing.assert_allclose(np.array(change.frames, dtype=float), frames * 100, atol=0.0501)
    for i in (0, 1, 2, 29, 50, 99, 100):
        np.testing.assert_array_equal(np.array(drawn.at(i).data[0].z, dtype=float), np.array(change.frames[i], dtype=float))


def test_table_counts_rows(case):
    _, _, ranking = case
    for sparsity in (0, 0.13, 0.5, 1):
        plan, table = ranking.plan(sparsity), masks.table(ranking, sparsity)
        assert len(table) == 6 * tiny.LAYERS and table["removed"].sum() == plan.rows_removed
        for row in table.to_dict("records"):
            keep = plan.keep[f"{row['layer']}.{row['type']}"]
            assert (row["rows"], row["removed"]) == (len(keep), int((~keep).sum()))
            assert row["sparsity"] == row["removed"] / row["rows"]


def test_follows_the_slider_as_a_fresh_drawing(case, same_picture):
    _, _, ranking = case
    live = masks.draw(ranking, 0.0)
    for i in (0, 1, 37, 100):
        same_picture(live.at(i), masks.draw(ranking, i / 100).figure)
    assert live.figure.data[0].z[0][0] == 0  # asking for a position did not move the figure itself


def test_types_that_are_not_chosen_stay_empty(studies):
    ranking = studies["bert"].ranking(Recipe(types=("key", "ffn_in")))
    frames = masks.frames(ranking)
    assert np.isnan(frames[:, :, [0, 2, 3, 5]]).all() and not np.isnan(frames[:, :, [1, 4]]).any()
    live = masks.draw(ranking, 0.5)
    assert live.figure.data[0].z[0][0] is None
    json.dumps(live.changes_as_json(), allow_nan=False)


def test_labels(studies, labelled):
    figure = masks.draw(studies["bert"].ranking(Recipe()), 0.3).figure
    labelled(figure)
    heat = figure.data[0]
    assert "%" in heat.colorbar.title.text and (heat.zmin, heat.zmax) == (0, 100)
    assert [x.replace("<br>", "_").replace(" ", "_") for x in heat.x] == list(TYPES)
    assert list(heat.y) == list(range(tiny.LAYERS))


def test_a_bad_sparsity_is_refused(studies):
    with pytest.raises(VPError):
        masks.table(studies["bert"].ranking(Recipe()), 1.2)


UNITS = {
    ("ffn neurons", "values", "pairs"): ["ffn neurons", "values", "pairs"],
    ("ffn neurons", "heads"): ["ffn neurons", "heads"],
    ("sublayers",): ["attention", "feed-forward"],
    ("layers",): ["layer"],
}


@pytest.mark.parametrize("kinds", UNITS, ids=",".join)
def test_kinds_of_units_are_columns_that_follow_the_budget(studies, kinds, same_picture):
    study, recipe = studies["bert"], Recipe(units=kinds, budget="parameters")
    ranking, shares = study.ranking(recipe), study.unit_shares(recipe, STEPS)
    assert list(masks.columns(ranking)) == UNITS[kinds] and masks.what_goes(ranking) == "units"
    live = masks.draw(ranking, 0.0, shares)
    heat = live.figure.data[0]
    assert list(heat.x) == UNITS[kinds] and "kind of unit" in live.figure.layout.title.text
    for i in (0, 30, 50):
        table = masks.table(ranking, shares[i]).set_index(["layer", "type"])
        plan = ranking.plan(shares[i])
        drawn = np.array(live.at(i).data[0].z, dtype=float)
        for group in ranking.groups:
            column = group.name.split(".")[1]
            p, rows = group.rows[0]
            gone = int((~plan.keep[p.name])[rows].all(dim=1).sum())
            assert table.loc[(group.layer, column), "removed"] == gone
            assert table.loc[(group.layer, column), "units"] == len(group)
            assert drawn[group.layer, UNITS[kinds].index(column)] == pytest.approx(100 * gone / len(group), abs=0.0501)
    same_picture(live.at(30), masks.draw(ranking, 0.3, shares).figure)


def test_the_slider_counts_parameters_not_units(studies):
    study, recipe = studies["bert"], Recipe(units=("ffn neurons",), budget="parameters")
    shares = study.unit_shares(recipe, STEPS)
    most = max(i for i in range(101) if shares[i] < 1)
    assert 30 < most < 60  # the attention, which stays, holds the rest
    frames = masks.frames(study.ranking(recipe), shares)
    assert (frames[100] == 1).all() and frames[30].mean() > 0.3
