"""Which output of a model stands for which class of the data: by their names, or, where they are only numbered, by a look at
the answers."""

import re

import numpy as np
from transformers import PreTrainedModel

from vp_core.asking.batches import make_batches
from vp_core.asking.evaluate import Question, logits_by_batch
from vp_core.asking.tasks import Task
from vp_core.ground.errors import VPError

_ORDER_SAMPLE = 256
_ORDER_MARGIN = 0.1


def label_order(model: PreTrainedModel, task: Task) -> tuple[int, ...] | None:
    """For each output of the model, the task's class number it stands for; None if model or data only number them.

    Names are compared without case and punctuation. Raises VPError when the number of outputs does not fit, or when the
    names are those of other classes.
    """
    id2label = {int(i): str(label) for i, label in model.config.id2label.items()}
    if set(id2label) != set(range(len(id2label))):
        raise VPError(f"The model numbers its labels {sorted(id2label)}: number them from 0 in its config.json.")
    names = [id2label[i] for i in range(len(id2label))]
    if task.regression:
        if len(names) != 1:
            raise VPError(f"{task.name} is a regression, but the model has {len(names)} classes: choose a model with one.")
        return (0,)
    if len(names) != len(task.labels):
        raise VPError(
            f"{task.name} has the {len(task.labels)} labels {', '.join(task.labels)}, but the model has {len(names)} "
            f"({', '.join(names)}): choose a model that was fine-tuned for {task.name}."
        )
    plain_names, plain_labels = [_plain(n) for n in names], [_plain(n) for n in task.labels]
    if any(all(re.fullmatch(r"(label)?\d+", n) for n in side) for side in (plain_names, plain_labels)):
        return None
    short = {label[:3]: i for i, label in enumerate(plain_labels)} if len({n[:3] for n in plain_labels}) == len(names) else {}
    order = [plain_labels.index(n) if n in plain_labels else short.get(n[:3], -1) for n in plain_names]
    if sorted(order) != list(range(len(names))):
        raise VPError(
            f"The model's labels are {', '.join(names)}, those of {task.name} are {', '.join(task.labels)}: rename the "
            "model's id2label so that they agree."
        )
    return tuple(order)


def _plain(label: str) -> str:
    return re.sub(r"[^a-z0-9]", "", label.lower())


def check_order(model: PreTrainedModel, question: Question) -> None:
    """Where labels are only numbered: VPError if another order of them fits the data clearly better."""
    classes = len(question.order)
    table = np.zeros((classes, classes))
    sample = np.random.default_rng(0).permutation(len(question))[:_ORDER_SAMPLE]
    for batch, logits in logits_by_batch(model, make_batches(question.data, sample)):
        np.add.at(table, (logits.argmax(dim=1).numpy(), question.labels[batch.examples]), 1)
    from scipy.optimize import linear_sum_assignment

    outputs, best = linear_sum_assignment(-table)
    right = table[outputs, best].sum()
    majority = table.sum(axis=0).max()  # a model that always says the same is bad, not turned round
    if right - np.trace(table) > _ORDER_MARGIN * table.sum() and right > majority:
        names = ", ".join(question.task.labels[i] for i in best)
        raise VPError(
            f"Model and data do not both name their labels, and the outputs fit the order {names} better than the data's "
            f"{', '.join(question.task.labels)}: set id2label in the model's config.json, or name the data's labels (--labels)."
        )
