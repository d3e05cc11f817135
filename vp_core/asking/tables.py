"""Tables in files: rows of named cells from TSV, CSV and JSONL; what does not fit is one clear sentence."""

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from vp_core.ground.errors import VPError

ExampleRow = dict[str, str]


def read_table(path: Path, columns: Sequence[str] = ()) -> list[ExampleRow]:
    """The rows of a file by its ending: .tsv (never quoted), .csv (quoted as usual), .jsonl; a BOM is no part of it.

    Raises VPError for a file that is missing, broken, not UTF-8, or of another ending.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _parse(file, path.suffix.lower(), columns)
    except FileNotFoundError:
        raise VPError(f"There is no file {str(path)!r}: check the path.") from None
    except UnicodeDecodeError:
        raise VPError(f"{str(path)!r} is not UTF-8 text: convert it first.") from None
    except (OSError, json.JSONDecodeError, csv.Error) as error:
        raise VPError(f"{str(path)!r} cannot be read ({error}): mend the file.") from None


def _parse(file: Iterable[str], suffix: str, columns: Sequence[str]) -> list[ExampleRow]:
    if suffix == ".tsv":
        lines = (line.rstrip("\r\n").split("\t") for line in file if line.strip())
        header = list(columns) or next(lines, [])
        return [dict(zip(header, line, strict=False)) for line in lines]
    if suffix == ".csv":
        return list(csv.DictReader(file))
    if suffix in (".jsonl", ".json"):
        rows = [json.loads(line) for line in file if line.strip()]
        if not all(isinstance(row, dict) for row in rows):
            raise VPError('A line of the JSONL file is no object: write lines such as {"text": "…", "label": 1}.')
        return rows
    raise VPError(f"Files ending in {suffix!r} are not read: use .tsv, .csv or .jsonl.")


def require_columns(rows: Sequence[ExampleRow], columns: Sequence[str], source: str) -> None:
    """VPError for a row that lacks one of the columns: its number, and the columns that there are."""
    for i, row in enumerate(rows, start=1):
        for column in columns:
            if row.get(column) is None:
                there = ", ".join(str(c) for c in row)
                where = "" if column not in rows[0] else f" in row {i}"
                raise VPError(f"{source!r} has no column {column!r}{where}: its columns are {there}.")
