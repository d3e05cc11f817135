"""The page of single weights: holes, shares, goals, and every line and way that can be asked."""

import json
from pathlib import Path

import pytest

from benchmarks.weights_page import DENSITIES, HOLE, LINES, ROWS, SEEDS, TASKS, TIMED, page
from vp_core.recipes import RECIPES

DOCS = Path(__file__).parents[2] / "docs"
NOTHING = {"curves": {}, "coreset": {}, "time": {}}


def rows_of(text, first):
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith(f"| {first} |")
    ]


def test_a_page_of_nothing_has_holes_only():
    text = page(NOTHING)
    for density in DENSITIES:
        assert set(rows_of(text, f"{density:g}")[0][1:-1]) == {HOLE}
    assert rows_of(text, "50%") == [["50%", "99.5%", HOLE, HOLE, HOLE]]
    assert len(rows_of(text, "0.1")) == 1 and rows_of(text, "0.1")[0][-1] == "0.422"  # 397.20 / 940.13


def test_shares_are_of_the_dense_score_and_goals_are_those_of_sst2():
    line = next(line for line in LINES if line.recipe == RECIPES["weights best"]).name
    scores = {
        "sst2 dense": {"value": 0.8},
        f"sst2 {line} 0.5": {"value": 0.796},
        "sst2 magnitude, per matrix 0.5": {"value": 0.72},
    }
    text = page(NOTHING | {"curves": scores})
    assert rows_of(text, line)[0][5] == "0.796 (99.5%)" and rows_of(text, line)[0][4] == HOLE
    assert rows_of(text, "50%")[0] == ["50%", "99.5%", "99.5%", f"99.5% ({line})", "yes"]
    assert rows_of(text, "2:4, magnitude")[0][5] == HOLE and rows_of(text, "2:4, magnitude")[0][4] == ""  # one sparsity only
    scores[f"sst2 {line} 0.5"]["value"] = 0.78
    assert rows_of(page(NOTHING | {"curves": scores}), "50%")[0][-1] == "no, 2.0 points short"


def test_coresets_are_a_band_over_the_seeds():
    drawn = {f"coreset 0.5 {seed}": {"value": 0.7 + seed / 100, "attention left": 0.44} for seed in SEEDS}
    text = page(NOTHING | {"coreset": drawn})
    assert rows_of(text, "0.5")[0][1:3] == ["0.7450", "0.7000 to 0.7900"] and rows_of(text, "0.5")[0][-1] == "0.7970"
    del drawn["coreset 0.5 9"]
    assert rows_of(page(NOTHING | {"coreset": drawn}), "0.5")[0][1] == "0.7400 (of 9)"


def test_names_are_unique_and_recipes_single_weights_but_for_the_two_beside_coresets():
    assert len({line.name for line in LINES}) == len(LINES)
    assert all(line.recipe.pattern for line in LINES)
    recipes = {line.name: line.recipe for line in LINES}
    assert RECIPES["weights best"] in recipes.values() and recipes["wanda"] == RECIPES["wanda"]
    assert recipes["surgeon + least squares"].scope == "per matrix" and recipes["surgeon + least squares"].pattern.single
    assert recipes["2:4, surgeon + least squares"] == RECIPES["2:4"]
    assert {name for name, recipe in ROWS.items() if not recipe.pattern} == {"variance", "best"}


@pytest.mark.skipif(not (DOCS / "weights_results.json").exists(), reason="nothing is measured yet")
def test_the_page_is_what_the_numbers_say():
    found = json.loads((DOCS / "weights_results.json").read_text(encoding="utf-8"))
    assert (DOCS / "weights_results.md").read_text(encoding="utf-8") == page(found)
    known = {f"{task} {line.name}" for task in TASKS for line in LINES} | {f"{task} dense" for task in TASKS}
    assert {key if key in known else key.rpartition(" ")[0] for key in found["curves"]} <= known
    assert set(found["time"]) <= {f"{density:g}" for density in TIMED}
