"""Real checkpoints on real data. `VP_SHARED` names the folder that holds `models/` and `data/`,
else `shared` beside the repository."""

import json
import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from vp_core.asking.batches import encode, make_batches
from vp_core.asking.examples import open_examples
from vp_core.measuring.statistics import collect
from vp_core.opening.study import open_study
from vp_core.recipes import Recipe
from vp_core.squeezing.cost import flops_per_token
from vp_core.squeezing.folder import load_pruned, save_pruned
from vp_core.squeezing.onnx import export_onnx

pytestmark = pytest.mark.slow
SHARED = Path(os.environ.get("VP_SHARED") or Path(__file__).parents[3] / "shared")
TASKS = {"sst2": "accuracy", "mrpc": "accuracy", "stsb": "spearman"}


@cache
def study(task, sentences=None):
    folder = SHARED / "models" / f"minilm-{task}"
    if not (folder / "model.safetensors").is_file() or not (SHARED / "data" / task / "dev.tsv").is_file():
        pytest.skip(f"VP_SHARED={str(SHARED)!r} holds no models/minilm-{task} and data/{task}")
    return open_study(str(folder), task, SHARED / "data", sentences=sentences)


@pytest.mark.parametrize("task", TASKS)
def test_dense_score_is_the_published_one(task):
    found = study(task).score(Recipe(), 0)
    about = json.loads((SHARED / "models" / f"minilm-{task}" / "metrics.json").read_text())
    assert found.n == {"sst2": 872, "mrpc": 408, "stsb": 1500}[task]
    assert found.metric == TASKS[task]
    assert found.value == pytest.approx(about["dev_fp16_weights"][TASKS[task]], abs=0.002)
    assert found.low < found.value < found.high
    if task == "mrpc":
        assert found.others["f1"] == pytest.approx(about["dev_fp16_weights"]["f1"], abs=0.002)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("sparsity", [0.2, 0.3])
def test_variance_keeps_more_than_random(task, sparsity):
    one = study(task, 400)  # the margins are many points
    by_variance = one.score(Recipe("variance"), sparsity).value
    by_chance = [one.score(Recipe("random", seed=seed), sparsity).value for seed in (0, 1, 2)]
    assert by_variance > np.mean(by_chance)


def test_rounded_scores_are_a_regression_for_a_model_with_one_output(tmp_path):
    """Whole numbers from 0 to 5, as stars are: the model's single output decides what the column is."""
    whole = study("stsb", 300)
    rows = [line.split("\t") for line in (SHARED / "data" / "stsb" / "dev.tsv").read_text(encoding="utf-8").splitlines()]
    first, second, score = (rows[0].index(name) for name in ("sentence1", "sentence2", "score"))
    lines = [(row[first], row[second], round(float(row[score]))) for row in rows[1:301]]
    path = tmp_path / "rounded.tsv"
    path.write_text("\n".join("\t".join(map(str, line)) for line in [("a", "b", "stars"), *lines]), encoding="utf-8")
    rounded = open_study(str(SHARED / "models" / "minilm-stsb"), str(path), text=("a", "b"), label="stars")
    values = whole.predict(whole.model, [line[:2] for line in lines])[0][:, 0]
    found = rounded.score(Recipe(), 0)
    assert found.metric == "spearman" and found.value > 0.8
    assert found.value == pytest.approx(spearmanr([line[2] for line in lines], values).statistic, abs=1e-4)


def test_statistics_are_numpys_without_padding():
    one = study("sst2")
    model, tok = one.model, one.loaded.tokenizer
    lines = (SHARED / "data" / "sst2" / "dev.tsv").read_text(encoding="utf-8").splitlines()[1:65]
    texts = [line.split("\t")[0] for line in lines]
    data = encode(tok, [(t,) for t in texts], 64)
    batches = make_batches(data, range(64))
    assert any((b.inputs["attention_mask"] == 0).any() for b in batches)
    double = type(model)(model.config).double().eval()  # in float64, so that only the formulas can differ
    double.load_state_dict(model.state_dict())
    caught = {p.name: [] for p in one.projections()}
    for p in one.projections():
        double.get_submodule(p.path).register_forward_hook(
            lambda _m, _i, output, name=p.name: caught[name].append(output[0].numpy())
        )
    with torch.no_grad():
        for text in texts:
            double(**tok(text, return_tensors="pt", truncation=True, max_length=64))
    for module in double.modules():
        module._forward_hooks.clear()
    statistics, rough = collect(double, batches), collect(model, batches)
    assert statistics.tokens == sum(len(ids) for ids in data.ids)
    for name, parts in caught.items():
        rows = np.concatenate(parts)
        assert rows.dtype == np.float64
        np.testing.assert_allclose(statistics.mean(name), rows.mean(0), rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(statistics.variance(name), rows.var(0, ddof=1), rtol=1e-10)
        np.testing.assert_allclose(rough.variance(name), rows.var(0, ddof=1), rtol=1e-3)


@pytest.mark.parametrize("task", TASKS)
def test_squeezed_answers_like_pruned_with_less(task, tmp_path):
    one = study(task)
    pruned, squeezed = one.pruned(Recipe(), 0.5), one.squeezed(Recipe(), 0.5)
    kept = load_pruned(save_pruned(squeezed, tmp_path / "small"))
    for batch in one.question.chunks()[0][1]:
        with torch.inference_mode():
            expected, found = pruned(**batch.inputs).logits, squeezed(**batch.inputs).logits
            assert torch.equal(kept(**batch.inputs).logits, found)
        assert (expected - found).abs().max() <= 1e-4 * expected.abs().max()
    length = batch.inputs["input_ids"].shape[1]
    assert flops_per_token(squeezed, length) < 0.5 * flops_per_token(pruned, length)
    assert one.cost(Recipe(), 0.5).speed_limit(length) > 2.5


def test_onnx_of_sentence_pairs(tmp_path):
    """A hundred rows of MRPC as the tokeniser makes them: onnxruntime says what torch says, one at a time or together."""
    onnxruntime = pytest.importorskip("onnxruntime")
    one = study("mrpc")
    model, tok = one.squeezed(Recipe(), 0.3), one.loaded.tokenizer
    session = onnxruntime.InferenceSession(
        str(export_onnx(model, tmp_path / "m.onnx", tok)), providers=["CPUExecutionProvider"]
    )
    texts = open_examples("mrpc", "dev", SHARED / "data").texts[:100]
    expected, told = one.predict(model, texts)[0].argmax(axis=1), []
    for start in range(0, 100, 7):
        inputs = tok(*map(list, zip(*texts[start : start + 7], strict=True)), padding=True, return_tensors="np")
        (logits,) = session.run(["logits"], dict(inputs))
        told += logits[:, np.argsort(one.question.order)].argmax(axis=1).tolist()
    assert told == expected.tolist()
