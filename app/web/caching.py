"""The one place that owns what is shared between visitors and kept between script runs.

Shared: loaded studies, finished points, running curves; all are functions of their arguments. Settings, masks and the
live score of a visitor live in the visitor's own session and nowhere else.
"""

import gc
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import streamlit as st

from analysis import compare, ladder
from analysis.speed import limit
from app.web.beside import Measured, measure, measure_beside
from app.web.jobs import Item, Job, Said
from app.web.measuring import Measurements
from app.web.preparing import Prepared, prepare
from app.web.settings import Settings
from vp_core.asking.evaluate import Score
from vp_core.curves import CurveStore, Row, known_point, point, score_of
from vp_core.ground.errors import VPError
from vp_core.ground.kept import Kept
from vp_core.ground.store import cache_dir
from vp_core.ground.work import TURNS, Turn
from vp_core.recipes import Recipe
from vp_core.study import Study, open_study
from vp_core.training.threshold import Threshold, running_scores
from vp_core.training.threshold import key as threshold_key

Answers = dict[str, tuple[np.ndarray, bool]]
"""By model, what `Study.predict` says of a text."""

HEAD_START = 0.5
"""Seconds by which the visitor's own question goes before the background curve, which then finds its answer done."""


def study(settings: Settings) -> Study:
    """The study of a model, a task and a number of calibration sentences, loaded once for all visitors."""
    return _study(settings.model, settings.task, settings.data, settings.columns, settings.label, settings.calibration)


@st.cache_resource(max_entries=4, show_spinner="Loading the model and its data …")
def _study(model: str, task: str, data: str, columns: tuple[str, ...], label: str, calibration: int) -> Study:
    opened = open_study(model, task, data or None, text=columns, label=label, calibration=calibration)
    opened.statistics()  # now, under the spinner, rather than at the first slide
    # Streamlit collects garbage after every script run, which walks through all that torch and transformers ever made
    # and holds the interpreter for most of a second. What is alive by now stays: frozen, it is no longer walked through.
    gc.collect()
    gc.freeze()
    return opened


@st.cache_resource(show_spinner=False)
def _stores() -> Kept:
    return Kept()


def store(of: Study) -> CurveStore:
    """Finished points of a study, on disk: a curve goes on where it stopped, also after a restart."""
    path = cache_dir() / f"{of.loaded.fingerprint}-{of.data_id}.parquet"
    return _stores().once(path, lambda: _open_store(path))


def _open_store(path: Path) -> CurveStore:
    try:
        return CurveStore(path)
    except VPError:
        # A cache that cannot be read is set aside, whole, and begun anew.
        path.replace(path.with_suffix(".broken"))
        return CurveStore(path)


@st.cache_resource(show_spinner=False)
def _said() -> Kept:
    return Kept()


def said(of: Study) -> Said:
    """What the computations of a study say they are at."""
    return _said().once((of.loaded.fingerprint, of.data_id, of.calibration_id), Said)


@st.cache_resource(show_spinner=False)
def _jobs() -> Kept:
    return Kept(most=256)  # the points of those that are forgotten are in the store


def _shared(key: str, make: Callable[[], Job], watcher: str, again: bool) -> Job:
    """The job of that name; visitors who ask the same share one. One that has ended is made anew if `again`."""
    job = _jobs().once(key, lambda: make().start(watcher), lambda kept: again and kept.done)
    job.look(watcher)
    return job


def _for_everybody(of: Study, make: Callable[[], Iterator[Item]], total: int = 0) -> Job[Item]:
    """A job whose findings are kept for all who ask later: it goes to its end even if those who asked first leave."""
    return Job(make, total, said=said(of), to_the_end=True)


def prepared(of: Study, recipe: Recipe, watcher: str) -> Job[Prepared]:
    """Ranking, scores and shares of a recipe. What went wrong is kept, as what was found is."""
    key = f"prepared {of.key(recipe, 2.0)}"
    return _shared(key, lambda: _for_everybody(of, lambda: prepare(of, recipe), total=1), watcher, again=False)


def curve_job(of: Study, recipe: Recipe, by: str, precision: str, watcher: str) -> Job[Row]:
    """The background curves of a recipe, under several criteria or with the rungs of the ladder."""
    return compare_job(of, ladder.lines(recipe, by), precision, watcher, recipe)


def lines_key(of: Study, lines: compare.Lines, precision: str) -> str:
    """What the points of some lines depend on."""
    return " ".join(of.key(recipe, 2.0, precision) for recipes in lines.values() for recipe in recipes)


def compare_job(of: Study, lines: compare.Lines, precision: str, watcher: str, after: Recipe | None = None) -> Job[Row]:
    """Lines of recipes, point by point; every finished one is kept. What the score of `after` needs is measured first."""

    def make() -> Job[Row]:
        job: Job[Row]

        def tell(text: str) -> None:
            job.doing = text

        def rows() -> Iterator[Row]:
            if after is not None:
                time.sleep(HEAD_START)
                of.ranking(after)  # waits for the score's own preparation rather than measure something else beside it
            yield from compare.measure(of, lines, store(of), precision, tell)

        job = Job(rows, total=len(compare.points_of(of, lines)), said=said(of), turn=Turn.LAST)
        return job

    return _shared(f"lines {lines_key(of, lines, precision)}", make, watcher, again=True)


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

    def scores() -> Iterator[Score]:
        kept = known_point(of, recipe, sparsity, precision, store(of))
        if kept is not None:
            yield score_of(kept)
            return
        with TURNS.first():
            last = None
            for last in of.running_scores(recipe, sparsity, precision):
                if last.final:
                    store(of).add(point(of, recipe, sparsity, last, precision))
                yield last
            yield from _dense_too(of, last, precision)

    return Job(scores, said=said(of)).start(watcher)


def _dense_too(of: Study, last: Score | None, precision: str) -> Iterator[Score]:
    """An exact score once more, when the dense one is there to compare it with; nothing if it was known before."""
    if last is None or not last.final or dense_score(of, precision) is not None:
        return
    for dense in of.running_scores(Recipe(), 0.0, precision):
        if dense.final:
            store(of).add(point(of, Recipe(), 0.0, dense, precision))
            yield last


@st.cache_resource(show_spinner=False)
def _threshold_scores() -> Kept:
    return Kept()


def threshold_job(of: Study, threshold: Threshold, watcher: str) -> Job[Score]:
    """The running score of one setting of ε and θ, for one visitor; a setting that was finished before answers at once."""
    scores = _threshold_scores()

    def fresh(key: str) -> Iterator[Score]:
        for score in running_scores(of, threshold):
            if score.final:
                scores.put(key, score)
            yield score

    def known_or_fresh() -> Iterator[Score]:
        key, last = threshold_key(of, threshold), None
        with TURNS.first():
            kept: Score | None = scores.get(key)
            for last in fresh(key) if kept is None else [kept]:
                yield last
            yield from _dense_too(of, last, "float32")

    return Job(known_or_fresh, said=said(of)).start(watcher)


def blocks_job(of: Study, watcher: str) -> Job[Measured]:
    """Function norms, then spectral norms, of the model in hand."""
    key = f"blocks {of.loaded.fingerprint} {of.calibration_id}"
    return _shared(key, lambda: _for_everybody(of, lambda: measure(of)), watcher, again=False)


def beside_job(of: Study, settings: Settings, which: str, watcher: str) -> Job[Measured]:
    """The same of what is drawn beside it (`app.web.beside`)."""
    key = f"beside {which} {of.loaded.fingerprint} {of.calibration_id}"
    return _shared(key, lambda: _for_everybody(of, lambda: measure_beside(of, settings, which)), watcher, again=False)


def sentence_job(of: Study, recipe: Recipe, sparsity: float, text: tuple[str, ...], watcher: str) -> Job[Answers]:
    """What the dense and the pruned model say of one text, for one visitor."""

    def answers() -> Iterator[Answers]:
        models = {"dense": of.model, "pruned": of.pruned(recipe, sparsity)}
        yield {name: of.predict(model, [text]) for name, model in models.items()}

    return Job(answers, said=said(of)).start(watcher)


def dense_score(of: Study, precision: str) -> Score | None:
    """The score of the model as it came, if it is known yet."""
    row = known_point(of, Recipe(), 0.0, precision, store(of))
    return None if row is None else score_of(row)
