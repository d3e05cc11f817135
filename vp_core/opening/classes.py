"""A study of texts with classes, values or several labels each."""

from dataclasses import replace

from vp_core.asking.batches import encode
from vp_core.asking.examples import Examples, open_examples
from vp_core.asking.kinds.classification import Classification
from vp_core.asking.labels import check_order, order_of
from vp_core.asking.outputs import outputs_of
from vp_core.asking.reading.tables import kind_of
from vp_core.asking.tasks import with_headline
from vp_core.ground.names import CALIBRATION
from vp_core.ground.store import digest
from vp_core.loading.load import LoadedModel
from vp_core.loading.readers.texts import check_numbers, check_texts
from vp_core.opening.asked import Asked, of_sample
from vp_core.study import Study


def open_classes(asked: Asked) -> Study:
    """Of a task by name, or of a file; raises VPError as `vp_core.opening.study.open_study` says."""
    asked.check("data", "text", "label", "labels", "separator", "max_length", "sentences", "metric")
    loaded, task = asked.load(), asked.name
    read_as = asked.data, asked.text, asked.label, asked.labels, asked.separator, outputs_of(loaded.model)
    evaluation = open_examples(task, "dev", *read_as)
    training = evaluation if kind_of(task) else open_examples(task, "train", *read_as)  # a file of one's own is both
    found = with_headline(evaluation.task, asked.metric)
    evaluation = replace(evaluation, task=replace(found, max_length=asked.max_length or found.max_length))
    some = evaluation if asked.sentences is None else evaluation.sample(asked.sentences)
    notes = (of_sample(some, evaluation, "texts"),) if some is not evaluation else ()
    return make_study(loaded, some, training.sample_like(evaluation, asked.calibration or CALIBRATION), notes)


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
        data_id=digest(*encoded.facts(), evaluation.labels.tolist(), question.order, task.metrics),
        calibration_id=digest(*measured.facts()),
        source=evaluation.source,
        notes=notes,
    )
