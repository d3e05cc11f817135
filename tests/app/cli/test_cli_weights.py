"""`vp weights`, and what other commands say of single weights: the library's numbers, and one sentence for what cannot be."""

import json
import re

import numpy as np
import pytest
import tiny
from commands import printed
from plotly.offline import get_plotlyjs as plotlyjs

from app.cli.main import _parser, main
from app.cli.options import recipe_from, sparsity_from
from vp_core.comparing.losses import loss_and_score
from vp_core.comparing.movement import movements
from vp_core.ground.names import TYPES, WORD_EMBEDDINGS
from vp_core.loading.weights import load_weights
from vp_core.opening.study import open_study
from vp_core.recipes import RECIPES, Recipe
from vp_core.weights.matrices import find_matrices


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VP_CACHE_DIR", str(tmp_path / "cache"))


def recipe_of(*arguments, command=("eval", "demo")):
    options = _parser().parse_args([*command, *arguments])
    recipe = recipe_from(options, options.criterion)
    return recipe, sparsity_from(options, recipe, "0")


def test_what_the_options_mean():
    weights = RECIPES["weights"]
    explicit = ("--units", "weights", "--criterion", "magnitude", "--scope", "per matrix", "--replacement", "zero")
    assert recipe_of(*explicit, "--sparsity", "0.5") == (weights, 0.5)
    assert recipe_of("--units", "weights") == (weights, 0.0)
    assert recipe_of("--units", "weights", "--criterion", "wanda")[0] == RECIPES["wanda"]
    assert recipe_of("--units", "blocks", "--block", "16xall")[0].units == ("blocks 16xall",)
    assert recipe_of("--units", "blocks")[0].units == ("blocks 32x32",)
    assert recipe_of("--units", "blocks 8x4", "--embeddings")[0].types == (*TYPES, WORD_EMBEDDINGS)
    assert recipe_of("--units", "weights", "--types", "key", "--embeddings")[0].types == ("key", WORD_EMBEDDINGS)
    recipe, sparsity = recipe_of("--units", "1:4")
    assert (recipe.units, recipe.criterion, sparsity) == (("1:4",), "magnitude", 0.75)
    recipe, sparsity = recipe_of("--recipe", "coreset", "--density", "0.7", "--seed", "3")
    assert (recipe, sparsity) == (Recipe(**RECIPES["coreset"].facts() | {"seed": 3}), 0.3)
    recipe, _ = recipe_of("--units", "columns", "--criterion", "coreset")
    assert (recipe.replacement, recipe.types, recipe.scope) == ("inverse probability", TYPES, "per matrix")
    assert recipe_of("--recipe", "weights best", "--replacement", "zero")[0].criterion == "fisher"
    assert recipe_of("--density", "0.6") == (Recipe(), 0.4)  # rows, too


@pytest.mark.parametrize(
    ("command", "arguments", "says"),
    [
        ("eval", ["--density", "0.5", "--sparsity", "0.5"], "choose one of them"),
        ("curve", ["--density", "0.5", "--sparsities", "0.5"], "choose one of them"),
        ("eval", ["--density", "1.5"], "The density '1.5' is no share"),
        ("curve", ["--density", "nan,1"], "The density 'nan' is no share"),
        ("eval", ["--block", "32x32"], "add --units blocks"),
        ("eval", ["--units", "blocks", "--block", "32"], "The block '32' is not understood"),
        ("eval", ["--units", "blocks", "--block", "0x4"], "blocks without weights"),
        ("eval", ["--units", "4:2"], "0 < N < M"),
        ("eval", ["--embeddings"], "Word embeddings go as single weights only"),
        ("eval", ["--units", "weights,heads"], "chosen by itself"),
        ("eval", ["--units", "weights", "--criterion", "variance"], "The criterion 'variance' does not go with weights"),
        ("eval", ["--units", "weights", "--scope", "per layer"], "The scope 'per layer' does not go with weights"),
        ("eval", ["--scope", "per matrix"], "'per matrix' is for single weights"),
        ("eval", ["--units", "2:4", "--sparsity", "0.3"], "2:4 removes 50.0% of the weights, not 30.0%"),
        ("weights", ["--units", "rows"], "looks at single weights, not at rows"),
        ("weights", ["--recipe", "paper"], "looks at single weights, not at rows"),
        ("weights", ["--map", "9.key"], "Unknown matrix '9.key': choose one of 0.query, 0.key"),
        ("weights", ["--sparsity", "2"], "between 0 and 1"),
        ("weights", ["--beside", "no/such/model/here"], "There is no model"),
        ("weights", ["--plot", "no/such/place.html"], "is not there"),
    ],
)
def test_what_cannot_be_is_one_sentence(capsys, command, arguments, says):
    assert main([command, "demo", "--calibration", "4", "--sentences", "4", *arguments]) == 2
    output = capsys.readouterr()
    (sentence,) = [line for line in output.err.splitlines() if line.startswith("vp: ")]
    assert says in sentence and output.out == "" and "Traceback" not in output.err


def test_criteria_that_need_texts(capsys, folders):
    assert main(["weights", str(folders["bert"]), "--criterion", "wanda"]) == 2
    assert "needs texts: name a task" in capsys.readouterr().err


def test_scores_are_the_librarys(capsys, task, folders, data):
    study = open_study(str(folders["bert"]), "sst2", data)
    how = ["--units", "weights", "--criterion", "magnitude", "--scope", "per matrix", "--replacement", "zero", "--embeddings"]
    found = printed(capsys, "eval", *task, *how, "--sparsity", "0.7")
    recipe = Recipe("magnitude", "per matrix", "zero", (*TYPES, WORD_EMBEDDINGS), units=("weights",))
    assert found["value"] == study.score(recipe, 0.7).value and found["units"] == "weights"
    assert found["value"] != study.score(recipe, 0).value
    found = printed(capsys, "eval", *task, "--units", "2:4")
    assert (
        found["sparsity"] == 0.5
        and found["value"] == study.score(Recipe(**RECIPES["weights"].facts() | {"units": ("2:4",)}), 0.5).value
    )
    found = printed(capsys, "eval", *task, "--units", "blocks", "--block", "8x8", "--density", "0.75")
    assert found["units"] == "blocks 8x8" and found["sparsity"] == 0.25


def test_a_curve_has_one_point_of_a_pattern(capsys, task):
    points = printed(capsys, "curve", *task, "--units", "2:4", "--sparsities", "0,0.3,0.5")
    assert [(p["criterion"], p["sparsity"]) for p in points] == [
        ("magnitude", 0.0), ("magnitude", 0.5), ("random", 0.0), ("random", 0.5)
    ]  # fmt: skip
    points = printed(capsys, "curve", *task, "--recipes", "weights,paper", "--density", "1,0.6")
    assert sorted((p["recipe"], p["sparsity"]) for p in points) == [
        ("paper", 0.0), ("paper", 0.4), ("weights", 0.0), ("weights", 0.4)
    ]  # fmt: skip


def test_speed_of_a_pattern_is_asked_at_its_own_sparsity(capsys, task):
    found = printed(capsys, "speed", *task, "--units", "2:4", "--batch", "1", "--length", "8", "--repeats", "1")
    assert [(row["form"], row["sparsity"]) for row in found["model"]] == [("dense", 0.0), ("masked", 0.5), ("squeezed", 0.5)]


@pytest.fixture(scope="module")
def before(folders, tmp_path_factory):
    """An encoder by itself from which the tiny BERT could have come: each matrix shaken."""
    model, tok = tiny.make("bert")
    for matrix in find_matrices(model):
        weight = model.get_submodule(matrix.path).weight
        weight.data += 0.05 * weight.data.roll(1, 0)
    return tiny.save(tmp_path_factory.mktemp("before") / "encoder", model.base_model, tok)


def test_weights_beside_the_encoder_with_a_task(capsys, task, folders, data, before, tmp_path):
    page = tmp_path / "weights.html"
    found = printed(
        capsys, "weights", *task, "--beside", before, "--sparsity", "0.65", "--plot", page, "--map", "0.ffn_in,2.key"
    )
    study = open_study(str(folders["bert"]), "sst2", data)
    matrices = find_matrices(study.model)
    moved = movements(matrices, load_weights(str(before)), load_weights(str(folders["bert"])))
    assert [row["mean"] for row in found["movement"]] == pytest.approx([moved[m.name].mean for m in matrices])
    assert found["moved"][0]["weights"] == found["weights"] == sum(m.size for m in matrices)
    assert {row["sparsity"] for row in found["removed"]} == {0.65} == {row["sparsity"] for row in found["heads"]}
    assert len(found["heads"]) == 4 * tiny.HEADS * tiny.LAYERS and len(found["sums"]) == 11 == len(found["losses"])
    asked = loss_and_score(study.pruned(RECIPES["weights"], 0.65), study.question)
    (row,) = [row for row in found["losses"] if row["sparsity"] == 0.65]
    assert (row["loss"], row["value"]) == (pytest.approx(asked.loss), asked.score.value)
    assert len(found["features"]) == 11 * tiny.LAYERS
    (row,) = [row for row in found["mask_difference"] if row["sparsity"] == 0.65]
    assert 0 < row["differ"] < row["chance"] == pytest.approx(2 * 0.65 * 0.35, abs=1e-3)
    text = page.read_text(encoding="utf-8")
    assert text.count('class="plotly-graph-div"') == 10 and "<title>vp weights" in text
    assert re.findall(r"<(?:script|link|img)[^>]*(?:src|href)=", text.replace(plotlyjs(), "")) == []  # nothing from elsewhere
    assert text.count(plotlyjs()) == 1


def test_weights_of_an_encoder_alone(capsys, before):
    assert main(["weights", str(before), "--embeddings", "--units", "2:4"]) == 0
    output = capsys.readouterr()
    assert "no task: only the weights are looked at" in output.err
    lines = output.out.splitlines()
    assert "2:4 by magnitude, per matrix" in lines[0]
    (words,) = [line for line in lines if "word_embeddings" in line]
    assert words.split()[1] == f"{420 * tiny.HIDDEN}" and "at a sparsity of 0.5:" in output.out
    json.dumps(lines)


def test_missing_values_are_null(capsys, folders):
    found = printed(capsys, "weights", folders["bert"], "--embeddings", "--types", "ffn_in")
    (row,) = [row for row in found["matrices"] if row["matrix"] == WORD_EMBEDDINGS]
    assert row["layer"] is None and "heads" not in found and "features" not in found
    assert np.isfinite(row["ks"])


def test_an_encoder_of_another_shape(capsys, folders):
    assert main(["weights", str(folders["bert"]), "--beside", str(folders["electra"]), "--embeddings"]) == 2
    assert "only two of one architecture can be compared" in capsys.readouterr().err
