"""Masks of single weights: torch's own pruning as the oracle, exact counts, nested, ties, blocks, N:M, random."""

from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
from bench_models import CLASSIFIERS, classifier, texts
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.utils import prune

from vp_core.ground.errors import VPError
from vp_core.ground.names import TYPES, WORD_EMBEDDINGS
from vp_core.ground.patterns import Pattern, find_pattern
from vp_core.measuring.measured import Measured
from vp_core.recipes import RECIPES, Recipe
from vp_core.weights.masks import Masks, overlap
from vp_core.weights.matrices import Matrix, find_matrices, tied_with, view
from vp_core.weights.order import WeightRanking, sort_scores
from vp_core.weights.patterns import by_block, n_of_m
from vp_core.weights.stage import WeightStage

MAGNITUDE = RECIPES["weights"]
SHARES = (0.0, 0.1, 0.25, 0.5, 0.731, 0.9, 1.0)


def stage(family="bert", model=None):
    return WeightStage(Measured(classifier(family) if model is None else model, texts(family), "m", "d"))


def ranking(scores, scope="per matrix", pattern=None, like=None):
    """A ranking of matrices made of these scores: name → (rows, columns), named like `3.query`."""
    pattern = pattern or Pattern()
    matrices = tuple(Matrix(name, name.split(".")[1], "", *values.shape) for name, values in scores.items())
    score = lambda matrix: torch.as_tensor(scores[matrix.name])  # noqa: E731
    ordered = sort_scores(matrices, pattern, score, scope == "per row")
    return WeightRanking(matrices, pattern, score, ordered, "c", scope, "", like)


def by_hand(values, gone):
    """True for all but the `gone` lowest of `values` (n,), the first of equal ones gone first."""
    keep = np.ones(len(values), dtype=bool)
    keep[np.argsort(values, kind="stable")[:gone]] = False
    return keep


@pytest.mark.parametrize("share", SHARES)
def test_each_matrix_as_torch_prunes_it(share):
    one = stage()
    masks = one.masks(MAGNITUDE, share)
    for matrix in one.matrices(MAGNITUDE):
        layer = torch.nn.Linear(matrix.columns, matrix.rows)
        layer.weight.data = view(one.measured.model, matrix).clone()
        prune.l1_unstructured(layer, "weight", amount=round(share * matrix.size))
        assert torch.equal(masks.keep(matrix.name), layer.weight_mask.bool()), matrix.name


@pytest.mark.parametrize("share", SHARES)
def test_all_matrices_together_as_torch_prunes_them(share):
    one, recipe = stage(), replace(MAGNITUDE, scope="global", types=(*TYPES, WORD_EMBEDDINGS))
    masks, layers = one.masks(recipe, share), []
    for matrix in one.matrices(recipe):
        layers.append(torch.nn.Linear(matrix.columns, matrix.rows))
        layers[-1].weight.data = view(one.measured.model, matrix).clone()
    prune.global_unstructured(
        [(layer, "weight") for layer in layers], prune.L1Unstructured, amount=round(share * masks.weights)
    )
    for matrix, layer in zip(one.matrices(recipe), layers, strict=True):
        assert torch.equal(masks.keep(matrix.name), layer.weight_mask.bool()), matrix.name
    assert masks.weights_removed == round(share * masks.weights)


few = st.integers(0, 3)  # many ties


@given(st.data(), st.sampled_from(("per matrix", "per type", "global", "per row")), st.floats(0, 1))
def test_counts_are_exact_and_ties_go_in_order(data, scope, share):
    shapes = {"0.query": (3, 5), "0.key": (2, 4), "1.query": (3, 5), "1.key": (1, 7)}
    draw = {n: np.array(data.draw(st.lists(few, min_size=r * c, max_size=r * c)), np.float32) for n, (r, c) in shapes.items()}
    scores = {name: values.reshape(shapes[name]) for name, values in draw.items()}
    found = ranking(scores, scope).masks(share)
    if scope == "per row":
        expected = {n: np.stack([by_hand(row, round(share * len(row))) for row in values]) for n, values in scores.items()}
    else:
        pools = {"per matrix": [[n] for n in shapes], "global": [list(shapes)]}
        pools["per type"] = [["0.query", "1.query"], ["0.key", "1.key"]]
        expected = {}
        for pool in pools[scope]:
            flat = np.concatenate([draw[name] for name in pool])
            keep = np.split(by_hand(flat, round(share * len(flat))), np.cumsum([len(draw[name]) for name in pool])[:-1])
            expected |= {name: part.reshape(shapes[name]) for name, part in zip(pool, keep, strict=True)}
    for name, keep in expected.items():
        assert found.keep(name).numpy().tolist() == keep.tolist()


@pytest.mark.parametrize("scope", ["per matrix", "per type", "global", "per row"])
@pytest.mark.parametrize("criterion", ["magnitude", "random"])
def test_masks_are_nested(scope, criterion):
    one, recipe = stage(), replace(MAGNITUDE, scope=scope, criterion=criterion)
    before = one.masks(recipe, 0)
    for share in np.linspace(0, 1, 23):
        now = one.masks(recipe, float(share))
        assert all(not (now.keep(name) & ~before.keep(name)).any() for name in now.bits)
        before = now
    assert before.weights_removed == before.weights


@pytest.mark.parametrize("scope", ["per matrix", "per type", "global", "per row"])
def test_random_takes_as_many_of_every_matrix_as_magnitude(scope):
    one, recipe = stage(), replace(MAGNITUDE, scope=scope)
    for share in (0.1, 0.55):
        expected = one.masks(recipe, share)
        found = [one.masks(replace(recipe, criterion="random", seed=seed), share) for seed in (0, 1)]
        assert all(masks.kept(name) == expected.kept(name) for masks in found for name in expected.bits)
        assert found[0] != found[1]
        assert found[0] == one.masks(replace(recipe, criterion="random"), share)


@pytest.mark.parametrize("block", ["2x2", "5x7", "32x32", "1xall", "allx1", "allxall"])
@pytest.mark.parametrize("scope", ["per matrix", "global"])
def test_blocks_go_by_their_mean_and_ends_are_cut_short(block, scope):
    rng = np.random.default_rng(0)
    scores = {name: rng.random(shape, dtype=np.float32) for name, shape in {"0.query": (12, 9), "0.ffn_in": (20, 12)}.items()}
    pattern = find_pattern(f"blocks {block}")
    means, places = [], []
    for name, values in scores.items():
        height, width = pattern.block(values.shape)
        for top in range(0, values.shape[0], height):
            for left in range(0, values.shape[1], width):
                places.append((name, slice(top, top + height), slice(left, left + width)))
                means.append(np.float32(values[places[-1][1:]].mean(dtype=np.float64)))
    for share in (0.3, 0.8):
        found = ranking(scores, scope, pattern).masks(share)
        expected = {name: np.ones(values.shape, dtype=bool) for name, values in scores.items()}
        for own in [[n] for n in scores] if scope == "per matrix" else [list(scores)]:
            rivals = [i for i, place in enumerate(places) if place[0] in own]
            for i in np.array(rivals)[np.argsort(np.array(means)[rivals], kind="stable")[: round(share * len(rivals))]]:
                expected[places[i][0]][places[i][1:]] = False
        assert all(found.keep(name).numpy().tolist() == keep.tolist() for name, keep in expected.items())


def test_a_block_of_one_is_a_weight():
    values = torch.rand(5, 7)
    assert torch.equal(by_block(values, Pattern()), values)
    assert find_pattern("blocks 1x1") == find_pattern("weights")
    assert find_pattern("blocks 1x1").name == "weights" and find_pattern("blocks allx1").name == "columns"


@given(st.data(), st.sampled_from([(2, 4), (1, 4), (4, 8), (1, 2), (3, 5), (5, 20)]), st.integers(1, 33))
def test_n_of_m_keeps_the_highest_of_every_group(data, ratio, columns):
    keep, of = ratio
    values = np.array(data.draw(st.lists(few, min_size=2 * columns, max_size=2 * columns)), np.float32).reshape(2, columns)
    found = n_of_m(torch.from_numpy(values), keep, of).numpy()
    for row, mask in zip(values, found, strict=True):
        for start in range(0, columns, of):
            group = row[start : start + of]
            assert mask[start : start + of].tolist() == by_hand(group, max(len(group) - keep, 0)).tolist()


def test_n_of_m_is_one_point():
    one, recipe = stage(), replace(MAGNITUDE, units=("2:4",))
    masks = one.masks(recipe, 0.5)
    for matrix in one.matrices(recipe):
        assert (masks.keep(matrix.name).view(matrix.rows, -1, 4).sum(dim=2) == 2).all()
    assert one.masks(recipe, 0).weights_removed == 0
    with pytest.raises(VPError, match=r"2:4 removes 50.0% of the weights, not 30.0%: set the sparsity to 0.5\."):
        one.masks(recipe, 0.3)


@pytest.mark.parametrize("family", CLASSIFIERS)
def test_every_family_is_masked_where_it_should_be(family):
    one, recipe = stage(family), replace(MAGNITUDE, types=(*TYPES, WORD_EMBEDDINGS))
    model = one.measured.model
    before = tiny.sha(model)
    pruned, masks = one.pruned(recipe, 0.4), one.masks(recipe, 0.4)
    for matrix in one.matrices(recipe):
        assert torch.equal(view(pruned, matrix), view(model, matrix) * masks.keep(matrix.name)), matrix.name
    changed = {matrix.path for matrix in one.matrices(recipe)}
    tied = {path for matrix in one.matrices(recipe) for path in tied_with(model, matrix)}
    for path, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if isinstance(weight, torch.Tensor) and path not in changed | tied:
            assert pruned.get_submodule(path).weight is weight, path
    linear = [m for m in model.modules() if isinstance(m, torch.nn.Linear | tiny.Conv1D)]
    biggest = max(linear, key=lambda m: m.weight.numel())
    assert any(model.get_submodule(path) is biggest for path in changed)
    assert tiny.sha(model) == before


def test_what_is_tied_goes_together():
    one = stage("bart")
    matrix = one.matrices(replace(MAGNITUDE, types=(WORD_EMBEDDINGS,)))[0]
    others = tied_with(one.measured.model, matrix)
    assert others  # encoder and decoder
    pruned = one.pruned(replace(MAGNITUDE, types=(WORD_EMBEDDINGS,)), 0.5)
    assert all(torch.equal(pruned.get_submodule(path).weight, view(pruned, matrix)) for path in others)


def test_what_is_odd_is_told():
    one = stage("bart")
    (note,) = one.notes(replace(MAGNITUDE, types=(WORD_EMBEDDINGS,)))
    assert note.startswith("The weights of word_embeddings are also those of ") and note.endswith(
        "what goes from one goes from all."
    )
    one = stage()
    assert one.notes(MAGNITUDE) == one.notes(replace(MAGNITUDE, units=("blocks 8x8",))) == ()
    assert one.notes(replace(MAGNITUDE, units=("columns",))) == one.notes(replace(MAGNITUDE, units=("blocks 1xall",))) == ()
    (note,) = one.notes(replace(MAGNITUDE, units=("blocks 32x32",)))
    assert note.startswith("blocks 32x32 does not divide 0.query (48 x 48) and ")
    (note,) = one.notes(replace(MAGNITUDE, units=("5:7",)))
    assert note.startswith("5:7 does not divide 0.query (48 x 48) and ")


def test_what_has_no_weights_to_take_is_one_sentence():
    with pytest.raises(VPError, match="no word embeddings"):
        find_matrices(tiny.transformer("vit"), (WORD_EMBEDDINGS,))
    broken = tiny.transformer("bert", dtype=torch.float32)
    path = find_matrices(broken)[3].path
    with torch.no_grad():
        broken.get_submodule(path).weight[1, 2] = float("nan")
    with pytest.raises(VPError, match=r"The weights of 0\.attention_output are not finite"):
        find_matrices(broken)
    module = broken.get_submodule(path)
    module.weight = torch.nn.Parameter(torch.zeros(module.weight.shape, dtype=torch.int8), requires_grad=False)
    with pytest.raises(VPError, match=r"0\.attention_output are torch.int8, not floating-point"):
        find_matrices(broken)


def test_scores_that_are_not_finite_are_refused():
    with pytest.raises(VPError, match=r"scores of 0\.query by .* are not finite"):
        ranking({"0.query": np.array([[1, np.inf]], np.float32)})


def test_masks_come_back_equal(tmp_path):
    one = stage()
    masks = one.masks(replace(MAGNITUDE, scope="global"), 0.3)
    masks.save(tmp_path / "m.safetensors")
    found = Masks.load(tmp_path / "m.safetensors")
    assert found == masks and found.weights_removed == masks.weights_removed
    assert masks != one.masks(MAGNITUDE, 0.3)
    (tmp_path / "broken").write_bytes(b"nothing")
    with pytest.raises(VPError):
        Masks.load(tmp_path / "broken")


def test_masks_over_each_other():
    rng = np.random.default_rng(0)
    first, second = (torch.from_numpy(rng.random((40, 50)) > share) for share in (0.3, 0.6))
    ((agree, chance),) = overlap(Masks.of({"a": first}), Masks.of({"a": second})).values()
    p, q = (1 - mask.double().mean().item() for mask in (first, second))
    assert agree == pytest.approx((first == second).double().mean().item())
    assert chance == pytest.approx(p * q + (1 - p) * (1 - q))
    with pytest.raises(VPError, match="different matrices"):
        overlap(Masks.of({"a": first}), Masks.of({"b": second}))


def test_a_recipe_of_other_units_has_no_masks(study):
    with pytest.raises(VPError, match="Masks are of single weights, not of rows"):
        study.masks(Recipe(), 0.5)
    with pytest.raises(VPError, match="a matrix at a time"):
        study.scores(MAGNITUDE)


def test_a_study_scores_counts_and_stays_as_it_was(study):
    before, recipe = tiny.sha(study.model), replace(MAGNITUDE, types=(*TYPES, WORD_EMBEDDINGS))
    dense = study.score(recipe, 0)
    assert study.score(Recipe(), 0).right.tolist() == dense.right.tolist()
    assert study.score(recipe, 0.9).right.tolist() != dense.right.tolist()
    cost, masks = study.cost(recipe, 0.6), study.masks(recipe, 0.6)
    of_projections = [name for name in masks.bits if name != WORD_EMBEDDINGS]
    assert cost.parameters_removed == sum(round(0.6 * masks.size(name)) for name in of_projections)
    assert cost.linear_left == cost.linear  # single zeros save no products
    assert study.reachable(replace(recipe, units=("1:4",)), [0, 0.3, 0.5]) == [0, 0.75]
    assert tiny.sha(study.model) == before
