"""What a tagger loses when units of one layer go, against a plain loop over words; and `best` from first to last."""

from dataclasses import replace

import numpy as np
import pytest
import taggers
import tiny
import torch

from vp_core.asking.tagging.aligned import align
from vp_core.carry_out import Stage
from vp_core.measuring.layerwise import Walk
from vp_core.measuring.measured import Measured
from vp_core.model.families import families_for
from vp_core.model.units import unit_groups
from vp_core.ranking import allocation
from vp_core.ranking.allocation import counts
from vp_core.recipes import RECIPES, Recipe
from vp_core.squeezing.cost import cost
from vp_core.squeezing.squeeze import squeeze

pytestmark = pytest.mark.usefixtures("exact_norms")
KINDS = ("ffn neurons", "values")


def staged(family, n=12):
    words = [words for words, _ in taggers.tagged(n, 1)]
    return Stage(Measured(taggers.tagger(family), align(tiny.tokenizer(family), words, 32), "m", "d")), words


@pytest.mark.parametrize("family", ["bert", "deberta-v2", "t5"])
def test_a_measured_loss_is_that_of_a_plain_loop(family):
    one, words = staged(family)
    model, tok = one.measured.model, tiny.tokenizer(family)
    recipe = Recipe(units=KINDS, replacement="mean", scope="measured", budget="parameters", criterion="weighted variance")
    own, groups = one.ranking(replace(recipe, scope="per layer")), unit_groups(one.measured.layers, KINDS)

    def without(group, n):
        return one.closed_form(recipe, own.only(group.name, n), {group.name: n})

    def plain(other):
        total, number = 0.0, 0
        for spoken in words:
            inputs = tok(spoken, is_split_into_words=True, return_tensors="pt")
            ids = inputs.word_ids(0)
            places = [ids.index(word) for word in range(len(spoken))]
            with torch.no_grad():
                p, q = (m(**inputs).logits[0, places].double().log_softmax(1).numpy() for m in (model, other))
            total, number = total + (np.exp(p) * (p - q)).sum(), number + len(places)
        return total / number

    before = tiny.sha(model)
    found = dict(allocation.measure_losses(Walk(model, one.measured.some_batches(64)), groups, without))
    for group in groups:
        losses = found[group.name]
        assert losses.removed.tolist() == [0, *counts(len(group))] and losses.loss[0] == 0
        for n, loss in list(zip(losses.removed, losses.loss, strict=True))[1::3]:
            assert loss == pytest.approx(plain(without(group, int(n))), rel=2e-3, abs=2e-6)
    assert (tiny.sha(model), tiny.hooks(model)) == (before, 0)


@pytest.mark.parametrize("family", [family for family in families_for("tags") if family != "albert"])
@pytest.mark.parametrize("name", ["best", "best refit"])
def test_best_of_a_tagger(family, name):
    """What can go goes, to the share that is asked; the smaller model says the same."""
    one, _ = staged(family)
    recipe = RECIPES[name]
    pruned, plan = one.pruned(recipe, 0.3), one.plan(recipe, 0.3)
    assert cost(one.measured.layers, plan).share_removed == pytest.approx(0.3, abs=0.03)
    given = tiny.inputs(family, torch.float32)
    assert tiny.distance(tiny.logits(squeeze(pruned, plan), given), tiny.logits(pruned, given)) < 1e-4
