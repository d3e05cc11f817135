"""A folder of folders, a class each: which split is which, and which files are pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vp_core.asking.outputs import listing
from vp_core.asking.pictures.stored import Files, Stored
from vp_core.ground.errors import VPError

SCORED = ("test", "validation", "valid", "val", "dev", "eval")
MEASURED = ("train", "training")
"""What splits are called, the first choice first: what is scored, and what statistics are taken on and trained on."""
ENDINGS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm")
MOST_FILES = 2_000_000


@dataclass(frozen=True, eq=False)
class Split:
    """Pictures with a label each, as it was read (a name or a number), and the `names` of all classes where the data says them.

    `source` says where they are from; `notes` what was left out.
    """

    stored: Stored
    values: Sequence[Any]
    names: tuple[str, ...]
    source: str
    notes: tuple[str, ...] = ()


def choose(there: Sequence[str], source: str) -> tuple[str, str]:
    """(the split that is scored, the one that is measured) of those that are there; the same where there is one.

    >>> choose(["train", "validation"], "x"), choose(["test"], "x")
    (('validation', 'train'), ('test', 'test'))
    """
    by_plain = {one.lower(): one for one in there}
    scored = next((by_plain[one] for one in SCORED if one in by_plain), None)
    measured = next((by_plain[one] for one in MEASURED if one in by_plain), None)
    if scored is None and measured is None:
        raise VPError(f"{source!r} has the splits {listing(list(there))}: call them train and test.")
    return scored or measured or "", measured or scored or ""


def read_folders(folder: Path) -> tuple[Split, Split]:
    """(what is scored, what is measured) of a folder with train and test in it, or with the classes themselves, for both.

    Raises VPError for a folder without class folders, or without images.
    """
    inside = _folders(folder)
    splits = {path.name.lower(): path for path in inside if path.name.lower() in (*SCORED, *MEASURED)}
    if not inside:
        raise VPError(
            f"There are no folders in {str(folder)!r}: put the images of each class into a folder of its name (such as "
            "cats/1.png and dogs/2.png)."
        )
    if not splits:
        both = _read(folder)
        return both, both
    if others := [path.name for path in inside if path not in splits.values() and _folders_or_images(path)]:
        raise VPError(
            f"{str(folder)!r} holds {listing(sorted(path.name for path in splits.values()))} and beside it "
            f"{listing(others)}: leave splits alone in their folder, or classes."
        )
    scored, measured = choose(list(splits), str(folder))
    first = _read(splits[scored])
    second = first if scored == measured else _read(splits[measured])
    names = tuple(sorted({*first.names, *second.names}))
    same = first is second
    first = Split(first.stored, first.values, names, first.source, first.notes)
    return first, first if same else Split(second.stored, second.values, names, second.source, second.notes)


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__")))


def _folders_or_images(folder: Path) -> bool:
    return any(path.is_dir() or path.suffix.lower() in ENDINGS for path in folder.iterdir())


def _read(folder: Path) -> Split:
    """The pictures of one split, class by class."""
    classes, source = _folders(folder), str(folder)
    loose = [path.name for path in folder.iterdir() if path.suffix.lower() in ENDINGS]
    if loose and not classes:
        raise VPError(f"The {len(loose):,} images in {source!r} have no classes: put those of each into a folder of its name.")
    paths: list[Path] = []
    values: list[str] = []
    others: list[str] = []
    empty: list[str] = []
    for one in classes:
        found = sorted(path for path in one.rglob("*") if path.is_file() and not path.name.startswith("."))
        pictures = [path for path in found if path.suffix.lower() in ENDINGS]
        others += [f"{one.name}/{path.name}" for path in found if path.suffix.lower() not in ENDINGS]
        empty += [one.name] if not pictures else []
        paths += pictures
        values += [one.name] * len(pictures)
        if len(paths) > MOST_FILES:
            raise VPError(f"{source!r} has more than {MOST_FILES:,} images: take a part of it.")
    if not paths:
        raise VPError(f"There are no images in the folders of {source!r}: they end in {', '.join(ENDINGS[:5])} and the like.")
    others += loose
    left = f"{len(others):,} files of {source!r} are left out, by their ending no images or in no class" if others else ""
    notes = (
        *((f"{left} (such as {others[0]}).",) if others else ()),
        *((f"Folders of {source!r} without images: {listing(empty)}.",) if empty else ()),
    )
    return Split(Files(paths), values, tuple(one.name for one in classes), source, notes)
