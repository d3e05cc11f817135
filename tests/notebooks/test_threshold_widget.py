"""The sliders over ε and θ in plain Python: no kernel, no browser."""

import json

import numpy as np
import pytest
from patience import until

from analysis import off
from notebooks import threshold_widget
from notebooks.threshold_widget import threshold_explorer
from notebooks.widgets import score_html
from vp_core.asking.evaluate import score
from vp_core.ground.errors import VPError
from vp_core.identity.threshold import Threshold
from vp_core.model.blocks import Block
from vp_core.recipes import Recipe
from vp_core.squeezing.blocks_off import masked_without


def crosses(explorer):
    return len(explorer.map.data[-1].x or ())


def test_the_map_follows_the_thumbs(study, monkeypatch):
    monkeypatch.setattr(threshold_widget, "REST", 3600)  # the thumb never rests: nothing here waits for a score
    explorer, norms, seen = threshold_explorer(study), study.measured().norms(), set()
    for position in (0, 40, 70, 100):
        for theta in (0.5, 1.0):
            explorer.attention.index, explorer.ffn.index = position, 100 - position
            explorer.theta.value = theta
            threshold = Threshold(float(explorer.attention.value), float(explorer.ffn.value), theta)
            table = off.off_table(norms, threshold)
            assert explorer.threshold == threshold and crosses(explorer) == table["off"].sum()
            expected = np.array(off.draw(table).data[0].z, dtype=float)
            np.testing.assert_array_equal(np.array(explorer.map.data[0].z, dtype=float), expected)
            heads = (table["off"] & (table["kind"] == "head")).sum()
            assert f"off: {heads} heads, " in explorer.cost.value
            seen.add(crosses(explorer))
    assert len(seen) > 2
    json.dumps(explorer.map.to_plotly_json()["data"][0]["z"], allow_nan=False)  # as the browser reads it
    assert explorer.score.value == "<i>the score comes when the thumb rests</i>"


def test_the_resting_score_is_that_of_the_model_without_the_blocks(study):
    explorer = threshold_explorer(study, theta=0.5)
    explorer.attention.index = 60
    until(lambda: "dense" in explorer.score.value)
    gone = [block for block in explorer.threshold.off(study.measured().norms())]
    assert gone and all(isinstance(block, Block) for block in gone)
    expected = score(masked_without(study.model, gone), study.question)
    assert explorer.score.value == score_html(expected, study.score(Recipe(), 0.0))


def test_a_kept_score_is_shown_at_once_and_computed_once(study, monkeypatch):
    explorer = threshold_explorer(study)
    until(lambda: "dense" in explorer.score.value)
    shown, place = explorer.score.value, explorer.attention.index

    def again(*_, **__):
        raise AssertionError("a known score was computed again")

    monkeypatch.setattr(threshold_widget, "REST", 3600)
    explorer.attention.index = 100
    monkeypatch.setattr(threshold_widget, "running_scores", again)
    explorer.attention.index = place
    assert explorer.score.value == shown


@pytest.mark.parametrize("mode", ["heads", "ffn", "attention", "layers", "separate"])
def test_every_mode_has_the_sliders_of_its_blocks(study, mode, monkeypatch):
    monkeypatch.setattr(threshold_widget, "REST", 3600)  # no score that would still be running when Python ends
    explorer = threshold_explorer(study, mode)
    assert (explorer.attention is None) == (mode == "ffn")
    assert (explorer.ffn is None) == (mode in ("heads", "attention"))
    for slider in (explorer.attention, explorer.ffn):
        if slider is not None:
            slider.index = len(slider.options) - 1
    table = off.off_table(study.measured().norms(), explorer.threshold)
    assert crosses(explorer) == table["off"].sum() > 0


def test_an_unknown_mode_is_refused(study):
    with pytest.raises(VPError, match="Unknown mode 'all'"):
        threshold_explorer(study, "all")
