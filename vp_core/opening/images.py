"""A study of images with classes."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image
from transformers import PreTrainedModel

from vp_core.asking.batches import make_batches
from vp_core.asking.evaluate import outputs_by_batch
from vp_core.asking.kinds.images import ImageClassification
from vp_core.asking.labels import check_order, order_of
from vp_core.asking.outputs import outputs_of
from vp_core.asking.pictures.album import Album, album_of, open_splits
from vp_core.asking.pictures.inputs import Images
from vp_core.asking.pictures.rgb import notes_of
from vp_core.asking.pictures.stored import InMemory, Picked, Stored
from vp_core.asking.tasks import with_headline
from vp_core.ground.errors import VPError
from vp_core.ground.names import CALIBRATION
from vp_core.ground.store import digest
from vp_core.loading.load import LoadedModel
from vp_core.loading.readers.images import tokens_with
from vp_core.opening.asked import Asked, of_sample
from vp_core.study import Study


def open_images(asked: Asked) -> Study:
    """Of an image classifier; raises VPError as `vp_core.opening.study.open_study` says."""
    asked.check("data", "label", "labels", "sentences", "metric")
    loaded, task = asked.load(), asked.task
    assert task is not None
    scored, measured = open_splits(task, asked.data, asked.label)
    album = album_of(task, scored, outputs_of(loaded.model), asked.labels)
    album = replace(album, task=with_headline(album.task, asked.metric))
    notes = (f"Statistics are taken on the images that are scored, {scored.source!r}.",) if scored is measured else ()
    if asked.sentences is not None and (few := album.sample(asked.sentences)) is not album:
        if len(np.unique(few.labels)) < 2:
            raise VPError(f"A sample of {asked.sentences} images has fewer than two classes: ask for more (--sentences).")
        notes = (*notes, of_sample(few, album, "images"))
        album = few
    calibration = sample(measured.stored, asked.calibration or CALIBRATION)
    return make_image_study(loaded, album, calibration, notes)


def sample(stored: Stored, n: int, seed: int = 0) -> Stored:
    """`n` pictures, a simple random sample in the old order; all of them, if there are no more."""
    if n >= len(stored):
        return stored
    return Picked(stored, np.sort(np.random.default_rng(seed).choice(len(stored), n, replace=False)).tolist())


def images_of(loaded: LoadedModel, stored: Stored) -> tuple[Images, tuple[str, ...]]:
    """(pictures as the model is given them, notes on what was odd about them); VPError for the first that is no picture."""
    odd, contents = stored.looked_at()
    return Images(stored, loaded.processor, tokens_with(loaded.model, loaded.processor), contents), notes_of(odd)


def make_image_study(loaded: LoadedModel, album: Album, calibration: Stored, notes: tuple[str, ...] = ()) -> Study:
    """A Study from parts that are already loaded. `notes` are what its user should know of them.

    Raises VPError if the labels of model and data do not belong together, and for the first picture that is none.
    """
    data, odd = images_of(loaded, album.stored)
    measured, _ = (data, ()) if calibration is album.stored else images_of(loaded, calibration)
    order, of_labels = order_of(loaded.model, album.named())
    question = ImageClassification(data, album.labels, album.task, order or tuple(range(len(album.task.labels))))
    if order is None:
        check_order(loaded.model, question)
    return Study(
        loaded=loaded,
        question=question,
        calibration=measured,
        data_id=digest(*data.facts(), album.labels.tolist(), question.order, album.task.metrics),
        calibration_id=digest(*measured.facts()),
        source=album.source,
        notes=(*loaded.notes, *album.notes, *of_labels, *odd, *notes),
    )


def predict_images(study: Study, model: PreTrainedModel, pictures: Sequence[Image.Image]) -> np.ndarray:
    """What `model` says to pictures (RGB, upright: `vp_core.asking.pictures.rgb.as_rgb`): probabilities (n, classes) in the
    order of `study.question.task.labels`.

    Raises VPError for a study that does not ask about images, and for a picture that is not RGB.
    """
    question = study.question
    if not isinstance(question, ImageClassification):
        raise VPError(f"The task {question.task.name} asks nothing about images: open a study of images.")
    data = Images(InMemory(pictures), study.loaded.processor, question.data.max_length, "")
    found = np.empty((len(data), len(question.order)))
    for batch, logits in outputs_by_batch(model, question, make_batches(data, range(len(data)))):
        found[batch.examples] = logits.softmax(dim=1).numpy()
    return found[:, np.argsort(question.order)]
