"""From options to how a model is trained, and on what."""

import argparse

from app.cli.options import count, listed, number, whole
from vp_core.asking.outputs import parse_labels
from vp_core.ground.errors import VPError
from vp_core.ground.names import LEARNING_RATE
from vp_core.opening.study import task_of_model
from vp_core.running.lessons import lessons_of
from vp_core.study import Study
from vp_core.training.schedule import Lessons, Schedule, TextLessons


def schedule_from(options: argparse.Namespace) -> Schedule:
    """How to train, as the options say."""
    steps = getattr(options, "steps", None)
    said: dict[str, float] = {}
    if options.layer_decay is not None:
        said["layer_decay"] = number("layer-wise decay", options.layer_decay)
    if options.adam_epsilon is not None:
        said["epsilon"] = number("epsilon of AdamW", options.adam_epsilon)
    return Schedule(
        epochs=count("number of epochs", options.epochs), batch=count("batch", options.batch),
        examples=None if options.examples is None else count("number of examples", options.examples),
        lr=LEARNING_RATE if options.lr is None else number("learning rate", options.lr), precision=options.precision,
        seed=whole("seed", options.seed), steps=None if steps is None else count("number of steps", steps), **said,
    )  # fmt: skip


def lessons_from(study: Study, options: argparse.Namespace) -> Lessons | TextLessons:
    """The training set of the task that the options name."""
    task = options.task or task_of_model(options.model)
    if task is None:
        raise VPError("Which task? Name one with training data (--task sst2 --data DIR).")
    return lessons_of(
        study, task, options.data, listed(options.text), options.label, parse_labels(options.labels), options.separator
    )
