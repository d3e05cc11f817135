"""The map of blocks that are off, and the scales of ε, against brute force."""

import numpy as np
import pytest

from analysis import off
from analysis.names import block_name
from vp_core.ground.names import MODES
from vp_core.identity.threshold import Threshold
from vp_core.measuring.function_norms import MINI_BATCH
from vp_core.model.blocks import Block, find_blocks
from vp_core.squeezing.blocks_off import without


@pytest.fixture(scope="module")
def norms(studies):
    return studies["bert"].measured().norms()


def thresholds(norms, mode, theta=0.95, gate=False):
    attention, ffn = off.first_epsilon(norms, mode, theta)
    return Threshold(float(attention), float(ffn), theta, mode, gate)


@pytest.mark.parametrize("kinds", [("head",), ("attention",), ("ffn",)])
def test_both_ends_of_the_scale_are_reached(norms, kinds):
    scale = off.epsilon_scale(norms, kinds)
    steps = np.diff(np.log([float(e) for e in scale]))
    assert len(scale) == off.POSITIONS and np.all(steps > 0) and steps.max() < 1.5 * steps.mean()
    mode, chosen = {"head": "heads", "attention": "attention", "ffn": "ffn"}[kinds[0]], norms.of(kinds[0])
    lowest, highest = (Threshold(float(e), float(e), 0.01, mode).off(norms) for e in (scale[0], scale[-1]))
    assert lowest == [] and sorted(highest) == sorted(norms.blocks[i] for i in chosen)
    shut = norms.closed_share({kinds[0]: float(scale[0])})[chosen]
    assert shut.max() == 0  # nor does a gate shut anything


@pytest.mark.parametrize("mode", MODES)
def test_the_sliders_begin_where_something_is_off_and_little(norms, mode):
    theta = 0.95
    chosen = thresholds(norms, mode, theta)
    found = chosen.off(norms)
    assert 0 < len(found) < sum(block.kind in MODES[mode] for block in norms.blocks)
    if mode in ("heads", "joint"):
        scale = off.epsilon_scale(norms, ("head",))
        heads = [b for b in found if b.kind == "head"]
        wanted = off.FIRST_SHARE * len(norms.of("head"))
        below = Threshold(float(scale[scale.index(f"{chosen.attention:.3g}") - 1]), 1e-9, theta, "heads").off(norms)
        assert len(heads) >= wanted > len(below)


@pytest.mark.parametrize("mode", MODES)
def test_the_table_is_what_the_library_takes_out(norms, mode):
    chosen = thresholds(norms, mode)
    table = off.off_table(norms, chosen).set_index("block")
    gone = set(chosen.off(norms))
    maxima = norms.batch_maxima()
    assert len(maxima) == -(-len(norms.maxima) // MINI_BATCH)
    for i, block in enumerate(norms.blocks):
        row = table.loc[block.name]
        assert row["off"] == (block in gone or (block.kind == "head" and Block(block.layer, "attention") in gone))
        assert row["taken"] == (block.kind in MODES[mode])
        if row["taken"]:
            assert row["identity"] == float((maxima[:, i] <= chosen.epsilon[block.kind]).double().mean())
        else:
            assert np.isnan(row["identity"]) and np.isnan(row["closed"])
    if mode not in ("layers",):
        taken = table[table["taken"]]
        assert set(taken.index[taken["off"]]) == set(taken.index[taken["identity"] >= chosen.theta])


@pytest.mark.parametrize("mode", ["joint", "attention"])
def test_the_map_shows_the_table(norms, mode, labelled):
    table = off.off_table(norms, thresholds(norms, mode))
    figure = off.draw(table)
    labelled(figure)
    share, others, crosses = figure.data
    heads = sorted(int(h) for h in table["head"].dropna().unique())
    columns = [("head", h) for h in heads] + [("attention", None), ("ffn", None)]
    crossed = set(zip(crosses.x, crosses.y, strict=True))
    assert len(crossed) == table["off"].sum() > 0
    for row in table.to_dict("records"):
        x = columns.index((row["kind"], None if row["kind"] != "head" else int(row["head"])))
        z, grey = share.z[row["layer"]][x], others.z[row["layer"]][x]
        assert ((x, row["layer"]) in crossed) == row["off"]
        if row["off"]:
            assert np.isnan(z) and np.isnan(grey)
        elif row["taken"]:
            assert z == pytest.approx(100 * row["identity"]) and np.isnan(grey)
        else:
            assert np.isnan(z) and grey == 1
        said = share.text[row["layer"]][x]
        assert block_name(Block.named(row["block"])) in said and f"{row['mean']:.3g}" in said
        assert ("off" in said) == row["off"]


def test_what_would_leave_is_what_leaves(studies, norms):
    model = studies["bert"].model
    gone = [Block(0, "head", 0), Block(1, "ffn")]
    assert set(gone) <= set(find_blocks(model))
    cost = off.cost_without(model, gone)
    small = without(model, gone)
    assert cost.parameters_removed == small.squeezed.cost.parameters_removed > 0
    assert off.cost_without(model, []).parameters_removed == 0
