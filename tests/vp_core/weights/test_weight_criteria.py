"""Scores of single weights by what texts say: plain loops over tokens and texts as the oracle, in every family."""

from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
from bench_models import CLASSIFIERS, classifier, texts

from vp_core.asking.batches import make_batches
from vp_core.ground.errors import VPError
from vp_core.ground.names import TYPES, WEIGHT_CRITERIA, WORD_EMBEDDINGS
from vp_core.measuring.gradients import collect_weight_effects
from vp_core.measuring.measured import Measured
from vp_core.model.projections import find_layers
from vp_core.model.sharing import share
from vp_core.recipes import RECIPES
from vp_core.weights.criteria import _SCORERS, score_weights
from vp_core.weights.matrices import find_matrices, view
from vp_core.weights.stage import WeightStage

SOME = ("bert", "gpt2", "bart", "llama", "albert", "t5", "modernbert")


def test_every_name_has_a_scorer():
    assert set(_SCORERS) == set(WEIGHT_CRITERIA)


def inputs_seen(model, matrix, data):
    """What a matrix reads (tokens, d_in) over all real tokens, text by text, nothing padded."""
    seen = []
    handle = model.get_submodule(matrix.path).register_forward_pre_hook(lambda _m, args: seen.append(args[0].flatten(0, -2)))
    with torch.no_grad():
        for i in range(len(data)):
            (batch,) = make_batches(data, np.array([i]))
            model(**batch.inputs)
    handle.remove()
    return torch.cat(seen)


@pytest.mark.parametrize("family", SOME)
def test_wanda_and_the_surgeon_are_what_plain_loops_give(family):
    model, data = classifier(family), texts(family, 12)
    measured = Measured(model, data, "m", "d")
    matrices = find_matrices(model)
    for matrix in matrices[:8]:
        x = inputs_seen(share(model), matrix, data)
        weight = view(model, matrix)
        expected = weight.abs() * x.square().mean(dim=0).sqrt()
        assert torch.allclose(score_weights("wanda", measured, matrix).double(), expected, rtol=1e-5)
        covariance = np.cov(x.numpy().T, bias=True)
        covariance += 1e-2 * covariance.diagonal().mean() * np.eye(len(covariance))
        expected = weight.square() / torch.from_numpy(np.linalg.inv(covariance).diagonal().copy())
        assert torch.allclose(score_weights("surgeon", measured, matrix).double(), expected, rtol=1e-4), matrix.name


@pytest.mark.parametrize("family", SOME)
def test_fisher_is_the_mean_squared_gradient_of_each_text(family):
    model, data = classifier(family), texts(family, 5)
    found = collect_weight_effects(model, make_batches(data, np.arange(5)), find_layers(model))
    matrices = find_matrices(model)
    expected = {matrix.name: torch.zeros(matrix.shape, dtype=torch.float64) for matrix in matrices}
    private = share(model, {name: p.detach().clone() for name, p in model.named_parameters()})
    for i in range(5):
        (batch,) = make_batches(data, np.array([i]))
        for number in range(3):
            private.zero_grad()
            private(**batch.inputs).logits[0, number].backward()
            for matrix in matrices:
                module = private.get_submodule(matrix.path)
                gradient = module.weight.grad.T if isinstance(module, tiny.Conv1D) else module.weight.grad
                expected[matrix.name] += gradient[matrix.start : matrix.start + matrix.rows].double().square() / 5
    assert set(found) == set(expected)
    for name, values in expected.items():
        assert torch.allclose(found[name].double(), values, rtol=1e-4, atol=1e-9 * float(values.max())), name
    assert not any(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("family", CLASSIFIERS)
@pytest.mark.parametrize("name", [name for name, recipe in RECIPES.items() if recipe.pattern])
def test_every_recipe_of_weights(family, name):
    one, recipe = WeightStage(Measured(classifier(family), texts(family, 12), "m", "d")), RECIPES[name]
    before = tiny.sha(one.measured.model)
    share_ = recipe.pattern.sparsity or 0.4
    pruned, masks = one.pruned(recipe, share_), one.masks(recipe, share_)
    assert masks.weights_removed == pytest.approx(share_ * masks.weights, rel=0.03)
    for matrix in one.matrices(recipe):
        weight = view(pruned, matrix)
        assert torch.isfinite(weight).all() and not weight[~masks.keep(matrix.name)].any()
    assert (tiny.sha(one.measured.model), tiny.hooks(one.measured.model)) == (before, 0)


@pytest.mark.parametrize("family", ["bert", "gpt2", "bart", "llama"])
def test_at_the_first_matrix_each_rung_is_better(family):
    """The inputs of the first matrix are those of the dense model, so its output error is what the solution minimises."""
    one, data = WeightStage(Measured(classifier(family), texts(family, 60), "m", "d")), texts(family, 60)
    recipe, errors = replace(RECIPES["weights"], types=("query",)), {}
    matrix = one.matrices(recipe)[0]
    x = inputs_seen(share(one.measured.model), matrix, data)
    for rung in ("zero", "mean", "least squares"):
        pruned = one.pruned(replace(recipe, replacement=rung), 0.6)
        ends = [_output(model, matrix, x) for model in (one.measured.model, pruned)]
        errors[rung] = float((ends[0] - ends[1]).square().mean())
    assert errors["least squares"] < errors["mean"] <= errors["zero"], errors


def _output(model, matrix, x):
    bias = model.get_submodule(matrix.path).bias
    y = x @ view(model, matrix).T
    return y if bias is None else y + bias.detach()[matrix.start : matrix.start + matrix.rows]


def test_embeddings_read_nothing_that_could_be_measured():
    recipe = replace(RECIPES["weights"], types=(*TYPES, WORD_EMBEDDINGS))
    for change in ({"criterion": "wanda"}, {"criterion": "surgeon"}, {"criterion": "fisher"}, {"replacement": "mean"}):
        with pytest.raises(VPError, match=f"Word embeddings read nothing that {next(iter(change.values()))} could measure"):
            replace(recipe, **change)
    one = WeightStage(Measured(classifier("bert"), texts("bert"), "m", "d"))
    matrix = one.matrices(recipe)[-1]
    with pytest.raises(VPError, match="word_embeddings read no coordinates"):
        score_weights("wanda", one.measured, matrix)


def test_what_was_solved_is_kept_and_nobody_gets_the_same_model():
    one = WeightStage(Measured(classifier("bert"), texts("bert", 12), "m", "d"))
    first, second = one.pruned(RECIPES["weights best"], 0.3), one.pruned(RECIPES["weights best"], 0.3)
    path = one.matrices(RECIPES["weights best"])[0].path
    assert first.get_submodule(path) is not second.get_submodule(path)  # a hook on one is none on the other
    assert first.get_submodule(path).weight is second.get_submodule(path).weight
