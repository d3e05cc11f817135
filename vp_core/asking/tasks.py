"""The tasks: one row each, read top-down. Columns of texts are those of GLUE's TSV files and of its copy on the Hub."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from vp_core.ground.errors import VPError
from vp_core.ground.names import ASKED


@dataclass(frozen=True)
class Task:
    """What is asked of a model.

    `text`: the one or two text columns of the TSV file, `hub_text` those on the Hub; `label`: the label column (on
    the Hub always "label"); `labels`: class names in the order of the data's label numbers, none for regression; `metrics`: the
    benchmark's, the first is the headline. `dev`: the evaluation file, `hub_dev` its name on the Hub. `columns` are given where
    the file has no header. `folders`: what a folder with the task's files is called, here and in GLUE; the first is its name
    on the Hub. `gaps`: the official file has rows that lack columns, which everybody leaves out. `multi_label`: each text has
    any number of the labels. `kind`: what is asked (`vp_core.ground.names.ASKED`). Where the tokens of a text itself are asked
    for there are no columns and no labels, and which metrics there are the model's head says.
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
    folders: tuple[str, ...] = ()
    hub_dev: str = "validation"
    gaps: bool = False
    multi_label: bool = False
    kind: str = ASKED[0]

    @property
    def tokens(self) -> bool:
        """Whether the tokens of a long text are asked for."""
        return self.kind == "tokens"

    @property
    def regression(self) -> bool:
        """Whether the labels are numbers to be predicted, not classes."""
        return not self.labels and self.kind == ASKED[0]

    @property
    def examples(self) -> str:
        """What the examples are called that a model is given one by one."""
        return CALLED[self.kind][0]

    @property
    def counted(self) -> str:
        """What a score is a mean over, in words."""
        return CALLED[self.kind][1]

    @property
    def metric(self) -> str:
        """The headline metric."""
        return self.metrics[0]


NO_INTERVAL = ("micro_f1", "macro_f1")
"""Metrics that are no headline."""
CALLED: Mapping[str, tuple[str, str]] = MappingProxyType({
    "classes": ("texts", "texts"), "tokens": ("windows", "tokens"), "spans": ("windows", "questions"),
    "images": ("images", "images"), "sequences": ("texts", "texts"), "tags": ("sentences", "sentences"),
    "own": ("examples", "examples"),
})  # fmt: skip
"""What is asked → what a model is given, and what a score counts."""

_EQUAL = ("not_equivalent", "equivalent")
_QQP = ("not_duplicate", "duplicate")
_ENTAIL = ("entailment", "not_entailment")
_NLI = ("entailment", "neutral", "contradiction")
_COLA = ("source", "label", "mark", "sentence")
_SENTENCES = ("sentence1", "sentence2")
_QUESTIONS = ("question1", "question2")
_PREMISE = ("premise", "hypothesis")
_SPANS = ("answer_f1", "exact_match")
_IMAGES = ("accuracy", "top5_accuracy")

TASKS = {
    task.name: task
    for task in (
        Task("demo", ("sentence",), "label", ("negative", "positive"), ("accuracy",), max_length=64),
        Task(
            "sst2", ("sentence",), "label", ("negative", "positive"), ("accuracy",), ("sentence",), max_length=64,
            folders=("sst2", "SST-2"),
        ),
        Task(
            "mrpc", ("#1 String", "#2 String"), "Quality", _EQUAL, ("accuracy", "f1"), _SENTENCES,
            folders=("mrpc", "MRPC"),
        ),
        Task("stsb", _SENTENCES, "score", (), ("spearman", "pearson"), _SENTENCES, folders=("stsb", "STS-B")),
        Task(
            "qnli", ("question", "sentence"), "label", _ENTAIL, ("accuracy",), ("question", "sentence"),
            folders=("qnli", "QNLI"),
        ),
        Task("rte", _SENTENCES, "label", _ENTAIL, ("accuracy",), _SENTENCES, folders=("rte", "RTE")),
        Task("wnli", _SENTENCES, "label", _ENTAIL[::-1], ("accuracy",), _SENTENCES, folders=("wnli", "WNLI")),
        Task(
            "cola", ("sentence",), "label", ("unacceptable", "acceptable"), ("matthews",), ("sentence",), columns=_COLA,
            folders=("cola", "CoLA"),
        ),
        Task("qqp", _QUESTIONS, "is_duplicate", _QQP, ("accuracy", "f1"), _QUESTIONS, folders=("qqp", "QQP"), gaps=True),
        Task(
            "mnli", _SENTENCES, "gold_label", _NLI, ("accuracy",), _PREMISE, dev="dev_matched",
            folders=("mnli", "MNLI"), hub_dev="validation_matched",
        ),
        Task(
            "mnli-mm", _SENTENCES, "gold_label", _NLI, ("accuracy",), _PREMISE, dev="dev_mismatched",
            folders=("mnli", "MNLI", "mnli-mm", "MNLI-mm"), hub_dev="validation_mismatched",
        ),
        Task("text", (), "", (), ("perplexity",), dev="test", max_length=256, kind="tokens"),
        Task(
            "wikitext-2", (), "", (), ("perplexity",), dev="test", max_length=256, kind="tokens", hub_dev="test",
            folders=("wikitext-2", "wikitext-2-raw-v1"),
        ),
        Task("demo-text", (), "", (), ("perplexity",), dev="test", max_length=128, kind="tokens"),
        Task("squad", (), "", (), _SPANS, max_length=384, folders=("squad",), kind="spans"),
        Task("squad2", (), "", (), _SPANS, max_length=384, folders=("squad2", "squad_v2"), kind="spans"),
        Task("images", (), "label", (), _IMAGES, dev="test", kind="images"),
        Task("demo-images", (), "label", (), _IMAGES, dev="test", kind="images"),
        Task("sequences", (), "", (), ("rougeL", "rouge1", "rouge2", "perplexity"), max_length=256, kind="sequences"),
        Task("tags", (), "", (), ("entity_f1", "word_accuracy"), dev="test", max_length=256, kind="tags"),
        Task("own", (), "", (), ("own",), kind="own"),
    )
}  # fmt: skip
_OTHER_NAMES = {"sst": "sst2", "mnlim": "mnli", "mnlimatched": "mnli", "mnlimismatched": "mnli-mm"}


def _plain(name: str) -> str:
    """A task's name without what is spelt in many ways: case and hyphens."""
    return name.lower().replace("-", "").replace("_", "")


_BY_PLAIN = {_plain(name): task for name, task in TASKS.items()} | {name: TASKS[task] for name, task in _OTHER_NAMES.items()}


def with_headline(task: Task, metric: str) -> Task:
    """The task with another of its metrics as the headline (none named: as it is); VPError for one it does not have.

    >>> with_headline(TASKS["mrpc"], "f1").metrics
    ('f1', 'accuracy')
    """
    if metric in NO_INTERVAL:
        raise VPError(f"The metric {metric} has no interval, so it stands beside a headline only: choose another (--metric).")
    if metric and metric not in task.metrics:
        raise VPError(f"The task {task.name} has no metric {metric!r}: choose one of {', '.join(task.metrics)} (--metric).")
    return replace(task, metrics=(metric, *(one for one in task.metrics if one != metric))) if metric else task


def find_task(name: str) -> Task:
    """The task of that name, however it is spelt; VPError lists them.

    >>> [find_task(name).name for name in ("SST-2", "glue/sst2", "STS_B", "mnli_mismatched")]
    ['sst2', 'sst2', 'stsb', 'mnli-mm']
    """
    path, _, last = name.lower().rpartition("/")
    found = _BY_PLAIN.get(_plain(last)) if path in ("", "glue", "nyu-mll/glue") else None
    if found is None:
        raise VPError(
            f"Unknown task {name!r}: choose one of {', '.join(TASKS)}, or give a file of your own (.tsv, .csv, .json, .jsonl, "
            "also .gz, or .parquet) with its columns named (--text, --label)."
        )
    return found
