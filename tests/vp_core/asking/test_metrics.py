"""Metrics by formula, and intervals that cover what they should."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest, rankdata
from sklearn.metrics import accuracy_score, f1_score

from vp_core.asking.metrics import compute, interval, paired_interval, wilson

Z = 1.959963984540054


def agreement(n, right):
    return np.zeros(n, int), np.array([0] * right + [1] * (n - right))


def test_by_hand():
    labels, said = np.array([1, 1, 1, 0, 0, 1]), np.array([1, 1, 0, 1, 0, 1])  # tp 3, fn 1, fp 1, tn 1
    assert compute("accuracy", labels, said) == pytest.approx(4 / 6)
    assert compute("f1", labels, said) == pytest.approx(2 * 3 / (2 * 3 + 1 + 1))
    assert compute("matthews", labels, said) == pytest.approx((3 * 1 - 1 * 1) / math.sqrt(4 * 4 * 2 * 2))
    x, y = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 3.0, 2.0, 10.0])
    assert compute("spearman", x, y) == pytest.approx(1 - 6 * 2 / (4 * 15))  # ranks 1 3 2 4: Σd² = 2
    # Pearson: deviations −1.5 −.5 .5 1.5 and −3 −1 −2 6: 4.5 + .5 − 1 + 9 = 13; √(5·50)
    assert compute("pearson", x, y) == pytest.approx(13 / math.sqrt(5 * 50))


@pytest.mark.parametrize("metric", ["spearman", "pearson"])
def test_constant_predictions_order_nothing(metric):
    assert compute(metric, np.array([1.0, 2.0, 3.0]), np.full(3, 0.25)) == 0
    low, high = interval(metric, np.arange(30.0), np.full(30, 0.25))
    assert low < 0 < high


@pytest.mark.parametrize(("n", "right"), [(64, 57), (872, 777), (10, 0), (10, 10), (1, 1)])
def test_accuracy_has_wilsons_interval(n, right):
    p = right / n
    centre = (p + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2))
    assert interval("accuracy", *agreement(n, right)) == pytest.approx((centre - half, centre + half), abs=1e-12)


@pytest.mark.parametrize("n", [1, 2, 7, 64, 210, 872, 1000])
def test_accuracy_is_scikit_learns_and_its_interval_scipys(n):
    """To the last bit: they are computed here so that neither has to be imported."""
    for right in range(0, n + 1, max(1, n // 50)):
        labels, said = agreement(n, right)
        assert compute("accuracy", labels, said) == accuracy_score(labels, said)
        expected = binomtest(right, n).proportion_ci(0.95, method="wilson")
        assert interval("accuracy", labels, said) == wilson(right, n) == (expected.low, expected.high)


def test_correlations_have_fishers_interval():
    rng = np.random.default_rng(0)
    x = rng.standard_normal(50)
    y = x + rng.standard_normal(50)
    for metric, a, b in (("pearson", x, y), ("spearman", rankdata(x), rankdata(y))):
        r = np.corrcoef(a, b)[0, 1]
        half = Z * math.sqrt((1 + r * r / 2 if metric == "spearman" else 1) / 47)
        expected = (math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half))
        assert interval(metric, x, y) == pytest.approx(expected, abs=1e-9)
    assert interval("pearson", x[:3], y[:3]) == (-1.0, 1.0)
    low, high = interval("pearson", x, x)  # r = 1 is no accident
    assert 0.999 < low <= high <= 1


@pytest.mark.parametrize("metric", ["f1", "matthews"])
def test_bootstrap_is_that_of_whole_examples(metric):
    """Resampling the confusion table must be resampling the examples."""
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, 150)
    said = np.where(rng.random(150) < 0.8, labels, 1 - labels)
    values = [compute(metric, labels[i], said[i]) for i in (rng.integers(0, 150, 150) for _ in range(600))]
    expected = np.percentile(values, [2.5, 97.5])
    np.testing.assert_allclose(interval(metric, labels, said), expected, atol=0.02)
    assert interval(metric, labels, said) == interval(metric, labels, said)
    low, high = interval(metric, labels, labels)
    assert low == high == 1.0


@pytest.mark.parametrize(("metric", "n"), [("accuracy", 64), ("accuracy", 300), ("f1", 200), ("matthews", 200)])
def test_intervals_of_classes_cover_the_truth(metric, n):
    """A model that is right 85 % of the time on each class, 40 % of which are 1; seeded, so it always says the same."""
    rng = np.random.default_rng(7)
    tp, fn, fp, tn = 0.4 * 0.85, 0.4 * 0.15, 0.6 * 0.15, 0.6 * 0.85
    matthews = (tp * tn - fp * fn) / math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    truth = {"accuracy": 0.85, "f1": 2 * tp / (2 * tp + fp + fn), "matthews": matthews}[metric]
    covered = 0
    for _ in range(400):
        labels = (rng.random(n) < 0.4).astype(int)
        said = np.where(rng.random(n) < 0.85, labels, 1 - labels)
        low, high = interval(metric, labels, said)
        covered += low <= truth <= high
    assert 0.92 <= covered / 400 <= 0.985  # 95 % ± 3 standard errors of 1.1 %


@pytest.mark.parametrize("metric", ["pearson", "spearman"])
def test_intervals_of_correlations_cover_the_truth(metric):
    rng, rho = np.random.default_rng(8), 0.8
    truth = rho if metric == "pearson" else 6 / math.pi * math.asin(rho / 2)
    covered = 0
    for _ in range(400):
        x, e = rng.standard_normal((2, 80))
        low, high = interval(metric, x, rho * x + math.sqrt(1 - rho**2) * e)
        covered += low <= truth <= high
    assert 0.92 <= covered / 400 <= 0.985


def test_paired_difference_by_hand():
    right, dense = np.array([1, 1, 0, 0, 1], bool), np.array([1, 1, 1, 1, 0], bool)
    # differences 0 0 −1 −1 1: mean −0.2; Σ(d − mean)² = .04 + .04 + .64 + .64 + 1.44 = 2.8; /4 = .7
    found = paired_interval(right, dense)
    half = Z * math.sqrt(0.7 / 5)
    assert found == pytest.approx({"difference": -0.2, "low": -0.2 - half, "high": -0.2 + half})


@pytest.mark.parametrize("labels", [1, 2, 5])
def test_metrics_of_several_labels_are_scikit_learns(labels):
    draw = np.random.default_rng(labels)
    truth, said = (draw.random((40, labels)) < draw.random(labels)).astype(int), draw.integers(2, size=(40, labels))
    if labels == 5:
        truth[:, 3] = said[:, 3] = 0  # neither there nor said: 0, as in scikit-learn
    assert compute("subset_accuracy", truth, said) == accuracy_score(truth, said)
    assert interval("subset_accuracy", truth, said) == wilson(int((truth == said).all(axis=1).sum()), 40)
    for average in ("micro", "macro"):
        # scikit-learn takes a single column for two classes
        expected = f1_score(truth, said) if labels == 1 else f1_score(truth, said, average=average, zero_division=0)
        assert compute(f"{average}_f1", truth, said) == pytest.approx(expected)
        with pytest.raises(ValueError, match="no interval"):
            interval(f"{average}_f1", truth, said)
