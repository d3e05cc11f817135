"""The one place that owns what is shared between visitors and kept between script runs.

Shared: loaded studies, finished points, running curves; all are functions of their arguments. Settings, masks and the
live score of a visitor live in the visitor's own session and nowhere else.
"""

import gc
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pandas as pd
import streamlit as st

from analysis.speed import limit
from app.jobs import Job
from app.measuring import Measurements
from app.settings import Settings
from vp_core.criteria import CRITERIA
from vp_core.errors import VPError
from vp_core.evaluate import Score
from vp_core.parallel import served_first
from vp_core.store import cache_dir
from vp_core.study import Recipe, Study, open_study
from vp_core.sweep import CurveStore, Row, known_point, point, score_of, sweep

GRID = tuple(i / 10 for i in range(10))
"""Sparsities of the background curve."""

HEAD_START = 0.5
"""Seconds by which the visitor's own question goes before the background curve, which then finds its answer done."""


def study(settings: Settings) -> Study:
    """The study of a model and a task, loaded once for all visitors."""
    return _study(settings.model, settings.task, settings.data, settings.text, settings.label)


@st.cache_resource(max_entries=4, show_spinner="Loading the model and its data …")
def _study(model: str, task: str, data: str, text: str, label: str) -> Study:
    columns = tuple(column.strip() for column in text.split(",") if column.strip())
    opened = open_study(model, task, data or None, text=columns, label=label)
    opened.statistics()  # now, under the spinner, rather than at the first slide
    # Streamlit collects garbage after every script run, which walks through all that torch and transformers ever made
    # and holds the interpreter for most of a second. What is alive by now stays: frozen, it is no longer walked through.
    gc.collect()
    gc.freeze()
    return opened


@st.cache_resource(show_spinner=False)
def _stores() -> tuple[dict[str, CurveStore], threading.Lock]:
    return {}, threading.Lock()


def store(of: Study) -> CurveStore:
    """Finished points of a study, on disk: a curve goes on where it stopped, also after a restart."""
    stores, lock = _stores()
    name = f"{of.loaded.fingerprint}-{of.data_id}"
    with lock:
        if name not in stores:
            path = cache_dir() / f"{name}.parquet"
            try:
                stores[name] = CurveStore(path)
            except VPError:
                # A cache that cannot be read is set aside, whole, and begun anew.
                path.replace(path.with_suffix(".broken"))
                stores[name] = CurveStore(path)
        return stores[name]


@st.cache_resource(show_spinner=False)
def _curves() -> tuple[dict[str, Job[Row]], threading.Lock]:
    return {}, threading.Lock()


def curve_job(of: Study, recipe: Recipe, precision: str, watcher: str) -> Job[Row]:
    """The background curve of a recipe under all criteria; visitors who ask the same share one."""
    jobs, lock = _curves()
    key = of.key(replace(recipe, criterion=""), 2.0, precision)
    with lock:
        job = jobs.get(key)
        if job is None or job.done:
            job = Job(_curve(of, recipe, precision), total=len(GRID) * len(CRITERIA)).start(watcher)
            jobs[key] = job
        job.look(watcher)
        return job


def _curve(of: Study, recipe: Recipe, precision: str) -> Callable[[Callable[[], bool]], Iterator[Row]]:
    def rows(stopped: Callable[[], bool]) -> Iterator[Row]:
        time.sleep(HEAD_START)
        yield from sweep(of, tuple(CRITERIA), GRID, recipe, store(of), precision, True, stopped)

    return rows


@st.cache_resource(show_spinner=False)
def measurements() -> Measurements:
    """What was measured on this machine since the app started, and what is being measured now."""
    return Measurements()


def limits(of: Study, recipe: Recipe, length: int) -> pd.DataFrame:
    """The FLOP limit by sparsity, for all positions of the slider."""
    return _limits(of, recipe, length, of.key(recipe, 2.0))


@st.cache_resource(max_entries=64, show_spinner=False)
def _limits(_of: Study, _recipe: Recipe, length: int, key: str) -> pd.DataFrame:
    return limit(_of, _recipe, length)


def live_job(of: Study, recipe: Recipe, sparsity: float, precision: str, watcher: str) -> Job[Score]:
    """The running score of one slider position, for one visitor; background work and measurements wait meanwhile."""
    gate = measurements().gate

    def scores(stopped: Callable[[], bool]) -> Iterator[Score]:
        kept = known_point(of, recipe, sparsity, precision, store(of))
        if kept is not None:
            yield score_of(kept)
            return
        with gate.first(), served_first():
            last = None
            for last in of.running_scores(recipe, sparsity, precision, False, stopped):
                if last.final:
                    store(of).add(point(of, recipe, sparsity, last, precision))
                yield last
            if last is not None and last.final and dense_score(of, precision) is None:
                for dense in of.running_scores(recipe, 0.0, precision, False, stopped):
                    if dense.final:
                        store(of).add(point(of, recipe, 0.0, dense, precision))
                        yield last  # once more, now that there is something to compare it with

    return Job(scores).start(watcher)


def dense_score(of: Study, precision: str) -> Score | None:
    """The score of the model as it came, if it is known yet."""
    row = known_point(of, Recipe(), 0.0, precision, store(of))
    return None if row is None else score_of(row)
