"""What a visitor can choose of a model and of what it is asked, each choice declared once; `app.web.settings` has them all."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from analysis.names import METRIC_NAMES
from app.web import settings_fields as kind
from app.web.offered import HEADLINES, kind_of_task
from app.web.settings_fields import setting
from vp_core.asking.outputs import parse_labels
from vp_core.ground.names import AUTO, CALIBRATION, CALIBRATION_WINDOWS, DTYPES

_SIZES = ("16", "32", "64", "128", "256", "512", "1024", "2048", "4096")
OF_A_KIND: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "classes": ("data", "text", "label", "labels", "separator", "max_length", "sentences"),
    "tokens": ("data", "max_length", "stride", "most_tokens"),
    "spans": ("data", "max_length", "stride", "sentences"),
    "images": ("data", "label", "labels", "sentences"),
    "sequences": ("data", "text", "label", "separator", "max_length", "sentences"),
    "tags": ("data", "text", "label", "labels", "max_length", "sentences"),
    "own": (),
})  # fmt: skip
"""What is asked (`vp_core.ground.names.ASKED`) → the settings that say how it is read, in the order of the sidebar."""
READ = tuple(dict.fromkeys(name for names in OF_A_KIND.values() for name in names))
"""All of these settings."""
EXPANDER: Mapping[str, str] = MappingProxyType({
    "classes": "Columns of a file of your own, labels, sample", "tokens": "Windows of the text",
    "spans": "Windows of the paragraphs, sample",
    "images": "Labels, sample", "sequences": "Columns, longest text, sample", "tags": "Columns, labels, sample",
})  # fmt: skip
"""What is asked → what all of them but the data are called together."""
_TEXT_FILE = "Text file or folder", "empty: the demo's, or the Hub's"
CALLED: Mapping[str, Mapping[str, tuple[str, str]]] = MappingProxyType({
    "tokens": {"max_length": ("Window length", ""), "data": _TEXT_FILE, "stride": ("", "a whole window")},
    "spans": {"max_length": ("Window length", ""), "data": ("Folder or file of questions", "empty: the Hub")},
    "images": {"data": ("Folder of images", "empty: the demo's"), "label": ("Label column", "")},
    "sequences": {
        "data": ("File of pairs of texts", ""), "text": ("Column of what is read", ""),
        "label": ("Column of what is to be written", ""),
    },
    "tags": {"data": ("Folder or file of tagged words", ""), "max_length": ("Longest sentence", "")},
})  # fmt: skip
"""What is asked → by setting what it is called there, and what its empty box says, where that is not as it is declared."""


def called(asked: str, name: str) -> tuple[str, str]:
    """The title of a setting's box where this is asked, and what it says while it is empty; either "" for what is declared.

    >>> called("tokens", "max_length"), called("classes", "data")
    (('Window length', ''), ('', ''))
    """
    return CALLED.get(asked, {}).get(name, ("", ""))


@dataclass(frozen=True)
class AskedChoices:
    """Which model is asked what, and how that is read."""

    # fmt: off
    model: str = setting(kind.Text(
        "demo", label="Model",
        help="A model that comes with this program, a folder that was opened before, or what the Hub's cache on this machine "
        "holds; or type any folder written by `save_pretrained`, or the id of a model on the Hugging Face Hub (safetensors "
        "only). A task that fits is chosen with it.",
    ))
    task: str = setting(kind.Text(
        "demo", label="Task",
        help="For a text classifier a task of the GLUE benchmark by name, or the path of a TSV, CSV, JSON, JSONL or Parquet "
        "file with named columns. For a language model `text` (any text of your own), `wikitext-2` or `demo-text`. For a model "
        "that marks answers `squad` or `squad2`, for one that classifies images `images`, for one that writes about a text "
        "`sequences`, for one that tags words `tags`.",
    ))
    data: str = setting(kind.Text(
        "", label="Data folder", placeholder="empty: the Hub",
        help="The folder that holds the task, in GLUE's TSV layout (`sst2/dev.tsv`); for a language model a file of plain text "
        "or a folder with train.txt and test.txt; SQuAD's JSON; a folder with one folder of images for each class; a file of "
        "pairs of texts; tagged words in columns. Empty: the Hub, or the demo's own.",
    ))
    text: str = setting(kind.Text(
        "", label="Text columns",
        help="For a file of your own: the name of its text column, or of two, separated by a comma.",
    ))
    label: str = setting(kind.Text(
        "label", label="Label column",
        help="For a file of your own: the name of its label column, or of several with 0 and 1, separated by commas, where a "
        "text has any number of labels. Of pairs of texts the column of what is to be written.",
    ))
    labels: str = setting(kind.Text(
        "", label="Labels, in the order of the model's outputs", placeholder="empty: by the model's own names",
        help="What the model's outputs mean, as the file or the task calls it, separated by commas: `bad,good` (`--labels` of "
        "the command line). It wins over the names in the model and over every guess.",
    ))
    separator: str = setting(kind.Text(
        "", label="Separator", placeholder="by the file's ending",
        help="For a file of your own: what parts its cells, such as `;` or `tab`.",
    ))
    max_length: int | None = setting(kind.OpenWhole(
        None, least=4, label="Longest text", placeholder="64 or 128, by the task",
        help="Texts are cut to so many tokens, at most as many as the model takes. A text that is asked for its tokens, and a "
        "paragraph that is asked a question, are read in windows of so many.",
    ))
    stride: int | None = setting(kind.OpenWhole(
        None, least=1, label="Stride", placeholder="by the task",
        help="So many tokens each window begins behind the last. Below a window's length windows overlap: every token has more "
        "before it, and each window more to compute.",
    ))
    sentences: int | None = setting(kind.OpenWhole(
        None, least=2, label="Most examples", placeholder="all",
        help="A fixed random sample of at most so many texts, questions or images is scored, for a quick look.",
    ))
    most_tokens: int | None = setting(kind.OpenWhole(
        None, least=2, label="Most tokens", placeholder="the whole text",
        help="A fixed random sample of windows with about so many tokens is scored, for a quick look.",
    ))
    metric: str = setting(kind.OneOf(
        "", ("", *HEADLINES), folded=True, label="Metric", names=METRIC_NAMES,
        help="Which of the task's metrics is the headline, with an interval and a curve of its own. The others stand below it.",
    ))
    calibration: int | None = setting(kind.OpenSize(
        None, _SIZES, least=int(_SIZES[0]), most=int(_SIZES[-1]), label="Calibration texts",
        help="Training examples on which everything is measured. Their labels are never looked at. Of a text that is "
        "asked for its tokens, windows.",
    ))
    device: str = setting(kind.Text(
        AUTO, label="Device",
        help="Where the model is run: `cpu`, `cuda` (`cuda:1` is the second of several) or `mps`. `auto` is an accelerator if "
        "there is one.",
    ))
    dtype: str = setting(kind.OneOf(
        DTYPES[0], DTYPES, label="Weights kept in",
        help="bfloat16 and float16 need half the memory of float32, and are rounded, so another model than it. float16 is for "
        "accelerators.",
    ))
    # fmt: on

    @property
    def columns(self) -> tuple[str, ...]:
        """The text columns of a file of the visitor's own."""
        return tuple(column.strip() for column in self.text.split(",") if column.strip())

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that the visitor gave, in the order of the model's outputs."""
        return parse_labels(self.labels)

    @property
    def asked(self) -> str:
        """What the task asks of a model, one of `vp_core.ground.names.ASKED`."""
        return kind_of_task(self.task)

    @property
    def calibrated_on(self) -> int:
        """How many examples, or windows of a text, everything is measured on."""
        return self.calibration or (CALIBRATION_WINDOWS if self.asked in ("tokens", "spans") else CALIBRATION)
