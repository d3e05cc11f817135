"""`vp norms` and `vp finetune` on tiny models and files."""

import json

import numpy as np
import pytest
import tiny
import torch
import transformers
from commands import SHORT, printed
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from analysis.function_norms import norm_table
from analysis.names import KIND_NAMES
from app.cli.main import main
from vp_core.asking.batches import make_batches
from vp_core.identity.spectral import rescaled
from vp_core.identity.threshold import Threshold, running_scores
from vp_core.loading.load import load_model
from vp_core.measuring.function_norms import FunctionNorms, collect_norms
from vp_core.measuring.spectral_norms import spectral_norms
from vp_core.model.precision import fast_precision
from vp_core.model.projections import find_projections
from vp_core.opening.study import open_study
from vp_core.recipes import Recipe
from vp_core.squeezing.folder import about_of, load_pruned


def same(found, norms):
    """Printed rows against the library's table, digit by digit."""
    table = norm_table(norms)
    assert len(found) == len(table) == len(norms.blocks)
    for mine, (_, row), block in zip(found, table.iterrows(), norms.blocks, strict=True):
        assert (mine["layer"], mine["kind"], mine["head"]) == (block.layer, block.kind, block.head)
        numbers = set(table.columns) - {"layer", "kind", "head"}
        assert {"mean", "max", "q05", "q99"} < numbers
        assert {name: mine[name] for name in numbers} == {name: float(row[name]) for name in numbers}


def test_norms_are_the_librarys(capsys, tmp_path, task, study):
    out, plot = tmp_path / "norms.safetensors", tmp_path / "norms.html"
    found = printed(capsys, "norms", *task, "--out", out, "--plot", plot)
    norms = study.measured().norms()
    same(found["blocks"], norms)
    assert found["tokens"] == int(norms.histogram.count[0]) and found["texts"] == len(study.calibration)
    assert (found["weights"], found["sn"], found["model"]) == ("as given", None, task[0])
    assert torch.equal(FunctionNorms.load(out).histogram.counts, norms.histogram.counts)
    html = plot.read_text()
    assert "<script src" not in html and KIND_NAMES["ffn"] in html
    row = found["blocks"][-1]
    assert (row["layer"], row["kind"], row["head"]) == (tiny.LAYERS - 1, "ffn", None)


def test_norms_for_people(capsys, task):
    assert main(["norms", *task]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "as given" in lines[0] and lines[1].split()[:3] == ["layer", "kind", "head"]
    assert len(lines) == 2 + tiny.LAYERS * (tiny.HEADS + 2)


def test_the_demos_twin_stands_for_the_demo_under_normalisation(capsys):
    found = printed(capsys, "norms", "demo", "--sn", "5", "--calibration", "32")
    twin = open_study("demo-sn", calibration=32)
    same(found["blocks"], twin.measured().norms())
    assert (found["model"], found["weights"], found["sn"]) == (
        "demo-sn", "trained with SN towards the demo's hidden states and outputs", 5.0,
    )  # fmt: skip
    same(printed(capsys, "norms", "demo-sn", "--sn", "5", "--calibration", "32")["blocks"], twin.measured().norms())


def test_rescaled_weights_are_called_what_they_are(capsys, task, study):
    found = printed(capsys, "norms", *task, "--sn", "2", "--rescaled")
    model = rescaled(study.model, 2)
    expected = collect_norms(model, make_batches(study.calibration, range(len(study.calibration))))
    same(found["blocks"], expected)
    assert found["weights"] == "rescaled only"
    assert main(["norms", *task, "--sn", "2", "--rescaled"]) == 0
    output = capsys.readouterr()
    assert "rescaled only" in output.out and "nothing is trained" in output.err


def test_norms_of_a_normalised_model_come_from_training(capsys, tmp_path, task, folders, data):
    found = printed(capsys, "norms", *task, "--sn", "2", *SHORT)
    assert found["weights"] == "fine-tuned with SN"
    printed(capsys, "finetune", *task, "--sn", "2", *SHORT, "--out", tmp_path / "tuned")
    tuned = open_study(str(tmp_path / "tuned"), "sst2", data)
    same(found["blocks"], tuned.measured().norms())  # the same training, then the same measurement
    assert max(abs(s - 2) for s in spectral_norms(tuned.model).values()) < 0.01
    only_rescaled = printed(capsys, "norms", *task, "--sn", "2", "--rescaled")["blocks"]
    assert [row["mean"] for row in only_rescaled] != [row["mean"] for row in found["blocks"]]


def test_thresholds_say_which_blocks_are_off(capsys, task, study):
    norms = study.measured().norms()
    means = norms.means()
    epsilon = (
        1.5 * max(m for b, m in means.items() if b.kind == "head"),
        1.2 * min(m for b, m in means.items() if b.kind == "ffn"),
    )
    found = printed(capsys, "norms", *task, "--epsilon", ",".join(map(str, epsilon)), "--theta", "0.5")
    threshold = Threshold(*epsilon, 0.5)
    *_, last = running_scores(study, threshold)
    assert found["off"] == [block.name for block in threshold.off(norms)] and found["off"]
    assert found["value"] == last.value
    assert [row["identity"] for row in found["blocks"]] == norms.identity_share(threshold.epsilon).tolist()


def test_finetune_writes_a_plain_checkpoint(capsys, tmp_path, task, study):
    folder, plot = tmp_path / "tuned", tmp_path / "sigma.html"
    command = [*task, "--epochs", "2", *SHORT, "--lr", "0.001", "--seed", "3", "--out", folder, "--plot", plot]
    said = printed(capsys, "finetune", *command)
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert type(model) is transformers.BertForSequenceClassification
    assert tokenizer("the film was great")["input_ids"] == study.loaded.tokenizer("the film was great")["input_ids"]
    scored = printed(capsys, "eval", folder, *task[1:])
    assert scored["value"] == said["after"]["value"] and said["before"]["value"] == study.score(Recipe(), 0.0).value
    kept = json.loads((folder / "training.json").read_text())
    assert {key: kept[key] for key in said if key != "out"} == {key: said[key] for key in said if key != "out"}
    assert kept["schedule"]["epochs"] == 2 and kept["rows"] == 40 and kept["loss"] > 0
    steps = [point["step"] for point in kept["sigmas"]]
    assert steps == [0, 1, 2, 3, 4]  # four mini-batches
    assert kept["sigmas"][0]["sigma"] == pytest.approx(dict(spectral_norms(study.model)), rel=1e-5)
    assert kept["sigmas"][-1]["sigma"] == pytest.approx(dict(spectral_norms(model.eval())), rel=1e-5)
    assert kept["sigmas"][0]["sigma"] != kept["sigmas"][-1]["sigma"]
    assert "training step" in plot.read_text()
    assert tiny.sha(load_model(task[0]).model) == tiny.sha(study.model)  # what came in is as it was


def test_the_precision_that_was_taken_is_told_and_kept(capsys, tmp_path, task):
    command = ["finetune", *map(str, task), "--examples", "16", "--batch", "8", "--out", str(tmp_path / "tuned"), "--json"]
    assert main(command) == 0
    output, fast = capsys.readouterr(), fast_precision()
    assert json.loads(output.out)["schedule"]["precision"] == fast and f"precision {fast}" in output.err
    assert json.loads((tmp_path / "tuned" / "training.json").read_text())["schedule"]["precision"] == fast


def test_finetune_under_normalisation_holds_the_norms(capsys, tmp_path, task):
    printed(capsys, "finetune", *task, "--sn", "3", *SHORT, "--out", tmp_path / "tuned")
    kept = json.loads((tmp_path / "tuned" / "training.json").read_text())
    sigmas = np.array([list(point["sigma"].values()) for point in kept["sigmas"]])
    assert kept["sn"] == 3 and np.abs(sigmas - 3).max() < 0.01
    assert not any("parametrizations" in name for name in load_file(tmp_path / "tuned" / "model.safetensors"))


def test_finetune_begins_where_it_is_told_to(capsys, tmp_path, task, study):
    """At a rate of nothing the result is the start: λW/σ(W) by numpy, or what `nearest` finds."""
    at = {}
    for start in ("rescaled", "nearest"):
        how = ["--sn", "3", "--start", start, "--lr", "1e-12", *SHORT]
        about = printed(capsys, "finetune", *task, *how, "--out", tmp_path / start)
        at[start] = load_model(tmp_path / start).model
        assert about["start"] == start and about["schedule"]["lr"] == 1e-12
    for p in find_projections(study.model):
        w = study.model.get_submodule(p.path).weight.detach().double().numpy()
        found = {start: model.get_submodule(p.path).weight.detach().numpy() for start, model in at.items()}
        np.testing.assert_allclose(found["rescaled"], w * 3 / np.linalg.norm(w, 2), rtol=1e-3, atol=1e-5)
        assert np.abs(found["nearest"] - found["rescaled"]).max() > 1e-3


def zero_rows(folder):
    """Counted in the file itself: rows of nothing but zeros in the six projections of a BERT."""
    parts = ("query.weight", "key.weight", "value.weight", "output.dense.weight", "intermediate.dense.weight")
    tensors = load_file(folder / "model.safetensors")
    return sum(int((~t.any(dim=1)).sum()) for n, t in tensors.items() if ".layer." in n and n.endswith(parts))


def test_finetune_keeps_the_masks_of_a_pruned_model(capsys, tmp_path, task):
    masked, tuned = tmp_path / "masked", tmp_path / "tuned"
    printed(capsys, "prune", *task, "--sparsity", "0.3", "--format", "transformers", "--out", masked)
    rows = zero_rows(masked)
    assert rows == 5 * round(0.3 * 3 * tiny.HIDDEN) + round(0.3 * 3 * tiny.FFN)
    command = ["finetune", str(masked), *task[1:], *SHORT, "--lr", "0.01", "--out", str(tuned)]
    assert main(command) == 0
    assert f"{rows:,} rows that were zero stay zero" in capsys.readouterr().err
    assert zero_rows(tuned) == rows == json.loads((tuned / "training.json").read_text())["zero_rows"]
    printed(capsys, "snip", tuned, *task[1:], "--iterations", "1", "--at-least", "1", *SHORT, "--out", tmp_path / "run")


def test_finetune_of_a_squeezed_model(capsys, tmp_path, task):
    small, tuned = tmp_path / "small", tmp_path / "tuned"
    printed(capsys, "prune", *task, "--sparsity", "0.3", "--out", small)
    said = printed(capsys, "finetune", small, *task[1:], *SHORT, "--lr", "0.001", "--out", tuned)
    before, after = load_pruned(small), load_pruned(tuned)
    assert tiny.sha(before) != tiny.sha(after) and before.squeezed.as_json() == after.squeezed.as_json()
    assert printed(capsys, "eval", tuned, *task[1:])["value"] == said["after"]["value"]
    assert printed(capsys, "eval", small, *task[1:])["value"] == said["before"]["value"]
    assert json.loads((tuned / "training.json").read_text())["sigmas"] == []
    about = about_of(tuned)
    assert about["trained"]["after"] == said["after"]
    assert {name: value for name, value in about.items() if name != "trained"} == about_of(small)
    printed(capsys, "finetune", tuned, *task[1:], *SHORT, "--out", tuned)  # once more, in its own place
    assert load_pruned(tuned).squeezed.as_json() == before.squeezed.as_json()


@pytest.mark.parametrize("recipe", ["units mean", "2:4"])
def test_finetune_with_a_teacher(capsys, tmp_path, task, study, recipe):
    small, tuned = tmp_path / "small", tmp_path / "tuned"
    printed(capsys, "prune", *task, "--recipe", recipe, "--sparsity", "0.5", "--out", small)
    command = [small, *task[1:], *SHORT, "--teacher", task[0], "--alpha", "0.25", "--out", tuned]
    said = printed(capsys, "finetune", *command)
    expected = {"model": task[0], "fingerprint": study.loaded.fingerprint, "alpha": 0.25, "temperature": 2.0, "hidden": 0.0}
    assert said["teacher"] == expected == json.loads((tuned / "training.json").read_text())["teacher"]
    assert about_of(tuned)["trained"]["teacher"] == expected
    assert printed(capsys, "eval", tuned, *task[1:])["value"] == said["after"]["value"]
    before, after = load_pruned(small), dict(load_pruned(tuned).named_parameters())
    assert all(not after[name][p == 0].any() for name, p in before.named_parameters() if p.dim() == 2)
    alone = printed(capsys, "finetune", small, *task[1:], *SHORT, "--out", tmp_path / "alone")
    assert "teacher" not in alone and alone["loss"] != said["loss"]


def test_finetune_keeps_single_weights_of_the_old_shape(capsys, tmp_path, task):
    masked, tuned = tmp_path / "masked", tmp_path / "tuned"
    printed(capsys, "prune", *task, "--recipe", "weights", "--sparsity", "0.6", "--format", "transformers", "--out", masked)
    assert main(["finetune", str(masked), *task[1:], *SHORT, "--lr", "0.01", "--out", str(tuned)]) == 0
    assert "weights that were zero stay zero" in capsys.readouterr().err
    before, after = (load_file(folder / "model.safetensors") for folder in (masked, tuned))
    assert all(not after[name][tensor == 0].any() for name, tensor in before.items() if ".layer." in name and tensor.dim() == 2)
    assert json.loads((tuned / "training.json").read_text())["zero_weights"] > 1000
