"""Examples: texts and labels of a task in GLUE's TSV layout, of any table, or from the Hub; every doubt is a clear sentence."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vp_core.asking.outputs import Outputs, labels_option, listing, match, parse_labels
from vp_core.asking.reading.tables import ExampleRow, kind_of, read_table, require_columns, stem_of
from vp_core.asking.targets import METRICS, check_given, note_missing, number_of_class, read_targets, written
from vp_core.asking.tasks import TASKS, Task, find_task
from vp_core.ground.errors import VPError
from vp_core.ground.hub import require_hub
from vp_core.ground.store import DEMO_DIR


@dataclass(frozen=True, eq=False)
class Examples:
    """Texts (one or two strings each) with labels (n,): class numbers in the order of `task.labels`, or floats.

    Of a multi-label task labels are (n, classes), 0 and 1. `order[j]` is the class that the model's output j means, where the
    user said so; None leaves it to the model's names. `notes` are what whoever asks with them should know: how many rows were
    read, what was read otherwise than it stands.
    """

    task: Task
    texts: Sequence[tuple[str, ...]]
    labels: np.ndarray
    source: str
    notes: tuple[str, ...] = ()
    order: tuple[int, ...] | None = None

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
        if len(np.unique(self.labels[picked], axis=0)) < 2:
            raise VPError(f"A sample of {n} of {self.source!r} has fewer than two different labels: ask for more sentences.")
        return self._at(picked)

    def sample_like(self, other: "Examples", n: int, seed: int = 0) -> "Examples":
        """`n` of them without replacement (all, if there are no more), as long as those of `other` are.

        Statistics should be taken over texts such as the model will meet. SST-2's training rows are mostly phrases of a
        few words, its evaluation rows whole sentences: on a plain sample the means are those of phrases, and at 50 % of the
        rows `mean` kept 57 to 63 % accuracy where texts of like length keep 65 % (docs/results.md). Labels are not looked at.
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
        return replace(self, texts=[self.texts[i] for i in places], labels=self.labels[places])


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
    absent = [label for i, label in enumerate(task.labels) if split == "dev" and i not in examples.labels]
    return replace(examples, notes=(*examples.notes, *table.notes, *note_missing(absent, str(found))))


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


def read_file(
    path: str | Path, text: Sequence[str], label: str, labels: Sequence[str] = (), separator: str = "",
    outputs: Outputs | None = None,
) -> Examples:  # fmt: skip
    """Examples of a table in a file (see `read_table`) with named text columns (one or two) and a named label column.

    `outputs` are those of the model that will be asked: they say what the labels are (see `vp_core.asking.targets`). Without
    them fractions make a regression, lists a multi-label task, and all else classes, in the order of numbers, then names.
    `labels` name the model's outputs in their order. A multi-label file may have a column of 0 and 1 for each label: `label`
    joins their names with commas (a name that has a comma stands in double quotes). Raises VPError for what `read_table`,
    `read_targets` and `from_rows` refuse.
    """
    path, source, columns = Path(path), str(path), parse_labels(label) or (label,)
    table = read_table(path, text, columns, separator)
    _check_rows(table.rows, source)
    lists = outputs is not None and outputs.kind == "labels" and len(columns) == 1
    values = _label_values(table.rows, text, columns, source, (*labels, *(outputs.names if outputs else ())), lists)
    found = read_targets(values, source, outputs, labels, columns)
    task = Task(stem_of(path), tuple(text), label, found.labels, METRICS[found.kind], multi_label=found.kind == "labels")
    order = tuple(range(len(found.labels))) if labels else None
    notes = (*table.notes, *found.notes)
    return _checked(Examples(task, _texts(task, table.rows), found.numbers, source, notes, order))


def from_rows(task: Task, rows: Sequence[ExampleRow], source: str) -> Examples:
    """Check rows of a named task and turn them into Examples.

    VPError for an empty or one-class set, missing columns or labels, and strange labels.
    """
    _check_rows(rows, source)
    values = _label_values(rows, task.text, (task.label,), source)
    labels = np.array([_label(task, written(value), source, i) for i, value in enumerate(values, start=1)])
    return _checked(Examples(task, _texts(task, rows), labels, source))


def _check_rows(rows: Sequence[ExampleRow], source: str) -> None:
    if not rows:
        raise VPError(f"{source!r} has no rows: give a file with at least two examples.")


def _texts(task: Task, rows: Sequence[ExampleRow]) -> list[tuple[str, ...]]:
    return [tuple(str(row[column]) for column in task.text) for row in rows]


def _checked(examples: Examples) -> Examples:
    """The same; VPError if there is nothing to tell apart."""
    if len(examples) == 1:
        raise VPError(f"{examples.source!r} has a single row: give at least two examples, of different labels.")
    if len(np.unique(examples.labels, axis=0)) < 2:
        raise VPError(
            f"All {len(examples)} labels of {examples.source!r} are the same: a score needs at least two different ones."
        )
    return examples


def _label_values(
    rows: Sequence[ExampleRow], text: Sequence[str], columns: Sequence[str], source: str, names: Sequence[str] = (),
    lists: bool = False,
) -> list[Any]:  # fmt: skip
    """The label of each row as it was read, a tuple for several columns; VPError for what is missing (and none of `names`)."""
    require_columns(rows, text, source)
    if all(column in row for row in rows for column in columns):  # there, but empty: another sentence than for no column
        check_given([tuple(row[column] for column in columns) for row in rows], source, names, lists)
    require_columns(rows, columns, source)
    return [row[columns[0]] if len(columns) == 1 else tuple(row[column] for column in columns) for row in rows]


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
    place = number_of_class(value, task)
    if place is not None:
        return place
    raise VPError(
        f"The label {value!r} in row {row} of {source!r} is none of {', '.join(task.labels)} "
        f"(or 0 to {len(task.labels) - 1}): mend the file or name the labels."
    )


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
    labels: Sequence[str] = (), separator: str = "", outputs: Outputs | None = None,
) -> Examples:  # fmt: skip
    """Examples of a task by name, or of a file by its path (then `text` and `label` name its columns, `separator` what stands
    between its cells where its ending does not say it).

    `labels` are class names in the order of the model's outputs, of a task by name its own; `outputs` are the model's, where it
    is known (`vp_core.asking.outputs.outputs_of`). Raises VPError for an unknown task, a file whose text columns are not
    named, labels that are not the task's, and as `read_examples` and `read_file` do.
    """
    if kind_of(task):
        if not text:
            raise VPError(f"Which columns of {task!r} are text? Name one or two (--text COLUMN[,COLUMN] --label COLUMN).")
        return read_file(task, text, label, labels, separator, outputs)
    found = read_examples(find_task(task), split, folder)
    return replace(found, order=_order_said(found.task, labels)) if labels else found


def _order_said(task: Task, labels: Sequence[str]) -> tuple[int, ...]:
    """The class of each output by the user's list of the task's names or numbers; VPError if it is not that."""
    if task.regression:
        raise VPError(f"{task.name} is a regression and has no classes: leave out --labels.")
    places = match(labels, task.labels)
    places |= {label: number for label in labels if (number := number_of_class(label, task)) is not None}
    order = tuple(places.get(label, -1) for label in labels)
    if sorted(order) != list(range(len(task.labels))):
        raise VPError(
            f"--labels names {listing(labels)}, but the classes of {task.name} are {listing(task.labels)}: name each once, in "
            f"the order of the model's outputs ({labels_option(task.labels)}, or otherwise)."
        )
    return order
