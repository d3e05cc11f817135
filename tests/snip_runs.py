"""Runs of iterative identity pruning on tiny models: what they are given, and what they must leave."""

import copy
import os
import signal
from functools import cache

import bench_models
import numpy as np
import tiny
import torch
from transformers.pytorch_utils import Conv1D

from vp_core.asking.evaluate import score
from vp_core.asking.kinds.classification import Classification
from vp_core.asking.tasks import TASKS
from vp_core.ground.names import TYPES
from vp_core.identity.settings import SnipSettings
from vp_core.identity.snip import Material
from vp_core.model.blocks import Block
from vp_core.model.projections import find_projections
from vp_core.model.scatter import ScatterLinear
from vp_core.squeezing.blocks_off import masked_without
from vp_core.squeezing.folder import load_pruned
from vp_core.training.run_folder import Checkpoint, read_log
from vp_core.training.schedule import Lessons, Schedule

QUICK = Schedule(examples=24, batch=12, lr=3e-4, precision="float32")
FAMILIES = bench_models.CLASSIFIERS


@cache
def material(family):
    """The tiny classifier in float32, 40 texts to learn, 40 to measure, 60 questions; labels at random."""
    rng, task = np.random.default_rng(0), TASKS["sst2"]
    model = tiny.name_labels(copy.deepcopy(bench_models.classifier(family, torch.float32, 2)), "no", "yes")
    learnt, asked = bench_models.texts(family, 40, seed=1), bench_models.texts(family, 60, seed=3)
    lessons = Lessons.make(learnt, rng.integers(2, size=40), task, (0, 1))
    question = Classification(asked, rng.integers(2, size=60), task, (0, 1))
    return Material(model, lessons, bench_models.texts(family, 40, seed=2), question, model_id=family)


def settings(**others):
    return SnipSettings(**{"iterations": 2, "at_least": 1, "schedule": QUICK} | others)


def plain_rows(rows):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def logits(model, family):
    batches = [b for _, part in material(family).question.chunks() for b in part]
    return bench_models.outputs(model, batches)


def dense_of(folder, family):
    """The dense model of a run's checkpoint."""
    model = copy.deepcopy(material(family).model)
    assert Checkpoint(folder).load(model) is not None
    return model


def check(folder, family, rows):
    """What a finished run left: its last model is the last row's, and what the dense checkpoint's is without those blocks."""
    last, small = rows[-1], load_pruned(folder / "model")
    gone = [Block.named(name) for name in last["gone"]]
    assert score(small, material(family).question).value == last["value"]
    expected = logits(masked_without(dense_of(folder, family), gone), family)
    assert tiny.distance(logits(small, family), expected) <= 1e-5
    assert small.squeezed.cost.parameters_left == last["parameters"]
    assert plain_rows(read_log(folder)["rows"]) == plain_rows(rows)
    return small, gone


def live_norms(small, dense):
    """σ of every matrix that is still multiplied, without rows of zeros; of GPT-2's three by part."""
    found = {}
    for p in find_projections(dense):
        module = small.get_submodule(p.path)
        if isinstance(module, ScatterLinear):
            if not module.shape.rows or not module.shape.columns:
                continue
            weight = module.compact()[0]
        else:
            weight = module.weight.T if isinstance(module, Conv1D) else module.weight
        if p.path.endswith("c_attn"):
            rows = len(weight) // 3
            weight = weight[TYPES.index(p.type) * rows :][:rows]
        found[p.name] = float(torch.linalg.matrix_norm(weight.detach().double(), 2))
    assert found
    return found


def killed_at(phase, step):
    """A `tell` and a `watch` that stop the process for good at a step of a phase."""
    now = []

    def watch(done, _steps, _loss):
        if phase in now[-1] and done == step:
            os.kill(os.getpid(), signal.SIGKILL)

    return now.append, watch
