"""The cache: the one place that owns what is shared between visitors and kept between script runs.

Shared: loaded studies, finished points, running curves; all are functions of their arguments. Settings, masks and the
live score of a visitor live in the visitor's own session and nowhere else (`app.web.visitor`, `app.web.visitor_jobs`).
"""

import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import streamlit as st

from analysis import compare, ladder
from analysis.speed import limit
from analysis.weights.tables import sparsities_of
from app.web.beside import Norms, norms_beside, norms_of
from app.web.jobs import Item, Job
from app.web.measuring import Measurements
from app.web.offered import own_is_there
from app.web.order import Order, order_of
from app.web.settings import Settings
from app.web.trainings import Trainings, rows_of
from app.web.weighing import Tables, tables_of_answers, tables_of_two, tables_of_weights
from vp_core.asking.kinds.question import Score
from vp_core.check import Capability, capabilities
from vp_core.curves import CurveRow, CurveStore, known_point, score_of
from vp_core.ground.errors import VPError
from vp_core.ground.kept import Kept
from vp_core.ground.store import cache_dir, shelf_dir
from vp_core.ground.work import Turn
from vp_core.opening.own import own_from_start
from vp_core.opening.study import open_study
from vp_core.recipes import Recipe
from vp_core.running.lessons import lessons_of
from vp_core.study import Study
from vp_core.training.schedule import Lessons, TextLessons

HEAD_START = 0.5
"""Seconds by which the visitor's own question goes before the background curve, which then finds its answer done."""


def study_of(settings: Settings) -> Study:
    """The study of a model, a task and a number of calibration texts or windows, loaded once for all visitors."""
    if settings.asked == "own" and own_is_there():
        return _opened_own(settings.model, settings.device, settings.dtype)
    return _opened(
        settings.model, settings.task, settings.data, settings.columns, settings.label, settings.classes, settings.separator,
        settings.max_length, settings.calibration, settings.sentences, settings.stride, settings.most_tokens, settings.metric,
        settings.device, settings.dtype,
    )  # fmt: skip


def study_over(settings: Settings) -> Study | None:
    """The study of the model whose mask is laid over, if another is named; VPError where it cannot be had."""
    model = settings.over_model.strip()
    return study_of(replace(settings, model=model, task=settings.over_task.strip() or settings.task)) if model else None


@st.cache_resource(max_entries=4, show_spinner="Loading the model and its data …")
def _opened(
    model: str, task: str, data: str, columns: tuple[str, ...], label: str, labels: tuple[str, ...], separator: str,
    max_length: int | None, calibration: int | None, sentences: int | None, stride: int | None, most_tokens: int | None,
    metric: str, device: str, dtype: str,
) -> Study:  # fmt: skip
    opened = open_study(
        model, task, data or None, text=columns, label=label, labels=labels, separator=separator, max_length=max_length,
        calibration=calibration, sentences=sentences, stride=stride, most_tokens=most_tokens, metric=metric, device=device,
        dtype=dtype,
    ).kept_in(shelf_dir())  # fmt: skip
    if opened.loaded.projections:  # of a squeezed model there is nothing to measure
        opened.statistics()  # now, under the spinner, rather than at the first slide
    # Streamlit collects garbage after every script run, which walks through all that torch and transformers ever made
    # and holds the interpreter for most of a second. What is alive by now stays: frozen, it is no longer walked through.
    gc.collect()
    gc.freeze()
    return opened


@st.cache_resource(max_entries=4, show_spinner="Loading the model, and asking for your batches …")
def _opened_own(model: str, device: str, dtype: str) -> Study:
    start = own_from_start()
    assert start is not None
    return start.study(model, device=device, dtype=dtype)


def capabilities_of(study: Study) -> tuple[Capability, ...]:
    """What can be done with the study's model, and what not and why."""
    return _capabilities(study.loaded.fingerprint, study)


@st.cache_resource(max_entries=16, show_spinner=False)
def _capabilities(fingerprint: str, _study: Study) -> tuple[Capability, ...]:
    return capabilities(_study.model)


@st.cache_resource(show_spinner=False)
def _stores() -> Kept:
    return Kept()


def store(study: Study) -> CurveStore:
    """Finished points of a study, on disk: a curve goes on where it stopped, also after a restart."""
    path = cache_dir() / f"{study.loaded.fingerprint}-{study.data_id}.parquet"
    return _stores().once(path, lambda: _open_store(path))


def _open_store(path: Path) -> CurveStore:
    try:
        return CurveStore(path)
    except VPError:
        # A cache that cannot be read is set aside, whole, and begun anew.
        path.replace(path.with_suffix(".broken"))
        return CurveStore(path)


@st.cache_resource(show_spinner=False)
def _jobs() -> Kept:
    return Kept(most=256)  # the points of those that are forgotten are in the store


@st.cache_resource(show_spinner=False)
def _orders_of_weights() -> Kept:
    return Kept(most=4)  # each is as large as its model


def _shared(key: str, make: Callable[[], Job], watcher: str, again: bool, kept_in: Kept | None = None) -> Job:
    """The job of that name; visitors who ask the same share one. One that has ended is made anew if `again`."""
    job = (kept_in or _jobs()).once(key, lambda: make().start(watcher), lambda kept: again and kept.done)
    job.look(watcher)
    return job


def _for_everybody(study: Study, make: Callable[[], Iterator[Item]], total: int = 0) -> Job[Item]:
    """A job whose findings are kept for all who ask later: it goes to its end even if those who asked first leave."""
    return Job(make, total, to_the_end=True)


def order_job(study: Study, recipe: Recipe, watcher: str) -> Job[Order]:
    """The order in which a recipe removes units. What went wrong is kept, as what was found is."""
    key = f"order {study.key(recipe, 2.0)}"
    kept_in = _orders_of_weights() if recipe.pattern else None
    return _shared(key, lambda: _for_everybody(study, lambda: order_of(study, recipe), total=1), watcher, False, kept_in)


def curve_job(study: Study, recipe: Recipe, by: str, precision: str, watcher: str) -> Job[CurveRow]:
    """The background curves of a recipe, under several criteria or with the rungs of the ladder."""
    return compare_job(study, ladder.lines(recipe, by), precision, watcher, recipe)


def lines_key(study: Study, lines: compare.Lines, precision: str) -> str:
    """What the points of some lines depend on."""
    return " ".join(study.key(recipe, 2.0, precision) for recipes in lines.values() for recipe in recipes)


def compare_job(study: Study, lines: compare.Lines, precision: str, watcher: str, after: Recipe | None = None) -> Job[CurveRow]:
    """Lines of recipes, point by point; every finished one is kept. What the score of `after` needs is measured first."""

    def make() -> Job[CurveRow]:
        job: Job[CurveRow]

        def tell(text: str) -> None:
            job.doing = text

        def rows() -> Iterator[CurveRow]:
            if after is not None:
                time.sleep(HEAD_START)
                study.ranking(after)  # waits for the score's own preparation rather than measure something else beside it
                job.stages.end()
            yield from compare.measure_lines(study, lines, store(study), precision, tell)

        job = Job(rows, total=len(compare.points_of(study, lines)), turn=Turn.LAST)
        return job

    return _shared(f"lines {lines_key(study, lines, precision)}", make, watcher, again=True)


def weights_job(study: Study, recipe: Recipe, watcher: str) -> Job[Tables]:
    """What the weights alone say of a recipe of single weights."""
    key = f"weights {study.key(recipe, 2.0)}"
    return _shared(key, lambda: _for_everybody(study, lambda: tables_of_weights(study, recipe)), watcher, again=False)


def weights_answers_job(study: Study, recipe: Recipe, watcher: str) -> Job[Tables]:
    """Features and losses as weights go: the model is run at every sparsity, after whatever a visitor waits for."""

    def make() -> Job[Tables]:
        total = len(sparsities_of(study.weights().ranking(recipe)))
        return Job(lambda: tables_of_answers(study, recipe), total, turn=Turn.LAST)

    return _shared(f"answers {study.key(recipe, 2.0)}", make, watcher, again=True)


def weights_beside_job(study: Study, other: Study, recipe: Recipe, watcher: str) -> Job[Tables]:
    """Two models over each other: how far their masks differ, and how far weights moved in the order of magnitudes."""
    key = f"moved {study.loaded.fingerprint} {other.key(recipe, 2.0)} {study.key(recipe, 2.0)}"
    return _shared(key, lambda: _for_everybody(study, lambda: tables_of_two(study, other, recipe)), watcher, again=False)


@st.cache_resource(show_spinner=False)
def measurements() -> Measurements:
    """What was measured on this machine since the app started, and what is being measured now."""
    return Measurements()


@st.cache_resource(show_spinner=False)
def trainings() -> Trainings:
    """The training that runs."""
    return Trainings()


@st.cache_resource(show_spinner=False)
def _lessons() -> Kept:
    return Kept(most=4)


def train(name: str, settings: Settings) -> bool:
    """Begin the run of that name, or go on with it; False if another is under way. VPError where its model cannot be had."""
    study, kept = study_of(settings), _lessons()
    of = settings.task, settings.data, settings.columns, settings.label, settings.classes, settings.separator

    def lessons() -> Lessons | TextLessons:
        found: Lessons | TextLessons = kept.once((study.loaded.fingerprint, study.data_id, *of), lambda: lessons_of(study, *of))
        return found

    return trainings().start(name, settings, lambda: rows_of(study, settings, name, lessons))


def limits(study: Study, recipe: Recipe, length: int) -> pd.DataFrame:
    """The FLOP limit by sparsity, for all positions of the slider."""
    return _limits(study, recipe, length, study.key(recipe, 2.0))


@st.cache_resource(max_entries=64, show_spinner=False)
def _limits(_study: Study, _recipe: Recipe, length: int, key: str) -> pd.DataFrame:
    return limit(_study, _recipe, length)


@st.cache_resource(show_spinner=False)
def readings() -> Kept:
    """What dense models made of visitors' own texts, by model and text."""
    return Kept(most=64)


@st.cache_resource(show_spinner=False)
def threshold_scores() -> Kept:
    """Scores of settings of ε and θ, by `vp_core.identity.threshold.key`."""
    return Kept()


def norms_job(study: Study, watcher: str) -> Job[Norms]:
    """Function norms, then spectral norms, of the model in hand."""
    key = f"norms {study.loaded.fingerprint} {study.calibration_id}"
    return _shared(key, lambda: _for_everybody(study, lambda: norms_of(study)), watcher, again=False)


def norms_beside_job(study: Study, settings: Settings, which: str, watcher: str) -> Job[Norms]:
    """Function norms, then spectral norms, of what is drawn beside the model in hand (`app.web.beside`)."""
    key = f"beside {which} {study.loaded.fingerprint} {study.calibration_id}"
    return _shared(key, lambda: _for_everybody(study, lambda: norms_beside(study, settings, which)), watcher, again=False)


def dense_score(study: Study, precision: str) -> Score | None:
    """The score of the model as it came, if it is known yet."""
    row = known_point(study, Recipe(), 0.0, precision, store(study))
    return None if row is None else score_of(row)
