"""The table of layer times: what is measured, what is looked up, which units cost nothing."""

from types import SimpleNamespace

import pytest
import tiny
import torch

import vp_core.squeezing.widths as widths
from vp_core.ground.kept import Kept
from vp_core.model.projections import find_layers
from vp_core.model.units import unit_groups, units_that_go
from vp_core.ranking.plan import rank
from vp_core.recipes import STRUCTURED
from vp_core.replacing.prune import prune
from vp_core.squeezing.budget import counts_for
from vp_core.squeezing.cost import flops_per_token
from vp_core.squeezing.widths import Table, Widths, saved_time, table_of, widths_of

LENGTH = 8
CLOCK = []
"""How many models were timed."""


@pytest.fixture(autouse=True)
def clock(monkeypatch, tmp_path):
    """Time is what a model multiplies; each test has a disk of its own."""

    def count(models, batch, length, repeats):
        CLOCK.extend(models)
        yield {name: SimpleNamespace(median=(t := flops_per_token(m, length)), seconds=(t,)) for name, m in models.items()}

    CLOCK.clear()
    monkeypatch.setattr(widths, "time_forward", count)
    monkeypatch.setattr(widths, "_TABLES", Kept())
    monkeypatch.setenv("VP_CACHE_DIR", str(tmp_path))


def test_between_what_was_measured_lines_are_straight_and_parts_are_added():
    table = Table(heads=((0.0, 0.4), (1.0, 0.0)), width=((0.5, 0.2), (1.0, 0.0)), ffn=((0.0, 0.6), (0.5, 0.2), (1.0, 0.0)))
    assert table.saved(Widths()) == 0
    assert table.saved(Widths(heads=0.5)) == pytest.approx(0.2)
    assert table.saved(Widths(heads=0.5, width=0.75)) == pytest.approx(0.2 + 0.5 * 0.1)  # of those that live
    assert table.saved(Widths(ffn=0.25)) == pytest.approx(0.4)
    assert table.saved(Widths(0, 0.1, 0)) == pytest.approx(1.0)  # narrower than any that was timed: as the narrowest


@pytest.mark.parametrize("family", tiny.TRANSFORMERS)
def test_of_every_family_what_is_predicted_is_what_squeezing_saves(family):
    model = tiny.transformer(family)
    layers = find_layers(model)
    table = table_of(model, layers, LENGTH)
    nothing = {p.name: torch.zeros(p.d_out) for layer in layers for p in layer.projections.values()}
    groups = unit_groups(layers, units_that_go(layers, STRUCTURED))
    scores = {g.name: torch.arange(len(g), dtype=torch.double) for g in groups}  # whole heads go first
    ranking = rank(scores, groups, "per layer")
    silent = [torch.zeros(layer.projections["query"].d_out) for layer in layers]
    for share in (0.3, 0.6):
        plan = ranking.plan(share)
        real = saved_time(model, prune(model, plan, nothing), plan, LENGTH)
        assert abs(table.saved_by(layers, plan.keep, silent) - real) < 0.1, (family, share)


def test_it_is_measured_once_a_machine_and_read_again(tmp_path, monkeypatch):
    model = tiny.transformer("bert")
    first = table_of(model, find_layers(model), LENGTH)
    timed = len(CLOCK)
    assert timed and table_of(tiny.transformer("bert", seed=1), find_layers(model), LENGTH) is first  # the shape counts alone
    monkeypatch.setattr(widths, "_TABLES", Kept())  # a new process
    assert table_of(model, find_layers(model), LENGTH) == first and len(CLOCK) == timed
    (path,) = tmp_path.glob("widths-*.json")
    path.write_text("{")
    monkeypatch.setattr(widths, "_TABLES", Kept())
    assert table_of(model, find_layers(model), LENGTH) == first and len(CLOCK) == 2 * timed
    table_of(model, find_layers(model), LENGTH + 1)
    assert len(CLOCK) == 3 * timed


def test_units_that_cost_no_time_stay():
    model = tiny.transformer("bert", ffn=96)
    layers = find_layers(model)
    groups = unit_groups(layers, STRUCTURED)
    generator = torch.Generator().manual_seed(0)
    ranking = rank({g.name: torch.rand(len(g), generator=generator, dtype=torch.double) for g in groups}, groups)
    before, after = ranking.counts(0.25), counts_for(ranking, layers, "latency", 0.25, model)
    assert counts_for(ranking, layers, "parameters", 0.25, model) == before
    assert all(after[name] <= before[name] for name in before) and sum(after.values()) < sum(before.values())
    for number, layer in enumerate(layers):
        old, new = (widths_of(layer, ranking.taking(c).keep, torch.zeros(48)) for c in (before, after))
        assert table_of(model, layers, 40).saved(new) == table_of(model, layers, 40).saved(old)
        for group in ranking.groups:  # and none more fits
            if group.layer == number and after[group.name]:
                one_more = after | {group.name: after[group.name] - 1}
                wider = widths_of(layer, ranking.taking(one_more).keep, torch.zeros(48))
                assert table_of(model, layers, 40).saved(wider) < table_of(model, layers, 40).saved(old)
