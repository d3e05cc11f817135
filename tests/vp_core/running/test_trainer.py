"""The methods in a real transformers Trainer: what our own loop makes of the same batches, and what does not go together."""

import copy

import pytest
import tiny
import torch
from trainers import SHORT, InOrder, arguments, dropping_model, examples, padded, plain_model, trainer
from trainings import lessons
from transformers import AutoModelForSequenceClassification, TrainerCallback

from vp_core.gradual.cuts import Cuts
from vp_core.gradual.rows import GradualRows
from vp_core.gradual.weights import GradualWeights
from vp_core.ground.errors import VPError
from vp_core.movement import prune as movement
from vp_core.movement.ramp import Ramp
from vp_core.running.trainer import MagnitudePruning, MovementPruning, Pruning, VariancePruning
from vp_core.running.trainer_state import FILE
from vp_core.squeezing.folder import load_pruned, save_pruned
from vp_core.training.callbacks import Callback
from vp_core.training.checkpoint import Saved
from vp_core.training.held import count_single
from vp_core.training.loop import train, training

CUTS = (3, 3, 0.2, 0.6)
SHAPES = {"ramp": Ramp(0.2, 0.3)}
METHODS = {
    "variance": (lambda: GradualRows(Cuts(*CUTS)), lambda: VariancePruning(*CUTS)),
    "random": (lambda: GradualRows(Cuts(*CUTS), "random"), lambda: VariancePruning(*CUTS, criterion="random")),
    "magnitude": (lambda: GradualWeights(Cuts(*CUTS, "cubic")), lambda: MagnitudePruning(*CUTS)),
    "deletion": (lambda: GradualWeights(Cuts(*CUTS, "cubic"), free=True), lambda: MagnitudePruning(*CUTS, free=True)),
    "movement": (
        lambda: movement.LearnedMasks.of("movement", until=0.6, **SHAPES),
        lambda: MovementPruning("movement", until=0.6, **SHAPES),
    ),
    "hybrid": (
        lambda: movement.LearnedMasks.of("hybrid", threshold=0.45, strength=1.0, lr=0.1, **SHAPES),
        lambda: MovementPruning("hybrid", threshold=0.45, strength=1.0, lr=0.1, **SHAPES),
    ),
}


def by_our_loop(callback, model=None, **more):
    model = model or plain_model()
    train(model, lessons(), SHORT, callbacks=[callback], **more)
    return model


def by_a_trainer(callback, folder, model=None, **more):
    made = trainer(model or plain_model(), callback, folder, **more)
    made.train()
    return made.model.cpu().eval()


def close(one, other, tolerance=2e-4):
    """Whether all weights agree to rounding, by the distance they have moved."""
    start, moved = dict(plain_model().named_parameters()), 0.0
    named = dict(other.named_parameters())
    assert named.keys() == dict(one.named_parameters()).keys()
    for name, p in one.named_parameters():
        assert torch.equal(p == 0, named[name] == 0), name
        assert (p - named[name]).abs().max() <= tolerance * (p - start[name]).abs().max() + 1e-6, name
        moved += (p - start[name]).abs().sum().item()
    return moved > 10


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("method", METHODS)
def test_equal_batches_give_equal_masks(tmp_path, method, accumulate):
    ours, theirs = (make() for make in METHODS[method])
    model = by_our_loop(ours)
    other = by_a_trainer(theirs, tmp_path, accumulate=accumulate)
    assert close(other, model)
    assert theirs.removed() == ours.removed() and max(ours.removed().values()) > 0.3
    assert theirs.cuts() == ours.cuts() and len(ours.cuts()) >= 3
    small = theirs.squeezed()
    batch = {k: v for k, v in padded(examples(lessons(), SHORT)[:8]).items() if k != "labels"}
    assert tiny.distance(tiny.logits(small, batch), tiny.logits(other, batch)) < 1e-5
    assert tiny.sha(load_pruned(save_pruned(small, tmp_path / "small"))) == tiny.sha(small)
    assert not list(tmp_path.glob("checkpoint*")) and tiny.hooks(other) == 0


def test_clipping_counts_what_stays_only(tmp_path):
    """The first 6 steps after a cut would be shorter if gradients of what is gone counted: this is seen in the weights."""
    norms = []

    class Norm(Callback):
        def after_backward(self, run):
            norms.append(torch.nn.utils.get_total_norm([p.grad for p in run.model.parameters() if p.grad is not None]).item())

    by_our_loop(Norm())
    assert max(norms[3:]) > 1.5  # they are clipped
    made = trainer(plain_model(), VariancePruning(*CUTS), tmp_path)
    made.train()
    assert made.args.max_grad_norm == 1.0 and type(made.args.max_grad_norm) is float


def test_meters_see_training_only_and_no_padding(tmp_path):
    """With an evaluation after each step, and one before the first."""
    ours, theirs = GradualRows(Cuts(4, 4, 0.1, 0.2)), VariancePruning(4, 4, 0.1, 0.2)
    model, tokens = plain_model(), []

    class Tokens(Callback):
        def before_step(self, run):
            tokens.append(ours.meters.tokens)

    train(model, lessons(), SHORT, callbacks=[ours, Tokens()])
    seen = []

    class Seen(TrainerCallback):
        def on_step_begin(self, args, state, control, **given):
            seen.append(theirs.pruner.meters.tokens)

    other = by_a_trainer([theirs, Seen()], tmp_path, eval_strategy="steps", eval_steps=1, eval_on_start=True)
    assert seen == tokens and max(tokens) > 100
    assert theirs.removed() == ours.removed() and close(other, model)


class Towards(Callback):
    """A penalty on weights that the Trainer's own optimiser moves."""

    def penalty(self, run, inputs):
        assert set(inputs) == {"input_ids", "attention_mask"}
        return (
            0.3 * run.model.classifier.weight.square().sum()
            + 0.1 * run.model.bert.encoder.layer[0].output.dense.weight.abs().sum()
        )


@pytest.mark.parametrize("accumulate", [1, 4])
@pytest.mark.parametrize("kind", ["plain", "smoothed", "own loss"])
def test_a_penalty_has_its_whole_gradient(tmp_path, accumulate, kind):
    """Once a step, whatever the number of passes, and whether the loss is the model's own or made of its outputs."""
    more = {}
    if kind == "smoothed":
        more["label_smoothing_factor"] = 1e-12
    if kind == "own loss":

        class Own(InOrder):
            def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
                labels = inputs.pop("labels")
                model(**inputs)  # one that has no part in the loss
                return torch.nn.functional.cross_entropy(model(**inputs).logits, labels)

        more["kind"] = Own
    ours, made = by_our_loop(Towards()), trainer(plain_model(), Pruning(Towards()), tmp_path, accumulate=accumulate, **more)
    if kind == "smoothed":
        made.loss_is_scaled_for_ga = True  # by the number of labels in all passes
    made.train()
    assert not close_or_not(ours, by_our_loop(Callback()))
    assert close(made.model, ours)


def close_or_not(one, other):
    return all(torch.allclose(p, q, atol=1e-3) for p, q in zip(one.parameters(), other.parameters(), strict=True))


def test_the_penalty_is_gone_after_the_training(tmp_path):
    model = by_a_trainer(Pruning(Towards()), tmp_path)
    assert tiny.hooks(model) == 0


@pytest.mark.parametrize("method", METHODS)
def test_gone_on_with_from_a_checkpoint(tmp_path, method):
    """With dropout: to the same bits as without a stop."""
    whole = trainer(dropping_model(), METHODS[method][1](), tmp_path / "a", save_strategy="steps", save_steps=4)
    whole.train()
    again = METHODS[method][1]()
    (tmp_path / "a" / "checkpoint-12").rename(tmp_path / "last")
    other = trainer(dropping_model(seed=7), again, tmp_path / "a", save_strategy="steps", save_steps=4)
    before = {}
    if method == "variance":
        before = {"model": tiny.sha(other.model)}
    other.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-4"))
    assert before.get("model") != tiny.sha(other.model)
    assert tiny.sha(other.model) == tiny.sha(whole.model)
    first = next(one for one in whole.callback_handler.callbacks if isinstance(one, Pruning))
    assert again.removed() == first.removed() and again.cuts() == first.cuts()


def test_gone_on_with_elsewhere(tmp_path):
    whole = trainer(dropping_model(), METHODS["movement"][1](), tmp_path / "a", save_strategy="steps", save_steps=4)
    whole.train()
    place = (tmp_path / "a" / "checkpoint-8").rename(tmp_path / "moved")
    callback = MovementPruning("movement", until=0.6, **SHAPES, resumed_from=place)
    other = trainer(dropping_model(), callback, tmp_path / "b")
    other.train(resume_from_checkpoint=str(place))
    assert tiny.sha(other.model) == tiny.sha(whole.model)


@pytest.mark.parametrize("method", ["variance", "movement", "hybrid"])
def test_a_checkpoint_is_a_plain_model(tmp_path, method):
    """Masked as it was at that step, whatever stands in for weights while it trains; transformers misses nothing in it."""
    seen = []

    class See(TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **given):
            if state.global_step == 8:
                model.eval()
                seen.append(tiny.logits(model, batch))
                model.train()

    batch = {k: v for k, v in padded(examples(lessons(), SHORT)[:8]).items() if k != "labels"}
    by_a_trainer([METHODS[method][1](), See()], tmp_path, save_strategy="steps", save_steps=4)
    model, info = AutoModelForSequenceClassification.from_pretrained(tmp_path / "checkpoint-8", output_loading_info=True)
    assert not any(info[what] for what in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert torch.equal(tiny.logits(model.eval(), batch), seen[0])
    assert count_single(model) > 100 or method != "movement"


def test_what_was_zero_is_held_and_not_what_a_resumed_model_has_lost_since(tmp_path):
    model = plain_model()
    with torch.no_grad():
        model.bert.encoder.layer[0].output.dense.weight[:, :3] = 0
        model.bert.encoder.layer[0].output.dense.weight[5] = 0
    bias = model.bert.encoder.layer[0].output.dense.bias[5].item()
    callback = VariancePruning(*CUTS)
    trained = by_a_trainer(callback, tmp_path, copy.deepcopy(model), save_strategy="steps", save_steps=4)
    dense = trained.bert.encoder.layer[0].output.dense
    assert not dense.weight[:, :3].any() and not dense.weight[5].any() and dense.bias[5].item() in (bias, *[bias])
    with pytest.raises(VPError, match="Make the Trainer with the model that the training began from"):
        trainer(plain_model(), VariancePruning(*CUTS), tmp_path).train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))


# what does not go together ----------------------------------------------------------------------------------------------------


def refused(says, call):
    with pytest.raises(VPError, match=says) as raised:
        call()
    assert "\n" not in str(raised.value) and str(raised.value).endswith(".")


@pytest.mark.parametrize(
    ("others", "says"),
    [
        ({"load_best_model_at_end": True, "save_strategy": "steps", "eval_strategy": "steps", "save_steps": 4, "eval_steps": 4},
         "before the last cut"),
        ({"torch_compile": True}, "torch_compile"),
    ],
)  # fmt: skip
def test_settings_of_a_trainer(tmp_path, others, says):
    refused(says, lambda: trainer(plain_model(), VariancePruning(*CUTS), tmp_path, **others))


def test_cuts_after_the_end(tmp_path):
    refused("last cut would be made at step 2,500", lambda: trainer(plain_model(), VariancePruning(), tmp_path))
    by_epochs = trainer(plain_model(), VariancePruning(), tmp_path, max_steps=-1, num_train_epochs=1)
    refused("ends after 12 steps", by_epochs.train)
    learned = trainer(
        plain_model(), MovementPruning(until=0.5, ramp=Ramp(0.5, 0.49)), tmp_path, max_steps=-1, num_train_epochs=0.1
    )
    refused("train longer", learned.train)


def test_a_callback_that_came_late_or_again(tmp_path):
    late = trainer(plain_model(), [], tmp_path)
    late.add_callback(VariancePruning(*CUTS))
    refused(r"Give VariancePruning to Trainer\(callbacks=", late.train)
    made = trainer(plain_model(), VariancePruning(*CUTS), tmp_path)
    made.train()
    refused("has been through a training", made.train)


def test_two_of_them(tmp_path):
    both = trainer(plain_model(), [VariancePruning(*CUTS), MagnitudePruning(*CUTS)], tmp_path)
    refused("one pruning callback", both.train)


def test_squeezing_meanwhile():
    refused("keeps the shapes", lambda: VariancePruning(*CUTS, squeezed="each"))


def test_nothing_to_say_before_the_training():
    refused("has not begun", VariancePruning(*CUTS).squeezed)


def test_another_state_is_refused(tmp_path):
    made = trainer(dropping_model(), VariancePruning(*CUTS), tmp_path, save_strategy="steps", save_steps=4)
    made.train()
    place = tmp_path / "checkpoint-4"

    def resumed(callback, **others):
        return lambda: trainer(dropping_model(), callback, tmp_path, **others).train(resume_from_checkpoint=str(place))

    refused("is of another training", resumed(MagnitudePruning(*CUTS)))
    refused("is of another training", resumed(VariancePruning(*CUTS), max_steps=16))
    (place / FILE).write_bytes((place / FILE).read_bytes()[:300])
    refused("cannot be read", resumed(VariancePruning(*CUTS)))
    (place / FILE).unlink()
    refused(f"There is no {FILE}", resumed(VariancePruning(*CUTS)))


def test_a_gradient_that_is_no_number(tmp_path):
    class Spoilt(Callback):
        def after_backward(self, run):
            if run.step == 5:
                run.model.classifier.weight.grad[0, 0] = float("inf")

    made = trainer(plain_model(), Pruning(Spoilt()), tmp_path)
    refused("gradient is NaN or infinite at step 6", made.train)
    assert all(torch.isfinite(p).all() for p in made.model.parameters())


def test_after_a_failure_the_norm_to_clip_by_is_still_known(tmp_path):
    class Fails(Callback):
        def watching(self, run, inputs):
            raise ZeroDivisionError

    made = trainer(plain_model(), Pruning(Fails()), tmp_path)
    with pytest.raises(ZeroDivisionError):
        made.train()
    ours = GradualRows(Cuts(*CUTS))
    model = by_our_loop(ours)
    again = trainer(plain_model(), VariancePruning(*CUTS), tmp_path)
    again.args.max_grad_norm = made.args.max_grad_norm
    again.train()
    assert close(again.model, model) and again.args.max_grad_norm == 1.0


def test_our_own_loop_keeps_the_same_state(tmp_path):
    """What `Pruning` restores is what a checkpoint of our loop has."""
    ours = GradualRows(Cuts(*CUTS))
    job = training(plain_model(), lessons(), SHORT, callbacks=[ours], saved=Saved(tmp_path, {}))
    for run in job:
        if run.step == 8:
            break
    job.close()
    theirs = VariancePruning(*CUTS)
    made = trainer(plain_model(), theirs, tmp_path, save_strategy="steps", save_steps=8)
    made.train()
    assert made.state.global_step == 12


# other models -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["variance", "movement"])
@pytest.mark.parametrize("family", ["distilbert", "gpt2", "llama"])
def test_other_families(tmp_path, family, method):
    """One module for query, key and value; maps without a bias, which get one, and a gate."""
    ours, theirs = (make() for make in METHODS[method])
    model = by_our_loop(ours, plain_model(family=family))
    other = trainer(plain_model(family=family), theirs, tmp_path, save_strategy="steps", save_steps=4)
    other.train()
    assert theirs.removed() == ours.removed() and max(ours.removed().values()) > 0.3
    named = dict(other.model.named_parameters())
    for name, p in model.named_parameters():
        torch.testing.assert_close(named[name], p, rtol=1e-3, atol=1e-6, msg=name)
    again = METHODS[method][1]()
    resumed = trainer(plain_model(3, family=family), again, tmp_path)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-8"))
    assert tiny.sha(resumed.model) == tiny.sha(other.model) and again.cuts() == theirs.cuts()


@pytest.mark.parametrize("method", ["variance", "movement"])
def test_masked_words(tmp_path, method):
    """Pre-training: labels as wide as the texts, and an output matrix that is the embeddings'."""
    torch.manual_seed(0)
    sizes = tiny.sizes("bert", 32, 40, 2) | {"vocab_size": 60, "pad_token_id": 0}
    model, rows = tiny.build("bert", "ForMaskedLM", **sizes), []
    for row in examples(lessons(), SHORT):
        ids = row["input_ids"]
        rows.append({"input_ids": [4, *ids[1:]], "labels": [ids[0], *[-100] * (len(ids) - 1)]})

    def together(some):
        found = padded([{**row, "labels": 0} for row in some])
        width = found["input_ids"].shape[1]
        return found | {"labels": torch.tensor([row["labels"] + [-100] * (width - len(row["labels"])) for row in some])}

    callback = METHODS[method][1]()
    made = InOrder(model, arguments(tmp_path), train_dataset=rows, data_collator=together, callbacks=[callback])
    made.train()
    assert max(callback.removed().values()) > 0.3
    if method == "variance":
        assert callback.removed()["0.query"] == pytest.approx(0.6, abs=0.35)
    small, batch = callback.squeezed(), {k: v for k, v in together(rows[:8]).items() if k != "labels"}
    assert tiny.distance(tiny.logits(small, batch), tiny.logits(made.model.eval(), batch)) < 1e-5


def test_bfloat16(tmp_path):
    callback = VariancePruning(*CUTS)
    model = by_a_trainer(callback, tmp_path, dropping_model(), bf16=True)
    assert max(callback.removed().values()) > 0.3 and all(torch.isfinite(p).all() for p in model.parameters())
