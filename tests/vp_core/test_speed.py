"""Timing: turns, spread, sizes; never a clock."""

import pytest
import torch
from cancelling import until_cancelled

from vp_core.ground.errors import VPError
from vp_core.ground.work import work
from vp_core.model.precision import bytes_of
from vp_core.recipes import Recipe
from vp_core.speed import compare, forms_of, forms_without_data
from vp_core.squeezing.cost import flops_per_token, parameters
from vp_core.squeezing.timing import Timing, random_texts, take_turns


def test_runs_take_turns_after_a_warm_up():
    order = []
    runs = {name: (lambda name=name: order.append(name)) for name in "abc"}
    *_, last = take_turns(runs, repeats=2)
    assert "".join(order) == "abc" * 3
    assert {name: len(values) for name, values in last.items()} == {"a": 2, "b": 2, "c": 2}


def test_cancelling_between_runs():
    order = []
    runs = {name: (lambda name=name: order.append(name)) for name in "ab"}
    with work(cancelled=lambda: len(order) >= 3):
        assert until_cancelled(take_turns(runs, 5)) == []
    assert order == ["a", "b", "a"]


def test_median_and_quartiles_by_hand():
    timing = Timing(batch=4, length=8, seconds=(5.0, 1.0, 2.0, 4.0, 3.0))
    assert (timing.median, timing.spread, timing.texts_per_second) == (3.0, (2.0, 4.0), 4 / 3)
    assert Timing(1, 1, (3.0, 1.0)).spread == (1.0, 3.0)


def test_rows_say_what_each_form_costs(studies):
    study = studies["bert"]
    forms, threads = forms_of(study, Recipe(), 0.5), torch.get_num_threads()
    *_, rows = compare(forms, 0.5, batch=2, length=8, repeats=2)
    assert torch.get_num_threads() == threads
    assert [row["form"] for row in rows] == ["dense", "masked", "squeezed"]
    for row, model in zip(rows, forms.items().values(), strict=True):
        assert row["parameters"] == parameters(model) and row["repeats"] == 2
        assert row["mflops_per_token"] == flops_per_token(model, 8) / 1e6
        assert row["megabytes"] == bytes_of(model) / 1e6
        assert row["low_ms"] <= row["latency_ms"] <= row["high_ms"]
        assert row["texts_per_second"] == pytest.approx(2000 / row["latency_ms"])
    assert rows[0]["speedup"] == 1.0 and rows[0]["parameters"] == rows[1]["parameters"] > rows[2]["parameters"]
    assert rows[2]["flop_limit"] == study.cost(Recipe(), 0.5).speed_limit(8)


def test_forms_without_data_remove_the_smallest_rows(loaded):
    model = loaded["bert"].model
    forms = forms_without_data(model, 0.3)
    inputs = random_texts(model.config, 2, 9)
    with torch.inference_mode():
        masked, squeezed = forms.masked(**inputs).logits, forms.squeezed(**inputs).logits
    assert torch.allclose(masked, squeezed, atol=1e-5)
    assert forms.cost.rows_removed == sum(round(0.3 * rows) for rows in _rows_by_type(loaded["bert"]).values())


def _rows_by_type(loaded):
    rows: dict[str, int] = {}
    for p in loaded.projections:
        rows[p.type] = rows.get(p.type, 0) + p.d_out
    return rows


@pytest.mark.parametrize(("batch", "length", "message"), [(0, 8, "1 or more"), (1, 10_000, "tokens at most")])
def test_impossible_sizes(loaded, batch, length, message):
    with pytest.raises(VPError, match=message):
        random_texts(loaded["bert"].model.config, batch, length)
