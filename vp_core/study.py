"""One model, one task: everything the app, the notebooks and the command line ask, in one place, so they agree."""

import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from transformers import PreTrainedModel

from vp_core.batches import Batch, Encoded, encode, make_batches
from vp_core.cost import Cost, cost
from vp_core.criteria import score_neurons
from vp_core.data import Examples, open_examples
from vp_core.errors import VPError
from vp_core.evaluate import Question, Score, evaluate, logits_by_batch
from vp_core.families import TYPES
from vp_core.models import LoadedModel, label_order, load_model
from vp_core.plan import Plan, Ranking, rank
from vp_core.projections import Projection, check_types, find_layers
from vp_core.prune import prune, share
from vp_core.pruned import task_of
from vp_core.replacement import constants
from vp_core.squeeze import Squeezed, squeeze
from vp_core.statistics import Statistics, collect
from vp_core.store import digest

CALIBRATION = 512
"""Training sentences that statistics are collected on, unless asked otherwise. Their labels are never looked at."""
EWMV_BATCH = 32
"""Texts in a batch of the moving variance."""
_ORDER_SAMPLE = 256
_ORDER_MARGIN = 0.1


@dataclass(frozen=True)
class Recipe:
    """How to prune: the defaults are the paper's. `seed` matters to `random` only."""

    criterion: str = "variance"
    scope: str = "per type"
    replacement: str = "mean"
    types: tuple[str, ...] = TYPES
    estimator: str = "exact"
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Study:
    """A loaded model, the question it is asked, and the texts its neurons are measured on.

    Statistics and rankings are computed once, when first asked for, and kept. Any number of threads may use one Study.
    """

    loaded: LoadedModel
    question: Question
    calibration: Encoded
    data_id: str
    calibration_id: str
    source: str
    notes: tuple[str, ...] = ()
    _kept: dict = field(default_factory=dict, repr=False)
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    @property
    def model(self) -> PreTrainedModel:
        return self.loaded.model

    def statistics(self, estimator: str = "exact") -> Statistics:
        """Statistics of all six types over the calibration sentences."""
        return self._once(
            ("statistics", estimator),
            lambda: collect(
                self.model,
                self._measured_batches(estimator),
                estimator,
                model_id=self.loaded.fingerprint,
                data_id=self.calibration_id,
            ),
        )

    def _measured_batches(self, estimator: str) -> list[Batch]:
        """Sorted by length for speed, unless the order counts: a moving variance wants batches like any other."""
        everything = np.arange(len(self.calibration))
        if estimator == "exact":
            return make_batches(self.calibration, everything)
        shuffled = np.random.default_rng(0).permutation(everything)
        parts = np.split(shuffled, range(EWMV_BATCH, len(shuffled), EWMV_BATCH))
        return [batch for part in parts for batch in make_batches(self.calibration, part, sys.maxsize)]

    def projections(self, types: Sequence[str] = TYPES) -> tuple[Projection, ...]:
        chosen = check_types(tuple(types))
        if not self.loaded.projections:
            raise VPError(f"The model {self.loaded.name!r} is squeezed already: prune the model that it was made from.")
        return tuple(p for p in self.loaded.projections if p.type in chosen)

    def scores(self, recipe: Recipe) -> Mapping[str, Tensor]:
        """The criterion's score of every neuron: projection name → (d_out,)."""
        projections = self.projections(recipe.types)
        return self._once(
            ("scores", recipe.criterion, recipe.types, recipe.estimator, recipe.seed),
            lambda: score_neurons(recipe.criterion, self.model, self.statistics(recipe.estimator), projections, recipe.seed),
        )

    def ranking(self, recipe: Recipe) -> Ranking:
        """The order in which a recipe removes neurons."""
        return self._once(
            ("ranking", replace(recipe, replacement="")),
            lambda: rank(
                self.scores(recipe),
                self.projections(recipe.types),
                recipe.scope,
                recipe.criterion,
                self.loaded.fingerprint,
            ),
        )

    def plan(self, recipe: Recipe, sparsity: float) -> Plan:
        """The rows that survive; at sparsity 0 all do, and nothing has to be measured."""
        if sparsity == 0:
            keep = {p.name: torch.ones(p.d_out, dtype=torch.bool) for p in self.projections(recipe.types)}
            return Plan(keep, recipe.criterion, recipe.scope, 0.0, self.loaded.fingerprint)
        return self.ranking(recipe).plan(sparsity)

    def cost(self, recipe: Recipe, sparsity: float) -> Cost:
        """Rows, weights and FLOPs that go by exact squeezing, of all six types whatever the recipe's types are."""
        squeezed: Squeezed | None = getattr(self.model, "squeezed", None)
        if squeezed is not None and sparsity == 0:
            return squeezed.cost
        layers = find_layers(self.model)
        zeros = [torch.zeros(layer.projections["query"].d_out) for layer in layers]
        return cost(layers, self.plan(recipe, sparsity), zeros if recipe.replacement == "zero" else None)

    def pruned(self, recipe: Recipe, sparsity: float) -> PreTrainedModel:
        """A new model pruned by the recipe; `self.model` stays as it is."""
        if sparsity == 0:
            return share(self.model)
        plan = self.plan(recipe, sparsity)
        return prune(self.model, plan, constants(recipe.replacement, self.statistics(recipe.estimator)))

    def squeezed(self, recipe: Recipe, sparsity: float) -> PreTrainedModel:
        """The smaller dense model with the outputs of `pruned` (see `vp_core.squeeze`)."""
        return squeeze(self.pruned(recipe, sparsity), self.plan(recipe, sparsity))

    def running_scores(
        self,
        recipe: Recipe,
        sparsity: float,
        dtype: str = "float32",
        background: bool = False,
        stopped: Callable[[], bool] = lambda: False,
    ) -> Iterator[Score]:
        """Scores of the pruned model as they come, the last one exact (no fine-tuning)."""
        return evaluate(self.pruned(recipe, sparsity), self.question, dtype, background, stopped)

    def score(self, recipe: Recipe, sparsity: float, dtype: str = "float32") -> Score:
        """The exact score of the pruned model."""
        *_, last = self.running_scores(recipe, sparsity, dtype)
        return last

    def key(self, recipe: Recipe, sparsity: float, dtype: str = "float32") -> str:
        """What a score depends on, and nothing else: the same key is the same number."""
        seed = recipe.seed if recipe.criterion == "random" else 0
        same = replace(recipe, seed=seed, types=check_types(recipe.types))
        how = () if sparsity == 0 else (tuple(same.__dict__.items()), self.calibration_id, round(sparsity, 9))
        return digest("score 2", self.loaded.fingerprint, self.data_id, dtype, how)

    def predict(self, model: PreTrainedModel, texts: Sequence[tuple[str, ...]]) -> tuple[np.ndarray, bool]:
        """(probabilities (n, classes) in the task's order, or (n, 1) values of a regression; whether a text was cut)."""
        data = encode(self.loaded.tokenizer, texts, self.question.data.max_length)
        outputs = np.empty((len(texts), len(self.question.order)))
        for batch, logits in logits_by_batch(model, make_batches(data, range(len(data)))):
            outputs[batch.examples] = (logits if self.question.task.regression else logits.softmax(dim=1)).numpy()
        return outputs[:, np.argsort(self.question.order)], data.truncated > 0

    def _once(self, key, compute):
        with self._lock:
            if key not in self._kept:
                self._kept[key] = compute()
            return self._kept[key]


def open_study(
    model: str = "demo",
    task: str | None = None,
    data: str | Path | None = None,
    *,
    text: Sequence[str] = (),
    label: str = "label",
    labels: Sequence[str] = (),
    calibration: int = CALIBRATION,
) -> Study:
    """Load a model and a task's data and check that they belong together.

    `task` is a name from `vp_core.tasks.TASKS` (`data`: a folder in GLUE's TSV layout; the Hub without), or the path of a
    TSV, CSV or JSONL file with the columns `text` and `label`; such a file also serves for calibration. The demo model
    has its own task. Raises VPError with one sentence for whatever is wrong.
    """
    task = task or ("demo" if model == "demo" else task_of(model))
    if task is None:
        raise VPError(
            "Which task? Name one (--task sst2 --data DIR), or a file (--task FILE.tsv --text COLUMN --label COLUMN)."
        )
    if calibration < 2:
        raise VPError("Statistics need at least 2 calibration sentences: ask for more.")
    loaded = load_model(model)
    evaluation = open_examples(task, "dev", data, text, label, labels)
    training = open_examples(task, "train", data, text, label, labels)
    return make_study(loaded, evaluation, training.sample_like(evaluation, calibration))


def make_study(loaded: LoadedModel, evaluation: Examples, calibration: Examples) -> Study:
    """A Study from parts that are already loaded."""
    task = evaluation.task
    max_length = min(task.max_length, loaded.max_length)
    encoded = encode(loaded.tokenizer, evaluation.texts, max_length)
    order = label_order(loaded.model, task)
    question = Question(encoded, evaluation.labels, task, order or tuple(range(len(task.labels))))
    if order is None:
        _check_order(loaded.model, question)
    measured = encode(loaded.tokenizer, calibration.texts, max_length)
    notes = (
        (f"{encoded.truncated} of {len(encoded)} texts were longer than {max_length} tokens and lost their end.",)
        if encoded.truncated
        else ()
    )
    return Study(
        loaded=loaded,
        question=question,
        calibration=measured,
        data_id=digest(encoded.ids, encoded.type_ids, evaluation.labels.tolist(), question.order, task.metrics),
        calibration_id=digest(measured.ids, measured.type_ids),
        source=evaluation.source,
        notes=notes,
    )


def _check_order(model: PreTrainedModel, question: Question) -> None:
    """Where labels are only numbered: refuse if another order of them fits the data clearly better."""
    classes = len(question.order)
    table = np.zeros((classes, classes))
    sample = np.random.default_rng(0).permutation(len(question))[:_ORDER_SAMPLE]
    for batch, logits in logits_by_batch(model, make_batches(question.data, sample)):
        np.add.at(table, (logits.argmax(dim=1).numpy(), question.labels[batch.examples]), 1)
    outputs, best = linear_sum_assignment(-table)
    right = table[outputs, best].sum()
    majority = table.sum(axis=0).max()  # a model that always says the same is bad, not turned round
    if right - np.trace(table) > _ORDER_MARGIN * table.sum() and right > majority:
        names = ", ".join(question.task.labels[i] for i in best)
        raise VPError(
            f"Model and data do not both name their labels, and the outputs fit the order {names} better than the data's "
            f"{', '.join(question.task.labels)}: set id2label in the model's config.json, or name the data's labels (--labels)."
        )
