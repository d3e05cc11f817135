"""What things are called in figures and tables, and how their numbers are written."""

import numpy as np

from vp_core.asking.metrics import CLASSIFICATION
from vp_core.asking.tasks import Task
from vp_core.model.blocks import Block

METRIC_NAMES = {
    "accuracy": "accuracy",
    "f1": "F1",
    "matthews": "Matthews correlation",
    "subset_accuracy": "subset accuracy",
    "micro_f1": "micro F1",
    "macro_f1": "macro F1",
    "spearman": "Spearman correlation",
    "pearson": "Pearson correlation",
}
TYPE_LABELS = {
    "query": "query",
    "key": "key",
    "value": "value",
    "attention_output": "attention<br>output",
    "ffn_in": "ffn in",
    "ffn_out": "ffn out",
}
"""Projection types under a column of a figure."""
KIND_NAMES = {"head": "heads", "attention": "attention blocks", "ffn": "FFNs"}
"""Kinds of blocks, several of them."""


def split_name(name: str) -> tuple[int, str]:
    """Layer and column of a group of units.

    >>> split_name("3.ffn_in"), split_name("11.feed-forward")
    ((3, 'ffn_in'), (11, 'feed-forward'))
    """
    layer, column = name.split(".", 1)
    return int(layer), column


def block_name(block: Block) -> str:
    """What a block is called on screen.

    >>> block_name(Block(3, "head", 5)), block_name(Block(3, "ffn"))
    ('layer 3, head 5', 'layer 3, FFN')
    """
    what = {"head": f"head {block.head}", "attention": "attention block", "ffn": "FFN"}[block.kind]
    return f"layer {block.layer}, {what}"


def titled(name: str) -> str:
    """A name at the beginning of a title.

    >>> titled("accuracy"), titled("F1")
    ('Accuracy', 'F1')
    """
    return name[0].upper() + name[1:]


def answer_text(task: Task, output: np.ndarray) -> str:
    """What `Study.predict` says of one text (classes,): the likeliest class, the labels above one half, or the value.

    >>> answer_text(Task("t", ("a",), "b", ("bad", "good"), ("accuracy",)), np.array([0.125, 0.875]))
    'good (87.5 %)'
    >>> answer_text(Task("t", ("a",), "b", ("x", "y"), ("subset_accuracy",), multi_label=True), np.array([0.25, 0.125]))
    'no label (x 25.0 %)'
    """
    if task.regression:
        return f"{output[0]:.2f}"
    shown = [f"{label} {100 * share:.1f} %" for label, share in zip(task.labels, output, strict=True)]
    if not task.multi_label:
        return f"{task.labels[int(output.argmax())]} ({100 * output.max():.1f} %)"
    said = [text for text, share in zip(shown, output, strict=True) if share > 0.5]
    return ", ".join(said) or f"no label ({shown[int(output.argmax())]})"


def score_text(value: float, metric: str) -> str:
    """A score as it is read: in percent where it counts right answers.

    >>> score_text(0.9161, "accuracy"), score_text(0.8512, "pearson")
    ('91.6 %', '0.851')
    """
    return f"{100 * value:.1f} %" if metric in CLASSIFICATION else f"{value:.3f}"


def difference_text(value: float, metric: str) -> str:
    """A difference of two scores.

    >>> difference_text(-0.021, "accuracy"), difference_text(0.021, "pearson")
    ('-2.1 points', '+0.021')
    """
    return f"{100 * value:+.1f} points" if metric in CLASSIFICATION else f"{value:+.3f}"


def score_format(metric: str) -> tuple[int, str]:
    """(factor, printf format) of a column of such scores.

    >>> score_format("accuracy"), score_format("pearson")
    ((100, '%.1f %%'), (1, '%.3f'))
    """
    return (100, "%.1f %%") if metric in CLASSIFICATION else (1, "%.3f")
