"""A study of a model and a task by name: whichever kind the task is, one call opens it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from vp_core.asking.reading.tables import kind_of
from vp_core.asking.tasks import TASKS, find_task
from vp_core.ground.errors import VPError
from vp_core.ground.names import AUTO, DTYPES
from vp_core.loading.folder import result_of, task_of_run
from vp_core.loading.load import EMBEDDED
from vp_core.opening.asked import Asked
from vp_core.opening.classes import open_classes
from vp_core.opening.images import open_images
from vp_core.opening.own import open_own
from vp_core.opening.sequences import open_sequences
from vp_core.opening.spans import open_spans
from vp_core.opening.tags import open_tags
from vp_core.opening.tokens import open_tokens
from vp_core.squeezing.folder import task_of
from vp_core.study import Study


def task_of_model(model: str) -> str | None:
    """The task that goes with a model without being named, as the demo's does with all that was made of it; None for others."""
    if model in EMBEDDED:
        return model if model in TASKS else "demo"
    return task_of_run(model) or task_of(model)


def open_study(
    model: str = "demo",
    task: str | None = None,
    data: str | Path | None = None,
    *,
    text: Sequence[str] = (),
    label: str = "label",
    labels: Sequence[str] = (),
    separator: str = "",
    max_length: int | None = None,
    calibration: int | None = None,
    sentences: int | None = None,
    stride: int | None = None,
    most_tokens: int | None = None,
    metric: str = "",
    device: str = AUTO,
    dtype: str = DTYPES[0],
    fresh_head: bool = False,
) -> Study:
    """Load a model and a task's data and check that they belong together.

    `task` is a name from `asking.tasks.TASKS` (`data`: a folder in GLUE's TSV layout; the Hub without), or the path of a
    file (TSV, CSV, JSON, JSONL, Parquet) with the columns `text` and `label`, its cells parted by `separator` if its ending
    does not say by what; such a file also serves for calibration. The demo model has its own task. The model's outputs say what
    a file's labels are: classes, values, or several labels each (then `label` may join the columns of 0 and 1 with commas).
    `labels` names the outputs in their order, which wins over the model's own names and over any guess. Texts are cut to
    `max_length` tokens (else 64 or 128, by the task). With `sentences`, a fixed random sample of at most so many is scored, for
    a quick look; the calibration sentences are the same as without, and `notes` say so.

    A task that asks for tokens (`text`, `wikitext-2`, `demo-text`) takes a language model, or a masked one. `data` is then a
    file of plain text, or a folder (`vp_core.asking.words.texts`), read in windows of `max_length` tokens, each `stride` tokens
    behind the last (default: no overlap); with `most_tokens` a fixed random sample of windows is scored, of about so many
    tokens. `calibration` counts windows.

    Question answering (`squad`, `squad2`) takes SQuAD's JSON as `data`: a file, which serves for calibration too, or a folder
    with both (`vp_core.asking.reading.squad`). Paragraphs are read in windows of `max_length` tokens, each `stride` tokens
    behind the last (default: 128, or half a window); `sentences` counts questions, `calibration` windows.

    A task of images (`images`, `demo-images`) takes an image classifier. `data` is a folder with a folder for each class, or
    with train and test of such, a Parquet file, or the id of a data set on the Hub (`vp_core.asking.pictures.album`).

    A task that asks for `sequences` takes a model that writes about a text (...ForConditionalGeneration); `data` is then a
    table, or a folder with train and dev files, `text` the column that is read and `label` the one that is to be written about
    it (`vp_core.asking.reading.pairs`).

    Of the task's metrics `metric` is the headline (default: the first).

    With `fresh_head` the head of a model that marks answers is drawn, for whoever trains it: any encoder will do.

    The model lies on `device` with its weights in `dtype` (`vp_core.loading.load.load_model`).

    Raises VPError with one sentence for whatever is wrong.
    """
    task, model = task or task_of_model(model), result_of(model)
    if task is None:
        raise VPError(
            "Which task? Name one (--task sst2 --data DIR), or a file (--task FILE.tsv --text COLUMN --label COLUMN); for a "
            "language model a text (--task text --data FILE)."
        )
    if calibration is not None and calibration < 2:
        raise VPError("Statistics need at least 2 calibration texts: ask for more.")
    found = None if kind_of(task) else find_task(task)
    asked = Asked(
        model, task, found, data, tuple(text), label, tuple(labels), separator, max_length, calibration, sentences, stride,
        most_tokens, metric, device, dtype, fresh_head,
    )  # fmt: skip
    return OPENERS[asked.kind](asked)


OPENERS: Mapping[str, Callable[[Asked], Study]] = MappingProxyType({
    "classes": open_classes,
    "tokens": open_tokens,
    "spans": open_spans,
    "images": open_images,
    "sequences": open_sequences,
    "tags": open_tags,
    "own": open_own,
})  # fmt: skip
"""What is asked (`vp_core.ground.names.ASKED`) → what opens a study of it."""
