"""What tests of trainings share: a task that a tiny model learns in a moment, and trainings of it that are stopped."""

import numpy as np
import tiny
import torch

from vp_core.asking.batches import Encoded
from vp_core.asking.tasks import TASKS
from vp_core.training.schedule import Lessons, Schedule

SHORT = Schedule(epochs=2, batch=8, lr=3e-3, precision="float32")


def toy(n=64, classes=2, seed=0):
    """(texts, labels): the class is the word that comes first, 5, 6 or 7."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=n)
    ids = [[5 + int(y), *rng.integers(10, 40, rng.integers(3, 9)).tolist()] for y in labels]
    return Encoded(ids, None, 0, 0, 12), labels


def model_of(family="bert", outputs=2, seed=0, **settings):
    """Small weights, dropout on."""
    torch.manual_seed(seed)
    sizes = tiny.sizes(family, 32, 40, 2) | {"vocab_size": 60, "num_labels": outputs, "pad_token_id": 0} | settings
    return tiny.build(family, "ForSequenceClassification", **sizes)


def lessons(n=32, classes=2):
    data, labels = toy(n, classes)
    return Lessons(data, torch.from_numpy(labels), False) if classes != 2 else Lessons.make(data, labels, TASKS["sst2"], (0, 1))
