"""Cells of TSV and CSV files: quoted as usual in CSV; in TSV if the whole file is, which its quotes must show."""

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock

from vp_core.asking.reading.files import MOST_CHARACTERS
from vp_core.ground.errors import VPError

MOST_COLUMNS = 10_000
SEPARATORS = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "bar": "|", "space": " "}
"""Names of separators, for shells and address lines in which the character itself is hard to write."""
_FIELD_LIMIT = Lock()


@dataclass(frozen=True, slots=True)
class Record:
    """The cells of one row and the line it begins in, from 1 on."""

    line: int
    cells: list[str]


def find_separator(said: str) -> str:
    """The character that a name or a character stands for; VPError for what cannot separate columns.

    >>> find_separator("tab"), find_separator(";")
    ('\\t', ';')
    """
    found = SEPARATORS.get(said.lower(), said)
    if len(found) != 1 or found.isalnum() or found in "\"'\r\n\0.-_":
        raise VPError(f"The separator {said!r} cannot separate columns: use a single character such as ; or the word tab.")
    return found


def read_csv(lines: Sequence[str], separator: str, source: str) -> list[Record]:
    """Records with their quotes taken off. VPError, with its line, for a quote that is not closed or not doubled."""
    records: list[Record] = []
    _check_width(lines, separator, source)
    with _long_cells():
        reader = csv.reader(lines, delimiter=separator, strict=True)
        line = 1
        try:
            for cells in reader:
                if len(cells) > 1 or "".join(cells).strip():
                    records.append(Record(line, cells))
                line = reader.line_num + 1
        except csv.Error as error:
            if "unexpected end" in str(error):
                raise VPError(f"A quote that opens in line {line} of {source!r} is never closed: close it.") from None
            raise VPError(f"The row in line {line} of {source!r} cannot be read ({error}): mend its quotes.") from None
    return records


def read_tsv(lines: Sequence[str], source: str, gaps: bool = False) -> tuple[list[Record], bool, int]:
    """(records, whether quotes were taken off, how many cells stand in quotes that were left on).

    A bare quote at the start of a cell is text, as in GLUE's files. Quotes are the file's own if cells with tabs or line
    breaks stand in them, if the header or a whole column does, or if just the cells with quotes do and double them. VPError
    if most cells of a column stand in quotes and others cannot. Where rows have `gaps`, quotes are text.
    """
    _check_width(lines, "\t", source)
    plain = [Record(i, line.rstrip("\r\n").split("\t")) for i, line in enumerate(lines, start=1) if line.strip()]
    if not any(cell.startswith('"') for record in plain for cell in record.cells):
        return plain, False, 0
    header, *rows = (record.cells for record in plain)
    even = _even(plain)
    if gaps and not even:
        return plain, False, 0
    try:
        strict = read_csv(lines, "\t", source)
    except VPError as error:
        if any(map(_in_quotes, header)) or (even and max(_shares(rows, len(header))) > 0.5):
            raise VPError(f"The cells of {source!r} stand in quotes, but not all as they should. {error}") from None
        return plain, False, 0
    quoted = [cell for row in (header, *rows) for cell in row if _in_quotes(cell)]
    if not even:
        return (strict, True, 0) if _even(strict) else (plain, False, len(quoted))
    bare = any('"' in cell and not _in_quotes(cell) for row in (header, *rows) for cell in row)
    needed = bool(quoted) and not bare and all('""' in cell[1:-1] for cell in quoted)
    whole = all(map(_in_quotes, header)) or (len(rows) > 1 and max(_shares(rows, len(header))) == 1)
    if len(strict) == len(plain) and not bare and (needed or whole):
        return strict, True, 0
    return plain, False, len(quoted)


def swallowed(records: Sequence[Record], lines: Sequence[str], separator: str, label_at: int) -> Record | None:
    """The first record in quotes that holds a line which looks like a row by itself: as many cells, with a label in its place.

    So a quote that was forgotten shows itself, though a later one closes it.
    """
    width = len(records[0].cells)
    labels = {r.cells[label_at].strip() for r in records[1:] if len(r.cells) == width and not _broken(r)}
    numbers = bool(labels) and all(map(_is_number, labels))
    ends = [record.line - 1 for record in records[1:]] + [len(lines)]
    for record, end in zip(records, ends, strict=True):
        broken = _broken(record)
        if not broken or len(record.cells) != width:
            continue
        # The line that holds the label looks like a row in any case: the last if the label follows the broken cell.
        first, last = record.line - (label_at > broken[-1]), end - (label_at > broken[0])
        for line in lines[first:last]:
            cells = line.replace('"', "").rstrip("\r\n").split(separator)
            label = cells[label_at].strip() if len(cells) == width else ""
            if label and (label in labels or (numbers and _is_number(label))):
                return record
    return None


def _broken(record: Record) -> list[int]:
    """Places of the cells that hold line breaks."""
    return [i for i, cell in enumerate(record.cells) if "\n" in cell or "\r" in cell]


def _in_quotes(cell: str) -> bool:
    """Whether a cell stands in quotes as a whole, those inside doubled."""
    return len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in cell[1:-1].replace('""', "")


def _shares(rows: Sequence[Sequence[str]], width: int) -> list[float]:
    """The share of cells in quotes, by column."""
    return [sum(_in_quotes(row[i]) for row in rows if i < len(row)) / max(len(rows), 1) for i in range(width)]


def _even(records: Sequence[Record]) -> bool:
    return len({len(record.cells) for record in records}) == 1


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _check_width(lines: Sequence[str], separator: str, source: str) -> None:
    """Before a million columns are made of the first line."""
    if lines and lines[0].count(separator) >= MOST_COLUMNS:
        raise VPError(f"{source!r} has more than {MOST_COLUMNS:,} columns: write the text and the label alone.")


@contextmanager
def _long_cells() -> Iterator[None]:
    """csv refuses cells of more than 131,072 characters, by a limit that all of a process share: one at a time changes it."""
    with _FIELD_LIMIT:
        before = csv.field_size_limit(MOST_CHARACTERS)
        try:
            yield
        finally:
            csv.field_size_limit(before)
