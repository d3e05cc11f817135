"""Neurons in order, the sparsity each goes at, and the line that parts them, against the plans."""

import json
from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch

from analysis import variance
from analysis.live import STEPS
from vp_core.ground.names import CRITERIA, SCOPES, TYPES
from vp_core.measuring.moments import Moments
from vp_core.measuring.statistics import Statistics
from vp_core.model.projections import find_projections
from vp_core.ranking.plan import rank
from vp_core.recipes import Recipe


def test_summary_of_a_layer_by_hand():
    # Variances are m2 / (3 − 1): 1 2 3 4 10. Quartiles 2, 3, 4; mean 20/5 = 4.
    m2 = torch.tensor([8.0, 2.0, 20.0, 4.0, 6.0], dtype=torch.float64)
    table = variance.layer_table(Statistics({"4.ffn_in": Moments(3, torch.zeros(5), m2)}, None, "", ""))
    (row,) = table.to_dict("records")
    assert row == {
        "layer": 4, "type": "ffn_in", "neurons": 5, "min": 1, "q25": 2, "median": 3, "mean": 4, "q75": 4, "max": 10,
    }  # fmt: skip


@pytest.mark.parametrize("type_", ["query", "ffn_in"])
def test_gone_at_agrees_with_the_plans(any_case, kept, type_):
    scores, ranking = any_case
    table = variance.neuron_table(scores, ranking, type_)
    assert len(table) == tiny.LAYERS * (tiny.FFN if type_ == "ffn_in" else tiny.HIDDEN)
    for layer, part in table.groupby("layer"):
        gone_at = part.set_index("neuron")["gone_at"].sort_index()
        assert list(gone_at.index) == list(range(len(part)))
        np.testing.assert_array_equal(gone_at.to_numpy() > np.array(STEPS)[:, None], kept(ranking)[f"{layer}.{type_}"])
        assert part["rank"].tolist() == list(range(1, len(part) + 1))
        assert part["score"].is_monotonic_increasing
        assert part["score"].tolist() == scores[f"{layer}.{type_}"].numpy()[part["neuron"]].tolist()


@pytest.mark.parametrize("type_", TYPES)
def test_the_cut_line_parts_removed_from_kept(ordered_case, kept, type_):
    scores, ranking = ordered_case
    cuts = variance.cut_lines(scores, ranking, type_, 1e-30)
    assert len(cuts) == 101 and {len(line) for line in cuts} == {3 * tiny.LAYERS}
    for layer in range(tiny.LAYERS):
        name = f"{layer}.{type_}"
        assert all(line[3 * layer] == line[3 * layer + 1] and line[3 * layer + 2] is None for line in cuts)
        x = np.array([line[3 * layer] for line in cuts], dtype=float)[:, None]  # nan where nothing goes
        values, keep = scores[name].log10().numpy(), kept(ranking)[name]
        assert keep[np.isnan(x[:, 0])].all()
        assert (keep | np.isnan(x) | (values <= x + 1e-12)).all()
        assert (~keep | np.isnan(x) | (values >= x - 1e-12)).all()


def test_dead_neurons_are_drawn_at_the_floor(loaded):
    projections = [p for p in find_projections(loaded["bert"].model) if p.type == "key"]
    scores = {
        p.name: torch.linspace(0, 1, p.d_out, dtype=torch.float64) * (p.layer > 0) for p in projections
    }  # layer 0 is dead
    ranking = rank(scores, projections)
    table = variance.neuron_table(scores, ranking, "key")
    for figure in (
        variance.draw_sorted(table, "variance", "key", 0.4),
        variance.draw_distribution(table, scores, ranking, "variance", "key", 0.4),
    ):
        for i in (0, 1, 40, 100):
            text = figure.at(i).to_json()
            assert "Infinity" not in text and "NaN" not in text
        json.dumps(figure.changes_as_json(), allow_nan=False)


@pytest.mark.parametrize("type_", ["value", "ffn_out"])
def test_follow_the_slider_as_fresh_drawings(case, type_, same_picture):
    criterion, scores, ranking = case
    table = variance.neuron_table(scores, ranking, type_)

    def both(sparsity):
        return (
            variance.draw_sorted(table, criterion, type_, sparsity),
            variance.draw_distribution(table, scores, ranking, criterion, type_, sparsity),
        )

    for live, position in [(live, i) for live in both(0.0) for i in (0, 1, 29, 58, 100)]:
        fresh = both(position / 100)["distribution" in live.figure.layout.title.text.lower()]
        same_picture(live.at(position), fresh.figure)


def test_the_grey_part_is_what_goes(case):
    criterion, scores, ranking = case
    live = variance.draw_sorted(variance.neuron_table(scores, ranking, "key"), criterion, "key", 0.0)
    for i in (0, 7, 50, 100):
        grey = [t for t in live.at(i).data if t.name == "removed"]
        assert len(grey) == tiny.LAYERS
        for layer, trace in enumerate(grey):
            gone = ~ranking.plan(i / 100).keep[f"{layer}.key"]
            values = sorted(float(y) for y in trace.y if y is not None and not np.isnan(float(y)))
            np.testing.assert_allclose(values, sorted(scores[f"{layer}.key"][gone].tolist()))


def test_wide_layers_are_thinned_evenly(studies):
    scores = {"0.ffn_in": torch.rand(3000, dtype=torch.float64)}
    (p,) = [p for p in studies["bert"].projections() if p.name == "0.ffn_in"]
    ranking = rank(scores, [replace(p, d_out=3000)])
    figure = variance.draw_sorted(variance.neuron_table(scores, ranking, "ffn_in"), "variance", "ffn_in", 0.5).figure
    x = np.array(figure.data[0].x)
    assert len(x) == variance.POINTS and (x[0], x[-1]) == (1, 3000) and np.diff(x).max() <= 13


def test_labels(case, labelled):
    criterion, scores, ranking = case
    table = variance.neuron_table(scores, ranking, "value")
    first = variance.draw_sorted(table, criterion, "value", 0.3).figure
    second = variance.draw_distribution(table, scores, ranking, criterion, "value", 0.3).figure
    for figure in (first, second):
        labelled(figure)
    assert first.layout.yaxis.type == "log"
    expected = "L2 norm" if criterion == "magnitude" else "variance of the output"
    assert expected in first.layout.yaxis.title.text and expected in second.layout.xaxis.title.text


@pytest.mark.parametrize("scope", SCOPES)
def test_units_are_drawn_and_cut_as_their_masks(studies, scope, labelled):
    study, recipe = studies["bert"], Recipe("surgeon", scope, units=("ffn neurons", "heads"), budget="parameters")
    ranking, scores, shares = study.ranking(recipe), study.scores(recipe), study.unit_shares(recipe, STEPS)
    for kind in ("ffn neurons", "heads"):
        table = variance.neuron_table(scores, ranking, kind, shares)
        cuts = variance.cut_lines(scores, ranking, kind, 1e-300, shares)
        for i in (0, 25, 60, 80):
            for layer in range(tiny.LAYERS):
                name = f"{layer}.{kind}"
                gone = ranking.place[name] < round(shares[i] * ranking.pool_size[name])
                part = table[table["layer"] == layer].set_index("neuron").sort_index()
                assert (part["gone_at"] <= i / 100).tolist() == gone.tolist()
                x = cuts[i][3 * layer]
                values = np.log10(scores[name].numpy().clip(min=1e-300))
                if x is not None:
                    assert (values[gone] <= x + 1e-9).all() and (values[~gone] >= x - 1e-9).all()
                else:
                    assert not gone.any()
        for live in (
            variance.draw_sorted(table, "surgeon", kind, 0.3),
            variance.draw_distribution(table, scores, ranking, "surgeon", kind, 0.3, shares),
        ):
            labelled(live.figure)
            json.dumps(live.changes_as_json(), allow_nan=False)


def test_layers_that_compete_by_something_else_have_cuts_of_their_own(studies):
    def cuts(scope):
        recipe = Recipe(scope=scope, units=("ffn neurons",))
        drawn = variance.cut_lines(studies["bert"].scores(recipe), studies["bert"].ranking(recipe), "ffn neurons", 1e-30)
        return {x for x in drawn[50] if x is not None}

    assert len(cuts("global")) == 1 and len(cuts("scaled")) == tiny.LAYERS


def test_every_criterion_has_a_name_for_its_score():
    assert set(variance.SCORE_NAMES) == set(CRITERIA)


def test_few_units_are_points(studies):
    recipe = Recipe(units=("heads",))
    table = variance.neuron_table(studies["bert"].scores(recipe), studies["bert"].ranking(recipe), "heads")
    figure = variance.draw_sorted(table, "variance", "heads", 0.0).figure
    assert figure.data[0].mode == "lines+markers" and "every head" in figure.layout.title.text
