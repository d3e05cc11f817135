"""`vp prune` and `vp speed`, and `vp eval` of what was written."""

import json

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from app.cli.main import main
from vp_core.opening.study import open_study
from vp_core.recipes import Recipe
from vp_core.squeezing.folder import load_pruned
from vp_core.squeezing.timing import random_texts


def prune(capsys, *arguments, model="demo"):
    assert main(["prune", model, "--json", *map(str, arguments)]) == 0
    return json.loads(capsys.readouterr().out)


def evaluated(capsys, *arguments):
    assert main(["eval", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.slow  # the demo, on all its sentences, three times
def test_a_pruned_folder_is_smaller_and_scores_the_same(capsys, tmp_path, demo):
    said = prune(capsys, "--sparsity", 0.4, "--out", tmp_path / "small")
    model, inputs = load_pruned(tmp_path / "small"), random_texts(demo.model.config, 3, 20)
    with torch.inference_mode():
        expected = demo.pruned(Recipe(), 0.4)(**inputs).logits
        assert torch.allclose(model(**inputs).logits, expected, atol=1e-4 * float(expected.abs().max()))
    assert said["parameters"] == sum(p.numel() for p in model.parameters()) < 0.8 * said["parameters_dense"]
    assert said["flops_per_token"] < 0.6 * said["flops_per_token_dense"]
    assert said["bytes"] == sum(f.stat().st_size for f in (tmp_path / "small").iterdir())
    scored = evaluated(capsys, tmp_path / "small")  # it remembers that it answers the demo's question
    assert scored["value"] == pytest.approx(demo.score(Recipe(), 0.4).value, abs=0.0011)  # rounding may turn one of 1,000
    assert scored["parameters_removed"] == demo.cost(Recipe(), 0.4).parameters_removed


def test_the_transformers_form_is_loaded_by_transformers(capsys, tmp_path, short_demo):
    folder, study = tmp_path / "masked", open_study(**short_demo)
    question = ["--task", short_demo["task"], "--data", short_demo["data"]]
    prune(capsys, *question, "--sparsity", 0.4, "--criterion", "magnitude", "--out", folder, "--format", "transformers")
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    pruned = study.pruned(Recipe("magnitude"), 0.4)
    inputs = tokenizer(["a warm and clever film", "dull"], padding=True, return_tensors="pt")
    with torch.inference_mode():
        assert torch.equal(model(**inputs).logits, pruned(**inputs).logits)
    assert evaluated(capsys, folder, *question)["value"] == study.score(Recipe("magnitude"), 0.4).value


@pytest.mark.slow
def test_onnx_is_written_beside_the_tokeniser(capsys, tmp_path, task):
    pytest.importorskip("onnxruntime")
    model, *question = task
    prune(capsys, *question, "--sparsity", 0.5, "--out", tmp_path / "onnx", "--format", "onnx", model=model)
    assert {"model.onnx", "tokenizer.json"} <= {f.name for f in (tmp_path / "onnx").iterdir()}


def test_speed_times_every_form(capsys, task):
    command = ["speed", *task, "--sparsities", "0.3,0.6", "--batch", "1,2", "--length", "16", "--repeats", "2", "--json"]
    assert main(command) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(r["batch"], r["form"], r["sparsity"]) for r in rows] == [
        (b, form, s)
        for b in (1, 2)
        for form, s in (("dense", 0), ("masked", 0.3), ("squeezed", 0.3), ("masked", 0.6), ("squeezed", 0.6))
    ]
    assert all(r["low_ms"] <= r["latency_ms"] <= r["high_ms"] and r["length"] == 16 for r in rows)


def test_speed_without_a_task_says_what_it_does(capsys, folders):
    assert main(["speed", str(folders["gpt2"]), "--sparsities", "0.5", "--batch", "1", "--length", "8", "--repeats", "1"]) == 0
    output = capsys.readouterr()
    assert "rows go by magnitude" in output.err and "squeezed" in output.out


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["prune", "demo", "--out", "{here}"], "is not empty: choose a new one"),
        (["prune", "demo", "--out", "{here}/no/where"], "make it first"),
        (["prune", "demo", "--out", "{here}/x", "--format", "pickle"], "Unknown format 'pickle'"),
        (["prune", "demo", "--out", "{here}/x", "--sparsity", "7"], "between 0 and 1"),
        (["speed", "demo", "--length", "600"], "512 tokens at most"),
        (["speed", "demo", "--batch", "none"], "no whole number"),
        (["speed", "{bert}", "--criterion", "variance"], "needs texts"),
    ],
)
def test_one_sentence_for_what_is_wrong(capsys, tmp_path, folders, command, says):
    (tmp_path / "a file").touch()
    assert main([part.format(here=tmp_path, bert=folders["bert"]) for part in command]) == 2
    output = capsys.readouterr()
    (sentence,) = [line for line in output.err.splitlines() if line.startswith("vp: ")]
    assert says in sentence and output.out == ""
    assert [f.name for f in tmp_path.iterdir()] == ["a file"]


def test_a_squeezed_folder_cannot_be_pruned_again(capsys, tmp_path, task):
    model, *question = task
    prune(capsys, *question, "--sparsity", 0.5, "--out", tmp_path / "small", model=model)
    for command in (["prune", "--out", str(tmp_path / "x")], ["eval", "--sparsity", "0.2"], ["stats"], ["speed"]):
        assert main([command[0], str(tmp_path / "small"), *question, *command[1:]]) == 2
        assert "squeezed already" in capsys.readouterr().err


WEIGHTS = ("--units", "weights")


def test_single_weights_are_written_small(capsys, tmp_path, task):
    model, *question = task
    said = prune(capsys, *question, *WEIGHTS, "--sparsity", 0.7, "--out", tmp_path / "small", model=model)
    assert said["bytes"] < 0.95 * said["bytes_dense"] and 0.29 < said["weights"] / said["weights_dense"] < 0.31
    assert said["flops_per_token"] == said["flops_per_token_dense"]
    study = open_study(model, question[1], question[3])
    recipe = Recipe("magnitude", "per matrix", "zero", units=("weights",))
    assert evaluated(capsys, tmp_path / "small", *question)["value"] == study.score(recipe, 0.7).value
    dense = prune(
        capsys, *question, *WEIGHTS, "--sparsity", 0.7, "--out", tmp_path / "plain", "--format", "transformers", model=model
    )
    assert dense["bytes"] > said["bytes"]
    found = AutoModelForSequenceClassification.from_pretrained(tmp_path / "plain")
    there = load_pruned(tmp_path / "small")
    for name, tensor in there.named_parameters():
        assert torch.equal(tensor, found.get_parameter(name)), name


@pytest.mark.parametrize(
    ("units", "format_", "says"),
    [
        ("weights", "pruned", "time is not saved, since kernels multiply zeros as any other number)"),
        ("weights", "transformers", "nor space: this format writes them too)"),
        ("blocks 8xall", "pruned", "time is saved by what has left the matrices only, "),
    ],
)
def test_what_zeros_save_is_said(capsys, tmp_path, task, units, format_, says):
    model, *question = task
    command = ["prune", model, *question, "--units", units, "--sparsity", "0.7", "--out", str(tmp_path / "small")]
    assert main([*command, "--format", format_]) == 0
    printed = capsys.readouterr().out
    assert says in printed and "% of the weights are left" in printed and " MB on disk of " in printed


def test_speed_of_single_weights_has_a_layer_in_every_form(capsys, task, folders):
    command = ["--units", "weights", "--sparsities", "0,0.9", "--batch", "1", "--length", "8", "--repeats", "1"]
    assert main(["speed", *task, *command, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [(r["form"], r["sparsity"]) for r in said["model"]][-2:] == [("masked", 0.9), ("squeezed", 0.9)]
    assert [r["form"] for r in said["one layer"]][:2] == ["dense", "zeros"]
    assert {r["sparsity"] for r in said["one layer"]} == {0.9} and "2:4" in said
    assert main(["speed", str(folders["gpt2"]), *command]) == 0
    output = capsys.readouterr()
    assert "go by magnitude" in output.err and "save bytes, not time" in output.out and "disk_megabytes" in output.out
