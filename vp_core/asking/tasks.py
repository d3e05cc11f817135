"""The tasks: one row each, read top-down. Columns are those of GLUE's TSV files and of its copy on the Hub."""

from dataclasses import dataclass

from vp_core.ground.errors import VPError


@dataclass(frozen=True)
class Task:
    """What is asked of a model.

    `text`: the one or two text columns of the TSV file, `hub_text` those on the Hub; `label`: the label column (on
    the Hub always "label"); `labels`: class names in the order of the data's label numbers, none for regression; `metrics`: the
    benchmark's, the first is the headline. `dev`: the evaluation file. `columns` are given where the file has no header.
    `multi_label`: each text has any number of the labels.
    """

    name: str
    text: tuple[str, ...]
    label: str
    labels: tuple[str, ...]
    metrics: tuple[str, ...]
    hub_text: tuple[str, ...] = ()
    dev: str = "dev"
    max_length: int = 128
    columns: tuple[str, ...] = ()
    multi_label: bool = False

    @property
    def regression(self) -> bool:
        """Whether the labels are numbers to be predicted, not classes."""
        return not self.labels

    @property
    def metric(self) -> str:
        """The headline metric."""
        return self.metrics[0]


_EQUAL = ("not_equivalent", "equivalent")
_QQP = ("not_duplicate", "duplicate")
_ENTAIL = ("entailment", "not_entailment")
_NLI = ("entailment", "neutral", "contradiction")
_COLA = ("source", "label", "mark", "sentence")
_SENTENCES = ("sentence1", "sentence2")

TASKS = {
    task.name: task
    for task in (
        Task("demo", ("sentence",), "label", ("negative", "positive"), ("accuracy",), max_length=64),
        Task("sst2", ("sentence",), "label", ("negative", "positive"), ("accuracy",), ("sentence",), max_length=64),
        Task("mrpc", ("#1 String", "#2 String"), "Quality", _EQUAL, ("accuracy", "f1"), _SENTENCES),
        Task("stsb", _SENTENCES, "score", (), ("spearman", "pearson"), _SENTENCES),
        Task("qnli", ("question", "sentence"), "label", _ENTAIL, ("accuracy",), ("question", "sentence")),
        Task("rte", _SENTENCES, "label", _ENTAIL, ("accuracy",), _SENTENCES),
        Task("cola", ("sentence",), "label", ("unacceptable", "acceptable"), ("matthews",), ("sentence",), columns=_COLA),
        Task("qqp", ("question1", "question2"), "is_duplicate", _QQP, ("accuracy", "f1"), ("question1", "question2")),
        Task("mnli", _SENTENCES, "gold_label", _NLI, ("accuracy",), ("premise", "hypothesis"), dev="dev_matched"),
    )
}


def find_task(name: str) -> Task:
    """The task of that name; VPError lists them."""
    if name not in TASKS:
        raise VPError(
            f"Unknown task {name!r}: choose one of {', '.join(TASKS)}, or give a TSV, CSV or JSONL file with the columns "
            "named (--text, --label)."
        )
    return TASKS[name]
