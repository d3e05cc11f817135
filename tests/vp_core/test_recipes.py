"""Named recipes, from the name to the model; bad input is one sentence; too few texts are said."""

from dataclasses import replace

import bench_models
import numpy as np
import pytest
import tiny
import torch
from bench_models import stage

from vp_core.asking.batches import make_batches
from vp_core.curves import CurveStore, known_point, sweep
from vp_core.ground.errors import VPError
from vp_core.ground.names import MOST_STEPS
from vp_core.opening.study import open_study
from vp_core.recipes import RECIPES, Recipe, changed, find_recipe, recipe_name

pytestmark = pytest.mark.usefixtures("exact_norms")


def test_names_and_what_they_mean():
    assert RECIPES["paper"] == Recipe() and changed(Recipe()) == {}
    assert all(recipe_name(recipe) == name and find_recipe(name) is recipe for name, recipe in RECIPES.items())
    assert len(set(RECIPES.values())) == len(RECIPES)
    assert recipe_name(Recipe(seed=9)) == "paper"  # a seed means nothing to variance
    assert recipe_name(Recipe(scope="global")) is None
    assert changed(RECIPES["rows refit"]) == {"criterion": "fisher", "replacement": "refit", "budget": "parameters"}
    assert [name for name, r in RECIPES.items() if r.plain] == ["paper", "weights", "coreset", "coreset top norm"]
    assert RECIPES["best"].describe() == "ffn neurons + values + pairs, principal basis, surgeon, measured, least squares"
    assert Recipe(units=("values", "ffn neurons"), types=("key",)) == Recipe(units=("ffn neurons", "values"))
    with pytest.raises(VPError, match="best"):
        find_recipe("worst")


def test_its_parts_are_what_scores_and_the_order_depend_on():
    """Whatever a part leaves out changes nothing of it; whatever it holds makes another part."""
    recipe = Recipe("random", "global", "zero", seed=3, budget="flops", steps=4)
    for change in ({"replacement": "refit"}, {"budget": "units"}, {"steps": 1}):
        assert replace(recipe, **change).scoring == recipe.scoring and replace(recipe, **change).ordering == recipe.ordering
    for change in ({"criterion": "wanda"}, {"seed": 4}, {"types": ("key",)}, {"estimator": "ewmv"}, {"units": ("heads",)}):
        assert replace(recipe, **change).scoring != recipe.scoring and replace(recipe, **change).ordering != recipe.ordering
    scope = replace(recipe, scope="scaled")
    assert scope.scoring == recipe.scoring and scope.ordering != recipe.ordering
    orders = {name: replace(recipe, scope="measured", replacement=name).ordering for name in ("zero", "mean", "refit")}
    assert len(set(orders.values())) == 3  # measured losses depend on the rung they were measured with
    assert orders["refit"] == replace(recipe, scope="measured", replacement="least squares").ordering


_WEIGHTS = {"criterion": "magnitude", "scope": "per matrix", "replacement": "zero", "units": ("weights",)}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"criterion": "luck"}, "Unknown criterion 'luck'"),
        ({"scope": "per head and shoulder"}, "Unknown scope"),
        ({"replacement": "hope"}, "Unknown replacement 'hope'"),
        ({"estimator": "guess"}, "Unknown estimator"),
        ({"basis": "acid"}, "Unknown basis 'acid'"),
        ({"budget": "money"}, "Unknown budget 'money'"),
        ({"units": ("ffn neurons", "noses")}, "Unknown kind of unit 'noses'"),
        ({"units": ("ffn", "values")}, "The unit 'ffn' is now 'ffn neurons'"),
        ({"units": ("values", "heads")}, "'values' and 'heads' have rows in common"),
        ({"types": ("nose",)}, "Unknown projection type 'nose'"),
        ({"basis": "principal"}, "Single rows are pruned as they are"),
        ({"scope": "per row"}, "'per row' is for single weights"),
        ({"criterion": "coreset"}, "'coreset' is for single weights"),
        ({"replacement": "inverse probability"}, "'inverse probability' is for single weights"),
        ({"units": ("weights",)}, "The criterion 'variance' does not go with weights: choose magnitude"),
        ({"units": ("weights", "rows")}, "'weights' is chosen by itself"),
        ({"units": ("4:2",)}, "4:2 keeps 4 of every 2 weights"),
        ({"units": ("0:4",)}, "0:4 keeps 0 of every 4 weights"),
        ({"units": ("blocks 0x4",)}, "has blocks without weights"),
        (_WEIGHTS | {"scope": "per type", "units": ("2:4",)}, "The scope 'per type' does not go with 2:4: choose per matrix"),
        (_WEIGHTS | {"replacement": "inverse probability"}, "The replacement 'inverse probability' does not go with weights"),
        (_WEIGHTS | {"steps": 2}, "The steps 2 does not go with weights: choose 1"),
        (_WEIGHTS | {"types": ("noses",)}, "Unknown projection type 'noses'"),
        ({"types": ("word_embeddings",)}, "Unknown projection type 'word_embeddings'"),
        ({"seed": -1}, "The seed -1 is below 0"),
        ({"steps": 0}, "Pruning in 0 steps is not possible"),
        ({"steps": MOST_STEPS + 1}, "Pruning in 65 steps is not possible"),
    ],
)
def test_what_cannot_be_is_one_sentence(change, says):
    for call in (lambda: Recipe(**change), lambda: replace(Recipe(), **change)):
        with pytest.raises(VPError, match=says) as raised:
            call()
        assert "\n" not in str(raised.value) and str(raised.value).endswith(".")


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("family", ["bert", "gpt2", "bart", "albert", "mpnet", "deberta-v2", "modernbert", "t5"])
def test_every_recipe_on_every_family(studies, family, name):
    study, recipe = studies[family], RECIPES[name]
    before = tiny.sha(study.model)
    if family == "albert" and (recipe.replacement == "refit" or recipe.scope == "measured"):
        with pytest.raises(VPError, match="same layer several times"):
            study.pruned(recipe, 0.4)
        return
    share = recipe.pattern.sparsity or 0.4 if recipe.pattern else 0.4
    pruned, squeezed, cost = study.pruned(recipe, share), study.squeezed(recipe, share), study.cost(recipe, share)
    (_, batches), *_ = study.question.chunks()
    for batch in batches:
        with torch.inference_mode():
            dense, expected = study.model(**batch.inputs).logits, pruned(**batch.inputs).logits
            assert tiny.distance(squeezed(**batch.inputs).logits, expected) <= 1e-4
            assert torch.equal(study.pruned(recipe, 0)(**batch.inputs).logits, dense)
    assert tiny.distance(expected, dense) > 1e-5  # something was done
    if recipe.pattern:  # single zeros stay in dense matrices
        assert squeezed.squeezed.cost.parameters_left >= cost.parameters_left
    else:
        assert squeezed.squeezed.cost.parameters_left == cost.parameters_left
    if recipe.budget == "parameters":
        assert cost.share_removed == pytest.approx(0.4, abs=0.02)  # tiny layers have large units
    assert study.plan(recipe, 0).rows_removed == 0 and study.plan(recipe, 0).budget == recipe.budget
    assert (tiny.sha(study.model), tiny.hooks(study.model)) == (before, 0)


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
@pytest.mark.parametrize("kinds", [("ffn neurons",), ("values",), ("heads",), ("rows",)])
def test_at_the_first_consumer_each_rung_is_better_on_the_calibration_tokens(family, kinds):
    """Inputs of the first consumer are those of the dense model, so its output error is what the solution minimises."""
    one = stage(family, 60)
    types = ("ffn_in",) if kinds == ("rows",) else ()
    consumer = one.measured.layers[0].projections["ffn_out" if kinds in (("ffn neurons",), ("rows",)) else "attention_output"]
    errors = []
    for replacement in ("zero", "mean", "least squares"):
        recipe = Recipe(units=kinds, replacement=replacement, criterion="variance", types=types or Recipe().types)
        alone = replace(recipe, scope="per layer")
        pruned, total, tokens = one.pruned(alone, 0.5), 0.0, 0
        for batch in one.measured.solving_batches():
            real, ends = batch.inputs["attention_mask"].bool(), []
            for model in (one.measured.model, pruned):
                handle = model.get_submodule(consumer.path).register_forward_hook(
                    lambda _m, _a, output, ends=ends: ends.append(output.detach())
                )
                with torch.no_grad():
                    model(**batch.inputs)
                handle.remove()
            total += (ends[0] - ends[1])[real].square().sum().item()
            tokens += int(real.sum())
        errors.append(total / tokens)
    zero, mean, least_squares = errors
    assert least_squares < mean, errors
    if kinds != ("rows",):  # rows put out act(mean), not the mean of act
        assert mean < zero, errors


def test_few_tokens_are_said_and_leave_finite_numbers(folders, data):
    few, many = (open_study(str(folders["bert"]), "sst2", data, calibration=n) for n in (2, 40))
    for name in ("paper", "rows refit", "units refit", "best", "weights", "wanda", "weights best", "2:4"):
        recipe = RECIPES[name]
        told = few.warnings(recipe)
        assert many.warnings(recipe) == ()
        assert bool(told) == (name not in ("paper", "weights", "wanda"))
        if told:
            tokens = sum(len(ids) for ids in few.calibration.ids)
            assert told[0].startswith(f"{tokens} calibration tokens cannot tell 56 inputs of a matrix apart") and len(told) == 1
        batches = make_batches(few.question.data, np.arange(20))
        assert torch.isfinite(bench_models.outputs(few.pruned(recipe, 0.5), batches)).all(), name


@pytest.mark.parametrize("recipe", [RECIPES["best"], RECIPES["rows refit"], RECIPES["units mean"]])
def test_activations_that_are_not_finite_name_the_layer(recipe):
    model = tiny.transformer("bert", num_labels=3)
    with torch.no_grad():
        model.bert.encoder.layer[1].attention.self.value.weight[3] = float("nan")
    with pytest.raises(VPError, match="layer 1 is not finite") as raised:
        stage("bert", 12, model=model).pruned(recipe, 0.5)
    assert "\n" not in str(raised.value)


def test_a_curve_of_recipes_is_known_by_name(study):
    store, recipes = CurveStore(), [RECIPES["paper"], RECIPES["units least squares"]]
    rows = list(sweep(study, recipes, [0, 0.5], store=store))
    assert sorted((row["recipe"], row["sparsity"]) for row in rows) == [
        ("paper", 0), ("paper", 0.5), ("units least squares", 0), ("units least squares", 0.5)
    ]  # fmt: skip
    for row in rows:
        recipe = RECIPES[row["recipe"]]
        assert (row["units"], row["basis"], row["budget"]) == (",".join(recipe.units), recipe.basis, recipe.budget)
        assert row["value"] == study.score(recipe, row["sparsity"]).value
        assert known_point(study, recipe, row["sparsity"], "float32", store)["recipe"] == row["recipe"]
    keys = {study.key(recipe, 0.5) for recipe in RECIPES.values()}
    assert len(keys) == len(RECIPES) and len({study.key(recipe, 0) for recipe in RECIPES.values()}) == 1
    assert study.key(Recipe(steps=2), 0.5) != study.key(Recipe(), 0.5)


def test_unit_shares_are_those_that_the_budget_takes(study):
    recipe = RECIPES["units mean"]
    for target, share in zip((0.2, 0.5), study.unit_shares(recipe, [0.2, 0.5]), strict=True):
        assert share == pytest.approx(study.stage().share(recipe, target), abs=0.02)
    assert study.unit_shares(Recipe(), [0.3]) == [0.3]
