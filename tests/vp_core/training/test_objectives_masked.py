"""The loss of masked words in training: transformers' own loss, gradients too, and what is masked when."""

from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
from gradual_runs import QUICK, Each, trained

from vp_core.asking.batches import encode, make_batches
from vp_core.asking.words.masking import mask_batch
from vp_core.comparing.masked_lm import masked_lm_loss
from vp_core.gradual.cuts import Cuts
from vp_core.gradual.rows import GradualRows
from vp_core.ground.errors import VPError
from vp_core.training.objectives import MaskedWords

TEXTS = tiny.sentences(40, seed=6, longest=20)


def model_of(family, **settings):
    torch.manual_seed(0)
    sizes = tiny.sizes(family, 32, 40, 2) | tiny.NO_DROPOUT | {"vocab_size": 420, "initializer_range": 0.1} | settings
    return tiny.build(family, "ForMaskedLM", **sizes).requires_grad_(True)


def words(family="bert"):
    tokenizer = tiny.tokenizer(family)
    return MaskedWords(encode(tokenizer, [(text,) for text in TEXTS], 32), tokenizer, seed=7)


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "albert", "electra", "deberta-v2", "mpnet", "modernbert"])
def test_the_loss_and_its_gradients_are_those_of_transformers(family):
    """Which predicts every word, masked or not; of ours only the masked ones' states go through the head."""
    objective, seen = words(family), []
    batch = make_batches(objective.data, range(8), 10**6)[0]
    grads = []
    for own in (True, False):
        model = model_of(family)
        if own:

            def ask(inputs, model=model):
                found = model(**inputs)
                seen.append(found.logits.shape)
                return found

            loss = objective.loss(model, batch, ask, 5)
            assert tiny.hooks(model) == 0
        else:
            masked = mask_batch(objective.tokenizer, objective.data, batch, 0.15, (7, 5))
            labels = torch.full_like(batch.inputs["input_ids"], -100)
            labels[masked.rows, masked.columns] = batch.inputs["input_ids"][masked.rows, masked.columns]
            loss = model(**masked.batch.inputs, labels=labels).loss
        loss.backward()
        grads.append({name: p.grad for name, p in model.named_parameters()} | {"loss": loss.detach()})
    assert len(seen[0]) == 2 and seen[0][0] == int((labels >= 0).sum())
    mine, theirs = grads
    for name, gradient in theirs.items():
        assert (gradient is None) == (mine[name] is None), name
        if gradient is not None:
            torch.testing.assert_close(mine[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def test_what_is_masked_depends_on_seed_step_and_text_alone():
    objective = words()
    given = []

    class Seen(Exception):
        """Enough was seen."""

    def ask(inputs):
        given.append(inputs["input_ids"])
        raise Seen

    def inputs(examples, step, objective=objective):
        (batch,) = make_batches(objective.data, examples, 10**6)
        with pytest.raises(Seen):
            objective.loss(model, batch, ask, step)
        return dict(zip(batch.examples.tolist(), given.pop().tolist(), strict=True))

    model = model_of("bert")
    some, again, other = inputs(range(8), 3), inputs(range(8), 3), inputs(range(8), 4)
    assert some == again != other
    alone = inputs([5], 3)[5]
    assert some[5][: len(alone)] == alone
    assert inputs(range(8), 3, replace(objective, seed=8)) != some
    share = np.mean([token == objective.tokenizer.mask_token_id for row in some.values() for token in row if token])
    assert 0.05 < share < 0.2


def test_it_learns_to_predict():
    """And rows may go meanwhile: what is left still learns."""
    objective, losses = words(), []
    model, pruner = model_of("bert"), GradualRows(Cuts(10, 10, 0.1, 0.3))
    before = masked_lm_loss(model.eval(), objective.tokenizer, TEXTS, max_length=32)
    trained(model, [pruner, Each(lambda run: losses.append(run.loss))], replace(QUICK, epochs=20), objective)
    after = masked_lm_loss(model, objective.tokenizer, TEXTS, max_length=32)
    assert after < before - 1 and np.mean(losses[-10:]) < np.mean(losses[:10]) - 1
    assert pruner.plan().rows_removed == 5 * 19 + 24  # of 64 rows of five types, and of 80
    small = pruner.compact(model.eval().requires_grad_(False))
    assert masked_lm_loss(small, objective.tokenizer, TEXTS, max_length=32) == pytest.approx(after, rel=1e-4)


def test_another_model_is_refused():
    objective = words()
    model = tiny.classifier("bert")
    (batch,) = make_batches(objective.data, range(2), 10**6)
    with pytest.raises(VPError, match=r"predicts no masked words.*\.$"):
        objective.loss(model, batch, lambda inputs: model(**inputs), 0)
