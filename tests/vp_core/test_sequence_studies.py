"""Studies of models that write about a text: the whole method on encoder, decoder and cross attention, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import scribes
import tiny
import torch

from vp_core.asking.batches import make_batches
from vp_core.asking.evaluate import score
from vp_core.asking.sequences.writing import generated
from vp_core.check import check_model, check_task
from vp_core.curves import CurveStore, known_point, score_of, sweep
from vp_core.ground.errors import VPError
from vp_core.loading.load import load_any, load_model
from vp_core.model.sites import neuron_site
from vp_core.opening.study import open_study
from vp_core.recipes import RECIPES, Recipe
from vp_core.running.finetune import fine_tune, study_of
from vp_core.running.lessons import lessons_of
from vp_core.running.run import TrainingMaterial, run_training
from vp_core.running.settings import TrainSettings
from vp_core.squeezing.dense_form import export_transformers
from vp_core.squeezing.folder import load_pruned, save_pruned
from vp_core.squeezing.onnx import export_onnx
from vp_core.squeezing.timing import time_forward
from vp_core.training.schedule import Schedule
from vp_core.training.teacher import Teacher

pytestmark = pytest.mark.usefixtures("exact_norms")
QUICK = Schedule(steps=6, batch=6, lr=1e-3, precision="float32")
NAMED = ("paper", "units mean", "best", "best refit", "weights best", "2:4")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    base = tmp_path_factory.mktemp("sequences")
    found = {family: tiny.save(base / family, *scribes.scribe(family)) for family in scribes.FAMILIES}
    found["table"] = scribes.write_table(base / "pairs.tsv")
    scribes.write_table(base / "both" / "train.tsv", tiny.sentences(30, 5, 12), tiny.sentences(30, 6, 7))
    scribes.write_table(base / "both" / "dev.tsv")
    found["both"] = base / "both"
    return found


@pytest.fixture(scope="module")
def opened(made):
    def open_(model="bart", data="both", **more):
        given = {"text": ("source",), "label": "target"} | more
        return open_study(str(made.get(model, model)), "sequences", made.get(data, data), **given)

    kept = {}
    return lambda *given, **more: kept.setdefault(repr((given, more)), None) or kept.update(
        {repr((given, more)): open_(*given, **more)}
    ) or kept[repr((given, more))]  # fmt: skip


def refused(match, make, *given, **more):
    with pytest.raises(VPError, match=match) as raised:
        make(*given, **more)
    assert "\n" not in str(raised.value) and str(raised.value).endswith(".")


def written(study, model):
    (batch,) = make_batches(study.question.data, range(len(study.question)), 10**6)
    return generated(model, batch.inputs, study.question.how)


@pytest.mark.parametrize("family", scribes.FAMILIES)
def test_statistics_are_over_the_tokens_that_are_there(family, opened):
    """Of a decoder over the target's tokens, of its cross attention's keys and values over the source's; one pair at a time."""
    study = opened(family)
    seen = {p.name: [] for p in study.projections()}
    for ids, given in zip(study.calibration.ids, study.calibration.given, strict=True):
        handles = []
        for p in study.projections():
            site, module = neuron_site(p), study.model.get_submodule(neuron_site(p).path)
            if site.inputs:
                see = lambda _m, args, site=site: seen[site.name].append(site.part(args[0])[0])  # noqa: E731
                handles.append(module.register_forward_pre_hook(see))
            else:
                see = lambda _m, _a, out, site=site: seen[site.name].append(site.part(out)[0])  # noqa: E731
                handles.append(module.register_forward_hook(see))
        with torch.no_grad():
            study.model(input_ids=torch.tensor([ids]), decoder_input_ids=torch.tensor([given]))
        for handle in handles:
            handle.remove()
    sizes = {sum(map(len, study.calibration.ids)), sum(map(len, study.calibration.given))}
    found = study.statistics()
    for name, values in seen.items():
        values = torch.cat(values).double()
        assert len(values) == found.moments[name].count and len(values) in sizes
        torch.testing.assert_close(found.mean(name), values.mean(dim=0), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found.variance(name), values.var(dim=0), rtol=1e-4, atol=1e-5)
    counts = {p.name: found.moments[p.name].count for p in study.projections()}
    assert counts["2.query"] == counts["2.attention_output"] == counts["1.key"] == counts["1.ffn_in"] == min(sizes)
    assert counts["2.key"] == counts["2.value"] == counts["0.query"] == max(sizes)


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("family", scribes.FAMILIES)
def test_a_squeezed_model_writes_what_the_pruned_one_does(family, name, opened, tmp_path):
    study, recipe = opened(family), RECIPES[name]
    share = 0.5 if name == "2:4" else 0.3
    pruned, squeezed = study.pruned(recipe, share), study.squeezed(recipe, share)
    texts = written(study, pruned)
    assert texts == written(study, squeezed) and texts != written(study, study.model)
    one, two = score(pruned, study.question), score(squeezed, study.question)
    assert one.value == two.value and one.others["perplexity"] == pytest.approx(two.others["perplexity"], rel=1e-4)
    save_pruned(squeezed, tmp_path / "small", study.loaded.tokenizer, study.about(recipe, share))
    again = load_any(str(tmp_path / "small"))
    assert written(study, again.model) == texts
    assert again.model.generation_config.suppress_tokens == study.model.generation_config.suppress_tokens
    kept = open_study(str(tmp_path / "small"), "sequences", study.source, text=("source",), label="target")
    assert kept.score(Recipe(), 0).value == two.value
    assert score(study.pruned(recipe, 0), study.question).value == study.score(recipe, 0).value


@pytest.mark.parametrize("family", ["bart", "mbart"])
def test_the_dense_form_writes_the_same(family, opened, tmp_path):
    study = opened(family)
    pruned = study.pruned(RECIPES["paper"], 0.3)
    export_transformers(pruned, tmp_path / "dense", study.loaded.tokenizer)
    assert written(study, load_model(str(tmp_path / "dense"), "sequences").model) == written(study, pruned)


def test_what_cannot_be_written_is_refused(opened, tmp_path):
    refused("token by token", export_onnx, opened().model, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("family", scribes.FAMILIES)
def test_speed_is_of_both_halves(family, opened):
    study = opened(family)
    *_, last = time_forward({"dense": study.model, "small": study.squeezed(RECIPES["best"], 0.3)}, 2, 8, repeats=1)
    assert all(timing.median > 0 for timing in last.values())


def test_notes_say_what_is_odd(opened, made, tmp_path):
    assert opened(data="table").notes == (
        f"Read 14 rows of {str(made['table'])!r}.", "Statistics are taken on the texts that are scored.",
    )  # fmt: skip
    assert len(opened().calibration) == 30 and not any("Statistics" in note for note in opened().notes)
    notes = " ".join(opened(data="table", max_length=6, sentences=9, calibration=5).notes)
    assert "of 9 texts were longer than 6 tokens and lost their end" in notes and "random sample of 9 of 14 texts" in notes
    foreign = scribes.write_table(tmp_path / "foreign.tsv", ["a film"] * 3, ["全然", "...", "a film"])
    assert "2 of 3 targets have no letter from a to z and no digit: their ROUGE is 0." in opened(data=foreign).notes
    assert not any("ROUGE" in note for note in opened(data=foreign, metric="perplexity").notes)
    long = scribes.write_table(tmp_path / "long.tsv", ["a film"] * 2, ["a film " * 60, "a film"])
    assert any("1 of 2 targets were longer than 40 tokens" in note for note in opened(data=long).notes)


def test_a_score_is_known_by_what_it_depends_on(opened, made, tmp_path):
    other = scribes.write_table(tmp_path / "other.tsv", scribes.SOURCES, [*scribes.TARGETS[:-1], "else"])
    studies = [
        opened(),
        opened(metric="rouge1"),
        opened(metric="perplexity"),
        opened(data=other),
        opened(max_length=7),
        opened("t5"),
    ]
    keys = [study.key(Recipe(), 0.0) for study in studies]
    assert len(set(keys)) == len(keys)
    assert opened(data="table").key(Recipe(), 0.0) == keys[0] != opened(data="table").key(Recipe(), 0.3)
    assert repr(opened()).endswith("'sequences': rougeL on 14 texts, statistics on 30 texts)")


def test_how_a_model_writes_is_part_of_what_a_score_is_known_by(opened, tmp_path):
    model, tok = scribes.scribe("bart", beams=2)
    beams, greedy = opened(str(tiny.save(tmp_path / "beams", model, tok))), opened()
    assert beams.loaded.fingerprint == greedy.loaded.fingerprint and beams.data_id != greedy.data_id
    assert written(beams, beams.model) != written(greedy, greedy.model)


def test_tasks_that_begin_with_words_of_their_own_are_told(tmp_path):
    model, tok = scribes.scribe("t5")
    model.config.task_specific_params = {"summarization": {"prefix": "summarize: "}}
    folder = tiny.save(tmp_path / "t5", model, tok)
    for begin, told in (("", 1), ("summarize: ", 0)):
        table = scribes.write_table(tmp_path / "pairs.tsv", [begin + text for text in scribes.SOURCES])
        study = open_study(str(folder), "sequences", table, text=("source",), label="target")
        assert sum("nothing was put before the texts" in note for note in study.notes) == told


def test_a_curve_keeps_the_flips(opened, tmp_path):
    study, store = opened(), CurveStore(tmp_path / "curve.parquet")
    rows = list(sweep(study, [Recipe()], [0.0, 0.3], None, store))
    assert {row["metric"] for row in rows} == {"rougeL"} and [row["n"] for row in rows] == [14, 14]
    again = score_of(known_point(study, Recipe(), 0.3, "float32", CurveStore(tmp_path / "curve.parquet")))
    assert again.right.shape == (14,) and again.others.keys() == {"rouge1", "rouge2", "perplexity", "token_accuracy"}


def test_the_check_has_a_row_for_it(opened):
    study = opened("t5")
    rows = {row.name: row for row in check_model(study.loaded)}
    assert rows["generation"].can and rows["best"].can and not rows["ONNX"].can
    assert check_task(study).why.startswith("sequences: target tokens, rougeL on 14 texts, targets of ")


def test_models_that_do_not_write_about_a_text(opened, tmp_path):
    bert = tiny.save(tmp_path / "bert", tiny.classifier("bert"), tiny.tokenizer("bert"))
    refused("writes nothing about a text", opened, str(bert))
    gpt2 = tiny.save(tmp_path / "gpt2", *tiny.writer("gpt2"))
    refused("writes nothing about a text: give it a text", opened, str(gpt2))
    refused("does not take --labels", opened, labels=("a", "b"))
    refused("has no metric 'accuracy'", opened, metric="accuracy")
    refused("Texts cannot be cut to 99", opened, max_length=99)
    refused("writes about a text, and", load_model, opened().loaded.name, "classes")


@pytest.mark.parametrize("family", scribes.FAMILIES)
def test_a_pruned_model_is_tuned_with_a_teacher(family, opened, made):
    study = opened(family)
    lessons = lessons_of(study, "sequences", made["both"], ("source",), "target")
    assert len(lessons.data) == 30 and not lessons.notes
    small = study_of(study, study.squeezed(RECIPES["best"], 0.4), "small")
    tuned = fine_tune(small, lessons, replace(QUICK, steps=20, lr=3e-3), teacher=study.loaded, hidden=0.5)
    assert tuned.after.others["perplexity"] < tuned.before.others["perplexity"]
    assert tuned.model.squeezed.cost == small.model.squeezed.cost
    (note,) = lessons_of(opened(family, "table"), "sequences", made["table"], ("source",), "target").notes
    assert note.startswith("The model learns the texts that it is scored on")


PRUNING = ("none", "variance", "random", "magnitude", "deletion", "movement", "block", "hybrid", "hybrid filled", "struct")


@pytest.mark.parametrize("method", PRUNING)
@pytest.mark.parametrize("family", scribes.FAMILIES)
def test_every_method_of_training(family, method, opened, made, tmp_path):
    study = opened(family, metric="perplexity")
    lessons = lessons_of(study, "sequences", made["both"], ("source",), "target")
    teacher = Teacher.make(study.model, study.loaded.tokenizer, study.model, study.loaded.tokenizer)
    material = TrainingMaterial(study, lessons, teacher, "itself")
    rows = list(run_training(material, TrainSettings(method=method, schedule=QUICK, scores=1), tmp_path / "run"))
    assert rows[-1]["done"] and rows[-1]["metric"] == "perplexity"
    assert all(np.isfinite(row["loss"]) for row in rows if "loss" in row)
    if method != "none":
        assert rows[-1]["share_pruned"] > 0.05 or method in ("magnitude", "deletion")  # few steps, and no row is empty
        assert score(load_pruned(tmp_path / "run" / "model"), study.question).value == pytest.approx(
            rows[-1]["value"], rel=1e-6
        )
