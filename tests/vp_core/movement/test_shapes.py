"""What has one score, and how many weights go with it."""

import pytest
import tiny
import torch

from vp_core.ground.errors import VPError
from vp_core.model.projections import find_layers
from vp_core.movement.shapes import PRESETS, Shapes, find_groups, find_preset
from vp_core.weights.matrices import find_matrices


def groups_of(family, *shapes, **settings):
    model = tiny.transformer(family, **settings)
    layers = find_layers(model)
    matrices = find_matrices(model, layers=layers)
    return find_groups(layers, matrices, Shapes(*shapes)), matrices


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "modernbert", "albert", "bart", "t5"])
@pytest.mark.parametrize(
    "shapes", [("weights", "weights"), ("blocks", "dim"), ("heads", "dim"), ("blocks 5x7", "blocks 9xall")]
)
def test_every_weight_belongs_to_one_unit(family, shapes):
    groups, matrices = groups_of(family, *shapes)
    assert sum(int(one.sizes.sum()) for one in groups) == sum(matrix.size for matrix in matrices)
    named = [matrix.name for one in groups for matrix, _ in one.members]
    assert sorted(named) == sorted(matrix.name for matrix in matrices)
    assert all(len(one.sizes) == one.units and int(one.sizes.min()) > 0 for one in groups)


def test_heads_and_neurons_by_hand():
    """Of width 48, four heads of 12; 56 neurons. Under grouped queries two heads of key and value, each with two of query."""
    groups, _ = groups_of("bert", "heads", "dim")
    assert [(one.name, one.part, one.units) for one in groups[:2]] == [("0.heads", "attention", 4), ("0.dim", "ffn", 56)]
    assert set(groups[0].sizes.tolist()) == {4 * 12 * 48} and set(groups[1].sizes.tolist()) == {2 * 48}
    groups, _ = groups_of("llama", "heads", "dim")
    assert groups[0].units == 2 and set(groups[0].sizes.tolist()) == {(2 + 1 + 1 + 2) * 12 * 48}
    assert set(groups[1].sizes.tolist()) == {3 * 48}  # its gate as well


def test_blocks_at_the_ends_are_cut_short():
    groups, _ = groups_of("bert", "blocks 32x32", "none")
    assert groups[0].units == 4 and groups[0].sizes.tolist() == [32 * 32, 32 * 16, 16 * 32, 16 * 16]
    assert {one.part for one in groups} == {"attention"}


def test_cross_attention_is_the_decoders():
    groups, _ = groups_of("bart", "heads", "dim")
    # encoder: attention and FFN twice; decoder: the same, and cross attention without an FFN
    assert [one.decoder for one in groups] == [False] * 4 + [True] * 6


def test_presets_are_those_of_table_1():
    assert list(PRESETS) == ["movement", "block", "hybrid", "hybrid nt", "struct", "hybrid filled", "hybrid filled lt"]
    hybrid, nt = find_preset("hybrid"), find_preset("hybrid nt")
    assert hybrid.shapes == nt.shapes == Shapes("blocks", "dim") and (hybrid.teacher, nt.teacher) == ("base", None)
    assert find_preset("struct").shapes == Shapes("heads", "dim") and find_preset("struct").ratio == 1 / 32
    assert [name for name, one in PRESETS.items() if one.filled] == ["hybrid filled", "hybrid filled lt"]
    with pytest.raises(VPError, match="Unknown preset 'hybird': choose one of movement, block"):
        find_preset("hybird")


@pytest.mark.parametrize("shapes", [("dim", "dim"), ("heads", "heads"), ("rows", "dim"), ("2:4", "dim"), ("blocks 0x4", "dim")])
def test_shapes_that_cannot_be(shapes):
    with pytest.raises(VPError) as raised:
        Shapes(*shapes)
    assert str(raised.value).endswith(".") and "\n" not in str(raised.value)


def test_nothing_to_score():
    with pytest.raises(VPError, match="nothing is pruned"):
        Shapes("none", "none")
    model = tiny.transformer("bart")
    cross = [layer for layer in find_layers(model) if "ffn_in" not in layer.projections]
    with pytest.raises(VPError, match="nothing to score by attention: none, ffn: dim"):
        find_groups(cross, find_matrices(model, layers=cross), Shapes("none", "dim"))
    assert torch.equal(groups_of("bart", "heads", "none")[0][0].sizes, torch.full((4,), 4 * 12 * 48))
