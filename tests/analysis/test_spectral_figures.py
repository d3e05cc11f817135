"""Figures of spectral norms against singular values."""

import numpy as np
import pytest
import torch

from analysis import spectral
from analysis.names import TYPE_LABELS
from vp_core.ground.names import TYPES
from vp_core.identity.spectral import rescaled
from vp_core.model.projections import find_projections, weight_of


def exact(model):
    return {(p.layer, p.type): float(torch.linalg.matrix_norm(weight_of(model, p).detach().double(), 2))
            for p in find_projections(model)}  # fmt: skip


@pytest.mark.parametrize("family", ["bert", "albert", "gpt2", "bart"])
def test_the_table_has_every_projections_largest_singular_value(studies, family):
    model = studies[family].model
    table, sigma = spectral.spectral_table(model), exact(model)
    assert {(r.layer, r.type) for r in table.itertuples()} == set(sigma) and len(table) == len(sigma)
    for row in table.itertuples():
        assert row.sigma == pytest.approx(sigma[row.layer, row.type], rel=1e-4)


def test_the_heat_map_is_the_table_on_a_scale_from_zero(studies, labelled):
    model = studies["bert"].model
    table = spectral.spectral_table(model)
    figure = spectral.draw(table)
    labelled(figure)
    (heat,) = figure.data
    assert list(heat.x) == [TYPE_LABELS[t] for t in TYPES] and heat.zmin == 0 and heat.zmax == table["sigma"].max()
    for row in table.itertuples():
        assert heat.z[list(heat.y).index(row.layer)][TYPES.index(row.type)] == row.sigma
    assert spectral.draw(table, 99.0).data[0].zmax == 99


def test_a_model_of_zeros_is_drawn():
    table = spectral.as_table({"0.query": 0.0, "0.ffn_in": 0.0})
    assert spectral.draw(table).data[0].zmax > 0


def test_rescaled_weights_are_all_of_one_height(studies):
    table = spectral.spectral_table(rescaled(studies["bert"].model, 5.0))
    assert np.allclose(table["sigma"], 5, rtol=1e-4)


def steps():
    return [(step, {f"{n}.{t}": 1 + n + step / 10 + len(t) for n in (0, 1) for t in TYPES}) for step in (0, 30, 10)]


def test_training_has_a_drawing_a_type_and_a_line_a_layer():
    table = spectral.training_table(steps())
    assert list(table.columns) == ["step", "layer", "type", "sigma"] and len(table) == 3 * 2 * len(TYPES)
    figure = spectral.draw_training(table)
    titles = [note.text for note in figure.layout.annotations]
    assert titles == [TYPE_LABELS[t].replace("<br>", " ") for t in TYPES]
    assert len(figure.data) == 2 * len(TYPES)
    for trace in figure.data:
        number = int((trace.xaxis or "x")[1:] or 1) - 1
        layer = int(trace.name.removeprefix("layer "))
        assert list(trace.x) == [0, 10, 30]  # in order, whatever the table's
        assert np.allclose(trace.y, [1 + layer + step / 10 + len(TYPES[number]) for step in (0, 10, 30)])
    assert [t.name for t in figure.data if t.showlegend] == ["layer 0", "layer 1"]
    assert figure.layout.yaxis.range[0] == 0 and figure.layout.yaxis.range[1] > table["sigma"].max()


def test_some_types_of_a_training_can_be_chosen_and_nothing_is_no_fault():
    table = spectral.training_table(steps())
    figure = spectral.draw_training(table, ("attention_output", "ffn_in", "ffn_out"))  # the paper's fig. 6
    assert len(figure.layout.annotations) == 3 and len(figure.data) == 6
    assert len(spectral.draw_training(spectral.training_table([])).data) == 0
