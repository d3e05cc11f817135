"""A study: one place that answers, the same to everybody; keys that say what an answer depends on."""

import json
import shutil
from dataclasses import replace
from itertools import cycle, product

import numpy as np
import pytest
import tiny
import torch

from vp_core.asking.examples import Examples
from vp_core.asking.tasks import find_task
from vp_core.ground.errors import VPError
from vp_core.ground.names import SCOPES, TYPES
from vp_core.opening.classes import make_study
from vp_core.opening.study import open_study
from vp_core.recipes import Recipe


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_sparsity_0_is_the_dense_model_and_nothing_changes_it(studies, family):
    study = studies[family]
    before = tiny.sha(study.model)
    dense = study.score(Recipe(), 0)
    scopes = SCOPES[:4] if family == "albert" else SCOPES  # its one layer cannot be measured apart
    pairs = product(scopes, ("mean", "zero")) if family == "bert" else zip(scopes, cycle(("mean", "zero")), strict=False)
    for scope, replacement in pairs:
        recipe = Recipe(scope=scope, replacement=replacement)
        assert study.score(recipe, 0).right.tolist() == dense.right.tolist()
        study.score(recipe, 0.7)
    study.score(Recipe(), 0.7, "bfloat16")
    assert (tiny.sha(study.model), tiny.hooks(study.model)) == (before, 0)


def test_everything_removed_leaves_a_constant_answer(studies):
    study = studies["bert"]
    for recipe in (Recipe(), Recipe(replacement="zero"), Recipe("random", "global")):
        pruned = study.pruned(recipe, 1.0)
        for p in study.projections():
            assert (pruned.get_submodule(p.path).weight == 0).all()
    assert study.cost(Recipe(types=("query",)), 1.0).rows_removed == tiny.LAYERS * tiny.HIDDEN


@pytest.mark.parametrize("scope", [scope for scope in SCOPES if scope != "measured"])  # its losses take long: see ranking
def test_random_matches_variance_in_every_matrix(studies, scope):
    for family in tiny.FAMILIES:
        study = studies[family]
        for estimator in ("exact", "ewmv"):
            for sparsity in (0.05, 0.2, 0.5, 0.77, 0.95):
                paper = study.plan(Recipe(scope=scope, estimator=estimator), sparsity)
                for seed in range(3):
                    drawn = study.plan(Recipe("random", scope, estimator=estimator, seed=seed), sparsity)
                    for name, keep in paper.keep.items():
                        assert keep.sum() == drawn.keep[name].sum()


def test_variance_really_takes_the_lowest_outputs(studies):
    study = studies["bert"]
    plan = study.plan(Recipe(), 0.3)
    for type_ in TYPES:
        values = {p.name: study.statistics().variance(p.name) for p in study.projections() if p.type == type_}
        gone = torch.cat([v[~plan.keep[n]] for n, v in values.items()])
        kept = torch.cat([v[plan.keep[n]] for n, v in values.items()])
        assert gone.max() <= kept.min() and len(gone) == round(0.3 * (len(gone) + len(kept)))


def test_computed_once_and_kept(study):
    assert study.statistics() is study.statistics()
    assert study.ranking(Recipe()) is study.ranking(Recipe(replacement="zero"))  # a ranking does not depend on it
    assert study.statistics("ewmv") is not study.statistics()


def test_a_key_changes_with_whatever_the_score_depends_on(study, folders, data):
    keys = {study.key(Recipe(), 0.3)}
    changes = [
        {"criterion": "magnitude"}, {"criterion": "random"}, {"criterion": "random", "seed": 1}, {"scope": "global"},
        {"replacement": "zero"}, {"types": ("query",)}, {"estimator": "ewmv"},
    ]  # fmt: skip
    keys |= {study.key(replace(Recipe(), **change), 0.3) for change in changes}
    keys |= {study.key(Recipe(), 0.31), study.key(Recipe(), 0.3, "bfloat16"), study.key(Recipe(), 0)}
    keys |= {open_study(str(folders["electra"]), "sst2", data).key(Recipe(), 0.3)}
    keys |= {open_study(str(folders["bert"]), "sst2", data, calibration=20).key(Recipe(), 0.3)}
    assert len(keys) == 1 + len(changes) + 3 + 2
    assert open_study(str(folders["bert"]), "sst2", data).key(Recipe(), 0.3) == study.key(Recipe(), 0.3)
    assert study.key(Recipe(), 0) == study.key(Recipe("random", "global"), 0)  # the dense model is one


def test_a_key_changes_with_the_order_of_the_labels(study, folders, data, tmp_path):
    """The same weights with id2label turned round give another score, so a stored one must not be found."""
    folder = shutil.copytree(folders["bert"], tmp_path / "turned")
    config = json.loads((folder / "config.json").read_text())
    config |= {"id2label": {"0": "positive", "1": "negative"}, "label2id": {"positive": 0, "negative": 1}}
    (folder / "config.json").write_text(json.dumps(config))
    turned = open_study(str(folder), "sst2", data)
    assert turned.score(Recipe(), 0).value == pytest.approx(1 - study.score(Recipe(), 0).value)
    assert turned.key(Recipe(), 0) != study.key(Recipe(), 0)
    assert turned.key(Recipe(), 0.5) != study.key(Recipe(), 0.5)


def test_a_key_changes_with_the_configuration_and_the_tokeniser(study, folders, data, tmp_path):
    """Another activation, or another vocabulary, with the same weights is another model."""
    folder = shutil.copytree(folders["bert"], tmp_path / "relu")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_act": "relu"}))
    assert open_study(str(folder), "sst2", data).key(Recipe(), 0) != study.key(Recipe(), 0)
    folder = shutil.copytree(folders["bert"], tmp_path / "words")
    text = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(text.replace('"awful"', '"offal"'))
    other = open_study(str(folder), "sst2", data)
    assert other.question.data.ids != study.question.data.ids
    assert other.key(Recipe(), 0) != study.key(Recipe(), 0)


def test_predict_is_the_models_own_softmax_in_the_tasks_order(studies):
    study = studies["bert"]
    texts = tiny.sentences(9, seed=8)
    expected = tiny.answers(study.model, study.loaded.tokenizer, texts).softmax(dim=1).numpy()
    found, cut = study.predict(study.model, [(t,) for t in texts])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert not cut
    turned = replace(study, question=replace(study.question, order=(1, 0)))
    np.testing.assert_allclose(turned.predict(study.model, [(t,) for t in texts])[0], expected[:, ::-1], atol=1e-5)


def test_predict_puts_three_classes_in_the_tasks_order(tmp_path):
    """Outputs mean contradiction, entailment, neutral; the task's order is entailment, neutral, contradiction."""
    tiny.save(tmp_path / "m", *tiny.make("bert", ("contradiction", "entailment", "neutral")))
    first, second = tiny.sentences(9, 1, 6), tiny.sentences(9, 2, 6)
    rows = list(zip(first, second, ["entailment", "neutral", "contradiction"] * 3, strict=True))
    for split in ("dev_matched", "train"):
        tiny.write_tsv(tmp_path / "mnli" / f"{split}.tsv", ("sentence1", "sentence2", "gold_label"), rows)
    study = open_study(str(tmp_path / "m"), "mnli", tmp_path)
    assert study.question.order == (2, 0, 1)
    logits = tiny.answers(study.model, study.loaded.tokenizer, [r[:2] for r in rows])
    found, _ = study.predict(study.model, [r[:2] for r in rows])
    np.testing.assert_allclose(found, logits.softmax(dim=1).numpy()[:, [1, 2, 0]], atol=1e-5)
    said = np.array(["contradiction", "entailment", "neutral"])[logits.argmax(dim=1).numpy()]
    assert study.score(Recipe(), 0).value == np.mean(said == np.array([r[2] for r in rows]))


def test_a_file_as_a_task(folders, tmp_path):
    path = tiny.write_tsv(
        tmp_path / "own.tsv", ("t", "mood"), zip(tiny.sentences(20), ["negative", "positive"] * 10, strict=True)
    )
    study = open_study(str(folders["bert"]), str(path), text=("t",), label="mood")
    assert study.score(Recipe(), 0).n == 20 and study.question.order == (0, 1)


def test_fewer_sentences_are_a_sample_and_say_so(study, folders, data):
    few = open_study(str(folders["bert"]), "sst2", data, sentences=50)
    assert few.notes == ("Scored on a random sample of 50 of 210 texts.",) and study.notes == ()
    assert few.data_id != study.data_id and few.key(Recipe(), 0) != study.key(Recipe(), 0)
    # each sentence is answered as before, and the neurons are measured on the same calibration sentences
    whole = dict(zip(map(tuple, study.question.data.ids), study.score(Recipe(), 0.4).right, strict=True))
    assert few.score(Recipe(), 0.4).right.tolist() == [whole[tuple(ids)] for ids in few.question.data.ids]
    assert few.calibration_id == study.calibration_id
    again = open_study(str(folders["bert"]), "sst2", data, sentences=50)
    assert again.data_id == few.data_id
    all_of_them = open_study(str(folders["bert"]), "sst2", data, sentences=210)
    assert (all_of_them.data_id, all_of_them.notes) == (study.data_id, ())


def test_bad_questions(folders, data):
    bert = str(folders["bert"])
    with pytest.raises(VPError, match="Which task"):
        open_study(bert)
    with pytest.raises(VPError, match="at least 2"):
        open_study(bert, "sst2", data, calibration=1)
    study = open_study(bert, "sst2", data)
    for bad in ({"criterion": "luck"}, {"scope": "x"}, {"replacement": "x"}, {"types": ("x",)}, {"estimator": "x"}):
        with pytest.raises(VPError):
            study.score(Recipe(**bad), 0.3)
    with pytest.raises(VPError, match="between 0 and 1"):
        study.score(Recipe(), 1.2)


def test_texts_that_end_in_the_padding_token_are_told(loaded):
    """GPT-2 pads with its end of text, so that its classifier reads the token before."""
    one = loaded["gpt2"]
    texts = [("a film <|endoftext|>",), ("dull plot",), ("the meal <|endoftext|> was",), ("great",)] * 3
    examples = Examples(find_task("sst2"), texts, np.array([0, 1, 0, 1] * 3), "here")
    notes = make_study(one, examples, examples).notes
    assert "3 of 12 texts end in <|endoftext|>, which also pads: the classifier reads the token before it." in notes
    quiet = Examples(find_task("sst2"), texts[1:2] * 4, np.array([0, 1, 0, 1]), "here")
    assert not any("also pads" in note for note in make_study(one, quiet, quiet).notes)
