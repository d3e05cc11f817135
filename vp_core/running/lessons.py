"""What the model of a study is trained on: the training set of its task, for each kind of task by a function of its own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from vp_core.asking.batches import encode
from vp_core.asking.examples import open_examples
from vp_core.asking.kinds.classification import as_classification
from vp_core.asking.kinds.heads import head_of
from vp_core.asking.kinds.spans import as_spans, targets_of
from vp_core.asking.labels import order_like
from vp_core.asking.outputs import outputs_of
from vp_core.asking.pictures.album import album_of, open_splits
from vp_core.asking.reading.columns import open_sentences
from vp_core.asking.reading.pairs import read_pairs
from vp_core.asking.reading.squad import check_places, open_questions
from vp_core.asking.reading.tables import kind_of
from vp_core.asking.tasks import find_task
from vp_core.asking.words.paragraphs import windows_of
from vp_core.asking.words.texts import open_texts
from vp_core.asking.words.windows import cut
from vp_core.ground.errors import VPError
from vp_core.ground.names import ASKED
from vp_core.loading.readers.texts import check_numbers
from vp_core.opening.images import images_of
from vp_core.opening.sequences import fit_pairs
from vp_core.opening.tags import keys_of, train_words
from vp_core.study import Study
from vp_core.training.schedule import Lessons, SpanLessons, TagLessons, TextLessons


@dataclass(frozen=True)
class TrainingSet:
    """Where a training set is: the arguments of `lessons_of`."""

    task: str
    data: str | Path | None = None
    text: Sequence[str] = ()
    label: str = "label"
    labels: Sequence[str] = ()
    separator: str = ""


def lessons_of(
    study: Study, task: str, data: str | Path | None = None, text: Sequence[str] = (), label: str = "label",
    labels: Sequence[str] = (), separator: str = "",
) -> Lessons | TextLessons:  # fmt: skip
    """The task's training set for the study's model, cut as its texts are; the arguments are those of `open_study`.

    Of a task that asks for tokens it is its train text in windows, as long as those that are scored, which do not overlap.
    Raises VPError for fewer than two rows, of different labels, and for a kind of task that is not trained on.
    """
    kind = ASKED[0] if kind_of(task) else find_task(task).kind
    if kind not in LESSONS:
        raise VPError(f"The task {task} has no training set: choose another (--task).")
    return LESSONS[kind](study, TrainingSet(task, data, text, label, labels, separator))


def _of_classes(study: Study, found: TrainingSet) -> Lessons:
    read_as = found.text, found.label, found.labels, found.separator, outputs_of(study.model)
    examples = open_examples(found.task, "train", found.data, *read_as)
    encoded = encode(study.loaded.tokenizer, examples.texts, study.question.data.max_length)
    question = as_classification(study.question, "Training on labels")
    return Lessons.make(encoded, examples.labels, examples.task, order_like(study.model, examples, question))


def _of_tokens(study: Study, found: TrainingSet) -> TextLessons:
    texts, tokenizer = open_texts(find_task(found.task), found.data), study.loaded.tokenizer
    masked = head_of(study.model) == "masked tokens"
    windows = cut(tokenizer, texts.measured, study.question.data.max_length, ends=masked).data
    check_numbers(study.model, tokenizer, windows)
    same = "The model learns the text that it is scored on: its score says what it remembers; give a folder with train.txt and "
    return TextLessons(windows, tokenizer, masked, (f"{same}test.txt.",) if texts.measured == texts.scored else ())


def _of_sequences(study: Study, found: TrainingSet) -> TextLessons:
    pairs = read_pairs(found.data, "train", found.text, found.label, found.separator)
    data = fit_pairs(study.loaded, pairs, study.question.data.max_length)
    same = (
        "The model learns the texts that it is scored on: its score says what it remembers; give a folder with train and dev "
    )
    return TextLessons(data, study.loaded.tokenizer, False, (f"{same}files.",) if pairs.source == study.source else ())


def _of_tags(study: Study, found: TrainingSet) -> TagLessons:
    sentences = open_sentences(found.data, "train", *keys_of(found.text, found.label))
    data, gold = train_words(study, sentences, found.labels)
    same = "The model learns the sentences that it is scored on: give a folder with a file to train and one to score."
    notes = (same,) if study.source == sentences.source else ()
    return TagLessons(data, study.loaded.tokenizer, False, notes, gold)


def _of_spans(study: Study, found: TrainingSet) -> SpanLessons:
    scored, tokenizer = as_spans(study.question, "Training on answers").data, study.loaded.tokenizer
    questions = open_questions(find_task(found.task), found.data, "train")
    check_places(questions)
    windows = windows_of(tokenizer, questions.asked, scored.max_length, scored.stride)
    check_numbers(study.model, tokenizer, windows.parts())
    same = "The model learns the questions that it is scored on: give a folder with a file to train on and one to score."
    return SpanLessons(windows, tokenizer, False, (same,) if questions.source == study.source else (), targets_of(windows))


def _of_images(study: Study, found: TrainingSet) -> Lessons:
    question = as_classification(study.question, "Training on labels")
    scored, split = open_splits(find_task(found.task), found.data, found.label)
    album = album_of(question.task, split, outputs_of(study.model), found.labels)
    data, _ = images_of(study.loaded, album.stored)
    lessons = Lessons.make(data, album.labels, album.task, order_like(study.model, album.named(), question))
    same = (
        "The model learns the images that it is scored on: its score says what it remembers; give a folder with train and test."
    )
    return replace(lessons, notes=(same,) if scored is split else ())


LESSONS: Mapping[str, Callable[[Study, TrainingSet], Lessons | TextLessons]] = MappingProxyType({
    "classes": _of_classes,
    "tokens": _of_tokens,
    "sequences": _of_sequences,
    "tags": _of_tags,
    "spans": _of_spans,
    "images": _of_images,
})  # fmt: skip
"""What is asked (`vp_core.ground.names.ASKED`) → what makes its training set."""
