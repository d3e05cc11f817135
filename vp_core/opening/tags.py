"""A study of sentences whose words have tags."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from vp_core.asking.batches import make_batches
from vp_core.asking.kinds.tags import METRICS, Tags
from vp_core.asking.outputs import listing
from vp_core.asking.reading.columns import Sentences, open_sentences
from vp_core.asking.tagging.aligned import Words, align
from vp_core.asking.tagging.names import TagNames, check_numbers, names_of, numbers_of, scheme_notes
from vp_core.asking.tasks import Task
from vp_core.ground.errors import VPError
from vp_core.ground.names import CALIBRATION
from vp_core.ground.parallel import in_parallel
from vp_core.ground.store import digest
from vp_core.loading.load import LoadedModel
from vp_core.loading.readers.texts import check_texts
from vp_core.model.precision import device_of
from vp_core.model.sharing import share
from vp_core.opening.asked import Asked, of_sample
from vp_core.study import Study

_SAMPLE = 256
"""Sentences on which the numbering of tags is looked at."""


def open_tags(asked: Asked) -> Study:
    """Of a file, or a folder with a file to be scored and one to train; raises VPError as `open_study` says."""
    asked.check("data", "text", "label", "labels", "max_length", "sentences", "metric", "fresh_head")
    task, keys = asked.task, keys_of(asked.text, asked.label)
    assert task is not None
    evaluation = open_sentences(asked.data, "dev", *keys)
    both = not Path(str(asked.data)).is_dir()
    training = evaluation if both else open_sentences(asked.data, "train", *keys)
    loaded = asked.load(asked.labels or fresh_names(training) if asked.fresh_head else ())
    names = names_of(loaded.model, evaluation, asked.labels)
    names = replace(names, counted=False) if asked.fresh_head else names  # it answers nothing yet
    some = evaluation if asked.sentences is None else evaluation.sample(asked.sentences)
    notes: tuple[str, ...] = ()
    if some is not evaluation:
        notes = (of_sample(some, evaluation, "sentences"),)
    notes += ("Statistics are taken on the sentences that are scored.",) * both
    task = replace(task, max_length=asked.max_length or task.max_length)
    measured = training.sample(asked.calibration or CALIBRATION)
    return make_tag_study(loaded, task, some, measured, names, notes, asked.metric)


def fresh_names(sentences: Sentences) -> tuple[str, ...]:
    """What the outputs of a fresh head are called: the tags of the sentences that it is trained on, O first, then by type and
    letter; VPError for numbers, which say nothing."""
    if sentences.numbered:
        raise VPError(
            f"The tags of {sentences.source!r} are numbers: say what the outputs of a fresh head are, in the order of the "
            "numbers (--labels O,B-PER,I-PER)."
        )
    return tuple(sorted(map(str, sentences.kinds()), key=lambda tag: (tag != "O", tag.partition("-")[2], tag)))


def keys_of(text: object, label: str) -> tuple[str, str]:
    """The keys of words and tags in a JSONL file, empty where none is named."""
    return ",".join(text) if isinstance(text, list | tuple) else str(text or ""), "" if label == "label" else label


def make_tag_study(
    loaded: LoadedModel, task: Task, evaluation: Sentences, calibration: Sentences, names: TagNames,
    notes: tuple[str, ...] = (), metric: str = "",
) -> Study:  # fmt: skip
    """A Study of a model that tags words, from sentences that are there; `notes` are what its user should know of them.

    Raises VPError for tags that are not the model's, for a slow tokeniser, and for a metric that these tags do not have.
    """
    max_length = min(task.max_length, loaded.max_length)
    data = align(loaded.tokenizer, evaluation.words, max_length)
    told = check_texts(loaded.model, loaded.tokenizer, data.texts or (), data)
    question = Tags.make(data, numbers_of(names, evaluation), names.names, task, metric)
    if names.counted:
        check_numbers(names.names, _answers(loaded, question))
    measured = align(loaded.tokenizer, calibration.words, max_length)
    check_texts(loaded.model, loaded.tokenizer, measured.texts or (), measured)
    notes = (*loaded.notes, *evaluation.notes, *names.notes, *scheme_notes(evaluation, names.names), *notes, *told)
    return Study(
        loaded=loaded,
        question=question,
        calibration=measured,
        data_id=digest(*data.facts(), [tags.tolist() for tags in question.gold], question.names, question.task.metrics),
        calibration_id=digest(*measured.facts(), [read.tolist() for read in measured.read]),
        source=evaluation.source,
        notes=(*notes, *_odd(question)),
    )


def _odd(question: Tags) -> tuple[str, ...]:
    """What to know of words without a token, and of tags that name no entities."""
    notes: tuple[str, ...] = ()
    if lost := question.data.lost:
        notes = (f"{lost:,} of {sum(question.data.counts):,} words were cut off or have no token: they count as not found.",)
    if METRICS[0] not in question.task.metrics:
        named = listing(question.names)
        notes += (f"The tags {named} name no entities (B-, I-, E- or S- before a type): there is no entity F1 of them.",)
    return notes


def _answers(loaded: LoadedModel, question: Tags) -> np.ndarray:
    """How often each output was the answer where each tag stands (outputs, tags), on some of the sentences."""
    table = np.zeros((len(question.names), len(question.names)))
    some = np.random.default_rng(0).permutation(len(question))[:_SAMPLE]
    model = share(loaded.model)
    batches = make_batches(question.data, some)
    for logits, gold in in_parallel(lambda batch: question.said(model, batch), batches, device_of(model)):
        np.add.at(table, (logits.argmax(dim=1).numpy(), gold.numpy()), 1)
    return table


def train_words(study: Study, sentences: Sentences, labels: Sequence[str] = ()) -> tuple[Words, list[np.ndarray]]:
    """(sentences as the study's model reads them, the numbers of their words' tags): those of which something is read."""
    question = study.question
    if not isinstance(question, Tags):
        raise VPError("Training on tags is there for models that tag words only: choose another task.")
    gold = numbers_of(names_of(study.model, sentences, labels), sentences)
    data = align(study.loaded.tokenizer, sentences.words, question.data.max_length)
    check_texts(study.model, study.loaded.tokenizer, data.texts or (), data)
    if not all(map(len, data.read)):
        raise VPError(
            f"Sentence {1 + [len(read) for read in data.read].index(0):,} of {sentences.source!r} has no word that the "
            "tokeniser makes anything of: leave it out of the training set."
        )
    return data, gold
