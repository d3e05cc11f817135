"""Trainings of this app: the one that runs, and those whose record is on disk, in a folder of the cache each.

Beside the folder of a run stands the address with which it was begun, so that it can be gone on with after a restart.
"""

import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from app.web.address import from_query, to_query
from app.web.jobs import Job
from app.web.settings import Settings
from vp_core.ground.errors import VPError
from vp_core.ground.names import RESULT
from vp_core.ground.store import atomic, cache_dir
from vp_core.ground.work import Turn, say
from vp_core.loading.load import load_model
from vp_core.running.finetune import teacher_of
from vp_core.running.run import Row, TrainingMaterial, run_training
from vp_core.running.settings import ROWS, WEIGHTS, TrainSettings
from vp_core.study import Study
from vp_core.training.run_folder import LOG, read_log
from vp_core.training.schedule import Lessons, Schedule, TextLessons

SCORES = 4
"""So often a model is scored on the way here, where somebody waits for the next step."""
_NOBODY = "no visitor"
"""Who watches a training: it goes on whoever comes and goes, until somebody stops it."""
Log = dict[str, Any]


def wanted_by(settings: Settings) -> TrainSettings:
    """The training that the settings ask for; VPError with one sentence for what cannot be."""
    schedule = Schedule(
        steps=settings.train_steps, examples=settings.examples, batch=settings.mini_batch, lr=settings.lr, seed=settings.seed
    )
    method = settings.method
    wanted = TrainSettings(
        method=method, schedule=schedule, until=settings.until, squeeze=settings.squeeze and method in ROWS, scores=SCORES
    )
    if method not in (*ROWS, *WEIGHTS):
        return wanted
    share = -(-settings.until * 1e6 // settings.cuts) / 1e6  # rounded up: so many cuts are enough
    wanted = replace(wanted, first=settings.first, every=settings.every, share=min(share, settings.until))
    if wanted.cuts(settings.train_steps).first < 1 and method in ROWS:
        raise VPError("Before the first step there is no variance to cut by: let the first cut be after step 1 or later.")
    return wanted


def words_of(wanted: TrainSettings) -> str:
    """When how much goes, in words; empty where nothing goes in cuts."""
    if wanted.method not in (*ROWS, *WEIGHTS):
        return ""
    steps = wanted.schedule.steps or 0
    cuts = wanted.cuts(steps)
    at = [step for step in range(cuts.first, cuts.last + 1, cuts.every)]
    shown = at if len(at) <= 6 else [*at[:3], *at[-1:]]
    listed = ", ".join(f"{step:,}: {100 * (cuts.at(step) or 0):.3g} %" for step in shown)
    return f"Gone after step {listed if shown is at else listed.replace(f', {at[-1]:,}:', f' … {at[-1]:,}:')}"


def rows_of(study: Study, settings: Settings, name: str, lessons: Callable[[], Lessons | TextLessons]) -> Iterator[Row]:
    """The rows of that run as they come, those already on disk first; what there is to tell is said (`vp_core.ground.work`)."""
    say("reading the training texts")
    learned, teacher, called = lessons(), None, ""
    if settings.teacher:
        called = settings.teacher_model.strip() or settings.model
        say(f"loading the teacher, {called}")
        loaded = study.loaded if called == settings.model else load_model(called, study.question.task.kind)
        teacher = teacher_of(study, learned, loaded, say)
    say("scoring the model as it is")
    yield from run_training(TrainingMaterial(study, learned, teacher, called), wanted_by(settings), folder() / name, say)


def folder() -> Path:
    """Where the runs are."""
    made = cache_dir() / "runs"
    made.mkdir(exist_ok=True)
    return made


def logs(task: str) -> dict[str, Log]:
    """The records of a task's trainings, by name, the oldest first; what is broken is left out."""
    found: dict[str, tuple[float, Log]] = {}
    for path in folder().iterdir():
        try:
            log = _read(path, (path / LOG).stat().st_mtime_ns) if (path / LOG).is_file() else None
            if log and log["settings"].get("kind") == "training" and log["settings"]["task"] == task:
                found[path.name] = _begun(path), log
        except (VPError, OSError):  # broken, or removed just now
            continue
    return {name: log for name, (_, log) in sorted(found.items(), key=lambda one: one[1][0])}


@lru_cache(maxsize=64)
def _read(path: Path, _written: int) -> Log:
    return read_log(path)


def _begun(path: Path) -> float:
    address = _address(path.name)
    return (address if address.is_file() else path / LOG).stat().st_mtime


def result(name: str) -> Path | None:
    """The folder of the model that came of a run; None before its end."""
    path = folder() / name / RESULT
    return path if path.is_dir() else None


def new_name(settings: Settings) -> str:
    """A name that no run has: the model, the method, the share, and whether there was a teacher."""
    share = "" if settings.method == "none" else f" {100 * settings.until:g}"
    teacher = " taught" if settings.teacher else ""
    model = Path(settings.model)
    called = model.parent.name if model.name == RESULT else model.name
    words = f"{called or 'model'} {settings.method}{share}{teacher}"
    name = base = re.sub(r"[^\w.-]+", "-", words).strip("-.")
    number = 1
    while (folder() / name).exists() or _address(name).exists():
        number += 1
        name = f"{base}-{number}"
    return name


def begun_with(name: str) -> Settings | None:
    """The settings with which a run was begun; None if they are not known, as of one that another program began."""
    try:
        query = json.loads(_address(name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    settings, problems = from_query({str(key): str(value) for key, value in query.items()})
    return None if problems else settings


def _address(name: str) -> Path:
    return folder() / f"{name}.address.json"


class Trainings:
    """The trainings of this process, one at a time: two would slow each other down."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: tuple[str, Job[Row]] | None = None

    def running(self) -> str:
        """The name of the run that is under way; empty if none is."""
        last = self._last
        return last[0] if last and not last[1].done else ""

    def failed(self) -> str:
        """The name of the last run here if it came to an error before it had a record; empty otherwise."""
        last = self._last
        return last[0] if last and last[1].error and not (folder() / last[0] / LOG).is_file() else ""

    def stopping(self) -> bool:
        """Whether the run that is under way ends after the step it is in."""
        last = self._last
        return last is not None and not last[1].done and last[1].stopped()

    def job(self, name: str) -> Job[Row] | None:
        """The job of that run, if it was the last one here."""
        last = self._last
        return last[1] if last and last[0] == name else None

    def start(self, name: str, settings: Settings, make: Callable[[], Iterator[Row]]) -> bool:
        """Begin a run, or go on with it. False if another is under way."""
        with self._lock:
            if self.running():
                return False
            if failed := self.failed():  # nobody can go on with it
                _address(failed).unlink(missing_ok=True)
            with atomic(_address(name)) as file:
                file.write_text(json.dumps(to_query(replace(settings, training="", compared=()))), encoding="utf-8")
            job = Job(make, turn=Turn.LAST, abandonable=False)
            self._last = name, job.start(_NOBODY)
            return True

    def stop(self, name: str) -> None:
        """Stop a run after the step it is in; what it reached is kept."""
        if (job := self.job(name)) is not None:
            job.cancel(_NOBODY)

    def remove(self, name: str) -> None:
        """Remove a run that is not under way, with its model."""
        with self._lock:
            if name != self.running():
                if self._last and self._last[0] == name:
                    self._last = None
                shutil.rmtree(folder() / name, ignore_errors=True)
                _address(name).unlink(missing_ok=True)
