"""Squeezed models on disk: they load elsewhere without what they came from, or are refused in one sentence."""

import json
import shutil
from pathlib import Path

import pytest
import tiny
import torch
import transformers
from safetensors.torch import load_file, save_file

from vp_core.ground.errors import VPError
from vp_core.ground.store import is_pruned
from vp_core.loading.load import load_model
from vp_core.opening.study import open_study
from vp_core.recipes import Recipe
from vp_core.replacing.prune import prune
from vp_core.squeezing import folder as module
from vp_core.squeezing.cost import parameters
from vp_core.squeezing.dense_form import export_transformers
from vp_core.squeezing.folder import load_pruned, save_pruned, task_of
from vp_core.squeezing.squeeze import squeeze

AUTO = {"gpt2": "CausalLM", "llama": "CausalLM", "bart": "Seq2SeqLM", "mbart": "Seq2SeqLM"} | dict.fromkeys(
    tiny.SEEING, "ImageClassification"
)


def pair(family, share=0.5):
    """(pruned, squeezed)"""
    model = tiny.transformer(family, dtype=torch.float32)
    plan = tiny.random_plan(model, share, seed=2)
    pruned = prune(model, plan, tiny.random_constants(model))
    return pruned, squeeze(pruned, plan)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder of pruned folders, one for each family, with inputs and logits of what was saved beside each."""
    base = tmp_path_factory.mktemp("saved")
    for family in tiny.TRANSFORMERS:
        _, squeezed = pair(family)
        inputs = tiny.inputs(family, torch.float32)
        if squeezed.can_generate():
            squeezed.generation_config.no_repeat_ngram_size = 2
        save_pruned(squeezed, base / family, about={"from": "a tiny model", "sparsity": 0.5})
        with torch.no_grad():
            save_file(inputs | {"logits": squeezed(**inputs).logits.contiguous()}, base / f"{family}.safetensors")
    return base


ELSEWHERE = """
import json, sys
from pathlib import Path
import torch
from safetensors.torch import load_file
from vp_core.squeezing.folder import load_pruned
torch.set_num_threads(1)
found = {}
for folder in filter(Path.is_dir, Path(sys.argv[1]).iterdir()):
    given, model = load_file(f"{folder}.safetensors"), load_pruned(folder)
    expected = given.pop("logits")
    with torch.no_grad():
        found[folder.name] = torch.equal(model(**given).logits, expected) and not model.training
print(json.dumps(found))
"""


def test_a_fresh_process_gets_the_same_bits(saved, python):
    out, err = python(ELSEWHERE, saved).communicate(timeout=600)
    assert json.loads(out.splitlines()[-1]) == dict.fromkeys(tiny.TRANSFORMERS, True), err
    assert not [path for path in saved.rglob("*") if path.suffix in (".bin", ".pt", ".pkl", ".py")]


@pytest.mark.parametrize("family", tiny.TRANSFORMERS)
def test_what_was_known_of_a_model_is_known_of_the_loaded_one(saved, family):
    _, squeezed = pair(family)
    found = load_pruned(saved / family)
    assert is_pruned(saved / family) and found.squeezed == squeezed.squeezed
    assert type(found) is type(squeezed) and tiny.sha(found) == tiny.sha(squeezed)
    assert parameters(found) == parameters(squeezed)  # what was tied is tied
    assert tiny.in_memory(found)
    assert all(p.device.type == "cpu" for p in [*found.parameters(), *found.buffers()])
    assert json.loads((saved / family / "pruned.json").read_text())["about"]["sparsity"] == 0.5
    loss = found(**tiny.inputs(family, torch.float32)).logits.square().mean()
    loss.backward()  # and it can be trained
    if family in ("gpt2", "bart", "llama"):
        assert found.generation_config.no_repeat_ngram_size == 2


@pytest.mark.parametrize("family", tiny.TRANSFORMERS)
def test_export_is_a_plain_model_of_transformers(family, tmp_path):
    pruned, squeezed = pair(family)
    before = tiny.sha(pruned)
    if pruned.can_generate():
        pruned.generation_config.no_repeat_ngram_size = 2
    if family in ("t5", "beit"):  # BEiT's keys have no bias
        with pytest.raises(VPError, match=rf"{family} model there has no .*bias: save it squeezed instead\.$"):
            export_transformers(pruned, tmp_path / "plain")
        return
    export_transformers(pruned, tmp_path / "plain")
    auto = getattr(transformers, f"AutoModelFor{AUTO.get(family, 'SequenceClassification')}")
    found, info = auto.from_pretrained(tmp_path / "plain", output_loading_info=True)
    assert not any(info.values()) and type(found) is type(pruned) and tiny.sha(pruned) == before
    assert not found.can_generate() or found.generation_config.no_repeat_ngram_size == 2
    inputs = tiny.inputs(family, torch.float32)
    assert torch.equal(tiny.logits(found, inputs), tiny.logits(pruned, inputs))
    assert tiny.distance(tiny.logits(squeezed, inputs), tiny.logits(found, inputs)) <= 1e-4
    assert [p.name for p in tmp_path.iterdir()] == ["plain"]
    with pytest.raises(VPError, match="export the pruned model before squeezing"):
        export_transformers(squeezed, tmp_path / "other")


def test_two_outputs_without_names_stay_two(tmp_path):
    """The configuration of BART takes none for three, and transformers does not write two."""
    model = tiny.classifier("bart")
    plan = tiny.random_plan(model)
    pruned = prune(model, plan, tiny.random_constants(model))
    save_pruned(squeeze(pruned, plan), tmp_path / "small")
    export_transformers(pruned, tmp_path / "plain")
    plain = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "plain")
    for found in (load_pruned(tmp_path / "small"), plain):
        assert found.config.id2label == {0: "LABEL_0", 1: "LABEL_1"} and found.classification_head.out_proj.out_features == 2


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_study_of_a_pruned_folder(studies, data, tmp_path, family):
    study, recipe = studies[family], Recipe(scope="global")
    squeezed = study.squeezed(recipe, 0.3)
    save_pruned(squeezed, tmp_path / "small", study.loaded.tokenizer)
    small = open_study(str(tmp_path / "small"), "sst2", data)
    expected = study.score(recipe, 0.3)
    found = small.score(Recipe(), 0)
    assert found.right.tolist() == expected.right.tolist() and found.value == expected.value
    assert small.cost(Recipe(), 0) == study.cost(recipe, 0.3)
    assert small.loaded.projections == () and small.loaded.fingerprint != study.loaded.fingerprint
    for call in (lambda: small.score(Recipe(), 0.3), small.statistics, lambda: small.plan(Recipe("magnitude"), 0.5)):
        with pytest.raises(VPError, match="squeezed already") as caught:
            call()
        assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


def test_what_is_no_study(saved, studies, tmp_path):
    with pytest.raises(VPError, match=r"tokeniser of .* is missing"):
        load_model(str(saved / "bert"))
    for family in ("gpt2", "bart", *tiny.SEEING, "llama"):  # language models and pictures
        with pytest.raises(VPError, match="no text classifier") as caught:
            load_model(str(saved / family))
        assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


def facts(**changes):
    """Change pruned.json; None drops an entry."""

    def change(folder):
        path = folder / "pruned.json"
        about = json.loads(path.read_text()) | changes
        path.write_text(json.dumps({key: value for key, value in about.items() if value is not None}))

    return change


def text(name, make):
    """Change a file of the folder as text."""
    return lambda folder: (folder / name).write_text(make((folder / name).read_text()))


def cut_weights(folder):
    path = folder / "pruned.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def weights(change):
    """Change the weights, with a checksum that fits."""

    def write(folder):
        tensors = load_file(folder / "pruned.safetensors")
        change(tensors)
        save_file(tensors, folder / "pruned.safetensors", metadata={"kind": "squeezed model"})
        facts(sha256=module._sha256(folder / "pruned.safetensors"))(folder)

    return write


def squeezed(**others):
    """Say something else of the squeezed modules."""

    def write(folder):
        about = json.loads((folder / "pruned.json").read_text())
        facts(squeezed=about["squeezed"] | others)(folder)

    return write


def shape(**others):
    """Say something else of the first squeezed module."""

    def write(folder):
        modules = json.loads((folder / "pruned.json").read_text())["squeezed"]["modules"]
        path = min(modules)
        squeezed(modules=modules | {path: modules[path] | others})(folder)

    return write


def grown(folder):
    with (folder / "pruned.json").open("ab") as file:
        file.truncate(2**30)


BROKEN = {
    "weights cut short": (cut_weights, "not those that were saved"),
    "no weights": (
        lambda folder: (folder / "pruned.safetensors").unlink(),
        r"pruned\.safetensors' cannot be read \(No such file",
    ),
    "a Git-LFS pointer": (
        lambda folder: (folder / "pruned.safetensors").write_text("version https://git-lfs.github.com/spec/v1\nsize 9\n"),
        "is a Git-LFS pointer.*git lfs pull",
    ),
    "a weight too few": (weights(lambda t: t.pop("classifier.weight")), "classifier.weight.*missing"),
    "a weight of another size": (
        weights(lambda t: t.update({"classifier.bias": torch.zeros(5)})),
        "classifier.bias has the shape",
    ),
    "json cut short": (text("pruned.json", lambda t: t[:200]), "is broken"),
    "json of something else": (text("pruned.json", lambda t: "[1, 2]"), "is broken"),
    "a fact too few": (facts(squeezed=None), "is broken"),
    "nonsense for a fact": (facts(squeezed={"modules": 7}), "cannot be loaded"),
    "nonsense for ties": (facts(tied=["a"]), "cannot be loaded"),
    "a shape too large": (shape(columns=10**12, rows=10**12), "cannot be loaded.*has the shape|cannot be loaded.*missing"),
    "a shape beyond counting": (shape(columns=2**62, rows=2**62), "cannot be loaded"),
    "a shape of text": (shape(rows="many"), "cannot be loaded"),
    "a shape below zero": (shape(rows=-5, columns=-5), "cannot be loaded"),
    "a shape for no module": (squeezed(modules={"bert.nowhere.dense": {"columns": 4, "rows": 4}}), "cannot be loaded.*nowhere"),
    "a size that is none": (squeezed(attributes={"bert.encoder": {"forward": 7}}), r"bert\.encoder\.forward = 7 is no size"),
    "a size of text": (
        squeezed(attributes={"bert.encoder.layer.0.attention.self": {"attention_head_size": "x"}}),
        "attention_head_size = x is no size",
    ),
    "a cost of text": (squeezed(cost={"rows": "many"}), "cost is not in numbers"),
    "a gigabyte of json": (grown, r"pruned\.json' has 1,0.. MiB"),
    "facts about nothing": (facts(about=["demo"], format="x"), "this version reads"),
    "a size in config.json that no weight has": (
        text("config.json", lambda t: t.replace('"vocab_size": 99', '"vocab_size": 99000000000')),
        "vocab_size = 99000000000",
    ),
    "another format": (facts(format="variance-pruning squeezed model 99"), "this version reads"),
    "a class that transformers has not": (facts(**{"class": "BertForMischief"}), "BertForMischief.*not supported"),
    "a function for a class": (facts(**{"class": "pipeline"}), "pipeline.*not supported"),
    "another class": (facts(**{"class": "BertForQuestionAnswering"}), "cannot be loaded"),
    "an unknown family": (facts(model_type="xlnet"), "xlnet.*not supported"),
    "another family in config.json": (text("config.json", lambda t: t.replace('"bert"', '"electra"')), "says electra"),
    "another size in config.json": (text("config.json", lambda t: t.replace(": 48", ": 60")), "cannot be loaded"),
    "no family in config.json": (text("config.json", lambda t: "{}"), "cannot be loaded"),
    "config.json cut short": (text("config.json", lambda t: t[:100]), "could not be loaded|cannot be read"),
    "no config.json": (lambda folder: (folder / "config.json").unlink(), "could not be loaded|cannot be read"),
    "a foreign folder": (lambda folder: (folder / "pruned.json").unlink(), "has no pruned.json"),
    "no folder": (shutil.rmtree, "has no pruned.json"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_one_sentence_for_what_is_broken(saved, tmp_path, case):
    folder = shutil.copytree(saved / "bert", tmp_path / "model")
    load_pruned(folder)
    damage, says = BROKEN[case]
    damage(folder)
    with pytest.raises(VPError, match=says) as caught:
        load_pruned(folder)
    sentence = str(caught.value)
    assert "\n" not in sentence and "Traceback" not in sentence and sentence.endswith(".") and len(sentence) < 500


def test_saving_refuses(saved, tmp_path):
    pruned, squeezed = pair("bert")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    for model, folder, says in (
        (pruned, tmp_path / "new", "not squeezed"),
        (squeezed, tmp_path / "mine", "not empty"),
        (squeezed, tmp_path / "mine" / "letter.txt", "is a file"),
        (squeezed, tmp_path / "no" / "where", "is not there"),
    ):
        with pytest.raises(VPError, match=says):
            save_pruned(model, folder)
    with pytest.raises(VPError, match="not empty"):
        export_transformers(pruned, tmp_path / "mine")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["letter.txt", "mine"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("where", ["save_tensors", "_sha256", "rename"])
def test_a_failed_save_leaves_the_old_folder(tmp_path, monkeypatch, error, where):
    _, squeezed = pair("bert")
    folder = save_pruned(squeezed, tmp_path / "model")
    assert save_pruned(squeezed, folder) == folder  # over itself is fine
    _, other = pair("bert", 0.2)
    rename = Path.rename

    def fail(*_, **__):
        raise error

    if where == "rename":
        monkeypatch.setattr(Path, "rename", lambda path, to: fail() if path.name == "new" else rename(path, to))
    else:
        monkeypatch.setattr(module, where, fail)
    with pytest.raises((VPError, KeyboardInterrupt)):
        save_pruned(other, folder)
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    assert tiny.sha(load_pruned(folder)) == tiny.sha(squeezed) != tiny.sha(other)
    save_pruned(other, folder)
    assert tiny.sha(load_pruned(folder)) == tiny.sha(other)


def test_what_a_folder_is_about_may_be_anything(saved, tmp_path):
    folder = shutil.copytree(saved / "bert", tmp_path / "model")
    facts(about=["demo"])(folder)
    assert task_of(folder) is None


def test_links_out_of_a_folder_are_read_and_never_written(saved, tmp_path):
    """People link large weights to another disk."""
    folder, outside = shutil.copytree(saved / "bert", tmp_path / "model"), tmp_path / "outside"
    outside.mkdir()
    for path in list(folder.iterdir()):
        path.rename(outside / path.name)
        path.symlink_to(outside / path.name)
    before = {path.name: path.read_bytes() for path in outside.iterdir()}
    assert tiny.sha(load_pruned(folder)) == tiny.sha(load_pruned(saved / "bert"))
    _, other = pair("bert", 0.2)
    save_pruned(other, folder)
    assert {path.name: path.read_bytes() for path in outside.iterdir()} == before
    assert not any(path.is_symlink() for path in folder.iterdir()) and tiny.sha(load_pruned(folder)) == tiny.sha(other)
