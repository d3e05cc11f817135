"""Losses against sums in float64: of classes in any order, of values, of several labels; the score is that of `evaluate`."""

import numpy as np
import pytest
import tiny
import torch

from vp_core.asking.batches import encode
from vp_core.asking.evaluate import score
from vp_core.asking.kinds.classification import Classification
from vp_core.asking.tasks import Task
from vp_core.comparing.losses import loss_and_score
from vp_core.opening.study import open_study


def log_softmax(rows):
    rows = rows - rows.max(axis=1, keepdims=True)
    return rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))


def test_cross_entropy_of_the_same_passes_as_the_score(studies):
    study = studies["bert"]
    found = loss_and_score(study.model, study.question)
    logits = tiny.answers(study.model, study.loaded.tokenizer, study.question.data.texts).double().numpy()
    labels = study.question.labels
    assert study.question.order == (0, 1)
    expected = -log_softmax(logits)[np.arange(len(labels)), labels]
    assert np.allclose(found.losses, expected, atol=1e-5) and found.loss == pytest.approx(expected.mean(), abs=1e-6)
    plain = score(study.model, study.question)
    assert (found.score.value, found.score.low, found.score.n) == (plain.value, plain.low, plain.n)
    assert np.array_equal(found.score.right, plain.right)


def question(truth, order, **task):
    texts = [(text,) for text in tiny.sentences(len(truth), seed=3)]
    return Classification(encode(tiny.tokenizer("bert"), texts, 20), np.array(truth), Task("t", ("a",), "b", **task), order)


def test_outputs_in_another_order():
    asked = question([2, 0, 1], (1, 2, 0), labels=("a", "b", "c"), metrics=("accuracy",))
    logits = np.random.default_rng(0).normal(size=(3, 3))
    expected = -log_softmax(logits)[np.arange(3), [1, 2, 0]]  # class 2 is output 1, class 0 output 2, class 1 output 0
    assert np.allclose(asked.losses(np.arange(3), logits), expected, rtol=1e-12)
    turned = asked.losses(np.array([2, 0]), logits[[2, 0]])
    assert np.allclose(turned, expected[[2, 0]], rtol=1e-12)


def test_a_large_logit_does_not_overflow():
    asked = question([0, 1], (0, 1), labels=("a", "b"), metrics=("accuracy",))
    assert asked.losses(np.arange(2), np.array([[1e4, 0.0], [1e4, 0.0]])).tolist() == [0.0, 1e4]


def test_several_labels_are_each_a_question():
    labels = [[1, 0, 1], [0, 0, 0]]
    asked = question(labels, (2, 0, 1), labels=("a", "b", "c"), metrics=("subset_accuracy",), multi_label=True)
    logits = np.random.default_rng(1).normal(size=(2, 3))
    by_class = torch.from_numpy(logits[:, [1, 2, 0]])
    expected = torch.nn.functional.binary_cross_entropy_with_logits(by_class, torch.tensor(labels).double(), reduction="none")
    assert np.allclose(asked.losses(np.arange(2), logits), expected.mean(dim=1), rtol=1e-12)


def test_squared_error_of_values(tmp_path):
    model, tok = tiny.classifier("bert", outputs=1), tiny.tokenizer("bert")
    texts = tiny.sentences(30, seed=8)
    said = tiny.answers(model, tok, texts)[:, 0].double().numpy()
    values = said + np.linspace(-1, 1, 30)
    path = tiny.write_tsv(tmp_path / "own.tsv", ("text", "label"), zip(texts, values, strict=True))
    study = open_study(str(tiny.save(tmp_path / "model", model, tok)), str(path), text=["text"])
    found = loss_and_score(study.model, study.question)
    assert found.loss == pytest.approx(((said - values) ** 2).mean(), rel=1e-4) and found.score.metric == "spearman"
