"""Tables of two checkpoints beside each other, of features and of losses, against what they are made of."""

import numpy as np
import pandas as pd
import pytest
import tiny
import torch

from analysis.weights import features, losses, movement
from vp_core.asking.batches import make_batches
from vp_core.comparing.features import similarity
from vp_core.comparing.losses import loss_and_score
from vp_core.comparing.masked_lm import masked_lm_loss
from vp_core.comparing.movement import by_magnitude, movements, order_of, views
from vp_core.recipes import RECIPES
from vp_core.weights.matrices import find_matrices
from vp_core.weights.prune import masked


@pytest.fixture(scope="module")
def pair():
    """(matrices, weights before, weights after): every weight shaken by a tenth of what it is like."""
    model = tiny.transformer("bert", dtype=torch.float32)
    matrices = find_matrices(model)
    before, draw = views(model, matrices), torch.Generator().manual_seed(1)
    return matrices, before, {n: w + 0.03 * torch.randn(w.shape, generator=draw) for n, w in before.items()}


def moved(before, after):
    """How far every weight moved, in the order in which they started."""
    place = np.empty(before.numel(), int)
    place[order_of(after)] = np.arange(before.numel())
    return np.abs(place[order_of(before)] - np.arange(before.numel())) / before.numel()


def test_pooled_is_as_if_all_were_one_matrix(pair):
    matrices, before, after = pair
    table = movement.movement_table(matrices, movements(matrices, before, after))
    everything = np.concatenate([moved(before[m.name], after[m.name]) for m in matrices])
    (row,) = movement.pooled(table).itertuples()
    assert (row.mean, row.std) == (pytest.approx(everything.mean()), pytest.approx(everything.std()))
    assert row.weights == everything.size and 0.01 < row.mean < 0.1
    of_keys = np.concatenate([moved(before[m.name], after[m.name]) for m in matrices if m.type == "key"])
    assert movement.pooled(table, ["type"]).set_index("type").loc["key", "std"] == pytest.approx(of_keys.std())


def test_large_weights_move_less(pair):
    matrices, before, after = pair
    table = movement.start_table(matrices, movements(matrices, before, after))
    assert table["weights"].sum() == sum(m.size for m in matrices)
    assert len(table) == 20 * len(matrices) and table["start"].between(0, 1).all()
    everything = movement.pooled(table, ["start"])
    assert everything["start"].tolist() == pytest.approx([(i + 0.5) / 20 for i in range(20)])
    assert everything["mean"].iloc[-1] < everything["mean"].iloc[2] / 2
    one = np.concatenate([np.array_split(moved(before[m.name], after[m.name]), 20)[7] for m in matrices])
    assert everything["mean"].iloc[7] == pytest.approx(one.mean(), rel=0.02)


def test_masks_that_differ(pair):
    matrices, before, after = pair
    one, other = (by_magnitude(matrices, weights) for weights in (before, after))
    table = movement.difference_table(one, other, (0.0, 0.4))
    for row in table.itertuples():
        differ = one.keep(row.matrix, row.sparsity) != other.keep(row.matrix, row.sparsity)
        assert row.differ == pytest.approx(differ.double().mean().item(), abs=1e-12)
        assert row.chance == pytest.approx(2 * row.sparsity * (1 - row.sparsity), abs=1e-3)
    total = movement.total_difference(table).set_index("sparsity")
    count = sum((one.keep(m.name, 0.4) != other.keep(m.name, 0.4)).sum().item() for m in matrices)
    assert total.loc[0.4, "differ"] == pytest.approx(count / sum(m.size for m in matrices)) and total.loc[0.0, "differ"] == 0


def test_a_course_of_checkpoints(pair, labelled):
    matrices, before, after = pair
    table = movement.course_table(matrices, before, {"start": before, "end": after})
    assert table["checkpoint"].tolist() == ["start", "end"] and table["mean"].iloc[0] == 0 < table["mean"].iloc[1]
    labelled(movement.draw_course(table))
    moves = movements(matrices, before, after)
    labelled(movement.draw_start(movement.start_table(matrices, moves)))
    one, other = (by_magnitude(matrices, weights) for weights in (before, after))
    labelled(movement.draw_difference(movement.difference_table(one, other)))


def test_features_and_losses_at_every_sparsity(studies, labelled):
    study, recipe = studies["bert"], RECIPES["weights"]
    batches = make_batches(study.calibration, range(8))
    table = features.table(study.model, lambda s: study.pruned(recipe, s), batches, (0.0, 0.5))
    assert (
        table[table["sparsity"] == 0.5]["cosine"].tolist()
        == similarity(study.model, study.pruned(recipe, 0.5), batches).tolist()
    )
    assert table[table["sparsity"] == 0]["cosine"].tolist() == pytest.approx([1, 1, 1]) and table["layer"].max() == 2
    labelled(features.draw(table))
    found = losses.table(lambda s: study.pruned(recipe, s), study.question, (0.0, 0.7))
    asked = loss_and_score(study.pruned(recipe, 0.7), study.question)
    assert found.iloc[1][["loss", "value", "low"]].tolist() == [asked.loss, asked.score.value, asked.score.low]
    assert found["value"].iloc[0] == study.score(recipe, 0).value and found["loss"].iloc[1] > found["loss"].iloc[0]
    figure = losses.draw(found)
    labelled(figure)
    assert list(figure.data[0].text) == ["0 %", "70 %"]


def test_masked_words_at_every_sparsity(labelled):
    torch.manual_seed(0)
    model = tiny.build("bert", "ForMaskedLM", vocab_size=420, **tiny.sizes("bert", 32, 56, 2), initializer_range=0.25)
    texts, tok, matrices = tiny.sentences(20, seed=2), tiny.tokenizer("bert"), find_matrices(model)
    ranking = by_magnitude(matrices, views(model, matrices))
    table = losses.masked_lm_table(lambda s: masked(model, matrices, ranking.masks(s)), tok, texts, (0.0, 0.9), seed=3)
    without = tiny.build("bert", "ForMaskedLM", **model.config.to_diff_dict())
    without.load_state_dict(model.state_dict())
    for matrix in matrices:
        weight = without.get_submodule(matrix.path).weight.data
        weight.view(-1)[weight.abs().view(-1).argsort(stable=True)[: round(0.9 * matrix.size)]] = 0
    assert table["loss"].tolist() == [masked_lm_loss(one, tok, texts, seed=3) for one in (model, without)]
    assert table["loss"].nunique() == 2
    labelled(losses.draw_loss(table))


def test_the_loss_of_tokens_is_drawn_by_sparsity_since_perplexity_is_exp_of_it(labelled):
    rows = {"sparsity": [0.0, 0.5], "loss": [3.0, 4.0], "metric": "perplexity", "value": np.exp([3.0, 4.0])}
    figure = losses.draw(pd.DataFrame(rows).assign(low=1.0, high=99.0, n=10))
    labelled(figure)
    (line,) = figure.data
    assert list(line.x) == [0, 50] and list(line.y) == [3, 4] and "nats" in figure.layout.yaxis.title.text
