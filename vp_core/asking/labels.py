"""Which output of a model stands for which class of the data: as the user says, by their names, or, where they are only
numbered, by a look at the answers."""

import numpy as np
from transformers import PreTrainedModel

from vp_core.asking.batches import make_batches
from vp_core.asking.evaluate import outputs_by_batch
from vp_core.asking.examples import Examples
from vp_core.asking.kinds.classification import Classification
from vp_core.asking.outputs import Outputs, class_number, labels_option, listing, match, outputs_of
from vp_core.asking.tasks import Task
from vp_core.ground.errors import VPError

_ORDER_SAMPLE = 256
_ORDER_MARGIN = 0.1


def order_of(model: PreTrainedModel, examples: Examples) -> tuple[tuple[int, ...] | None, tuple[str, ...]]:
    """(the class that each output means, None where `check_order` has to look; what to note of it).

    As the user says, or as `label_order` finds; raises VPError as it does.
    """
    if examples.order is not None:
        return order_as_said(model, examples)
    task, order = examples.task, label_order(model, examples.task)
    if not task.multi_label or not outputs_of(model).numbered or all(class_number(label) is not None for label in task.labels):
        return order, ()
    return order, (f"The model only numbers its labels: they are taken for {listing(task.labels)}, in this order.",)


def label_order(model: PreTrainedModel, task: Task) -> tuple[int, ...] | None:
    """For each output of the model, the task's class number it stands for; None if model or data only number them.

    Names are compared as `vp_core.asking.outputs.match` does. Raises VPError when the outputs do not fit, or when the names
    are those of other classes.
    """
    outputs = outputs_of(model)
    check_fit(outputs, task)
    if task.regression:
        return (0,)
    numbered = all(class_number(label) is not None for label in task.labels)
    found = {} if outputs.numbered and numbered else match(task.labels, outputs.names, prefixes=True)
    if len(found) == len(task.labels):
        return tuple(int(i) for i in np.argsort([found[label] for label in task.labels]))
    if outputs.numbered or numbered:
        return tuple(range(len(outputs))) if task.multi_label else None
    raise VPError(
        f"The model's labels are {listing(outputs.names)}, those of {task.name} are {listing(task.labels)}: name the data's "
        f"labels in the order of the model's outputs ({labels_option(task.labels)}, or otherwise)."
    )


def check_fit(outputs: Outputs, task: Task) -> None:
    """VPError unless the model answers what the task asks, with as many outputs."""
    names = listing(outputs.names)
    if task.regression:
        if outputs.kind == "labels" or len(outputs) != 1:
            raise VPError(
                f"{task.name} is a regression, but the model has {len(outputs)} classes ({names}): choose a model with a "
                "single output."
            )
        return
    if task.multi_label != (outputs.kind == "labels"):
        what = ("any number of", "one of") if task.multi_label else ("one of", "any number of")
        raise VPError(
            f"{task.name} asks for {what[0]} its labels for each text, but the model answers with {what[1]} its "
            f"{len(outputs)} ({names}): choose a model that was trained for that, or set its problem_type in its config.json."
        )
    if len(outputs) != len(task.labels):
        raise VPError(
            f"{task.name} has the {len(task.labels)} labels {listing(task.labels)}, but the model has {len(outputs)} "
            f"({names}): choose a model that was fine-tuned for {task.name}."
        )


def order_as_said(model: PreTrainedModel, examples: Examples) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """(`examples.order`, a note if the model's own names say otherwise); VPError if the model's outputs do not fit."""
    order, outputs, labels = examples.order, outputs_of(model), examples.task.labels
    assert order is not None
    check_fit(outputs, examples.task)
    said = [labels[i] for i in order]
    found = match(said, outputs.names, prefixes=True)
    if outputs.numbered or [found.get(label) for label in said] == list(range(len(said))):
        return order, ()
    return order, (f"The model calls its outputs {listing(outputs.names)}; by --labels they are {listing(said)}.",)


def order_like(model: PreTrainedModel, examples: Examples, question: Classification) -> tuple[int, ...]:
    """Which class of other examples each output means, for a model that is asked `question`.

    The same classes in the same order are read alike; others, such as those of a training file that were read without the
    model, by the model's names. Raises VPError as `label_order` does.
    """
    if examples.task.labels == question.task.labels:
        return question.order
    return examples.order or label_order(model, examples.task) or tuple(range(len(examples.task.labels)))


def check_order(model: PreTrainedModel, question: Classification) -> None:
    """Where labels are only numbered: VPError if another order of them fits the data clearly better."""
    classes = len(question.order)
    table = np.zeros((classes, classes))
    sample = np.random.default_rng(0).permutation(len(question))[:_ORDER_SAMPLE]
    for batch, logits in outputs_by_batch(model, question, make_batches(question.data, sample)):
        np.add.at(table, (logits.argmax(dim=1).numpy(), question.labels[batch.examples]), 1)
    from scipy.optimize import linear_sum_assignment

    outputs, best = linear_sum_assignment(-table)
    right = table[outputs, best].sum()
    majority = table.sum(axis=0).max()  # a model that always says the same is bad, not turned round
    if right - np.trace(table) > _ORDER_MARGIN * table.sum() and right > majority:
        labels = question.task.labels
        raise VPError(
            f"Model and data do not both name their labels, and the outputs fit the order {', '.join(labels[i] for i in best)} "
            f"better than the data's {', '.join(labels)}: say what the outputs mean, in their order "
            f"({labels_option([labels[i] for i in best])} or {labels_option(labels)})."
        )
