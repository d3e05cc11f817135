"""Tables in files: the asked columns of TSV, CSV, JSON, JSONL and Parquet; what does not fit is one clear sentence."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vp_core.asking.reading.files import read_lines
from vp_core.asking.reading.records import as_text, listed, reach, read_json, read_jsonl, read_parquet
from vp_core.asking.reading.separated import Record, find_separator, read_csv, read_tsv, swallowed
from vp_core.asking.tasks import Task
from vp_core.ground.errors import VPError

ExampleRow = dict[str, Any]
_RECORDS = {".jsonl": read_jsonl, ".json": read_json, ".parquet": read_parquet}
_SEPARATED = {".tsv": "\t", ".csv": ","}
_PACKABLE = (".tsv", ".csv", ".jsonl", ".json")


@dataclass(frozen=True)
class Table:
    """Rows of the asked columns, and what should be known of how they were read."""

    rows: list[ExampleRow]
    notes: tuple[str, ...] = ()


def kind_of(path: str | Path) -> str:
    """The ending that says how a file is read, without .gz; empty for a name that says nothing.

    >>> kind_of("reviews.CSV.gz"), kind_of("reviews.txt"), kind_of("sst2")
    ('.csv', '', '')
    """
    path = Path(path)
    if path.suffix.lower() == ".gz":
        inner = Path(path.stem).suffix.lower()
        return inner if inner in _PACKABLE else ""
    return path.suffix.lower() if path.suffix.lower() in (*_SEPARATED, *_RECORDS) else ""


def stem_of(path: Path) -> str:
    """The name of a table: its file's, without endings."""
    return Path(path.stem).stem if path.suffix.lower() == ".gz" else path.stem


def read_table(path: Path, text: Sequence[str], label: Sequence[str], separator: str = "", task: Task | None = None) -> Table:
    """The text and label columns of a file by its ending; with a task, by the rules of GLUE's files.

    Rows of a file of one's own have as many cells as its header. A task's may have more, which is told, and the rows that
    lack cells are left out and counted where its official file has such. Raises VPError for a file that is missing, broken,
    no regular file, not UTF-8, too large, or of another ending; for a column that is not there or there twice, and for a
    text that is an object, a list or missing.
    """
    kind, source = kind_of(path), str(path)
    if not kind:
        raise VPError(f"Files such as {path.name!r} are not read: use .tsv, .csv, .json, .jsonl (also .gz) or .parquet.")
    columns = list(dict.fromkeys((*text, *label)))
    if kind in _RECORDS:
        if separator:
            raise VPError(f"{source!r} has no separator, as a CSV file has: leave {separator!r} out.")
        rows = list(_picked(_RECORDS[kind](path, columns), text, label, source))
        return Table(rows, _counted(rows, source))
    lines = list(read_lines(path))
    between = find_separator(separator) if separator else _SEPARATED[kind]
    if between == "\t":
        return _from_tsv(lines, columns, label, source, task)
    records = read_csv(lines, between, source)
    table = _own(records, columns, source, between)
    _check_swallowed(records, lines, between, label[0], source)
    spaced = sum(cell[:1] == " " and cell.lstrip()[:1] == '"' == cell[-1] for row in table.rows for cell in row.values())
    notes = (f"Quotes of {source!r} that follow a space ({spaced:,} cells) were read as part of the text.",) if spaced else ()
    return Table(table.rows, (*table.notes, *notes))


def _from_tsv(lines: list[str], columns: Sequence[str], label: Sequence[str], source: str, task: Task | None) -> Table:
    if task is not None and task.columns:
        lines = ["\t".join(task.columns) + "\n", *lines]
    records, unquoted, left = read_tsv(lines, source, gaps=task is not None and task.gaps)
    notes = (f"Cells of {source!r} stand in quotes, which are the file's own and were taken off.",) if unquoted else ()
    found = _own(records, columns, source, "\t") if task is None else _of_task(records, columns, source, task)
    if unquoted:
        _check_swallowed(records, lines, "\t", label[0], source)
    if left and task is None:
        notes = (f"Quotes around cells of {source!r} ({left:,}) were read as part of the text, since others have none.",)
    return Table(found.rows, (*found.notes, *notes))


def _own(records: Sequence[Record], columns: Sequence[str], source: str, separator: str) -> Table:
    """Rows of which none has more or fewer cells than the header."""
    if len(records) < 2:
        return Table([])
    header, *rows = records
    places = _places(header.cells, columns, source, separator)
    for number, row in enumerate(rows, start=1):
        if len(row.cells) != len(header.cells):
            raise VPError(
                f"Row {number} of {source!r} (line {row.line}) has {len(row.cells)} cells and the header {len(header.cells)}: "
                "mend it, or put cells that hold the separator in quotes."
            )
    found = [{column: row.cells[at] for column, at in places.items()} for row in rows]
    return Table(found, _counted(found, source))


def _of_task(records: Sequence[Record], columns: Sequence[str], source: str, task: Task) -> Table:
    """Rows that may be longer than the header, and shorter where the task says so."""
    if len(records) < 2:
        return Table([])
    header = records[0].cells
    places = _places(header, columns, source)
    rows, short = [], 0
    for number, record in enumerate(records[1:], start=1):
        lacking = next((column for column, at in places.items() if at >= len(record.cells)), None)
        if lacking is not None and not task.gaps:
            raise VPError(f"{source!r} has no column {lacking!r} in row {number}: its columns are {listed(header)}.")
        short += lacking is not None
        if lacking is None:
            rows.append({column: record.cells[at] for column, at in places.items()})
    long = sum(len(record.cells) > len(header) for record in records[1:])
    notes = [f"{short:,} of {len(records) - 1:,} rows of {source!r} lack columns and were left out."] if short else []
    if long:
        notes.append(f"Rows of {source!r} ({long:,}) have more cells than its header: what is beyond it was not read.")
    return Table(rows, tuple(notes))


def _places(header: Sequence[str], columns: Sequence[str], source: str, separator: str = "") -> dict[str, int]:
    """Column → its place in the header; VPError for one that is not there or there twice.

    With the `separator` of a file of one's own, a header that it does not part is told what does.
    """
    if separator and len(header) == 1 and (other := next((c for c in "\t;,|" if c in header[0] and c != separator), "")):
        name = {"\t": "tab"}.get(other, f"'{other}'")
        raise VPError(f"{source!r} has a single column, {header[0][:80]!r}: name its separator (--separator {name}).")
    for column in columns:
        if column not in header:
            raise VPError(f"{source!r} has no column {column!r}: its columns are {listed(header)}.")
        if header.count(column) > 1:
            raise VPError(f"The column {column!r} occurs {header.count(column)} times in {source!r}: rename all but one.")
    return {column: header.index(column) for column in columns}


def _check_swallowed(records: Sequence[Record], lines: Sequence[str], separator: str, label: str, source: str) -> None:
    if len(records) > 1 and (found := swallowed(records, lines, separator, records[0].cells.index(label))):
        raise VPError(
            f"A quote that opens in line {found.line} of {source!r} holds lines that look like rows of their own: close it."
        )


def _picked(rows: Iterable[ExampleRow], text: Sequence[str], label: Sequence[str], source: str) -> Iterator[ExampleRow]:
    """The asked columns of objects: texts as strings, labels as they stand. VPError names the row of what is no text."""
    for number, row in enumerate(rows, start=1):
        picked: ExampleRow = {}
        for column in dict.fromkeys((*text, *label)):
            try:
                value = reach(row, column)
            except KeyError:
                where = "" if number == 1 else f" in row {number}"
                raise VPError(f"{source!r} has no column {column!r}{where}: its columns are {listed(row)}.") from None
            picked[column] = as_text(value, column, number, source) if column in text else value
        yield picked


def _counted(rows: Sequence[ExampleRow], source: str) -> tuple[str, ...]:
    return (f"Read {len(rows):,} rows of {source!r}.",)


def require_columns(rows: Sequence[ExampleRow], columns: Sequence[str], source: str) -> None:
    """VPError for a row that lacks one of the columns, or a value in it: its number, and the columns that there are."""
    for i, row in enumerate(rows, start=1):
        for column in columns:
            if column not in row:
                where = "" if column not in rows[0] else f" in row {i}"
                raise VPError(f"{source!r} has no column {column!r}{where}: its columns are {listed(row)}.")
            if row[column] is None:
                raise VPError(f"The column {column!r} in row {i} of {source!r} has no value: fill it in, or leave the row out.")
