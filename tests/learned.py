"""Movement pruning on tiny models: what its tests share."""

import numpy as np
import tiny
import torch

from vp_core.asking.batches import Encoded
from vp_core.asking.tasks import TASKS
from vp_core.movement.prune import MovementPruning
from vp_core.training.loop import train
from vp_core.training.schedule import Lessons, Schedule

QUICK = Schedule(epochs=1, batch=8, lr=1e-3, precision="float32")


def lessons(family="bert", n=96, seed=0):
    """Random texts (BART's and T5's end where they are read), labelled by whether their first word is the 5th or the 6th."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, size=n)
    end = {"bart": [2], "t5": [1]}.get(family, [])
    ids = [[5 + int(y), *rng.integers(10, 40, rng.integers(3, 9)).tolist(), *end] for y in labels]
    return Lessons.make(Encoded(ids, None, 0, {"bart": 1}.get(family, 0), 12), labels, TASKS["sst2"], (0, 1))


def model_of(family="bert", hidden=32, ffn=40, layers=2, spread=0.1, **settings):
    """A tiny classifier without dropout, with biases that are not zero."""
    torch.manual_seed(0)
    sizes = tiny.sizes(family, hidden, ffn, layers) | tiny.NO_DROPOUT | {"vocab_size": 60, "num_labels": 2}
    if family not in tiny.READS_END:
        sizes |= {"pad_token_id": 0}
    model = tiny.build(family, "ForSequenceClassification", **(sizes | settings))
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim > 1 and "embed" not in name:
                p.normal_(std=spread)
    return tiny.draw_biases(model, 0.05)


def trained(pruning, family="bert", schedule=QUICK, model=None, tell=lambda news: None, **settings):
    """(the model, what it put out at the end) of a short training with this callback."""
    model = model or model_of(family, **settings)
    train(model, lessons(family), schedule, callbacks=[pruning], tell=tell)
    return model


def pruning(shapes, **settings):
    """With what short trainings need."""
    return MovementPruning(shapes, **({"until": 0.5, "lr": 0.1} | settings))
