"""Examples: texts and labels of a task in GLUE's TSV layout, of any table, or from the Hub; every doubt is a clear sentence."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vp_core.asking.tables import ExampleRow, kind_of, read_table, require_columns, stem_of
from vp_core.asking.tasks import TASKS, Task, find_task
from vp_core.ground.errors import VPError
from vp_core.ground.hub import require_hub
from vp_core.ground.store import DEMO_DIR


@dataclass(frozen=True, eq=False)
class Examples:
    """Texts (one or two strings each) with labels (n,): class numbers in the order of `task.labels`, or floats.

    `notes` are what whoever asks with them should know: how many rows were read, what was read otherwise than it stands.
    """

    task: Task
    texts: Sequence[tuple[str, ...]]
    labels: np.ndarray
    source: str
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.texts)

    def lengths(self) -> np.ndarray:
        """Words of each example (n,)."""
        return np.array([sum(len(part.split()) for part in text) for text in self.texts])

    def sample(self, n: int, seed: int = 0) -> "Examples":
        """`n` of them, a simple random sample in the old order: what it scores is an estimate of what all of them would.

        All of them, if there are no more. VPError for a sample whose labels are all the same.
        """
        if n >= len(self):
            return self
        picked = np.sort(np.random.default_rng(seed).choice(len(self), max(n, 0), replace=False))
        if len(np.unique(self.labels[picked])) < 2:
            raise VPError(f"A sample of {n} of {self.source!r} has fewer than two different labels: ask for more sentences.")
        return self._at(picked)

    def sample_like(self, other: "Examples", n: int, seed: int = 0) -> "Examples":
        """`n` of them without replacement (all, if there are no more), as long as those of `other` are.

        Statistics should be taken over texts such as the model will meet. SST-2's training rows are mostly phrases of a
        few words, its evaluation rows whole sentences: on a plain sample the means are those of phrases, and at 50 % of the
        rows `mean` kept 59 % accuracy where texts of like length keep 75 %. Labels are not looked at.
        """
        if n >= len(self):
            return self
        rng = np.random.default_rng(seed)
        wanted = np.sort(rng.choice(other.lengths(), n, replace=n > len(other)))
        shuffled = rng.permutation(len(self))
        by_length = shuffled[np.argsort(self.lengths()[shuffled], kind="stable")]
        lengths = self.lengths()[by_length]
        # Walk both in order of length; `at` keeps ahead of what is taken and leaves enough for those that follow.
        chosen, at = [], 0
        for left, length in zip(range(n, 0, -1), wanted, strict=True):
            at = min(max(at, int(np.searchsorted(lengths, length))), len(lengths) - left)
            chosen.append(by_length[at])
            at += 1
        return self._at(np.sort(chosen))

    def _at(self, places: np.ndarray) -> "Examples":
        return Examples(self.task, [self.texts[i] for i in places], self.labels[places], self.source, self.notes)


def read_examples(task: Task, split: str, folder: str | Path | None = None) -> Examples:
    """The `train` or `dev` examples of a task from a folder in GLUE's TSV layout, or from the Hub where none is given.

    A folder may be the task's own or the one that holds it under the task's name, ours or GLUE's. The demo needs no folder.
    Raises VPError if the file is not there, if the Hub cannot be reached, and for what `read_table` and `from_rows` refuse.
    """
    if task.name == "demo":
        folder = DEMO_DIR
    if folder is None:
        return _from_hub(task, split)
    name = f"{task.dev if split == 'dev' else split}.tsv"
    found = _find(task, Path(folder), name)
    table = read_table(found, task.text, (task.label,), task=task)
    examples = from_rows(task, table.rows, str(found))
    return replace(examples, notes=(*examples.notes, *table.notes))


def _find(task: Task, folder: Path, name: str) -> Path:
    """Where a task's file is; VPError if it is not there, or only in the folder of another task."""
    there = next((path for one in (*task.folders, task.name) if (path := folder / one / name).is_file()), None)
    if there is not None:
        return there
    if not (folder / name).is_file():
        within = task.folders[0] if task.folders else task.name
        raise VPError(f"There is no {name} for {task.name} in {str(folder)!r}: give the folder that holds {within}/{name}.")
    owners = [other for other in TASKS.values() if folder.resolve().name in other.folders]
    if owners and task not in owners:
        raise VPError(f"{str(folder)!r} is the folder of {owners[0].name}, not of {task.name}: give the other's (--data).")
    return folder / name


def read_file(path: str | Path, text: Sequence[str], label: str, labels: Sequence[str] = (), separator: str = "") -> Examples:
    """Examples of a table in a file (see `read_table`) with named text columns (one or two) and a named label column.

    Labels are classes, numbered in sorted order unless `labels` gives their order, or numbers to be predicted if they are
    not whole (then the task is a regression). Raises VPError for what `read_table` and `from_rows` refuse.
    """
    path = Path(path)
    table = read_table(path, text, (label,), separator)
    rows = table.rows
    require_columns(rows, (*text, label), str(path))
    values = [row.get(label) for row in rows]
    regression = not labels and any(_is_fraction(v) for v in values)
    classes = tuple(labels) or (() if regression else tuple(sorted({str(v) for v in values}, key=_class_order)))
    metrics = ("spearman", "pearson") if regression else ("accuracy",)
    examples = from_rows(Task(stem_of(path), tuple(text), label, classes, metrics), rows, str(path))
    return replace(examples, notes=(*table.notes, *examples.notes))


def from_rows(task: Task, rows: Sequence[ExampleRow], source: str) -> Examples:
    """Check rows and turn them into Examples; VPError for an empty or one-class set, missing columns, strange labels."""
    if not rows:
        raise VPError(f"{source!r} has no rows: give a file with at least two examples.")
    require_columns(rows, (*task.text, task.label), source)
    texts = [tuple(str(row[column]) for column in task.text) for row in rows]
    labels = np.array([_label(task, str(row[task.label]), source, i) for i, row in enumerate(rows, start=1)])
    if len(rows) == 1:
        raise VPError(f"{source!r} has a single row: give at least two examples, of different labels.")
    if len(np.unique(labels)) < 2:
        raise VPError(f"All {len(rows)} labels of {source!r} are the same: a score needs at least two different ones.")
    return Examples(task, texts, labels, source)


def _label(task: Task, value: str, source: str, row: int) -> float | int:
    """A class number from its number or its name, or a finite float for a regression."""
    if task.regression:
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if not np.isfinite(number):
            raise VPError(f"The label {value!r} in row {row} of {source!r} is not a number: {task.name} is a regression.")
        return number
    if value in task.labels:
        return task.labels.index(value)
    if value.isdecimal() and int(value) < len(task.labels):
        return int(value)
    raise VPError(
        f"The label {value!r} in row {row} of {source!r} is none of {', '.join(task.labels)} "
        f"(or 0 to {len(task.labels) - 1}): mend the file or name the labels."
    )


def _class_order(label: str) -> tuple[int, int, str]:
    """Numbers by value, before names by letters: 2 comes before 10."""
    return (0, int(label), label) if label.isdecimal() else (1, 0, label)


def _is_fraction(value: object) -> bool:
    try:
        return not float(str(value)).is_integer()
    except ValueError:
        return False


def _from_hub(task: Task, split: str) -> Examples:
    """One split of GLUE from the Hub: the only place that goes to the network for data."""
    require_hub(f"The data of {task.name}")
    import datasets

    hub_split = task.hub_dev if split == "dev" else split
    try:
        loaded = datasets.load_dataset("nyu-mll/glue", task.folders[0], split=hub_split)
    except Exception as error:  # datasets raises many kinds; each means: no data
        raise VPError(
            f"The data of {task.name} could not be had from the Hub ({type(error).__name__}): give a folder in GLUE's TSV "
            f"layout (--data DIR), or check the network."
        ) from error
    rows = [{**row, task.label: row["label"]} for row in loaded]
    found = from_rows(replace(task, text=task.hub_text), rows, f"Hub: nyu-mll/glue {task.folders[0]} {hub_split}")
    return replace(found, task=task)


def open_examples(
    task: str, split: str, folder: str | Path | None = None, text: Sequence[str] = (), label: str = "label",
    labels: Sequence[str] = (), separator: str = "",
) -> Examples:  # fmt: skip
    """Examples of a task by name, or of a file by its path (then `text` and `label` name its columns, `separator` what stands
    between its cells where its ending does not say it).

    Raises VPError for an unknown task, a file whose text columns are not named, and as `read_examples` and `read_file` do.
    """
    if kind_of(task):
        if not text:
            raise VPError(f"Which columns of {task!r} are text? Name one or two (--text COLUMN[,COLUMN] --label COLUMN).")
        return read_file(task, text, label, labels, separator)
    return read_examples(find_task(task), split, folder)
