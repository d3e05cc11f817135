"""Rows of JSON, JSONL and Parquet files: columns are keys, or paths into objects with dots, and what is no cell is refused."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from vp_core.asking.reading import files
from vp_core.ground.errors import VPError, harmless

Row = dict[str, Any]
MOST_JSON = 2**28
"""Characters of a JSON file that has to be read as a whole."""
_MISSING = object()
_BATCH = 4096


def read_jsonl(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """The object in each line that is not blank."""
    parse = _parser(columns, str(path))
    for number, line in enumerate(files.read_lines(path), start=1):
        if line.strip():
            row = parse(line, f"line {number}")
            if not isinstance(row, dict):
                raise VPError(f'Line {number} of {str(path)!r} is no object: write lines such as {{"text": "…", "label": 1}}.')
            yield row


def read_json(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """The objects of an array, of the array under "data", or one in each line."""
    lines = files.read_lines(path, MOST_JSON)
    first = next((line for line in lines if line.strip()), "")
    if first.lstrip().startswith("{") and _is_json(first) and any(line.strip() for line in islice(lines, 100)):
        yield from read_jsonl(path, columns)
        return
    parts, size = [], 0
    for line in files.read_lines(path, MOST_JSON):
        parts.append(line)
        size += len(line)
        if size > MOST_JSON:
            raise VPError(f"{str(path)!r} is larger than one JSON value may be: write an object in each line (.jsonl).")
    text = "".join(parts)
    found = _parser(columns, str(path))(text, "it") if text.strip() else []
    if isinstance(found, dict):
        by_column = all(isinstance(value, dict | list) for value in found.values())
        found = found["data"] if isinstance(found.get("data"), list) else None if by_column else [found]
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise VPError(f'{str(path)!r} holds no rows: write an array of objects such as [{{"text": "…", "label": 1}}].')
    yield from found


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _parser(columns: Sequence[str], source: str) -> Callable[[str, str], Any]:
    """A reader of JSON that refuses a key that occurs twice in an object, if it is asked for."""
    asked = {*columns, *(part for column in columns for part in column.split("."))}

    def pairs(found: list[tuple[str, Any]]) -> Row:
        row = dict(found)
        if len(row) < len(found):
            twice = [key for key in row if key in asked and sum(key == other for other, _ in found) > 1]
            if twice:
                raise VPError(f"The key {twice[0]!r} occurs twice in an object of {source!r}: which is meant? Rename one.")
        return row

    def parse(text: str, where: str) -> Any:
        try:
            return json.loads(text, object_pairs_hook=pairs)
        except VPError:
            raise
        except RecursionError:
            raise VPError(f"{source!r} cannot be read ({where} is nested too deeply): mend the file.") from None
        except ValueError as error:
            raise VPError(f"{source!r} cannot be read ({where}: {error}): mend the file.") from None

    return parse


def read_parquet(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """The rows, with nothing read but the columns asked for, in pieces that stay small whatever the file says of itself."""
    files.check_file(path)
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            names = _check_names(file.schema_arrow.names, columns, str(path))
            if file.metadata.num_rows > files.MOST_LINES:
                raise VPError(f"{str(path)!r} has more than {files.MOST_LINES:,} rows: take a part of it.")
            largest = _check_sizes(file.metadata, names, path)
            # A value that stands in a dictionary may be repeated in every row: so many rows at a time, and no more.
            batch = max(1, min(_BATCH, 2 * files.MOST_BYTES // max(largest, 1)))
            unpacked = 0
            for part in file.iter_batches(batch_size=batch, columns=names):
                unpacked += part.nbytes
                if unpacked > files.MOST_BYTES:
                    raise VPError(f"{str(path)!r} unpacks to more than {files.MOST_BYTES:,} bytes: take a part of it.")
                yield from part.to_pylist()
    except VPError:
        raise
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise VPError(f"{str(path)!r} cannot be read ({_printable(str(error), 300)}): mend the file.") from None


def _check_names(there: list[str], columns: Sequence[str], source: str) -> list[str]:
    """What to read of a Parquet file: each column asked for, or the one that a path begins in."""
    names = [column if column in there else column.split(".")[0] for column in columns]
    for column, name in zip(columns, names, strict=True):
        if name not in there:
            raise VPError(f"{source!r} has no column {column!r}: its columns are {listed(there)}.")
        if there.count(name) > 1:
            raise VPError(f"The column {name!r} occurs twice in {source!r}: which is meant? Rename one.")
    return list(dict.fromkeys(names))


def _check_sizes(metadata: Any, names: Sequence[str], path: Path) -> int:
    """The largest size of a column in a row group, unpacked; VPError if those asked for are too large together."""
    sizes = [
        (column.path_in_schema.split(".")[0], column.total_uncompressed_size)
        for group in range(metadata.num_row_groups)
        for column in map(metadata.row_group(group).column, range(metadata.num_columns))
    ]
    asked = [size for root, size in sizes if any(name == root or name.startswith(f"{root}.") for name in names)]
    if sum(asked) > files.MOST_BYTES:
        raise VPError(f"{str(path)!r} unpacks to {sum(asked):,} bytes, more than {files.MOST_BYTES:,}: take a part of it.")
    return max(asked, default=0)


def listed(columns: Iterable[str], most: int = 30) -> str:
    """The first of the columns' names, with nothing in them that a terminal would obey.

    >>> listed(["text", "y\\n\\x1b[2J", "z"], 2)
    'text, y  [2J and 1 more'
    """
    names = [_printable(str(column), 80) for column in columns]
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def _printable(text: str, most: int) -> str:
    return harmless(text[:most]).strip()


def reach(row: Row, column: str) -> Any:
    """What stands under a key, or at the end of a path with dots; None for nothing, KeyError if there is no such place.

    >>> reach({"text": {"en": "fine"}}, "text.en"), reach({"text.en": "well", "text": {"en": "fine"}}, "text.en")
    ('fine', 'well')
    """
    if column in row:
        return row[column]
    value: Any = row
    for part in column.split("."):
        value = value.get(part, _MISSING) if isinstance(value, dict) else _MISSING
        if value is _MISSING:
            raise KeyError(column)
    return value


def as_text(value: Any, column: str, number: int, source: str) -> str:
    """Text as it stands, numbers and truth values as JSON spells them; VPError for what is no text.

    >>> as_text(True, "text", 1, "a.jsonl"), as_text(2.5, "text", 1, "a.jsonl")
    ('true', '2.5')
    """
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise VPError(f"The column {column!r} in row {number} of {source!r} holds half a character: mend it.") from None
        return value
    if value is None or value != value:
        raise VPError(f"The column {column!r} in row {number} of {source!r} has no value: fill it in, or leave the row out.")
    if isinstance(value, dict):
        inside = listed([f"{column}.{key}" for key in value], 10)
        raise VPError(f"The column {column!r} in row {number} of {source!r} is an object: name what is in it ({inside}).")
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    what = "a list" if isinstance(value, list) else "no text"
    raise VPError(f"The column {column!r} in row {number} of {source!r} is {what}: a text must be a single string.")
