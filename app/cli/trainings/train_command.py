"""What `vp train` does."""

import argparse
import signal
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from app.cli.options import check_new_file, count, main_process, number, open_from, print_json, say, whole, write_chart
from app.cli.progress import Progress
from app.cli.trainings.lessons import lessons_from, schedule_from
from vp_core.ground.errors import VPError
from vp_core.ground.work import Cancelled, work
from vp_core.loading.load import load_model
from vp_core.running.finetune import teacher_of
from vp_core.running.record import Record, require_tensorboard
from vp_core.running.run import Row, TrainingMaterial, run_training
from vp_core.running.settings import TrainSettings
from vp_core.study import Study
from vp_core.training.run_folder import LOG, begun_in, check_run_folder, read_log
from vp_core.training.schedule import Lessons, TextLessons
from vp_core.training.teacher import Teacher


def train(options: argparse.Namespace) -> None:
    """`vp train`: a run from its options to its model, or on from where it was stopped."""
    settings, folder = settings_from(options), Path(options.out)
    _check_place(folder, options.resume)
    # before the model: a bad place should be told at once
    check_run_folder(folder, settings.settled(begun_in(folder, "schedule")).as_json())
    check_new_file(options.plot)
    if options.tensorboard:
        require_tensorboard()
    study = open_from(options)
    lessons = lessons_from(study, options)
    material = TrainingMaterial(study, lessons, teacher_from(options, study, lessons), options.teacher or "")
    progress, record = Progress(), Record(options.tensorboard) if options.tensorboard else None
    with closing(progress), closing(record) if record else nullcontext(), _stopped_between_steps():
        for row in run_training(material, settings, folder, progress.line, [record] if record else []):
            if record:
                record.row(row)
            if "loss" in row:
                progress.watch(row["step"], row["steps"], row["loss"])
            if "value" in row:
                progress.line(_line(row))
    if not main_process():
        return
    rows = read_log(folder)["rows"]
    if options.plot:
        from analysis import training as pictures

        write_chart(pictures.draw({folder.name: rows}), options.plot)
    last = rows[-1]
    if options.json:
        print_json({"out": str(folder), **last})
    else:
        print(_end(folder, rows[0], last))


def _check_place(folder: Path, resume: bool) -> None:
    """VPError for a run that is there though nobody said to go on with it, and for none that is to be gone on with."""
    there = (folder / LOG).is_file()
    if there and not resume:
        raise VPError(
            f"The folder {str(folder)!r} holds a run already: add --resume to go on with it, or choose another (--out)."
        )
    if resume and not there:
        raise VPError(f"There is no run in {str(folder)!r} to go on with: leave --resume out to begin one.")


def settings_from(options: argparse.Namespace) -> TrainSettings:
    """The settings that the options say; VPError for what cannot be."""

    def said(name: str, read: Any, what: str) -> Any:
        text = getattr(options, name)
        return None if text is None else read(what, text)

    return TrainSettings(
        method=options.method, schedule=schedule_from(options), until=number("share to prune until", options.until),
        first=said("first", whole, "step of the first cut"), every=said("every", count, "number of steps between cuts"),
        share=said("share", number, "share of a cut"), ramp=options.ramp, squeeze=options.squeeze,
        embeddings=options.embeddings, alpha=number("weight α", options.alpha),
        temperature=number("temperature", options.temperature), hidden=number("weight of hidden states", options.hidden),
        scores=whole("number of scores", options.scores),
    )  # fmt: skip


def teacher_from(options: argparse.Namespace, study: Study, lessons: Lessons | TextLessons) -> Teacher | None:
    """The teacher that the options name, checked to fit the study's model and its lessons."""
    if not options.teacher:
        return None
    loaded = load_model(options.teacher, study.question.task.kind)
    for note in loaded.notes:
        say(note)
    return teacher_of(study, lessons, loaded, say)


@contextmanager
def _stopped_between_steps() -> Iterator[None]:
    """Ctrl-C waits for the end of a step, so that the state which is kept is a whole one; a second one does not wait."""
    stop = threading.Event()

    def hear(_number: int, _frame: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = signal.signal(signal.SIGINT, hear) if threading.current_thread() is threading.main_thread() else None
    try:
        with work(cancelled=stop.is_set):
            yield
    except Cancelled:
        raise KeyboardInterrupt from None
    finally:
        if before is not None:
            signal.signal(signal.SIGINT, before)


def _line(row: Row) -> str:
    """A row in words."""
    parts = [f"step {row['step']:,} of {row['steps']:,}"]
    if "loss" in row:
        parts.append(f"loss {row['loss']:.4f}")
    if "sparsity" in row:
        parts.append(f"{row['sparsity']:.1%} gone")
    if "value" in row:
        parts.append(f"{row['metric']} {row['value']:.4f} ({row['low']:.4f} to {row['high']:.4f}, n = {row['n']:,})")
    return ", ".join(parts)


def _end(folder: Path, first: Row, last: Row) -> str:
    gone = f", {last['share_pruned']:.1%} of the encoder's linear parameters gone" if "share_pruned" in last else ""
    return (
        f"{folder}: {last['metric']} {first['value']:.4f} before, {last['value']:.4f} after ({last['low']:.4f} to "
        f"{last['high']:.4f}, n = {last['n']:,}){gone}, {last['seconds']:.0f} s; vp eval {folder} opens it"
    )
