"""Figures of learned masks: table 8 counted head by head, figure 1 and figure 2 as they were given."""

import numpy as np
import pandas as pd
import pytest
import tiny
import torch

from analysis import learned, pattern
from vp_core.ground.errors import VPError
from vp_core.model.projections import find_layers
from vp_core.weights.masks import Masks
from vp_core.weights.matrices import find_matrices


@pytest.fixture(scope="module")
def layers():
    return find_layers(tiny.transformer("bert"))


def masks_of(family, change):
    keep = {matrix.name: torch.ones(matrix.shape, dtype=torch.bool) for matrix in find_matrices(tiny.transformer(family))}
    change(keep)
    return Masks.of(keep)


def test_heads_by_shape(layers):
    """Head 1 of layer 0 has no values left, head 2 of layer 1 no readers, and of head 3 some rows went: six of eight stay."""

    def change(keep):
        keep["0.value"][12:24] = False
        keep["1.attention_output"][:, 24:36] = False
        keep["0.query"][36:40] = False

    def all_gone(keep):
        for name in keep:
            if not name.split(".")[1].startswith("ffn"):
                keep[name][:] = False

    table = learned.heads_table(layers, {"some": masks_of("bert", change), "none": masks_of("bert", all_gone)}, {"some": 0.9})
    assert list(table["method"]) == ["dense", "some", "none"] and list(table["heads"]) == [8, 6, 0]
    assert set(table["heads_in_all"]) == {8}
    size = 2 * 4 * 48 * 48
    np.testing.assert_allclose(table["compression"], [1, size / (size - (12 + 12 + 4) * 48), np.inf])
    np.testing.assert_allclose(table["head_compression"], [1, 8 / 6, np.inf])
    assert table["value"].isna().tolist() == [True, False, True] and table["value"][1] == 0.9


def test_the_picture_of_a_layer(layers):
    """Two methods, six matrices each: every cell as the mask has it, heads parted, and what is kept in words."""

    def change(keep):
        keep["1.query"][:12] = False
        keep["1.ffn_out"][:, ::2] = False

    one, other = masks_of("bert", change), masks_of("bert", lambda keep: keep["1.key"].fill_(False))
    figure = pattern.draw_layer({"hybrid": one, "struct": other}, layers[1])
    heat = [trace for trace in figure.data if trace.type == "heatmap"]
    names = [p.name for p in layers[1].projections.values()]
    assert len(heat) == 12 and len(figure.data) - 12 == 2 * 4
    for trace, name in zip(heat, names, strict=False):
        np.testing.assert_array_equal(np.array(trace.z) == 100, one.keep(name))
    said = [note.text for note in figure.layout.annotations]
    assert {"hybrid", "struct"} <= set(said) and any("75%" in text for text in said) and any("50%" in text for text in said)
    assert figure.layout.title.text.endswith("layer 1")
    with pytest.raises(VPError, match="other layers"):
        pattern.draw_layer({"one": Masks.of({"7.query": torch.ones(2, 2, dtype=torch.bool)})}, layers[0])


def test_score_against_speed_and_density():
    rows = [
        {"method": "hybrid", "speed": 2.0, "density": 0.3, "value": 0.88, "low": 0.86, "high": 0.9},
        {"method": "hybrid", "speed": 1.5, "density": 0.5, "value": 0.9},
        {"method": "struct", "speed": 3.0, "density": 0.2, "value": 0.8},
    ]
    table = learned.score_table(rows)
    assert table["low"].tolist() == [0.86, 0.9, 0.8]
    figure = learned.draw(table, "accuracy", dense=0.91)
    lines = [trace for trace in figure.data if trace.type == "scatter"]
    assert [(one.name, list(one.x), list(one.y)) for one in lines[:2]] == [
        ("hybrid", [1.5, 2.0], [0.9, 0.88]), ("struct", [3.0], [0.8])
    ]  # fmt: skip
    assert [list(one.x) for one in lines[2:]] == [[50, 30], [20]]
    assert lines[0].error_y.array[1] == pytest.approx(0.02) and lines[0].line.color == lines[2].line.color
    assert len(figure.layout.shapes) == 2 and figure.layout.shapes[0].y0 == 0.91
    with pytest.raises(VPError, match="A run has no speed"):
        learned.score_table([{"method": "a", "density": 0.1, "value": 1.0}])
    with pytest.raises(VPError, match="A run has no density"):
        learned.score_table(pd.DataFrame(rows).assign(density=[0.1, np.nan, 0.2]).to_dict("records"))
