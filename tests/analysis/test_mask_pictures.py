"""Pictures of masks against masks counted one by one: rows as bars, the pattern of a matrix, two masks over each other."""

import json

import numpy as np
import pytest
import torch
from scipy.stats import hypergeom

from analysis import overlay, pattern, row_masks
from analysis.live import STEPS
from vp_core.ground.errors import VPError
from vp_core.ranking.plan import Plan
from vp_core.recipes import RECIPES, Recipe
from vp_core.weights.masks import Masks


def test_a_row_goes_at_the_position_at_which_the_plans_lose_it(any_case, kept, studies):
    _, ranking = any_case
    rows, keep = row_masks.gone_at(ranking, studies["bert"].projections()), kept(ranking)
    assert rows.keys() == keep.keys()
    for name, values in rows.items():
        for position in range(len(STEPS)):
            np.testing.assert_array_equal(values > position, keep[name][position])


def test_units_take_all_their_rows(studies):
    study, recipe = studies["bert"], RECIPES["units mean"]
    ranking, shares = study.ranking(recipe), study.unit_shares(recipe, STEPS)
    rows = row_masks.gone_at(ranking, study.projections(), shares)
    for position in (0, 30, 60):
        plan = study.plan(recipe, STEPS[position])
        exact = row_masks.exact_at(rows, plan, position)
        for name, keep in ranking.plan(shares[position]).keep.items():
            np.testing.assert_array_equal(rows[name] > position, keep.numpy())
            np.testing.assert_array_equal(exact[name] > position, plan.keep[name].numpy())


def test_the_picture_of_a_bert_base_is_small_and_in_the_colours_of_the_slider():
    draw = np.random.default_rng(0)
    sizes = {"query": 768, "key": 768, "value": 768, "attention_output": 768, "ffn_in": 3072, "ffn_out": 768}
    rows = {f"{i}.{t}": draw.integers(0, 101, n).astype(np.uint8) for t, n in sizes.items() for i in range(12)}
    live = row_masks.draw(rows, 0.3)
    cells = [np.array(trace.z, dtype=float) for trace in live.figure.data if trace.type == "heatmap"]
    assert sum(np.isfinite(one).sum() for one in cells) == 82_944 and len(cells) == 6
    np.testing.assert_array_equal(np.concatenate([one.reshape(-1) for one in cells]), np.concatenate(list(rows.values())))
    assert len(live.figure.to_json()) + len(json.dumps(live.changes_as_json())) < 2_000_000
    table = row_masks.table(rows, 30)
    assert len(table) == 82_944 and table["gone"].sum() == sum((v <= 30).sum() for v in rows.values())


def test_lines_hold_every_row_once():
    assert row_masks.line_width([768, 768, 3072]) == 768
    lines = row_masks.in_lines(np.arange(7), 3)
    np.testing.assert_array_equal(lines[np.isfinite(lines)], np.arange(7))


def test_shares_of_rows_and_cells_are_those_of_the_mask():
    keep = torch.rand(700, 900, generator=torch.Generator().manual_seed(1)) < 0.3
    keep[3], keep[4] = True, False
    shares = row_masks.share_gone(Masks.of({"0.query": keep}))["0.query"]
    np.testing.assert_allclose(shares, 100 * (1 - keep.numpy().mean(axis=1)), rtol=1e-5)
    cells, (height, width) = pattern.reduced(keep)
    assert (height, width) == (2, 3) and cells.shape == (350, 300)
    exact = 100 * keep.numpy().reshape(350, 2, 300, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(cells, exact, atol=1)  # 0 and 100 are for nothing and all
    assert ((cells == 0) == (exact == 0)).all() and ((cells == 100) == (exact == 100)).all()


@pytest.mark.parametrize(("rows", "columns"), [(400, 400), (401, 12), (30_522, 768)])
def test_no_matrix_has_more_cells_than_can_be_drawn(rows, columns):
    cells, (height, width) = pattern.reduced(torch.ones(rows, columns, dtype=torch.bool))
    assert cells.shape == (-(-rows // height), -(-columns // width)) and max(cells.shape) <= 400 and (cells == 100).all()


@pytest.mark.parametrize(("along", "heads"), [("rows", (0, 3)), ("columns", (1, 4))])
def test_the_pattern_counts_by_head(along, heads):
    keep = torch.ones(6, 8, dtype=torch.bool)
    keep[:3, 0] = False
    keep[5] = False
    table = pattern.table("1.query", keep, (along, heads[1]))
    assert table["part"].tolist() == ["all", "head 0", "head 1"] and table["kept"][0] == 48 - 3 - 8
    cuts = np.split(keep.numpy(), 2, heads[0])
    assert table["kept"].tolist()[1:] == [int(cut.sum()) for cut in cuts]
    assert table["rows_gone"].tolist() == [1, *[int((~cut.any(axis=1)).sum()) for cut in cuts]]
    lines = pattern.draw("1.query", keep, (along, heads[1])).data[1]
    assert set(getattr(lines, "y" if along == "rows" else "x")) - {None} == {heads[1] - 0.5}


def test_two_masks_are_counted_and_chance_is_the_hypergeometric():
    draw = torch.Generator().manual_seed(0)
    one, other = ({n: torch.rand(20, 30, generator=draw) < p for n in ("0.query", "0.key")} for p in (0.6, 0.3))
    table = overlay.table(Masks.of(one), Masks.of(other)).set_index("type")
    for type_ in ("query", "key"):
        a, b = (~m[f"0.{type_}"].numpy() for m in (one, other))
        row, both = table.loc[type_], (a & b).sum()
        assert (row["n"], row["one"], row["other"], row["both"], row["neither"]) == (
            600, a.sum(), b.sum(), both, (~a & ~b).sum()
        )  # fmt: skip
        assert row["expected"] == pytest.approx(a.mean() * b.mean() * 600)
        assert row["jaccard"] == pytest.approx(both / (a | b).sum()) and row["agreement"] == pytest.approx((a == b).mean())
        tail = sum(hypergeom.pmf(k, 600, a.sum(), b.sum()) for k in range(both, 601))
        assert row["p_value"] == pytest.approx(tail)
    sums = table.loc[["query", "key"], ["n", "both", "expected"]].sum()
    assert table.loc["all", ["n", "both", "expected"]].tolist() == pytest.approx(sums.tolist())


def test_chance_is_what_shuffled_masks_have_in_common():
    draw = torch.Generator().manual_seed(3)
    one, other = (torch.rand(200, 200, generator=draw) < p for p in (0.5, 0.2))
    shuffled = other.reshape(-1)[torch.randperm(other.numel(), generator=draw)].view_as(other)
    row = overlay.table(Masks.of({"0.value": one}), Masks.of({"0.value": shuffled})).iloc[0]
    assert row["jaccard"] == pytest.approx(row["jaccard_chance"], abs=0.01)
    assert row["agreement"] == pytest.approx(row["agreement_chance"], abs=0.01)


def test_a_mask_over_itself_has_all_in_common():
    keep = Masks.of({"0.query": torch.eye(8, dtype=torch.bool)})
    row = overlay.table(keep, keep).iloc[0]
    assert (row["jaccard"], row["agreement"], row["both"]) == (1, 1, 56)
    assert [float(trace.x[0]) for trace in overlay.draw(overlay.table(keep, keep), "a", "b").data[:4]] == [87.5, 0, 0, 12.5]


def test_rows_under_two_plans(studies):
    one, other = (studies["bert"].plan(Recipe(criterion), 0.4) for criterion in ("variance", "magnitude"))
    rows = overlay.four(one.keep, other.keep)
    for name, values in rows.items():
        a, b = one.keep[name].numpy(), other.keep[name].numpy()
        np.testing.assert_array_equal(values == 3, a & b)
        np.testing.assert_array_equal(values == 1, a & ~b)
    total = overlay.table(one, other).iloc[-1]
    assert total["both"] == sum((values == 0).sum() for values in rows.values())
    assert len(overlay.draw_rows(rows, "variance", "magnitude").data) == 6 + 4


def test_masks_that_do_not_fit_are_refused():
    here = Masks.of({"0.query": torch.ones(2, 3, dtype=torch.bool)})
    plan = Plan({"0.query": torch.ones(2, dtype=torch.bool)}, "variance", "per type", 0.0, "", "units")
    for other, says in [
        (Masks.of({"0.query": torch.ones(3, 2, dtype=torch.bool)}), "different matrices"),
        (Masks.of({"0.key": torch.ones(2, 3, dtype=torch.bool)}), "no matrix in common"),
        (plan, "one kind"),
    ]:
        with pytest.raises(VPError, match=says):
            overlay.table(here, other)
