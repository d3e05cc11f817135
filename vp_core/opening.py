"""A study of a model and a task by name, or of parts that are already loaded: what is read is checked to belong together."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from vp_core.asking.batches import check_length, encode
from vp_core.asking.examples import Examples, open_examples
from vp_core.asking.kinds.classification import Classification
from vp_core.asking.kinds.masked_tokens import MaskedTokens
from vp_core.asking.kinds.next_tokens import NextTokens
from vp_core.asking.kinds.texts import Texts, open_texts
from vp_core.asking.kinds.tokens import head_of
from vp_core.asking.kinds.windows import Windows, around, cut, sample
from vp_core.asking.labels import check_order, order_of
from vp_core.asking.outputs import outputs_of
from vp_core.asking.reading.tables import kind_of
from vp_core.asking.tasks import Task, find_task
from vp_core.ground.errors import VPError
from vp_core.ground.names import CALIBRATION, CALIBRATION_WINDOWS
from vp_core.ground.store import digest
from vp_core.loading.folder import result_of, task_of_run
from vp_core.loading.load import EMBEDDED, LoadedModel, load_model
from vp_core.loading.texts import check_numbers, check_texts, notes_of_windows
from vp_core.squeezing.folder import task_of
from vp_core.study import Study


def task_of_model(model: str) -> str | None:
    """The task that goes with a model without being named, as the demo's does with all that was made of it; None for others."""
    if model in EMBEDDED:
        return "demo-text" if model == "demo-text" else "demo"
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
    file of plain text, or a folder (`vp_core.asking.kinds.texts`), read in windows of `max_length` tokens, each `stride` tokens
    behind the last (default: no overlap); with `most_tokens` a fixed random sample of windows is scored, of about so many
    tokens. `calibration` counts windows.

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
    if not kind_of(task) and (found := find_task(task)).tokens:
        if text or labels or separator:
            raise VPError(f"The task {found.name} has no columns and no labels: leave out --text, --labels and --separator.")
        if sentences is not None:
            raise VPError(f"The task {found.name} has no sentences: leave out --sentences, or choose --most-tokens.")
        return _of_tokens(load_model(model, tokens=True), found, data, max_length, calibration, stride, most_tokens)
    if stride is not None or most_tokens is not None:
        raise VPError(f"The task {task} has no windows: leave out --stride and --most-tokens.")
    calibration = CALIBRATION if calibration is None else calibration
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


def _of_tokens(
    loaded: LoadedModel, task: Task, data: str | Path | None, max_length: int | None, calibration: int | None,
    stride: int | None, most_tokens: int | None,
) -> Study:  # fmt: skip
    """A study of a model that predicts tokens of a text."""
    if max_length is not None:
        check_length(max_length, loaded.max_length, loaded.name)
    length, texts = min(max_length or task.max_length, loaded.max_length), open_texts(task, data)
    masked = head_of(loaded.model) == "masked tokens"
    if masked and stride is not None:
        raise VPError("Masked words are predicted from both sides, so windows do not overlap: leave out --stride.")
    windows = cut(loaded.tokenizer, texts.scored, length, stride, ends=masked)
    before, after = around(loaded.tokenizer, masked)
    notes = (*texts.notes, *notes_of_windows(loaded.tokenizer, windows.data, len(before), len(after)))
    if most_tokens is not None and (few := _few(windows, most_tokens)) is not windows:
        notes = (*notes, f"Scored on a random sample of {len(few):,} of {len(windows):,} windows.")
        windows = few
    measured = sample(loaded.tokenizer, texts.measured, length, calibration or CALIBRATION_WINDOWS, ends=masked)
    return make_token_study(loaded, task, windows, measured, texts, notes)


def _few(windows: Windows, most_tokens: int) -> Windows:
    """A random sample of windows with about so many tokens; all of them if they have no more."""
    if most_tokens < 2:
        raise VPError(f"Perplexity needs tokens, and {most_tokens} are asked for: leave out --most-tokens, or ask for 10000.")
    lengths = [len(ids) - int(start) for ids, start in zip(windows.data.ids, windows.starts, strict=True)]
    n = -(-most_tokens * len(windows) // sum(lengths))
    return windows if n >= len(windows) else windows.at(np.sort(np.random.default_rng(0).permutation(len(windows))[:n]))


def make_token_study(
    loaded: LoadedModel, task: Task, windows: Windows, calibration: Windows, texts: Texts, notes: tuple[str, ...] = ()
) -> Study:
    """A Study of a model that predicts tokens, from windows that are there; `notes` are what its user should know of them."""
    for one in (windows.data, calibration.data):
        check_numbers(loaded.model, loaded.tokenizer, one)
    if head_of(loaded.model) == "masked tokens":
        question: NextTokens | MaskedTokens = MaskedTokens.of(loaded.tokenizer, windows, task)
    else:
        question = NextTokens.of(windows, task)
    asked = [ids.tolist() for ids in question.wanted], [places.tolist() for places in question.read]
    return Study(
        loaded=loaded,
        question=question,
        calibration=calibration.data,
        data_id=digest(question.data.ids, *asked, question.task.metrics),
        calibration_id=digest(calibration.data.ids, None),
        source=texts.source,
        notes=(*loaded.notes, *notes),
    )
