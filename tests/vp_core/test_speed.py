"""Timing: turns, spread, sizes; never a clock."""

import pytest
import torch
from cancelling import until_cancelled

from vp_core.ground.errors import VPError
from vp_core.ground.work import work
from vp_core.model.precision import bytes_of
from vp_core.model.projections import find_layers
from vp_core.recipes import Recipe
from vp_core.speed import (
    SPARSE_FORMS,
    _sparse_form,
    compare,
    forms_of,
    forms_without_data,
    measure_sparse,
    no_semi_structured,
)
from vp_core.squeezing.cost import flops_per_token, parameters
from vp_core.squeezing.timing import Timing, random_texts, take_turns
from vp_core.weights.matrices import find_matrices, view


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


def test_sparse_forms_multiply_alike(loaded):
    """Every form's product is that of a dense matrix with zeros where its own weights are gone."""
    model = loaded["bert"].model
    x = torch.randn(7, 32, generator=torch.Generator().manual_seed(0))
    (matrix, *_) = find_matrices(model)
    weight = view(model, matrix).contiguous()
    keep = torch.rand(weight.shape, generator=torch.Generator().manual_seed(1)) < 0.4
    masked = weight * keep
    for form in ("zeros", "CSR"):
        made = _sparse_form(form, weight, keep, 0.6)
        assert torch.allclose(made.run(x), x @ masked.T, atol=1e-4) and made.disk == 32 * 32 // 8 + 4 * int(keep.sum())
    assert torch.equal(_sparse_form("dense", weight, keep, 0.6).run(x), torch.nn.functional.linear(x, weight))
    smallest = weight.norm(dim=0).argsort()[:16]
    without = weight.index_fill(1, smallest, 0)
    assert torch.allclose(_sparse_form("columns", weight, keep, 0.5).run(x), x @ without.T, atol=1e-4)
    assert _sparse_form("rows", weight, keep, 0.5).run(x).shape == (7, 16)
    wide = torch.randn(64, 96, generator=torch.Generator().manual_seed(2))
    kept, x = wide.clone(), torch.randn(5, 96, generator=torch.Generator().manual_seed(3))
    norms = {(i, j): float(wide[32 * i : 32 * i + 32, 32 * j : 32 * j + 32].norm()) for i in range(2) for j in range(3)}
    for i, j in sorted(norms, key=norms.__getitem__)[:3]:
        kept[32 * i : 32 * i + 32, 32 * j : 32 * j + 32] = 0
    made = _sparse_form("blocks", wide, wide != 0, 0.5)
    assert torch.allclose(made.run(x), x @ kept.T, atol=1e-4)
    assert made.memory == 3 * 32 * 32 * 4 + 8 * (3 + 3)  # values, columns of blocks, where rows of blocks begin


@pytest.mark.parametrize("family", ["bert", "gpt2", "bart"])
def test_sparse_rows_say_what_each_form_costs(loaded, family):
    model = loaded[family].model
    threads = torch.get_num_threads()
    rounds = list(measure_sparse(model, [0.5, 0.9], batch=2, length=8, repeats=2))
    assert torch.get_num_threads() == threads and len(rounds) == 4
    size = 4 * sum(m.size for m in find_matrices(model, layers=find_layers(model)[:1])) / 1e6
    for rows, sparsity in ((rounds[1], 0.5), (rounds[3], 0.9)):
        assert [row["form"] for row in rows] == list(SPARSE_FORMS) and {row["sparsity"] for row in rows} == {sparsity}
        found = {row["form"]: row for row in rows}
        assert found["dense"]["speedup"] == 1 and found["dense"]["megabytes"] == found["zeros"]["megabytes"] == size
        assert found["dense"]["disk_megabytes"] == size
        assert found["zeros"]["disk_megabytes"] == pytest.approx((1 - sparsity + 1 / 32) * size, rel=0.01)
        assert found["CSR"]["megabytes"] > 3 * (1 - sparsity) * size  # eight bytes say where each of four is
        assert all(row["low_ms"] <= row["latency_ms"] <= row["high_ms"] and row["repeats"] == 2 for row in rows)


def test_masks_of_a_recipe_are_timed(studies):
    study, asked = studies["bert"], []
    recipe = Recipe("magnitude", scope="global", replacement="zero", units=("weights",))

    def masks(sparsity):
        asked.append(sparsity)
        return study.masks(recipe, sparsity)

    *_, rows = measure_sparse(study.model, [0.7], 1, 4, 1, masks)
    kept = sum(study.masks(recipe, 0.7).kept(m.name) for m in find_matrices(study.model) if m.layer == 0)
    size = sum(m.size for m in find_matrices(study.model) if m.layer == 0)
    assert asked == [0.7] and rows[1]["disk_megabytes"] == pytest.approx((size // 8 + 4 * kept) / 1e6)


def test_what_sparse_products_refuse(loaded, studies):
    for sizes in ((0, 8, [0.5]), (1, 0, [0.5]), (1, 8, [1.5])):
        with pytest.raises(VPError, match="sparsities from 0 to 1"):
            next(measure_sparse(loaded["bert"].model, sizes[2], *sizes[:2]))
    with pytest.raises(VPError, match="squeezed already"):
        next(measure_sparse(studies["bert"].squeezed(Recipe(), 0.5), [0.5], 1, 8))


def test_two_of_four_where_there_is_no_accelerator():
    said = no_semi_structured()
    assert bool(said) == (not torch.cuda.is_available() or torch.cuda.get_device_capability() < (8, 0))
    assert not said or (said.endswith(".") and "\n" not in said)
