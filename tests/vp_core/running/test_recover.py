"""A pruned model of any recipe is fine-tuned on with a teacher: what is gone stays gone, in both of its forms."""

import copy

import pytest
import tiny
import torch

from vp_core.asking.batches import make_batches
from vp_core.ground.errors import VPError
from vp_core.loading.load import LoadedModel, load_model
from vp_core.model.attending.dropout import set_lean
from vp_core.model.families import longest_input
from vp_core.recipes import RECIPES, Recipe
from vp_core.running import finetune
from vp_core.running.finetune import about_training, fine_tune, study_of
from vp_core.running.lessons import lessons_of
from vp_core.squeezing.folder import load_pruned, save_pruned
from vp_core.squeezing.squeeze import squeeze, squeeze_masked
from vp_core.training.held import Held, count_single, count_zero, said
from vp_core.training.schedule import Schedule
from vp_core.weights.matrices import find_matrices, view

QUICK = Schedule(examples=24, batch=8, lr=1e-3, weight_decay=0.3, precision="float32")
CHOSEN = {
    "paper": 0.4,
    "units mean": 0.4,
    "best": 0.4,
    "weights": 0.7,
    "weights best": 0.6,
    "2:4": 0.5,
    "coreset": 0.5,
    "with embeddings": 0.8,
}


def recipe_of(name):
    return Recipe("magnitude", "per matrix", "zero", ("query", "ffn_in", "word_embeddings"), units=("weights",)) if name == (
        "with embeddings"
    ) else RECIPES[name]  # fmt: skip


def zeros(model):
    """Which entries of all matrices are 0."""
    return {name: p.detach() == 0 for name, p in model.named_parameters() if p.dim() == 2}


def logits(model, study):
    with torch.no_grad():
        return torch.cat([model(**batch.inputs).logits for batch in make_batches(study.calibration, range(24))])


@pytest.mark.parametrize("form", ["masked", "squeezed"])
@pytest.mark.parametrize("name", CHOSEN)
def test_what_is_gone_stays_gone(studies, data, tmp_path, name, form):
    study, recipe, share = studies["bert"], recipe_of(name), CHOSEN[name]
    pruned = study.pruned(recipe, share)
    model = pruned if form == "masked" else study.squeezed(recipe, share)
    before, told = zeros(model), []
    tuned = fine_tune(
        study_of(study, model, "small"),
        lessons_of(study, "sst2", data),
        QUICK,
        tell=told.append,
        teacher=study.loaded,
        hidden=0.1,
    )
    after, moved = zeros(tuned.model), 0
    for matrix, zero in before.items():
        assert after[matrix][zero].all(), matrix
        moved += int((after[matrix] == zero).all())
    assert moved == len(before)  # and nothing else became zero
    assert any(not torch.equal(p, dict(tuned.model.named_parameters())[n]) for n, p in model.named_parameters())
    if form == "squeezed":
        assert tiny.sha(load_pruned(save_pruned(tuned.model, tmp_path / "x"))) == tiny.sha(tuned.model)
    elif recipe.pattern:
        assert tuned.zero_weights == count_single(pruned) > 100 and said(*tuned.zero, tuned.zero_weights) in told
    about = about_training(study, lessons_of(study, "sst2", data), None, tuned)
    assert about["zero_weights"] == tuned.zero_weights
    taught = {"model": study.loaded.name, "fingerprint": study.loaded.fingerprint}
    assert about["teacher"] == taught | {"alpha": 0.5, "temperature": 2.0, "hidden": 0.1}


@pytest.mark.parametrize("name", CHOSEN)
def test_squeezed_equals_masked_after_training(studies, data, name):
    """What was trained in the old shapes is squeezed by the masks it was pruned with, exactly."""
    study, recipe, share = studies["bert"], recipe_of(name), CHOSEN[name]
    masked = study_of(study, study.pruned(recipe, share), "masked")
    model = fine_tune(masked, lessons_of(study, "sst2", data), QUICK, teacher=study.loaded).model.double()
    small = squeeze_masked(model, study.masks(recipe, share)) if recipe.pattern else squeeze(model, study.plan(recipe, share))
    assert sum(p.numel() for p in small.parameters()) <= sum(p.numel() for p in model.parameters())
    assert tiny.distance(logits(small, study), logits(model, study)) < 1e-10


@pytest.mark.parametrize("name", ["2:4", "with embeddings"])
def test_both_forms_learn_the_same(studies, data, name):
    """Of rows and units see `training/test_held.py`: dropout in attention falls on their constants in one form only.

    Squeezed models draw that dropout their own way, which the masked one is given too.
    """
    study, recipe, share = studies["bert"], recipe_of(name), CHOSEN[name]
    lessons = lessons_of(study, "sst2", data)
    forms = [study.pruned(recipe, share), study.squeezed(recipe, share)]
    set_lean(forms[0])
    tuned = [fine_tune(study_of(study, form, "x"), lessons, QUICK, teacher=study.loaded) for form in forms]
    assert tuned[0].loss == pytest.approx(tuned[1].loss, rel=1e-3)
    without = fine_tune(study_of(study, forms[0], "x"), lessons, QUICK)
    assert without.loss != pytest.approx(tuned[0].loss, rel=1e-3) and without.teacher is None


def test_without_holding_single_weights_they_would_come_back(studies, data, monkeypatch):
    monkeypatch.setattr(Held, "hold", lambda self: None)
    study, recipe = studies["bert"], recipe_of("weights")
    model = study.pruned(recipe, 0.7)
    tuned = fine_tune(study_of(study, model, "x"), lessons_of(study, "sst2", data), QUICK)
    assert count_single(tuned.model) < 0.01 * count_single(model)


@pytest.mark.parametrize("family", ["gpt2", "bart", "albert", "deberta-v2", "modernbert", "t5"])
def test_single_weights_of_every_family(studies, data, family):
    study = studies[family]
    recipe = Recipe("magnitude", "per matrix", "zero", (*Recipe().types, "word_embeddings"), units=("weights",))
    model = study.pruned(recipe, 0.6)
    tuned = fine_tune(study_of(study, model, "x"), lessons_of(study, "sst2", data), QUICK, teacher=study.loaded).model
    gone = 0
    for matrix in find_matrices(model, recipe.types):
        zero = view(model, matrix) == 0
        assert not view(tuned, matrix)[zero].any(), matrix.name
        gone += int(zero.sum())
    assert gone > 1000


def test_a_model_without_zeros_has_none(studies):
    assert count_single(studies["bert"].model) == 0 and count_zero(studies["bert"].model) == (0, 0)
    padded = copy.deepcopy(studies["bert"].model)
    with torch.no_grad():
        padded.get_input_embeddings().weight[0] = 0  # as a fresh one has it for padding
    assert count_single(padded) == 0 and not Held(padded)._zeros


def test_a_teacher_that_is_none_for_it(studies, data, folders, tmp_path):
    study = studies["bert"]
    lessons = lessons_of(study, "sst2", data)

    def refused(teacher, says, **numbers):
        with pytest.raises(VPError, match=says) as raised:
            fine_tune(study, lessons, QUICK, teacher=teacher, **numbers)
        assert "\n" not in str(raised.value) and str(raised.value).endswith(".")

    refused(studies["roberta"].loaded, "tokeniser")
    other = load_model(str(tiny.save(tmp_path / "other", *tiny.make("bert", ("yes", "no")))))
    refused(other, "labels are yes, no")
    refused(study.loaded, "weight α 1.5", alpha=1.5)
    refused(study.loaded, "temperature", temperature=0.0)
    assert longest_input(study.model.config) >= max(map(len, lessons.data.ids))


def test_a_teacher_that_takes_shorter_texts(studies, data, monkeypatch):
    study = studies["bert"]
    monkeypatch.setattr(finetune, "longest_input", lambda config: 7)
    with pytest.raises(VPError, match=r"takes at most 7 tokens, and a text here has 2\d: .*--max-length"):
        fine_tune(study, lessons_of(study, "sst2", data), QUICK, teacher=study.loaded)


def test_labels_that_are_only_numbers_are_told_of(studies, data):
    study, told = studies["bert"], []
    numbered = tiny.name_labels(copy.deepcopy(study.model), "LABEL_0", "LABEL_1")
    teacher = LoadedModel(numbered, study.loaded.tokenizer, "t", "f", ())
    fine_tune(study, lessons_of(study, "sst2", data), QUICK, tell=told.append, teacher=teacher)
    assert any("in their order" in news for news in told)


@pytest.mark.slow
def test_the_demo_recovers(demo):
    """At 70 % of its parameters without a refit: .651, and .846 after one pass over all its texts; here over a part of them."""
    recipe = RECIPES["units mean"]
    small = study_of(demo, demo.squeezed(recipe, 0.7), "small")
    lessons = lessons_of(small, "demo")
    schedule = Schedule(examples=2048, lr=3e-4, precision="float32")
    taught = fine_tune(small, lessons, schedule, teacher=demo.loaded)
    assert taught.after.low > taught.before.high
