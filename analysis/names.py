"""What things are called in figures and tables, and how their numbers are written."""

import numpy as np

from vp_core.asking.kinds.question import Question
from vp_core.asking.metrics import CLASSIFICATION
from vp_core.asking.tasks import Task
from vp_core.ground.names import WORD_EMBEDDINGS
from vp_core.model.blocks import Block
from vp_core.recipes import Recipe

METRIC_NAMES = {
    "accuracy": "accuracy",
    "f1": "F1",
    "matthews": "Matthews correlation",
    "subset_accuracy": "subset accuracy",
    "micro_f1": "micro F1",
    "macro_f1": "macro F1",
    "spearman": "Spearman correlation",
    "pearson": "Pearson correlation",
    "perplexity": "perplexity",
    "masked_loss": "loss of masked tokens",
    "token_accuracy": "token accuracy",
    "bits_per_byte": "bits per byte",
    "answer_f1": "F1",
    "exact_match": "exact match",
    "top5_accuracy": "top-5 accuracy",
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougeL": "ROUGE-L",
    "entity_f1": "entity F1",
    "word_accuracy": "word accuracy",
}
_SHARES = (
    *CLASSIFICATION, "token_accuracy", "answer_f1", "exact_match", "top5_accuracy", "rouge1", "rouge2", "rougeL", "entity_f1",
    "word_accuracy",
)  # fmt: skip
"""Metrics that are read in percent."""
TYPE_LABELS = {
    "query": "query",
    "key": "key",
    "value": "value",
    "attention_output": "attention<br>output",
    "ffn_in": "ffn in",
    "ffn_out": "ffn out",
    "ffn_in.gate": "ffn gate",
    WORD_EMBEDDINGS: "word<br>embeddings",
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


def split_matrix(name: str) -> tuple[int | None, str]:
    """Layer and type of a weight matrix, a gate's with its ending; word embeddings have no layer.

    >>> split_matrix("3.ffn_in"), split_matrix("0.ffn_in.gate"), split_matrix("word_embeddings")
    ((3, 'ffn_in'), (0, 'ffn_in.gate'), (None, 'word_embeddings'))
    """
    return (None, name) if name == WORD_EMBEDDINGS else split_name(name)


def matrix_title(name: str) -> str:
    """What a weight matrix is called in a title.

    >>> matrix_title("3.attention_output"), matrix_title("word_embeddings")
    ('layer 3, attention output', 'word embeddings')
    """
    layer, type_ = split_matrix(name)
    called = TYPE_LABELS.get(type_, type_).replace("<br>", " ")
    return called if layer is None else f"layer {layer}, {called}"


def counted(recipe: Recipe) -> str:
    """What a recipe's sparsity is a share of, in a word or two.

    >>> counted(Recipe()), counted(Recipe(units=("heads",), budget="parameters"))
    ('rows', 'linear parameters')
    >>> counted(Recipe("magnitude", "per matrix", "zero", units=("blocks 16x16",)))
    'blocks of 16 × 16'
    """
    if recipe.pattern is None:
        names = {"units": "rows" if recipe.single_rows else "units", "flops": "FLOPs", "latency": "time"}
        return names.get(recipe.budget, "linear parameters")
    kind, _, sides = recipe.pattern.name.partition(" ")
    return f"blocks of {sides.replace('x', ' × ')}" if sides else kind if kind in ("weights", "columns") else "weights"


def removed(recipe: Recipe) -> str:
    """The same as the title of an axis.

    >>> removed(Recipe()), removed(Recipe(units=("heads",), budget="flops"))
    ('share of rows removed (%)', 'share of the FLOPs removed (%)')
    """
    what = counted(recipe)
    of = {"linear parameters": "the encoder's linear parameters", "FLOPs": "the FLOPs", "time": "the time"}
    return f"share of {of.get(what, what)} removed (%)"


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


def asked_text(question: Question) -> str:
    """How much is asked, in words: "872 evaluation texts", "17,180 tokens of text", "360 evaluation images"."""
    n, task = question.count(np.arange(len(question))), question.task
    return f"{n:,} tokens of text" if task.tokens else f"{n:,} evaluation {task.counted}"


def measured_text(task: Task, tokens: int, examples: int) -> str:
    """On how much statistics are collected, in words.

    >>> measured_text(Task("t", (), "", (), ("own",), kind="images"), 3200, 64)
    '3,200 tokens of 64 training images'
    """
    return f"{tokens:,} tokens of {examples:,} {'' if task.tokens else 'training '}{task.examples}"


def metric_name(metric: str) -> str:
    """What a metric is called: one of a user's own by the name that it has.

    >>> metric_name("answer_f1"), metric_name("length of the answer")
    ('F1', 'length of the answer')
    """
    return METRIC_NAMES.get(metric, metric)


def score_text(value: float, metric: str) -> str:
    """A score as it is read: in percent where it is a share; one of a user's own to four digits.

    >>> score_text(0.9161, "accuracy"), score_text(0.8512, "pearson")
    ('91.6 %', '0.851')
    >>> [score_text(value, "perplexity") for value in (21.3456, 312.345, 12345.6, 1.2345e9)]
    ['21.35', '312.3', '12,346', '1.23e+09']
    >>> score_text(0.4342, "rouge1"), score_text(1234.5678, "my metric")
    ('43.4 %', '1,235')
    """
    if metric == "perplexity":
        digits = ".2f" if value < 100 else ".1f" if value < 1000 else ",.0f" if value < 1e7 else ".3g"
        return f"{value:{digits}}"
    if metric in _SHARES:
        return f"{100 * value:.1f} %"
    return f"{value:.3f}" if metric in METRIC_NAMES else f"{value:,.4g}"


def difference_text(value: float, metric: str) -> str:
    """A difference of two scores.

    >>> difference_text(-0.021, "accuracy"), difference_text(0.021, "pearson"), difference_text(4.5678, "perplexity")
    ('-2.1 points', '+0.021', '+4.57')
    """
    if metric == "perplexity" or metric not in METRIC_NAMES:
        return f"{'-' if value < 0 else '+'}{score_text(abs(value), metric)}"
    return f"{100 * value:+.1f} points" if metric in _SHARES else f"{value:+.3f}"


def score_format(metric: str) -> tuple[int, str]:
    """(factor, printf format) of a column of such scores.

    >>> score_format("accuracy"), score_format("pearson"), score_format("perplexity")
    ((100, '%.1f %%'), (1, '%.3f'), (1, '%.4g'))
    """
    if metric == "perplexity" or metric not in METRIC_NAMES:
        return 1, "%.4g"
    return (100, "%.1f %%") if metric in _SHARES else (1, "%.3f")


def hover_format(metric: str) -> str:
    """The format in which a figure says a score where it is pointed at (d3's)."""
    return ".5~g" if metric == "perplexity" or metric not in METRIC_NAMES else ".4f"
