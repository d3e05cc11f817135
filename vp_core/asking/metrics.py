"""The metrics of the GLUE benchmark, each with a 95 % interval.

The interval says where the score would lie on the population that the examples were drawn from, so it is there both
for a running score and at the end. What a metric is comes from scikit-learn and scipy, which are imported only where one of
theirs is asked for: accuracy, the metric of most tasks, is a mean, and the two take seconds to import.
"""

import math
import warnings
from collections.abc import Mapping

import numpy as np

SHARES = ("accuracy", "subset_accuracy")
"""Metrics that are the share of right answers."""
MULTI_LABEL = ("subset_accuracy", "micro_f1", "macro_f1")
CLASSIFICATION = ("accuracy", "f1", "matthews", *MULTI_LABEL)
REGRESSION = ("spearman", "pearson")
METRICS = CLASSIFICATION + REGRESSION
OF_TOKENS = ("perplexity", "masked_loss")
"""Of predicted tokens (`vp_core.asking.words.tokens`)."""
LESS = (*OF_TOKENS, "bits_per_byte")
"""Metrics of which less is better; of one's own their names say so (LESS_MARK)."""
LESS_MARK = " (less is better)"
"""At the end of the name of a metric of one's own, by which files, figures and other processes know its direction too."""
POINT = 0.01
"""What two scores may differ by and still be near each other: a hundredth of a share, or of a token's loss in nats."""

_Z = 1.959963984540054  # the 97.5th percentile of the normal distribution
_RESAMPLES, _FEWEST = 2000, 200
_FEW, _DRAWS = 512, 20_000_000
"""Different examples that a multinomial is drawn of; of more they are drawn one by one, so many in all."""


def less_is_better(metric: str) -> bool:
    """Whether the lower of two scores is the better one; of every metric that nothing is said of more is.

    >>> less_is_better("perplexity"), less_is_better("entity_f1"), less_is_better("my loss (less is better)")
    (True, False, True)
    """
    return metric in LESS or metric.endswith(LESS_MARK)


def a_point_worse(metric: str, value: float) -> float:
    """The score that is a point worse than this one.

    >>> a_point_worse("accuracy", 0.9), round(a_point_worse("perplexity", 100), 2), a_point_worse("masked_loss", 2)
    (0.89, 101.01, 2.01)
    """
    if metric == "perplexity":
        return value * math.exp(POINT)
    return value + POINT if less_is_better(metric) else value - POINT


def at_least(metric: str, value: float, other: float) -> bool:
    """Whether a score is as good as another, or better.

    >>> at_least("accuracy", 0.9, 0.8), at_least("perplexity", 20, 30)
    (True, True)
    """
    return value <= other if less_is_better(metric) else value >= other


def compute(metric: str, labels: np.ndarray, predictions: np.ndarray) -> float:
    """One metric of predictions (n,) against labels (n,), as a share (accuracy 0.89, not 89).

    Those of several labels take 0 and 1, both (n, labels): a text is right when all its labels are (subset accuracy). An F1
    without any label there or said counts as 0, as in scikit-learn. A correlation with constant predictions is not defined
    and counts as 0: such a model orders nothing.
    """
    if metric == "accuracy":
        return float((labels == predictions).mean())
    if metric in MULTI_LABEL:
        return _of_several(metric, labels, predictions)
    if metric in CLASSIFICATION:
        from sklearn import metrics as sk

        if metric == "f1":
            return float(sk.f1_score(labels, predictions, zero_division=0))
        return float(sk.matthews_corrcoef(labels, predictions))
    from scipy import stats

    correlate = {"spearman": stats.spearmanr, "pearson": stats.pearsonr}[metric]
    if len(labels) < 2 or np.ptp(predictions) == 0 or np.ptp(labels) == 0:
        return 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=stats.NearConstantInputWarning)
        return float(correlate(labels, predictions).statistic)


def right_answers(labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Which of the n texts were answered right (n,): of several labels (n, labels), all of them."""
    same = labels == predictions
    return same.all(axis=1) if same.ndim == 2 else same


def _of_several(metric: str, labels: np.ndarray, predictions: np.ndarray) -> float:
    """Of labels and predictions (n, labels): the F1 of all decisions together (micro), or the mean of each label's (macro)."""
    if metric == "subset_accuracy":
        return float(right_answers(labels, predictions).mean())
    both, either = (labels & predictions).sum(axis=0), labels.sum(axis=0) + predictions.sum(axis=0)
    if metric == "micro_f1":
        both, either = both.sum(keepdims=True), either.sum(keepdims=True)
    return float((2 * both / np.maximum(either, 1)).mean())


def interval(metric: str, labels: np.ndarray, predictions: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of a metric of predictions (n,) against labels (n,): (low, high).

    Accuracy, also of whole rows: Wilson's score interval. F1 and Matthews: percentile bootstrap of the confusion table
    (seeded). Pearson: Fisher's z; Spearman: the same with the variance (1 + r²/2)/(n − 3) of Bonett and Wright (2000).
    ValueError for micro and macro F1, which head no task.
    """
    n = len(labels)
    if metric in SHARES:
        return wilson(int(right_answers(labels, predictions).sum()), n)
    if metric in MULTI_LABEL:
        raise ValueError(f"{metric} heads no task, so it has no interval")
    if metric in CLASSIFICATION:
        return _bootstrap(metric, labels, predictions)
    if n < 4:
        return -1.0, 1.0
    r = min(max(compute(metric, labels, predictions), -1 + 1e-12), 1 - 1e-12)
    spread = _Z * np.sqrt((1 + r * r / 2 if metric == "spearman" else 1.0) / (n - 3))
    low, high = np.tanh(np.arctanh(r) + np.array([-spread, spread]))
    return float(low), float(high)


def wilson(right: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a share, `right` of `n`, without continuity correction (Newcombe 1998, method 3).

    >>> [round(end, 4) for end in wilson(57, 64)]
    [0.791, 0.946]
    """
    p, z2 = right / n, _Z**2
    q = 1 - p
    width = 2 * (n + z2)
    centre, half = (2 * n * p + z2) / width, _Z / width * math.sqrt(4 * n * p * q + z2)
    return 0.0 if right == 0 else centre - half, 1.0 if right == n else centre + half


def sums_interval(sums: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of Σ part / Σ whole, of (part, whole) for each example (n, 2): a percentile bootstrap over examples
    (seeded), a share of nothing counted as 0.

    Examples with the same two numbers are drawn together, so that it takes the time of the different ones only.
    """
    kinds, times = np.unique(sums, axis=0, return_counts=True)
    rng, n = np.random.default_rng(0), len(sums)
    if len(kinds) <= _FEW:
        again = rng.multinomial(n, times / n, _RESAMPLES) @ kinds
    else:
        resamples = min(_RESAMPLES, max(_FEWEST, _DRAWS // n))
        again = np.stack([sums[rng.integers(0, n, n)].sum(axis=0) for _ in range(resamples)])
    shares = np.divide(again[:, 0], again[:, 1], out=np.zeros(len(again)), where=again[:, 1] != 0)
    low, high = np.percentile(shares, [2.5, 97.5])
    return float(low), float(high)


def _bootstrap(metric: str, labels: np.ndarray, predictions: np.ndarray) -> tuple[float, float]:
    """F1 and Matthews depend on the four counts of the confusion table only, so resampling them is enough."""
    from sklearn import metrics as sk

    table = sk.confusion_matrix(labels, predictions, labels=[0, 1]).ravel()  # tn, fp, fn, tp
    tn, fp, fn, tp = np.random.default_rng(0).multinomial(len(labels), table / table.sum(), _RESAMPLES).T.astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        if metric == "f1":
            values = 2 * tp / (2 * tp + fp + fn)
        else:
            values = (tp * tn - fp * fn) / np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    low, high = np.percentile(np.nan_to_num(values), [2.5, 97.5])
    return float(low), float(high)


def paired_interval(right: np.ndarray, dense_right: np.ndarray) -> Mapping[str, float]:
    """Difference in accuracy of two models on the same n examples, with its 95 % interval (paired, normal).

    `right` and `dense_right` (n,) say which examples each model got right.
    """
    difference = right.astype(float) - dense_right.astype(float)
    spread = _Z * float(difference.std(ddof=1)) / np.sqrt(len(difference)) if len(difference) > 1 else 1.0
    mean = float(difference.mean())
    return {"difference": mean, "low": mean - spread, "high": mean + spread}
