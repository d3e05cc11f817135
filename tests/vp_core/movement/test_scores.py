"""The straight-through gradient by hand and by finite differences, the mask by numpy, and the model plain again afterwards."""

import copy

import numpy as np
import pytest
import tiny
import torch
from torch.nn.utils import parametrize

from vp_core.ground.errors import VPError
from vp_core.model.projections import find_layers
from vp_core.movement.scores import Scores
from vp_core.movement.shapes import Shapes, find_groups
from vp_core.training.groups import OWN
from vp_core.weights.matrices import find_matrices, view

SHAPES = [("weights", "weights"), ("blocks 16x8", "dim"), ("heads", "dim"), ("blocks 5x7", "blocks 32x32"), ("none", "dim")]


def scored(family, *shapes, share=0.4, seed=1):
    """(a model in float64 with scores and random masks, the scores, its matrices)."""
    model = tiny.transformer(family)
    layers = find_layers(model)
    matrices = find_matrices(model, layers=layers)
    scores = Scores.put_on(model, find_groups(layers, matrices, Shapes(*shapes)), 0.0)
    draw = torch.Generator().manual_seed(seed)
    for one in scores.units:
        one.keep.copy_(torch.rand(one.keep.shape, generator=draw) >= share)
    return model, scores, matrices


def expanded(unit_values, matrix, pattern):
    """(rows, columns) of a value for each unit, one weight at a time."""
    height, width = pattern.block(matrix.shape)
    values = np.asarray(unit_values).reshape(pattern.grid(matrix.shape))
    rows, columns = np.indices(matrix.shape)
    return values[rows // height, columns // width]


def loss_of(model, family):
    found = model(**tiny.inputs(family)).logits
    weights = torch.linspace(-1, 1, found.numel(), dtype=torch.float64).view(found.shape)
    return (found * weights).sum() + (found**2).mean()


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
def test_masked_weights(family, shapes):
    """W' = W ⊙ expand(keep), what has no scores as it was, and plain weights with exact zeros in the end."""
    plain = tiny.transformer(family)
    model, scores, matrices = scored(family, *shapes)
    before = {m.name: view(plain, m).clone() for m in matrices}
    wanted = {}
    for matrix in matrices:
        place = scores.places.get(matrix.name)
        keep = np.ones(matrix.shape) if place is None else expanded(place.units.keep, matrix, place.pattern)
        wanted[matrix.name] = before[matrix.name] * torch.from_numpy(keep)
        assert torch.equal(view(model, matrix), wanted[matrix.name])
        assert place is None or np.array_equal(place.kept(), keep)
    outputs = tiny.logits(model, tiny.inputs(family))
    scores.take_off(model)
    assert tiny.distance(tiny.logits(model, tiny.inputs(family)), outputs) == 0
    assert all(torch.equal(view(model, m), wanted[m.name]) for m in matrices)
    assert not any(parametrize.is_parametrized(one) for one in model.modules()) and not hasattr(model, OWN)
    assert [n for n, _ in model.named_parameters()] == [n for n, _ in plain.named_parameters()]
    assert all((view(model, m)[wanted[m.name] == 0].signbit() == 0).all() for m in matrices)


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "albert"])
def test_gradients_by_hand(family, shapes):
    """∂L/∂W' comes from a plain model with the masked weights; ∂L/∂W and ∂L/∂S follow from it, summed weight by weight."""
    model, scores, matrices = scored(family, *shapes)
    plain = copy.deepcopy(model)
    doubled = copy.deepcopy(scores.places)  # the copy's own places are in its modules; these know the same masks
    Scores(scores.units, doubled).take_off(plain)
    with parametrize.cached():
        loss_of(model, family).backward()
    loss_of(plain, family).backward()
    sums = {one.group.name: np.zeros(one.group.units) for one in scores.units}
    for matrix in matrices:
        module = plain.get_submodule(matrix.path)
        flip = family == "gpt2"
        outer = (module.weight.grad.T if flip else module.weight.grad)[matrix.start : matrix.start + matrix.rows]
        place = scores.places.get(matrix.name)
        if place is None:
            continue
        trained = scores.trained(model, matrix.name)
        weight = scores.view(model, matrix.name, trained.detach())
        keep = torch.from_numpy(expanded(place.units.keep, matrix, place.pattern))
        torch.testing.assert_close(scores.view(model, matrix.name, trained.grad), outer * keep, rtol=1e-10, atol=1e-12)
        number = expanded(np.arange(place.units.group.units), matrix, place.pattern)
        np.add.at(sums[place.units.group.name], number, (outer * weight).numpy())
    for one in scores.units:
        assert one.score.grad.dtype == torch.float32
        np.testing.assert_allclose(one.score.grad, sums[one.group.name], rtol=1e-4, atol=1e-5)
    assert sum(np.abs(one).max() > 1e-3 for one in sums.values()) > len(sums) / 2


@pytest.mark.parametrize("shapes", [("heads", "dim"), ("blocks 16x8", "dim")])
def test_gradients_of_scores_by_finite_differences(shapes):
    """Of the relaxed function, in which a mask may be any number: the straight-through gradient is its slope at the mask."""
    model, scores, _ = scored("bert", *shapes)
    loss_of(model, "bert").backward()
    step = 1e-4
    for one in scores.units:
        one.keep = one.keep.double()
        for unit in (0, one.group.units - 1):
            values = []
            for sign in (1, -1):
                one.keep[unit] += sign * step
                values.append(loss_of(model, "bert").item())
                one.keep[unit] -= sign * step
            slope = (values[0] - values[1]) / (2 * step)
            assert one.score.grad[unit].item() == pytest.approx(slope, rel=1e-4, abs=1e-5), one.group.name


def test_what_is_gone_may_come_back_but_its_weights_do_not_learn():
    model, scores, _ = scored("bert", "heads", "dim", share=1.0)
    loss_of(model, "bert").backward()
    assert all(not scores.trained(model, name).grad.any() for name in scores.places)
    model, scores, _ = scored("bert", "heads", "dim")
    loss_of(model, "bert").backward()
    gone = [one.score.grad[one.keep == 0] for one in scores.units]
    assert all(one.any() for one in gone)


def test_scores_that_learn_no_more_have_no_gradient():
    model, scores, _ = scored("bert", "heads", "dim")
    for one in scores.units:
        one.learning = False
    loss_of(model, "bert").backward()
    assert all(one.score.grad is None for one in scores.units)
    assert all(scores.trained(model, name).grad.any() for name in scores.places)


def test_they_are_trained_by_themselves():
    model, scores, _ = scored("bert", "blocks 16x8", "dim")
    own = {name for name, _ in model.named_parameters() if OWN in name}
    assert len(own) == len(scores.units) and all("|" not in name for name in own)


def test_a_copy_has_scores_of_its_own():
    model, scores, _ = scored("bert", "heads", "dim")
    before = tiny.logits(model, tiny.inputs("bert"))
    other = copy.deepcopy(model)
    for one in scores.units:
        one.keep.zero_()
    assert torch.equal(tiny.logits(other, tiny.inputs("bert")), before)
    assert not torch.equal(tiny.logits(model, tiny.inputs("bert")), before)


def test_twice_is_refused():
    model, _, _ = scored("bert", "heads", "dim")
    layers = find_layers(model)
    groups = find_groups(layers, find_matrices(model, layers=layers), Shapes())
    with pytest.raises(VPError, match="load it anew"):
        Scores.put_on(model, groups, 0.0)
