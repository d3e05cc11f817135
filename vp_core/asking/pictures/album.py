"""Pictures with classes that fit a model: those that are scored, and those that statistics are taken on and trained on."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vp_core.asking.examples import Examples
from vp_core.asking.outputs import Outputs, listing
from vp_core.asking.pictures.folders import Split, read_folders
from vp_core.asking.pictures.stored import Picked, Stored
from vp_core.asking.pictures.tables import parquet_files, read_hub, read_table, read_tables
from vp_core.asking.targets import read_targets
from vp_core.asking.tasks import Task
from vp_core.ground.errors import VPError
from vp_core.ground.store import DEMO_DIR

FEWEST = 6
"""Classes that a top-5 can be asked of: of five or fewer it is always right."""
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


@dataclass(frozen=True, eq=False)
class Album:
    """Pictures with the numbers of their classes (n,), in the order of `task.labels`.

    `order` and `notes` are as in `vp_core.asking.examples.Examples`.
    """

    task: Task
    stored: Stored
    labels: np.ndarray
    source: str
    notes: tuple[str, ...] = ()
    order: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def sample(self, n: int, seed: int = 0) -> "Album":
        """`n` of them, a simple random sample in the old order; all of them, if there are no more."""
        if n >= len(self):
            return self
        places = np.sort(np.random.default_rng(seed).choice(len(self), max(n, 0), replace=False))
        return replace(self, stored=Picked(self.stored, places.tolist()), labels=self.labels[places])

    def named(self) -> Examples:
        """What `vp_core.asking.labels` compares with a model's names."""
        return Examples(self.task, (), self.labels, self.source, order=self.order)


def open_splits(task: Task, data: str | Path | None, label: str = "label") -> tuple[Split, Split]:
    """(what is scored, what is measured), the same where there is no train and test.

    `data` is a folder of folders, a class each, or with train and test of such; a Parquet file, or a folder with train.parquet
    and test.parquet; or the id of a data set on the Hub. Raises VPError where there is none, and as each of these does.
    """
    if task.name == "demo-images":
        data = DEMO_DIR / "images"
    if data is None:
        raise VPError("Which images? Give a folder with a folder of images for each class, or a Parquet file (--data).")
    place = Path(data)
    if place.is_dir():
        if files := parquet_files(place):
            return read_tables(files, label, str(place))
        if label != "label":
            raise VPError(f"The folders in {str(place)!r} say the classes themselves: leave out --label {label}.")
        return read_folders(place)
    if place.suffix.lower() == ".parquet":
        if not place.is_file():
            raise VPError(f"There is no file {str(place)!r}: check the path.")
        both = read_table([place], label)
        return both, both
    if not place.exists() and not _HUB_ID.fullmatch(str(data)):
        raise VPError(f"There is nothing at {str(data)!r}: check the path.")
    if place.exists():
        raise VPError(
            f"{str(data)!r} holds no images: give a folder with a folder of images for each class, a Parquet file, or the "
            "id of a data set on the Hub."
        )
    return read_hub(str(data), label)


def album_of(task: Task, split: Split, outputs: Outputs, labels: Sequence[str] = ()) -> Album:
    """The pictures of a split with their classes, as the model's `outputs` call them, or the user's `labels`.

    Raises VPError for labels that do not fit the model or the names, and for pictures of one class.
    """
    if outputs.kind != "classes":
        what = "several labels at once" if outputs.kind == "labels" else "a single value"
        raise VPError(f"The model answers with {what}, and images here have one class each: choose a classifier.")
    if len({str(value) for value in split.values}) < 2:
        raise VPError(
            f"All {len(split.values):,} images of {split.source!r} have the class {split.values[0] if split.values else ''}: a "
            "score needs at least two classes."
        )
    said, notes = tuple(labels), split.notes
    if not said and outputs.numbered and len(split.names) == len(outputs):
        said = split.names  # classes without a picture are there too
        note = f"The model only numbers its outputs: they are taken for {listing(said)}, in this order (--labels says another)."
        notes = (*notes, note)
    found = read_targets(split.values, split.source, outputs, said)
    notes = (*notes, *found.notes)
    metrics = task.metrics
    if len(found.labels) < FEWEST:
        metrics = tuple(one for one in metrics if one != "top5_accuracy")
        notes = (*notes, f"Top-5 is left out: of {len(found.labels)} classes the right one is always among five.")
    task = replace(task, labels=found.labels, metrics=metrics)
    order = tuple(range(len(found.labels))) if labels else None
    return Album(task, split.stored, found.numbers, split.source, notes, order)
