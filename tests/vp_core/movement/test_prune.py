"""Movement pruning in a training: exact shares, the penalty by hand, compacted = masked, resumed = unbroken, it learns."""

import copy
from dataclasses import replace

import learned
import numpy as np
import pytest
import tiny
import torch
from accelerate import Accelerator
from learned import QUICK, at_once, lessons, model_of, pruning, trained
from scipy.special import expit

from vp_core.asking.evaluate import score
from vp_core.ground.errors import VPError
from vp_core.loading.load import load_model
from vp_core.model.projections import find_layers
from vp_core.movement.fill import heads_left
from vp_core.movement.prune import LearnedMasks
from vp_core.movement.ramp import Ramp
from vp_core.movement.shapes import Shapes
from vp_core.squeezing.cost import parameters
from vp_core.squeezing.folder import save_pruned
from vp_core.training.callbacks import Callback, Run
from vp_core.training.checkpoint import Saved
from vp_core.training.loop import train, training
from vp_core.weights.matrices import find_matrices, view

WEIGHTS = 2 * (4 * 32 * 32 + 2 * 32 * 40)
"""Of the tiny model's encoder."""
SHAPES = [
    Shapes("weights", "weights"),
    Shapes("blocks 8x8", "dim"),
    Shapes("heads", "dim"),
    Shapes("blocks 12x5", "blocks 7xall"),
]


class Watched(Callback):
    """What a training's masks were before each step."""

    def __init__(self, other):
        self.other, self.shares = other, []

    def before_step(self, run):
        self.shares.append(self.other.sparsity)


@pytest.mark.parametrize("scope", ["global", "per part"])
@pytest.mark.parametrize("shapes", SHAPES)
def test_shares_are_exact_to_one_unit(shapes, scope):
    """At every step the share of the ramp is gone, and no further unit would have fitted in."""
    callback = pruning(shapes, until=0.6, scope=scope, ramp=Ramp(0.2, 0.25))
    watched = Watched(callback)
    model = model_of()
    train(model, lessons(), QUICK, callbacks=[callback, watched])
    largest = max(int(one.group.sizes.max()) for one in callback.scores.units) * (2 if scope == "per part" else 1)
    for step, share in enumerate(watched.shares):
        x = min(1.0, max(0.0, (step - 2) / (9 - 2)))
        wanted = 0.6 * (1 - (1 - x) ** 3)
        assert wanted * WEIGHTS - largest <= share * WEIGHTS <= wanted * WEIGHTS + 1, step
    matrices = find_matrices(model)
    zeros = sum(int((view(model, matrix) == 0).sum()) for matrix in matrices)
    assert zeros == callback.masks().weights_removed == round(callback.sparsity * WEIGHTS)
    for matrix in matrices:
        assert torch.equal(view(model, matrix) != 0, callback.masks().keep(matrix.name))
        assert callback.removed()[matrix.name] == pytest.approx((view(model, matrix) == 0).double().mean().item())


def test_rows_of_what_went_when():
    callback = pruning(Shapes("blocks 8x8", "dim"), ramp=Ramp(0.2, 0.25))
    told = []
    trained(callback, tell=told.append)
    rows = callback.cuts()
    assert [row["step"] for row in rows] == list(range(3, 10))
    assert rows == [{"step": row["step"], "sparsity": row["sparsity"], "removed": row["removed"]} for row in rows]
    assert [row["sparsity"] for row in rows] == sorted(row["sparsity"] for row in rows)
    assert rows[-1]["removed"] == callback.removed() and rows[-1]["sparsity"] == callback.sparsity
    left = int(torch.cat(list(heads_left(callback.layers, callback.masks()).values())).sum())
    assert told == [
        f"masks are fixed: {callback.sparsity:.1%} of the encoder's linear parameters are gone, {left} of 8 heads are left"
    ]


def test_a_threshold_by_hand():
    """σ(S) > τ·ramp stays; the penalty is λ_att·mean σ + λ_ffn·mean σ, its gradient σ(1 − σ) times the factor."""
    callback = pruning(Shapes("blocks 8x8", "dim"), threshold=0.4, strength=3.0, ratio=0.25, ramp=Ramp(0.0, 0.0))
    model = model_of()
    run = Run(model, 10, Accelerator())
    callback.prepare(model, 10)
    draw = torch.Generator().manual_seed(0)
    for one in callback.scores.units:
        one.score.data.copy_(torch.randn(one.score.shape, generator=draw))
    run.step = 5
    callback.after_step(run)
    done = 1 - 0.5**3
    scores = {part: [one for one in callback.scores.units if one.group.part == part] for part in ("attention", "ffn")}
    for one in callback.scores.units:
        np.testing.assert_array_equal(one.keep.numpy(), expit(one.score.detach().double().numpy()) > 0.4 * done)
    values = {part: expit(torch.cat([u.score.detach() for u in of]).double().numpy()) for part, of in scores.items()}
    assert len(values["attention"]) == 2 * 4 * 16 and len(values["ffn"]) == 2 * 40
    penalty = callback.penalty(run, {})
    assert penalty.item() == pytest.approx(done * 3 * (0.25 * values["attention"].mean() + values["ffn"].mean()), rel=1e-6)
    penalty.backward()
    for part, factor in (("attention", 0.75), ("ffn", 3.0)):
        found = torch.cat([one.score.grad for one in scores[part]])
        s = values[part]
        np.testing.assert_allclose(found, done * factor / len(s) * s * (1 - s), rtol=1e-5)


def test_the_ratio_is_by_size_and_a_decoder_counts_as_often_as_it_is_told():
    model = tiny.transformer("bart", dtype=torch.float32)
    callback = pruning(Shapes("heads", "dim"), threshold=0.1, strength=2.0, decoder=2.0)
    callback.prepare(model, 10)
    attention, ffn = 6 * 4 * 48 * 48, 4 * 2 * 48 * 56
    for one, factor in zip(callback.scores.units, callback._factors, strict=True):
        part = 2 * attention / ffn / (6 * 4) if one.group.part == "attention" else 2 / (4 * 56)
        assert factor == pytest.approx(part * (2 if one.group.name[0] in "2345" else 1)), one.group.name


def test_the_decoder_of_bart_loses_more_when_it_weighs_twice():
    """It runs, it compacts, and twice the weight on the decoder takes more of it."""
    gone = []
    for decoder in (1.0, 4.0):
        callback = pruning(Shapes("blocks 8x8", "dim"), threshold=0.3, strength=2.0, decoder=decoder, lr=0.3)
        model = trained(callback, "bart", replace(QUICK, epochs=3))
        gone.append(np.mean([share for name, share in callback.removed().items() if int(name[0]) >= 2]))
        given = {k: v for k, v in tiny.inputs("bart").items() if k != "decoder_input_ids"}
        given["input_ids"] = torch.where(given["input_ids"] > 40, 7, given["input_ids"])
        given["input_ids"][:, 3] = 2
        small = callback.compact(model.double())
        assert tiny.distance(tiny.logits(small, given), tiny.logits(model, given)) < 1e-10
    assert gone[1] > gone[0] > 0


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("family", ["bert", "gpt2", "distilbert", "albert", "llama", "modernbert", "deberta-v2", "t5", "bart"])
def test_compacted_is_masked(family, shapes):
    """In float64 the same outputs to 1e-10, from fewer parameters where something is wholly gone."""
    callback = pruning(shapes, until=0.6)
    model = tiny.transformer(family)
    before = tiny.logits(model, tiny.inputs(family))
    run = at_once(callback, model)
    on = tiny.logits(model, tiny.inputs(family))
    callback.end(run)
    masked = tiny.logits(model, tiny.inputs(family))
    assert tiny.distance(masked, on) == 0 and tiny.distance(masked, before) > 1e-3
    small = callback.compact(model)
    assert tiny.distance(tiny.logits(small, tiny.inputs(family)), masked) < 1e-10
    assert small.squeezed.cost.parameters_left <= (1 - callback.sparsity) * small.squeezed.cost.parameters + 1
    if shapes.ffn == "dim" and family != "t5":  # its heads keep their places
        assert parameters(small) < parameters(model)


@pytest.mark.parametrize("fill", [None, "uniform"])
@pytest.mark.parametrize("stop", [1, 4, 7, 8, 9, 11])
def test_killed_and_resumed_is_unbroken(tmp_path, stop, fill):
    """At any step: before the ramp, on it, where masks become fixed, behind it."""

    def made():
        return LearnedMasks(Shapes("blocks 8x8", "dim"), until=0.5, lr=0.1, fill=fill, ramp=Ramp(0.2, 0.35))

    whole = made()
    model = trained(whole)
    first, again = made(), made()
    one, two = model_of(), model_of()
    steps = training(one, lessons(), QUICK, callbacks=[first], saved=Saved(tmp_path, {}, every=0))
    for run in steps:
        if run.step == stop:
            steps.close()
    resumed = list(training(two, lessons(), QUICK, callbacks=[again], saved=Saved(tmp_path, {}, every=0)))
    assert resumed[0].steps - stop == len(resumed)
    assert tiny.sha(two) == tiny.sha(model)
    assert again.masks() == whole.masks() and again.cuts() == whole.cuts() and again.removed() == whole.removed()


def test_a_state_of_other_shapes(tmp_path):
    steps = training(
        model_of(), lessons(), QUICK, callbacks=[pruning(Shapes("heads", "dim"))], saved=Saved(tmp_path, {}, every=0)
    )
    next(steps)
    steps.close()
    with pytest.raises(VPError, match="other shapes"):
        trained(pruning(Shapes("blocks 8x8", "dim")), saved=Saved(tmp_path, {}, every=0))


def test_it_learns_which_neurons_matter():
    """Nothing reads half of the neurons of a trained model: the penalty takes these, and the loss keeps most of the others."""
    model = model_of(spread=0.3)
    train(model, lessons(n=256), replace(QUICK, epochs=4, lr=3e-3))
    useless = torch.arange(40) % 2 == 0
    with torch.no_grad():
        for layer in model.bert.encoder.layer:
            layer.output.dense.weight[:, useless] = 0
    callback = pruning(Shapes("none", "dim"), threshold=0.25, strength=0.002, lr=0.04)
    trained(callback, model=model, schedule=replace(QUICK, epochs=8, lr=1e-5))
    gone = torch.cat([~one.keep.bool()[useless] for one in callback.scores.units])
    others = torch.cat([~one.keep.bool()[~useless] for one in callback.scores.units])
    assert gone.all() and others.float().mean() < 0.5


def test_a_model_is_scored_on_the_way(study):
    """With its scores on it, as a run does: the answers are those of the masked weights."""
    callback, model = pruning(Shapes("blocks 8x8", "dim")), copy.deepcopy(study.model)
    at_once(callback, model)
    found = score(model, study.question)
    callback.scores.take_off(model)
    assert np.array_equal(found.right, score(model, study.question).right)
    assert not np.array_equal(found.right, score(study.model, study.question).right)


def test_int8_on_top(study, tmp_path):
    """Table 6: the compacted model is scored in 8 bits, from memory and from its folder, and says about the same."""
    callback, model = pruning(Shapes("blocks 8x8", "dim")), copy.deepcopy(study.model)
    run = at_once(callback, model)
    callback.end(run)
    small = callback.compact(model.eval())
    plain, fewer = score(small, study.question), score(small, study.question, "int8")
    assert fewer.n == plain.n and np.mean(fewer.right == plain.right) > 0.8
    save_pruned(small, tmp_path / "small", study.loaded.tokenizer, {})
    again = score(load_model(str(tmp_path / "small")).model, study.question, "int8")
    assert np.array_equal(again.right, fewer.right)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"until": 0.5, "threshold": 0.1}, "exactly one"),
        ({}, "exactly one"),
        ({"until": 1.0}, "between 0 and 1"),
        ({"threshold": 0.0}, "between 0 and 1"),
        ({"threshold": 0.6}, "below the threshold 0.6 from the first step on"),
        ({"until": 0.5, "lr": 0.0}, "learning rate"),
        ({"until": 0.5, "scope": "per row"}, "Unknown scope"),
        ({"threshold": 0.1, "strength": -1.0}, "strength λ"),
        ({"threshold": 0.1, "strength": float("nan")}, "strength λ"),
        ({"until": 0.5, "decoder": 2.0}, "decoder's weight"),
        ({"until": 0.5, "fill": "zeros"}, "Unknown fill"),
        ({"until": 0.5, "fill": "exact", "ramp": Ramp(0.1, 0.0)}, "cool-down"),
    ],
)
def test_settings_that_cannot_be(settings, says):
    with pytest.raises(VPError, match=says) as raised:
        LearnedMasks(**settings)
    assert str(raised.value).endswith(".") and "\n" not in str(raised.value)


@pytest.mark.parametrize("shares", [(0.5, 0.5), (-0.1, 0.2), (0.2, 1.0), (float("nan"), 0.1)])
def test_a_ramp_that_cannot_be(shares):
    with pytest.raises(VPError, match="no time to prune"):
        Ramp(*shares)


def test_a_training_too_short_for_its_ramp():
    with pytest.raises(VPError, match="begin at step 1 and end at step 1 of 2"):
        pruning(ramp=Ramp(0.4, 0.4)).prepare(model_of(), 2)


def test_a_share_that_these_scores_cannot_reach():
    """Refused before the first step, and the model is as it was."""
    model = model_of()
    before = tiny.sha(model)
    with pytest.raises(VPError, match=r"60.0% .* only 38.5% of them have scores"):
        pruning(Shapes("none", "dim"), until=0.6).prepare(model, 10)
    assert tiny.sha(model) == before


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"threshold": 0.4, "strength": 1000.0}, r"At step \d+ nothing would be left of .* threshold (now 0.4) or a smaller"),
        ({"until": 0.97}, r"At step \d+ nothing would be left of .*prune less \(until, now 0.97\), or let both parts"),
    ],
)
def test_a_cut_that_leaves_nothing_stops_and_loses_nothing(tmp_path, settings, says):
    """The weights of the last whole step are on disk, and with them another attempt stops at the same place."""
    saved = Saved(tmp_path, {}, every=0)
    model, callback = model_of(), pruning(Shapes("heads", "dim"), lr=1.0, **settings)
    with pytest.raises(VPError) as raised:
        train(model, lessons(), replace(QUICK, epochs=3), callbacks=[callback], saved=saved)
    assert "nothing would be left of" in str(raised.value) and "\n" not in str(raised.value)
    found = saved.read()
    assert found is not None and f"At step {found[1]['step']}" in str(raised.value)
    with pytest.raises(VPError) as again:
        trained(pruning(Shapes("heads", "dim"), lr=1.0, **settings), schedule=replace(QUICK, epochs=3), saved=saved)
    assert str(again.value) == str(raised.value)


def test_no_head_that_is_read():
    """Half of the values and all that reads them go: blocks of query, key and value are left, and do nothing."""
    callback, model = pruning(Shapes("blocks 4x8", "none"), until=0.3, ramp=Ramp(0.0, 0.0)), model_of()
    run = Run(model, 10, Accelerator())
    callback.prepare(model, 10)
    with torch.no_grad():
        for one in callback.scores.units:
            if one.group.name.endswith("value"):  # 8 × 4 blocks of 4 × 8: every second run of rows
                one.score.view(8, 4)[::2] = -1
            if one.group.name.endswith("attention_output"):
                one.score.fill_(-1)
    run.step = 10
    callback.after_step(run)
    with pytest.raises(VPError, match=r"At step 10 no head would be left that is read at a share of 0\.3"):
        callback.end(run)


def test_what_was_zero_before_leaves_as_well():
    """Neurons that an earlier pruning took are zero rows and columns here, and stay so; the compacted model is without them."""
    model = model_of()
    with torch.no_grad():
        model.bert.encoder.layer[0].intermediate.dense.weight[:20] = 0
        model.bert.encoder.layer[0].output.dense.weight[:, :20] = 0
    callback = pruning(Shapes("heads", "none"), until=0.2)
    trained(callback, model=model)
    small = callback.compact(model)
    assert small.bert.encoder.layer[0].intermediate.dense.weight.shape[0] < 40
    given = {"input_ids": torch.randint(5, 60, (3, 7), generator=torch.Generator().manual_seed(0))}
    torch.testing.assert_close(tiny.logits(small, given), tiny.logits(model, given), rtol=1e-4, atol=1e-5)


def test_a_threshold_that_takes_nothing_is_told():
    told = []
    callback = pruning(Shapes("heads", "dim"), threshold=0.01, lr=1e-3)
    trained(callback, tell=told.append)
    assert callback.sparsity == 0 and told[-1].startswith("no score fell below the threshold")


def test_gradients_add_up_where_they_are_not_cleared():
    """Two backward passes into gradients that are there already: the memory that is used again is not that of the sum."""
    callback, model = pruning(Shapes("weights", "weights")), model_of()
    run = Run(model, 10, Accelerator())
    callback.prepare(model, 10)
    model.train()
    given = {"input_ids": torch.randint(5, 60, (3, 7), generator=torch.Generator().manual_seed(0))}

    def gradients():
        model(**given).logits.square().sum().backward()
        names = dict(model.named_parameters())
        return {n: names[n].grad.clone() for n in names if "0.attention.self.query" in n or "0_query" in n}

    once = gradients()
    callback.before_step(run)
    twice = gradients()
    assert len(once) == 3 and all(torch.equal(twice[name], 2 * once[name]) for name in once)


def test_a_squeezed_model_is_refused():
    callback, model = pruning(Shapes("heads", "dim")), model_of()
    run = at_once(callback, model)
    callback.end(run)
    with pytest.raises(VPError, match="squeezed already"):
        pruning().prepare(callback.compact(model), 10)


def test_presets_make_callbacks():
    one = LearnedMasks.of("struct", until=0.7)
    assert one.shapes == Shapes("heads", "dim") and one.ratio == 1 / 32 and one.fill is None and one.strength == 0
    assert LearnedMasks.of("hybrid filled", until=0.7).fill == "exact"
    assert LearnedMasks.of("hybrid filled", until=0.7, fill="uniform").fill == "uniform"
    assert LearnedMasks.of("hybrid", threshold=0.1).strength == 10
    assert learned.pruning().until == 0.5 and find_layers(model_of())
