"""The tables of the page Weights: each is the work of a job, whose last item has all that were made by then."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import pandas as pd
from torch import Tensor

from analysis.weights import features, heads, heat, losses, movement, removed, spread
from analysis.weights.tables import sparsities_of
from vp_core.asking.batches import make_batches
from vp_core.comparing.movement import movements
from vp_core.ground.errors import VPError
from vp_core.ground.names import WORD_EMBEDDINGS
from vp_core.ground.work import say
from vp_core.recipes import RECIPES, Recipe
from vp_core.study import Study
from vp_core.weights.matrices import find_matrices, view
from vp_core.weights.order import WeightRanking

Tables = dict[str, pd.DataFrame]
"""By the module of `analysis.weights` that draws it."""


def recipe_of_weights(recipe: Recipe) -> Recipe:
    """The recipe, if it is of single weights; else the one that Compressing BERT prunes by."""
    return recipe if recipe.pattern else RECIPES["weights"]


def tables_of_weights(study: Study, recipe: Recipe) -> Iterator[Tables]:
    """What weights alone say: their spread, Σ|w| that goes, shares of heads, and the map of the word embeddings."""
    ranking = study.weights().ranking(recipe)
    weights = _weights(study, ranking)
    say("looking at the weights of each matrix")
    made: Tables = {"spread": spread.table(ranking.matrices, weights)}
    yield dict(made)
    say("adding up the magnitudes that go")
    made["removed"] = removed.table(ranking, weights)
    yield dict(made)
    if any(matrix.head_width for matrix in ranking.matrices):
        say("counting what each head loses")
        made["heads"] = heads.table(ranking)
        yield dict(made)
    say("looking at the word embeddings")
    try:
        (words,) = find_matrices(study.model, (WORD_EMBEDDINGS,))
    except VPError:  # a model without text
        return
    made["embeddings"] = heat.embedding_table(view(study.model, words).cpu(), study.loaded.tokenizer)
    yield dict(made)


def tables_of_answers(study: Study, recipe: Recipe) -> Iterator[Tables]:
    """Features and losses at one sparsity after the other."""
    batches = make_batches(study.calibration, np.arange(len(study.calibration)))
    made: Tables = {}
    for sparsity in sparsities_of(study.weights().ranking(recipe)):
        say(f"asking the model at {sparsity:.0%}")
        at = partial(study.pruned, recipe)
        new = {
            "features": features.table(study.model, at, batches, (sparsity,)),
            "losses": losses.table(at, study.question, (sparsity,)),
        }
        made = {name: pd.concat([made[name], part], ignore_index=True) if made else part for name, part in new.items()}
        yield made


def tables_of_two(study: Study, other: Study, recipe: Recipe) -> Iterator[Tables]:
    """How far the masks of two models differ, and how far weights moved from the other's to this one's."""
    one, beside = (each.weights().ranking(recipe) for each in (study, other))
    say("laying the masks over each other")
    made: Tables = {"difference": movement.difference_table(one, beside)}
    yield dict(made)
    say("sorting the weights of both models")
    moved = movements(one.matrices, _weights(other, one), _weights(study, one))
    made |= {"movement": movement.movement_table(one.matrices, moved), "start": movement.start_table(one.matrices, moved)}
    yield dict(made)


def _weights(study: Study, ranking: WeightRanking) -> dict[str, Tensor]:
    return {matrix.name: view(study.model, matrix).cpu() for matrix in ranking.matrices}
