"""Measurements of speed: one at a time on this machine, since two at once would falsify both; and what they found."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from transformers import PreTrainedModel

from analysis import precision, speed
from app.web.jobs import Job
from vp_core.asking.evaluate import score
from vp_core.asking.kinds.question import Score
from vp_core.curves import CurveStore, known_point, point, score_of
from vp_core.ground.errors import VPError
from vp_core.ground.names import PRECISIONS
from vp_core.ground.work import Turn, checkpoint
from vp_core.recipes import Recipe
from vp_core.speed import SpeedRow
from vp_core.squeezing.timing import random_texts
from vp_core.study import Study

MOST_TOKENS = 32_768
"""In a batch: what more would need of memory is more than a laptop has to spare."""
MOST_REPEATS = 100


@dataclass(frozen=True, eq=False)
class Wanted:
    """What a visitor wants to know: the speed of a study's model at some sparsities, and the precisions `here`."""

    study: Study
    recipe: Recipe
    precision: str
    batch: int
    length: int
    repeats: int
    sparsities: tuple[float, ...]
    here: float

    @property
    def example(self) -> str:
        """What the model is given one by one: random texts, or random images."""
        return "image" if self.study.question.task.kind == "images" else "text"

    @property
    def some_gone(self) -> tuple[float, ...]:
        """The sparsities above 0."""
        return tuple(sparsity for sparsity in self.sparsities if sparsity)

    @property
    def question(self) -> str:
        """What the numbers depend on, apart from sparsity and precision."""
        return f"{self.study.key(self.recipe, 2.0)} {self.batch} {self.length}"

    def check(self) -> None:
        """VPError if this cannot be measured."""
        self.study.projections()
        random_texts(self.study.model.config, 1, self.length)
        if self.batch * self.length > MOST_TOKENS:
            raise VPError(
                f"{self.batch:,} {self.example}s of {self.length} tokens are too many for one batch: "
                f"choose at most {max(MOST_TOKENS // self.length, 1)} {self.example}s."
            )
        if self.repeats > MOST_REPEATS:
            raise VPError(f"{self.repeats:,} repeats are too many: choose at most {MOST_REPEATS}.")


@dataclass(frozen=True, eq=False)
class Found:
    """Rows found so far for one question: of speeds by precision and sparsity, of precisions and of zeros by sparsity."""

    speeds: dict[tuple[str, float], list[SpeedRow]] = field(default_factory=dict)
    precisions: dict[float, list[SpeedRow]] = field(default_factory=dict)
    zeros: dict[float, list[SpeedRow]] = field(default_factory=dict)

    def all_speeds(self) -> list[SpeedRow]:
        """All rows of speeds, for a table."""
        return [row for rows in list(self.speeds.values()) for row in rows]

    def all_precisions(self) -> list[SpeedRow]:
        """All rows of precisions, for a table."""
        return [row for rows in list(self.precisions.values()) for row in rows]

    def all_zeros(self) -> list[SpeedRow]:
        """All rows of what single zeros save, for a table."""
        return [row for rows in list(self.zeros.values()) for row in rows]

    def missing(self, wanted: Wanted) -> tuple[tuple[float, ...], bool]:
        """(sparsities, whether the precisions) that are still to be measured."""
        speeds = [s for s in wanted.sparsities if not _whole(self.speeds.get((wanted.precision, s), []), wanted.repeats)]
        rows = self.precisions.get(wanted.here, [])
        return tuple(speeds), not (_whole(rows, wanted.repeats) and all("score" in row for row in rows))


def _whole(rows: Sequence[SpeedRow], repeats: int) -> bool:
    return bool(rows) and all(row.get("repeats", 0) >= repeats for row in rows)


class Measurements:
    """The one measurement that runs, and what all of them have found. Between its steps scores go first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: dict[str, Found] = {}
        self._last: tuple[str, Job[list[SpeedRow]]] | None = None

    def found(self, wanted: Wanted) -> Found:
        """What is known about a question; it grows while a job works on it."""
        with self._lock:
            return self._found.setdefault(wanted.question, Found())

    def last(self) -> tuple[str, Job[list[SpeedRow]]] | None:
        """The question and the job that ran last, or still runs."""
        return self._last

    def start(self, wanted: Wanted, keep: CurveStore, watcher: str) -> bool:
        """Measure what is missing, or all of it again if nothing is. False if another measurement is under way."""
        found = self.found(wanted)
        sparsities, precisions = found.missing(wanted)
        if not sparsities and not precisions:
            sparsities, precisions = wanted.sparsities, True
        steps = len(sparsities) * wanted.repeats
        if precisions:
            steps += wanted.repeats + len(precision.FORMS) * len(PRECISIONS)
        job = Job(lambda: _steps(wanted, sparsities, precisions, found, keep), steps, turn=Turn.SECOND)
        return self._begin(wanted, job, watcher)

    def start_zeros(self, wanted: Wanted, watcher: str) -> bool:
        """Measure what single zeros save, at the sparsities above 0. False if another measurement is under way."""
        found, sparsities = self.found(wanted), wanted.some_gone
        job = Job(lambda: _zeros(wanted, found), len(sparsities) * wanted.repeats, turn=Turn.SECOND)
        return self._begin(wanted, job, watcher)

    def _begin(self, wanted: Wanted, job: Job[list[SpeedRow]], watcher: str) -> bool:
        with self._lock:
            if self._last and not self._last[1].done:
                return False
            self._last = wanted.question, job.start(watcher)
            return True


def _steps(
    wanted: Wanted, sparsities: Sequence[float], precisions: bool, found: Found, keep: CurveStore
) -> Iterator[list[SpeedRow]]:
    how = (wanted.batch, wanted.length)

    def ask(model: PreTrainedModel, form: str, bits: str) -> Score:
        return _score(wanted, model, form, bits, keep)

    for rows in speed.measure_speeds(wanted.study, wanted.recipe, sparsities, *how, wanted.precision, wanted.repeats):
        found.speeds[wanted.precision, rows[0]["sparsity"]] = rows
        yield rows
    if precisions:
        checkpoint()
        for rows in precision.measure_precisions(wanted.study, wanted.recipe, wanted.here, *how, ask, wanted.repeats):
            found.precisions[wanted.here] = rows
            yield rows


def _zeros(wanted: Wanted, found: Found) -> Iterator[list[SpeedRow]]:
    how = wanted.some_gone, wanted.batch, wanted.length, wanted.repeats
    for rows in speed.measure_zeros(wanted.study, wanted.recipe, *how):
        found.zeros[rows[0]["sparsity"]] = rows
        yield rows


def _score(wanted: Wanted, model: PreTrainedModel, form: str, bits: str, keep: CurveStore) -> Score:
    """A finished point if there is one, which the page Explore makes too, else a new one."""
    study, recipe = wanted.study, wanted.recipe
    sparsity = wanted.here if form == "squeezed" else 0.0
    if (kept := known_point(study, recipe, sparsity, bits, keep)) is not None:
        return score_of(kept)
    found = score(model, study.question, bits)
    keep.add(point(study, recipe, sparsity, found, bits))
    return found
