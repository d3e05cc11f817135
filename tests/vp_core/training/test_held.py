"""What was pruned stays pruned in training: masked models keep their zeros, squeezed ones their form, and both learn."""

import copy
from dataclasses import replace

import bench_models
import pytest
import tiny
import torch

from vp_core.asking.evaluate import score
from vp_core.ground.errors import VPError
from vp_core.ground.names import TYPES, WORD_EMBEDDINGS
from vp_core.identity.gate import gated, ungate
from vp_core.identity.l1 import TowardsIdentity
from vp_core.identity.settings import SnipSettings
from vp_core.identity.snip import Material, run_snip
from vp_core.identity.spectral import fold, normalise
from vp_core.model.blocks import Block, find_sublayers
from vp_core.model.projections import find_projections, weight_of
from vp_core.model.scatter import SCATTER_COST
from vp_core.recipes import STRUCTURED, Recipe
from vp_core.replacing.ladder import weight_and_bias
from vp_core.replacing.prune import prune
from vp_core.running.finetune import fine_tune, study_of
from vp_core.running.lessons import lessons_of
from vp_core.squeezing.blocks_off import masked_without, without
from vp_core.squeezing.folder import load_pruned, save_pruned
from vp_core.squeezing.squeeze import squeeze, squeeze_masked
from vp_core.study import Study
from vp_core.training import held
from vp_core.training.held import check_whole, count_zero, said
from vp_core.training.loop import train
from vp_core.training.run_folder import Checkpoint
from vp_core.training.schedule import Lessons, Schedule
from vp_core.weights.masks import Masks
from vp_core.weights.matrices import find_matrices
from vp_core.weights.prune import masked as masked_weights

QUICK = Schedule(epochs=2, batch=12, lr=3e-3, weight_decay=0.3, precision="float32")
FAMILIES = ["bert", "gpt2", "bart", "llama", "albert"]


def lessons(family):
    return Lessons(bench_models.texts(family, 36, seed=1), torch.arange(36) % 2, False)


def masked(family, share=0.3, dtype=torch.float32):
    """(model of two classes with a share of every projection's rows gone, the plan)."""
    model = bench_models.classifier(family, dtype, 2)
    plan = tiny.random_plan(model, share)
    plan.keep[next(iter(plan.keep))][:] = True  # one whole matrix among them
    constants = {name: values.to(dtype) for name, values in tiny.random_constants(model).items()}
    return copy.deepcopy(prune(model, plan, constants)).requires_grad_(True), plan


def zeros(model):
    """By counting, name by name: which weights of the projections are 0."""
    return {p.name: weight_of(model, p).detach() == 0 for p in find_projections(model)}


def biases(model, plan):
    """Of the removed rows of each projection."""
    return {p.name: weight_and_bias(model, p)[1][~plan.keep[p.name]].detach().clone() for p in find_projections(model)}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_rows_of_a_masked_model_stay_zero_with_their_constants(family, precision):
    model, plan = masked(family)
    before, constants, old = zeros(model), biases(model, plan), copy.deepcopy(model)
    assert count_zero(model)[0] >= plan.rows_removed > 50
    train(model, lessons(family), replace(QUICK, precision=precision))
    for name, found in zeros(model).items():
        assert found[~plan.keep[name]].all(), name
        assert torch.equal(found, before[name]), name
        assert torch.equal(biases(model, plan)[name], constants[name]), name
    moved = [p.name for p in find_projections(model) if not torch.equal(weight_of(model, p), weight_of(old, p))]
    assert len(moved) == sum(bool(keep.any()) for keep in plan.keep.values())


def test_without_holding_they_would_not(monkeypatch):
    monkeypatch.setattr(held.Held, "hold", lambda self: None)
    model, plan = masked("bert")
    train(model, lessons("bert"), QUICK)
    assert count_zero(model)[0] < 0.1 * plan.rows_removed


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_units_keep_their_columns(family):
    one = bench_models.stage(family, 12)
    pruned = one.pruned(Recipe(units=STRUCTURED), 0.4)
    model = copy.deepcopy(pruned).float().requires_grad_(True)
    before = count_zero(model)
    assert before[0] > 100 and before[1] > 50
    expected = zeros(model)
    train(model, Lessons(bench_models.texts(family, 36), torch.arange(36) % 3, False), QUICK)
    assert count_zero(model) == before
    assert all(torch.equal(found, expected[name]) for name, found in zeros(model).items())


@pytest.mark.parametrize("scattered", [False, True])
@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_masked_and_squeezed_train_alike(family, scattered, monkeypatch):
    """Units that left with their columns: AdamW takes the same way through both forms, clipping included."""
    for dtype in SCATTER_COST if scattered else ():
        monkeypatch.setitem(SCATTER_COST, dtype, 0)
    one, recipe = bench_models.stage(family, 12), Recipe(units=(*STRUCTURED[:2],))
    model = copy.deepcopy(one.pruned(recipe, 0.4)).requires_grad_(True)
    small = copy.deepcopy(squeeze(model, one.plan(recipe, 0.4))).requires_grad_(True)
    assert sum(p.numel() for p in small.parameters()) < 0.95 * sum(p.numel() for p in model.parameters())
    learnt = Lessons(bench_models.texts(family, 36), torch.arange(36) % 3, False)
    schedule = replace(QUICK, lr=3e-4)
    losses = [train(form, learnt, schedule) for form in (model, small)]
    batches = one.measured.some_batches(12)
    found, expected = (bench_models.outputs(form, batches) for form in (small, model))
    dense = bench_models.outputs(one.pruned(recipe, 0.4), batches)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert tiny.distance(found, expected) < 1e-3 < 0.05 < tiny.distance(dense, expected)


def test_gated_and_normalised_models_hold_too():
    for change in (
        lambda model: gated(model, find_sublayers(model), {"attention": 0.1, "ffn": 0.1}),
        lambda model: normalise(model, 3.0) or model,
    ):
        model, plan = masked("bert")
        model = change(model)
        train(model, lessons("bert"), QUICK, callbacks=[TowardsIdentity(0.01)])
        ungate(model)
        fold(model)
        assert all(found[~plan.keep[name]].all() for name, found in zeros(model).items())


def test_what_blocks_left_stays_silent():
    """A block that was masked out puts out nothing after training either."""
    dense = bench_models.classifier("bert", torch.float32, 2)
    gone = [Block(0, "ffn"), Block(1, "head", 2)]
    model = copy.deepcopy(masked_without(dense, gone)).requires_grad_(True)
    train(model, lessons("bert"), QUICK)
    batches = bench_models.stage("bert", 12).measured.some_batches(12)
    silenced = bench_models.outputs(masked_without(model, gone), batches)
    assert tiny.distance(bench_models.outputs(model, batches), silenced) < 1e-6


def test_a_model_without_zeros_is_trained_as_ever():
    """And a bias that is 0 is no row."""
    model = copy.deepcopy(bench_models.classifier("bert", torch.float32, 2)).requires_grad_(True)
    with torch.no_grad():
        model.bert.encoder.layer[0].output.dense.bias.zero_()
    assert count_zero(model) == (0, 0)
    train(model, lessons("bert"), QUICK)
    assert model.bert.encoder.layer[0].output.dense.bias.all()


@pytest.fixture
def quick_study(study, data):
    return study, lessons_of(study, "sst2", data), Schedule(examples=24, batch=8, lr=1e-3, precision="float32")


@pytest.mark.parametrize("sn", [None, 3.0])
def test_a_masked_study_says_what_stays(quick_study, sn):
    study, learnt, schedule = quick_study
    pruned = study_of(study, study.pruned(Recipe(units=STRUCTURED), 0.3), "masked")
    rows, columns = count_zero(pruned.model)
    assert rows > 50 and columns > 20
    told = []
    tuned = fine_tune(pruned, learnt, schedule, sn, told.append)
    assert said(rows, columns) in told and tuned.zero == (rows, columns) == count_zero(tuned.model)
    assert (tuned.as_json()["zero_rows"], tuned.as_json()["zero_columns"]) == (rows, columns)
    if sn:
        assert all(abs(value - sn) < 0.01 for value in tuned.sigmas[-1][1].values())
        for p in find_projections(tuned.model):
            assert torch.linalg.matrix_norm(weight_of(tuned.model, p).double(), 2) == pytest.approx(sn, rel=2e-3)


def squeezed_study(study: Study, sparsity=0.4, **changed) -> Study:
    return study_of(study, study.squeezed(Recipe(**changed), sparsity), "small")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("changed", [{}, {"units": STRUCTURED}], ids=["rows", "units"])
def test_a_squeezed_model_trains_on_and_saves(quick_study, tmp_path, changed, precision):
    study, learnt, schedule = quick_study
    small = squeezed_study(study, **changed)
    old = copy.deepcopy(small.model)
    tuned = fine_tune(small, learnt, replace(schedule, precision=precision))
    assert tiny.sha(small.model) == tiny.sha(old)  # what came in is as it was
    named = dict(tuned.model.named_parameters())
    for name, before in old.named_parameters():
        assert (named[name][before == 0] == 0).all(), name
    assert sum(not torch.equal(named[n], p) for n, p in old.named_parameters()) > len(named) // 2
    assert all(torch.equal(b, dict(tuned.model.named_buffers())[n]) for n, b in old.named_buffers())
    assert tuned.model.squeezed.as_json() == old.squeezed.as_json() and tuned.sigmas == () and tuned.zero == (0, 0)
    save_pruned(tuned.model, tmp_path / "tuned", study.loaded.tokenizer)
    again = load_pruned(tmp_path / "tuned")
    assert tiny.sha(again) == tiny.sha(tuned.model) and again.squeezed.as_json() == old.squeezed.as_json()
    assert score(again, study.question).value == tuned.after.value


def test_a_squeezed_model_learns():
    """By heart, 36 texts."""
    one, losses = bench_models.stage("bert", 12), []
    model = copy.deepcopy(squeeze(one.pruned(Recipe(), 0.4), one.plan(Recipe(), 0.4))).float().requires_grad_(True)
    learnt = Lessons(bench_models.texts("bert", 36), torch.arange(36) % 3, False)
    train(model, learnt, replace(QUICK, epochs=25), watch=lambda step, steps, loss: losses.append(loss))
    assert sum(losses[-3:]) < 0.3 * sum(losses[:3])


def test_a_whole_layer_that_left(study, data, tmp_path):
    """Maps without rows or columns train what is left of them, if anything."""
    gone = [Block(0, "attention"), Block(0, "ffn"), Block(1, "ffn")]
    small = study_of(study, without(study.model, gone), "small")
    tuned = fine_tune(small, lessons_of(study, "sst2", data), Schedule(examples=16, batch=8, precision="float32"))
    assert tiny.sha(load_pruned(save_pruned(tuned.model, tmp_path / "x"))) == tiny.sha(tuned.model)


def test_what_is_refused(quick_study, tmp_path):
    study, learnt, schedule = quick_study
    small = squeezed_study(study)
    with pytest.raises(VPError, match=r"squeezed already, and spectral normalisation is one of whole matrices.*\.$"):
        fine_tune(small, learnt, schedule, sn=5)
    with pytest.raises(VPError, match=r"blocks leave from the shapes it was cut from.*\.$"):
        next(run_snip(Material(small.model, learnt, study.calibration, study.question), SnipSettings(), tmp_path / "x"))
    assert not (tmp_path / "x").exists()
    check_whole(study.model)


@pytest.mark.parametrize("sn", [None, 4.0])
def test_snip_keeps_the_masks_of_a_masked_model(quick_study, tmp_path, sn):
    study, learnt, schedule = quick_study
    model = study.pruned(Recipe(), 0.3)
    before, told = zeros(model), []
    material = Material(model, learnt, study.calibration, study.question)
    settings = SnipSettings(iterations=1, at_least=2, schedule=schedule, sn=sn)
    rows = list(run_snip(material, settings, tmp_path / "run", told.append))
    assert rows[-1]["gone"] and said(*count_zero(model)) in told
    dense = copy.deepcopy(model)
    Checkpoint(tmp_path / "run").load(dense)
    for name, gone in before.items():
        assert (weight_of(dense, next(p for p in find_projections(dense) if p.name == name))[gone] == 0).all(), name


def test_said():
    assert said(6220, 0) == "6,220 rows that were zero stay zero"
    assert said(1, 1) == "1 row that was zero stays zero, and 1 column"


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_single_weights_that_are_gone_stay_gone(family, tmp_path):
    """Masks of single weights, of embeddings too, where rows have left: what is trained is saved as small as before."""
    dense, draw = bench_models.stage(family, 12).measured.model, torch.Generator().manual_seed(0)
    matrices = find_matrices(dense, (*TYPES, WORD_EMBEDDINGS))
    keep = {m.name: torch.rand(m.shape, generator=draw) < 0.4 for m in matrices}
    for matrix in matrices:
        keep[matrix.name][: 3 * (matrix.layer is not None)] = False
    masks = Masks.of(keep)
    small = copy.deepcopy(squeeze_masked(masked_weights(dense, matrices, masks), masks)).float().requires_grad_(True)
    before = {name: p.detach().clone() for name, p in small.named_parameters() if p.dim() == 2}
    train(small, Lessons(bench_models.texts(family, 36), torch.arange(36) % 3, False), QUICK)
    moved = 0
    for name, p in small.named_parameters():
        if p.dim() == 2:
            assert not p[before[name] == 0].any(), name
            moved += int((p != before[name]).sum())
    assert moved > 1000
    size = (save_pruned(small, tmp_path / "small") / "pruned.safetensors").stat().st_size
    assert size < 0.6 * sum(4 * p.numel() for p in small.parameters()) + 30_000
