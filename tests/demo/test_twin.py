"""The demo's spectrally normalised twin: its size, its accuracy, its spectral norms, and what it starts from."""

import json

import pytest
import torch

from vp_core.demo.load import FOLDER, TWIN, load_demo, load_twin
from vp_core.demo.making.build import LIMIT, folder_bytes
from vp_core.demo.making.grammar import write_reviews
from vp_core.demo.making.train import accuracy
from vp_core.demo.making.twin import start, with_strange_words
from vp_core.identity.spectral import LAMBDA, fold, is_normalised
from vp_core.model.projections import find_projections, weight_of


@pytest.mark.slow
def test_it_is_small_and_within_two_points_of_the_demo():
    assert 10_000_000 < folder_bytes(TWIN) <= LIMIT
    told = {folder: json.loads((folder / "metrics.json").read_text(encoding="utf-8")) for folder in (FOLDER, TWIN)}
    rows = write_reviews("eval", 1)
    model, tokenizer = load_twin()
    found = accuracy(model, tokenizer, rows)
    assert found == pytest.approx(told[TWIN]["accuracy_int8"], abs=0.002)
    assert found >= told[FOLDER]["accuracy_int8"] - 0.02


def test_every_matrix_has_the_spectral_norm_that_it_was_trained_with():
    model, _ = load_twin()
    assert not is_normalised(model)  # folded: plain weights
    for projection in find_projections(model):
        sigma = float(torch.linalg.matrix_norm(weight_of(model, projection), 2))
        assert sigma == pytest.approx(LAMBDA, rel=0.02), projection.name  # eight bits, and the mean of late weights
    plain, _ = load_demo()
    assert not any(
        torch.equal(weight_of(model, a), weight_of(plain, b))
        for a, b in zip(find_projections(model), find_projections(plain), strict=True)
    )


@pytest.mark.slow
def test_the_build_starts_normalised_and_near_the_demo():
    teacher, tokenizer = load_demo()
    rows = write_reviews("train", 1)[:64]
    model = start(teacher, tokenizer, rows)
    assert is_normalised(model) and not model.bert.embeddings.word_embeddings.weight.requires_grad
    fold(model)
    assert float(torch.linalg.matrix_norm(weight_of(model, find_projections(model)[0]), 2)) == pytest.approx(LAMBDA, rel=1e-3)
    assert accuracy(model.eval(), tokenizer, rows) > 0.6
    inputs = {"input_ids": tokenizer(["a good film"] * 50, return_tensors="pt")["input_ids"]}
    before = inputs["input_ids"].clone()
    with_strange_words(inputs, tokenizer, torch.Generator().manual_seed(0))
    changed = inputs["input_ids"] != before
    assert 0.1 < changed[:, 1:-1].double().mean() < 0.5 and not changed[:, [0, -1]].any()
