"""Pictures in Parquet files, as `datasets` writes them, and in data sets of the Hub."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vp_core.asking.outputs import listing
from vp_core.asking.pictures.folders import MEASURED, SCORED, Split, choose
from vp_core.asking.pictures.stored import Rows
from vp_core.ground.errors import VPError, one_line
from vp_core.ground.hub import quiet_transformers, require_hub

MOST_IN_MEMORY = 2**31
"""Bytes of Parquet files that are held as they are; larger ones are unpacked by `datasets` into its cache, and mapped."""
_SPLIT = re.compile(r"^([a-z]+)(?:[-_.]\d.*)?\.parquet$")


def parquet_files(folder: Path) -> Mapping[str, list[Path]]:
    """Split → its files, of a folder with Parquet files named by splits: test.parquet, data/train-00000-of-00002.parquet.

    Nothing for a folder without such files.
    """
    found: dict[str, list[Path]] = {}
    for path in sorted([*folder.glob("*.parquet"), *folder.glob("data/*.parquet")]):
        if (match := _SPLIT.match(path.name.lower())) and match[1] in (*SCORED, *MEASURED):
            found.setdefault(match[1], []).append(path)
    return found


def read_tables(files: Mapping[str, Sequence[Path]], label: str, source: str) -> tuple[Split, Split]:
    """(what is scored, what is measured) of split → Parquet files; VPError as `read_table` raises."""
    scored, measured = choose(list(files), source)
    first = read_table(files[scored], label)
    return first, first if scored == measured else read_table(files[measured], label)


def read_table(paths: Sequence[Path], label: str) -> Split:
    """The pictures and labels of Parquet files that belong together.

    Raises VPError for a file that cannot be read, without a column of images (bytes, or objects with them), or of labels.
    """
    import pyarrow as pa
    from pyarrow import parquet

    source = str(paths[0]) if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
    try:
        if sum(path.stat().st_size for path in paths) > MOST_IN_MEMORY:
            import datasets

            with quiet_transformers():
                return _of_dataset(datasets.Dataset.from_parquet([str(path) for path in paths]), label, source)
        schema = parquet.read_schema(paths[0])
        features = _features(schema.metadata)
        image = _image_column({name: str(schema.field(name).type) for name in schema.names}, features, source)
        column = _label_column(schema.names, features, label, source)
        table = pa.concat_tables([parquet.read_table(path, columns=[image, column]) for path in paths])
        values, pictures = table.column(column).to_pylist(), table.column(image)
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        if isinstance(error, VPError):
            raise
        raise VPError(f"{source!r} cannot be read ({one_line(error)}): mend the file.") from error
    names = _names(features.get(column))
    return Split(Rows(lambda i: pictures[i].as_py(), len(values), source), _named(values, names, source), names, source)


def read_hub(name: str, label: str) -> tuple[Split, Split]:
    """(what is scored, what is measured) of a data set on the Hub, by its id; nothing of it is run.

    Raises VPError if it cannot be had.
    """
    require_hub(f"The data set {name!r}")
    import datasets

    try:
        with quiet_transformers():
            scored, measured = choose(list(datasets.get_dataset_split_names(name)), f"Hub: {name}")
            parts = {split: datasets.load_dataset(name, split=split) for split in {scored, measured}}
    except VPError:
        raise
    except Exception as error:  # datasets raises many kinds; each means: no data
        raise VPError(
            f"The data set {name!r} could not be had from the Hub ({one_line(error)}): give a folder of folders or a Parquet "
            "file (--data), or check the name and the network."
        ) from error
    first = _of_dataset(parts[scored], label, f"Hub: {name} {scored}")
    return first, first if scored == measured else _of_dataset(parts[measured], label, f"Hub: {name} {measured}")


def _of_dataset(found: Any, label: str, source: str) -> Split:
    """The pictures and labels of a `datasets.Dataset`, mapped from the disk; its pictures are not decoded there."""
    import datasets

    kinds = {name: {"_type": type(one).__name__, "names": getattr(one, "names", None)} for name, one in found.features.items()}
    image = _image_column({name: "" for name in kinds}, kinds, source)
    column = _label_column(list(kinds), kinds, label, source)
    pictures = found.select_columns([image]).cast_column(image, datasets.Image(decode=False))
    names, values = _names(kinds[column]), list(found.select_columns([column])[column])
    return Split(Rows(lambda i: pictures[int(i)][image], len(values), source), _named(values, names, source), names, source)


def _features(metadata: Mapping[bytes, bytes] | None) -> dict[str, dict[str, Any]]:
    """What `datasets` wrote about the columns of a Parquet file; nothing where others wrote it."""
    try:
        found = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return {}
    return {name: one for name, one in found.items() if isinstance(one, dict)} if isinstance(found, dict) else {}


def _image_column(types: Mapping[str, str], features: Mapping[str, Mapping[str, Any]], source: str) -> str:
    """The column with images: the one that is said to be, else the one with bytes in it; VPError for none or several."""
    said = [name for name, one in features.items() if one.get("_type") == "Image" and name in types]
    found = said or [name for name, kind in types.items() if kind in ("binary", "large_binary") or "bytes: binary" in kind]
    if len(found) != 1:
        what = f"several columns of images ({listing(found)})" if found else "no column of images"
        raise VPError(
            f"{source!r} has {what}, of the columns {listing(list(types))}: give a file with one column of images, their bytes "
            "as `datasets` writes them."
        )
    return found[0]


def _label_column(there: Sequence[str], features: Mapping[str, Mapping[str, Any]], label: str, source: str) -> str:
    """The column of that name; where nobody named one and it is not there, the only one that is said to hold classes."""
    if label in there:
        return label
    said = [name for name, one in features.items() if one.get("_type") == "ClassLabel"]
    if label == "label" and len(said) == 1:
        return said[0]
    raise VPError(f"{source!r} has no column {label!r}: its columns are {listing(list(there))} (--label COLUMN).")


def _names(feature: Mapping[str, Any] | None) -> tuple[str, ...]:
    names = (feature or {}).get("names")
    return tuple(map(str, names)) if isinstance(names, list | tuple) else ()


def _named(values: Sequence[Any], names: Sequence[str], source: str) -> list[Any]:
    """Labels by their names where the data has them; VPError for a label that is missing or has no name."""
    for row, value in enumerate(values, start=1):
        missing = value is None or value != value or value == -1  # -1 is how `datasets` writes an unknown class
        if missing or (names and not (isinstance(value, int) and 0 <= value < len(names))):
            why = "is missing" if missing else f"has no name ({value!r} of {len(names)} classes)"
            raise VPError(f"The label in row {row} of {source!r} {why}: fill it in, or leave the row out.")
    return [names[value] for value in values] if names else list(values)
