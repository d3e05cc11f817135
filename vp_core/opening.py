"""A study of a model and a task by name, or of parts that are already loaded: what is read is checked to belong together."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vp_core.asking.batches import check_length, encode
from vp_core.asking.kinds.classification import Classification
from vp_core.asking.examples import Examples, open_examples
from vp_core.asking.labels import check_order, order_of
from vp_core.asking.outputs import outputs_of
from vp_core.asking.reading.tables import kind_of
from vp_core.ground.errors import VPError
from vp_core.ground.names import CALIBRATION
from vp_core.ground.store import digest
from vp_core.loading.folder import result_of, task_of_run
from vp_core.loading.load import EMBEDDED, LoadedModel, load_model
from vp_core.loading.texts import check_numbers, check_texts
from vp_core.squeezing.folder import task_of
from vp_core.study import Study


def task_of_model(model: str) -> str | None:
    """The task that goes with a model without being named, as the demo's does with all that was made of it; None for others."""
    return "demo" if model in EMBEDDED else task_of_run(model) or task_of(model)


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
    calibration: int = CALIBRATION,
    sentences: int | None = None,
) -> Study:
    """Load a model and a task's data and check that they belong together.

    `task` is a name from `asking.tasks.TASKS` (`data`: a folder in GLUE's TSV layout; the Hub without), or the path of a
    file (TSV, CSV, JSON, JSONL, Parquet) with the columns `text` and `label`, its cells parted by `separator` if its ending
    does not say by what; such a file also serves for calibration. The demo model has its own task. The model's outputs say what
    a file's labels are: classes, values, or several labels each (then `label` may join the columns of 0 and 1 with commas).
    `labels` names the outputs in their order, which wins over the model's own names and over any guess. Texts are cut to
    `max_length` tokens (else 64 or 128, by the task). With `sentences`, a fixed random sample of at most so many is scored, for
    a quick look; the calibration sentences are the same as without, and `notes` say so. Raises VPError with one sentence for
    whatever is wrong.
    """
    task, model = task or task_of_model(model), result_of(model)
    if task is None:
        raise VPError(
            "Which task? Name one (--task sst2 --data DIR), or a file (--task FILE.tsv --text COLUMN --label COLUMN)."
        )
    if calibration < 2:
        raise VPError("Statistics need at least 2 calibration sentences: ask for more.")
    loaded = load_model(model)
    if max_length is not None:
        check_length(max_length, loaded.max_length, loaded.name)
    read_as = data, text, label, labels, separator, outputs_of(loaded.model)
    evaluation = open_examples(task, "dev", *read_as)
    training = evaluation if kind_of(task) else open_examples(task, "train", *read_as)  # a file of one's own is both
    if max_length is not None:
        evaluation = replace(evaluation, task=replace(evaluation.task, max_length=max_length))
    asked = evaluation if sentences is None else evaluation.sample(sentences)
    notes = (f"Scored on a random sample of {len(asked):,} of {len(evaluation):,} texts.",) if asked is not evaluation else ()
    return make_study(loaded, asked, training.sample_like(evaluation, calibration), notes)


def make_study(loaded: LoadedModel, evaluation: Examples, calibration: Examples, notes: tuple[str, ...] = ()) -> Study:
    """A Study from parts that are already loaded. `notes` are what its user should know of them.

    Raises VPError if the labels of model and data do not belong together.
    """
    task = evaluation.task
    max_length = min(task.max_length, loaded.max_length)
    encoded = encode(loaded.tokenizer, evaluation.texts, max_length)
    notes = (*notes, *check_texts(loaded.model, loaded.tokenizer, evaluation.texts, encoded))
    order, of_labels = order_of(loaded.model, evaluation)
    question = Classification(encoded, evaluation.labels, task, order or tuple(range(len(task.labels))))
    if order is None:
        check_order(loaded.model, question)
    measured = encode(loaded.tokenizer, calibration.texts, max_length)
    check_numbers(loaded.model, loaded.tokenizer, measured)
    notes = (*loaded.notes, *dict.fromkeys((*evaluation.notes, *calibration.notes)), *of_labels, *notes)
    return Study(
        loaded=loaded,
        question=question,
        calibration=measured,
        data_id=digest(encoded.ids, encoded.type_ids, evaluation.labels.tolist(), question.order, task.metrics),
        calibration_id=digest(measured.ids, measured.type_ids),
        source=evaluation.source,
        notes=notes,
    )
