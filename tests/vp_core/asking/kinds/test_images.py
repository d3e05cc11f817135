"""Accuracy and top-5 against scikit-learn; running scores, intervals, and what answers are."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, top_k_accuracy_score

from vp_core.asking.kinds.images import ImageClassification
from vp_core.asking.metrics import wilson
from vp_core.asking.tasks import TASKS, with_headline
from vp_core.ground.errors import VPError

TASK = TASKS["images"]


class Nothing:
    """As many examples as asked for, which nobody looks at."""

    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n


def question(labels, classes, order=None, metric=""):
    task = with_headline(replace(TASK, labels=tuple(map(str, range(classes)))), metric)
    return ImageClassification(Nothing(len(labels)), np.array(labels), task, tuple(order or range(classes)))


def worth(asked, logits):
    answers = asked.blank()
    answers[:] = asked.answers(torch.as_tensor(logits, dtype=torch.float32)).numpy()
    return asked.worth(answers, np.arange(len(answers))), answers


@settings(max_examples=60, deadline=None)
@given(st.integers(6, 40), st.integers(2, 120), st.integers(0, 10**6))
def test_as_scikit_learn_has_it(classes, n, seed):
    rng = np.random.default_rng(seed)
    order = rng.permutation(classes)
    labels, logits = rng.integers(0, classes, n), rng.standard_normal((n, classes)).astype(np.float32)
    by_class = logits[:, np.argsort(order)]
    found, answers = worth(question(labels, classes, order.tolist()), logits)
    top = top_k_accuracy_score(labels, by_class, k=5, labels=range(classes))
    assert found.value == accuracy_score(labels, by_class.argmax(1)) and found.others == {"top5_accuracy": pytest.approx(top)}
    assert found.right.tolist() == (by_class.argmax(1) == labels).tolist()
    assert (found.low, found.high) == wilson(int(found.right.sum()), n)
    other, _ = worth(question(labels, classes, order.tolist(), "top5_accuracy"), logits)
    assert other.value == pytest.approx(top) and other.others == {"accuracy": found.value}
    assert other.right.sum() >= found.right.sum() and np.array_equal(answers[:, 0], by_class.argmax(1))


def test_ties_go_to_the_first_output_as_argmax_has_it():
    logits = np.zeros((1, 8))
    assert question([0], 8).answers(torch.as_tensor(logits)).tolist() == [[0, 1, 2, 3, 4]]
    turned = question([0], 8, range(7, -1, -1)).answers(torch.as_tensor(logits))
    assert turned.tolist() == [[7, 6, 5, 4, 3]]


def test_two_classes_are_answered_with_both():
    few = replace(TASK, labels=("a", "b"), metrics=("accuracy",))
    asked = ImageClassification(Nothing(3), np.array([0, 1, 1]), few, (0, 1))
    found, answers = worth(asked, [[2.0, 1.0], [2.0, 1.0], [0.0, 1.0]])
    assert found.value == 2 / 3 and answers.tolist() == [[0, 1], [0, 1], [1, 0]] and found.others == {}
    with pytest.raises(VPError, match="has no metric 'top5_accuracy'"):
        with_headline(few, "top5_accuracy")


def test_a_running_score_is_that_of_what_was_seen():
    asked = question(list(range(6)) * 3, 6)
    answers = asked.blank()
    answers[:6] = np.arange(6)[:, None]
    found = asked.worth(answers, np.array([0, 1, 9]))
    assert found.value == 2 / 3 and found.others == {} and found.right is None
    assert (found.low, found.high) == wilson(2, 3)


def test_losses_are_cross_entropies():
    rng = np.random.default_rng(0)
    order, labels, logits = [2, 0, 1, 3, 5, 4], rng.integers(0, 6, 9), rng.standard_normal((9, 6))
    outputs = np.argsort(order)[labels]
    expected = torch.nn.functional.cross_entropy(torch.as_tensor(logits), torch.as_tensor(outputs), reduction="none")
    np.testing.assert_allclose(question(labels, 6, order).losses(np.arange(9), logits), expected.numpy(), rtol=1e-12)
