"""Movement pruning on tiny models: what its tests share."""

import numpy as np
import tiny
import torch
from accelerate import Accelerator

from vp_core.asking.batches import Encoded
from vp_core.asking.tasks import TASKS
from vp_core.movement.prune import LearnedMasks
from vp_core.training.callbacks import Run
from vp_core.training.loop import train
from vp_core.training.schedule import Lessons, Schedule

QUICK = Schedule(epochs=1, batch=8, lr=1e-3, precision="float32")


def lessons(family="bert", n=96, seed=0):
    """Random texts (BART's end where they are read), labelled by whether their first word is the 5th or the 6th."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, size=n)
    ids = [[5 + int(y), *rng.integers(10, 40, rng.integers(3, 9)).tolist()] for y in labels]
    if family == "bart":
        return Lessons.make(Encoded([[*row, 2] for row in ids], None, 1, 0, 12, end_id=2), labels, TASKS["sst2"], (0, 1))
    return Lessons.make(Encoded(ids, None, 0, 0, 12), labels, TASKS["sst2"], (0, 1))


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


def pruning(shapes=None, **settings):
    """With what short trainings need."""
    return LearnedMasks(shapes, **({} if "threshold" in settings else {"until": 0.5}) | {"lr": 0.1} | settings)


def trained(callback, family="bert", schedule=QUICK, model=None, tell=lambda news: None, **settings):
    """A model after a short training with this callback."""
    model = model or model_of(family)
    train(model, lessons(family), schedule, callbacks=[callback], tell=tell, **settings)
    return model


def at_once(callback, model, seed=0, tell=lambda news: None):
    """The `Run` of a training that is over as soon as it began: random scores, masks fixed, still on the model.

    `callback.end` of it makes the weights plain.
    """
    run = Run(model, 10, Accelerator(), tell=tell)
    run.optimiser = torch.optim.AdamW(model.parameters())
    callback.prepare(model, run.steps)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for one in callback.scores.units:
            one.score.copy_(torch.randn(one.score.shape, generator=draw))
    run.step = run.steps
    callback.after_step(run)
    return run
