"""What the tests of pruning while training share: a small task, small models, and trainings that are cut off."""

import numpy as np
import tiny
import torch

from vp_core.asking.batches import Encoded
from vp_core.training.callbacks import Callback
from vp_core.training.checkpoint import Saved
from vp_core.training.loop import training
from vp_core.training.schedule import Lessons, Schedule

QUICK = Schedule(epochs=2, batch=8, lr=3e-3, weight_decay=0.3, precision="float32")
"""Twelve steps of the task."""
FAMILIES = ("bert", "gpt2", "distilbert", "albert", "llama")
"""Plain, one Conv1D for query, key and value, other names, one layer used several times, gated without biases."""


def lessons(family="bert", n=48, seed=0):
    """The class is the first word; texts of 3 to 10 tokens, so that there is padding."""
    rng, end = np.random.default_rng(seed), [2] if family in tiny.READS_END else []
    labels = rng.integers(2, size=n)
    ids = [[5 + int(y), *rng.integers(10, 40, rng.integers(2, 9)).tolist(), *end] for y in labels]
    return Lessons(Encoded(ids, None, 1 if family in (*tiny.PAD_1, "t5") else 0, 0, 12), torch.tensor(labels), False)


def model_of(family="bert", dtype=torch.float32, **settings):
    """A trainable classifier with dropout (unless said) whose outputs depend on the text."""
    torch.manual_seed(0)
    pad = 1 if family in (*tiny.PAD_1, "t5") else 0
    sizes = tiny.sizes(family, 32, 40, 2) | {"vocab_size": 60, "num_labels": 2, "pad_token_id": pad} | settings
    return tiny.draw_biases(tiny.build(family, "ForSequenceClassification", **sizes), 0.1).to(dtype).requires_grad_(True)


class Halt(Exception):
    """The plug is pulled."""


def trained(model, callbacks=(), schedule=QUICK, data=None, folder=None, until=None, family="bert"):
    """`model` after `until` steps, or all; a state is kept in `folder` after every step. Returns the losses."""
    saved = None if folder is None else Saved(folder, {}, every=1, seconds=0)
    run = training(model, lessons(family) if data is None else data, schedule, callbacks=callbacks, saved=saved)
    losses = []
    for one in run:
        losses.append(one.loss)
        if one.step == until:
            run.close()
            break
    return losses


class Each(Callback):
    """Calls a function after every step."""

    def __init__(self, see):
        self.see = see

    def after_step(self, run):
        self.see(run)
