"""A study of question answering: which words of a paragraph answer a question."""

import numpy as np

from vp_core.asking.kinds.spans import Spans
from vp_core.asking.reading.squad import SECOND, open_questions
from vp_core.asking.tasks import Task, with_headline
from vp_core.asking.words.paragraphs import Paragraphs, windows_of
from vp_core.ground.names import CALIBRATION_WINDOWS
from vp_core.ground.store import digest
from vp_core.loading.load import LoadedModel
from vp_core.loading.readers.texts import check_known, check_numbers, check_segments
from vp_core.opening.asked import Asked, of_sample
from vp_core.study import Study


def open_spans(asked: Asked) -> Study:
    """Of a model that marks answers in a text; raises VPError as `vp_core.opening.study.open_study` says."""
    asked.check("data", "max_length", "sentences", "stride", "metric", "fresh_head")
    assert asked.task is not None
    task = with_headline(asked.task, asked.metric)
    # before the model: what is wrong with a file is told at once
    evaluation, training = (open_questions(task, asked.data, split) for split in ("dev", "train"))
    loaded = asked.load()
    some = evaluation if asked.sentences is None else evaluation.sample(asked.sentences)
    notes = list(evaluation.notes)
    if some is not evaluation:
        notes.append(of_sample(some, evaluation, "questions"))
    if training.source == evaluation.source:
        notes.append("Statistics are taken on questions of the file that is scored.")
    length = min(asked.max_length or task.max_length, loaded.max_length)
    scored = windows_of(loaded.tokenizer, some.asked, length, asked.stride)
    n = asked.calibration or CALIBRATION_WINDOWS
    measured = _one_each(windows_of(loaded.tokenizer, training.sample(n).asked, length, asked.stride))
    return make_span_study(loaded, task, scored, measured, evaluation.source, tuple(notes))


def make_span_study(
    loaded: LoadedModel, task: Task, windows: Paragraphs, calibration: Paragraphs, source: str, notes: tuple[str, ...] = ()
) -> Study:
    """A Study of a model that marks answers, from windows that are there; `notes` are what its user should know of them.

    Raises VPError for tokens and segments that the model does not know.
    """
    parts = windows.parts()
    for one in (parts, calibration.parts()):
        check_numbers(loaded.model, loaded.tokenizer, one)
    check_segments(loaded.model, parts)
    assert parts.texts is not None
    notes = (*notes, *check_known(loaded.tokenizer, parts.texts, parts))
    question = Spans.make(windows, task, task.name == SECOND)
    read = [[one.paragraph, one.golds] for one in windows.asked]
    return Study(
        loaded=loaded,
        question=question,
        calibration=calibration,
        data_id=digest(*windows.facts(), read, question.unanswerable, question.targets.tolist(), task.metrics),
        calibration_id=digest(*calibration.facts()),
        source=source,
        notes=(*loaded.notes, *notes),
    )


def _one_each(windows: Paragraphs) -> Paragraphs:
    """One window of every question, drawn at random and the same every time."""
    order = np.random.default_rng(0).permutation(len(windows))
    _, first = np.unique(windows.of[order], return_index=True)
    return windows.at(np.sort(order[first]))
