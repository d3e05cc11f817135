"""Tiny random models of every family, saved and opened by what they are asked: what docs/support.md is made with."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import marking  # noqa: E402
import pictures  # noqa: E402
import scribes  # noqa: E402
import taggers  # noqa: E402
import tiny  # noqa: E402

from vp_core.model.families import FAMILIES, families_for  # noqa: E402
from vp_core.opening.study import open_study  # noqa: E402
from vp_core.study import Study  # noqa: E402


def family_study(family: str, place: Path) -> Study:
    """A tiny classifier of a family, from the folder that it was saved to, asked 24 word salads."""
    folder = tiny.save(place / family, *tiny.make(family))
    for split, seed in (("dev", 1), ("train", 2)):
        rows = [(text, i % 2) for i, text in enumerate(tiny.sentences(24, seed))]
        tiny.write_tsv(data_of(place) / "sst2" / f"{split}.tsv", ("sentence", "label"), rows)
    return open_study(str(folder), "sst2", data_of(place))


def writer_study(family: str, place: Path) -> Study:
    """A tiny language model of a family, asked the tokens of a text of word salads."""
    folder = tiny.save(place / family, *tiny.writer(family))
    data_of(place).mkdir()
    for part, seed in (("test", 1), ("train", 2)):
        (data_of(place) / f"{part}.txt").write_text("\n".join(tiny.sentences(24, seed)) + "\n", encoding="utf-8")
    return open_study(str(folder), "text", data_of(place), max_length=24, calibration=12)


def image_study(family: str, place: Path) -> Study:
    """A tiny image classifier of a family, asked 14 pictures of noise."""
    folder = pictures.save(place / family, family)
    for split, seed in (("test", 1), ("train", 2)):
        pictures.write_folders(data_of(place) / split, [i % len(pictures.NAMES) for i in range(14)], seed=seed)
    return open_study(str(folder), "images", data_of(place))


def sequence_study(family: str, place: Path) -> Study:
    """A tiny model of a family that writes about a text, asked 14 pairs of word salads."""
    folder = tiny.save(place / family, *scribes.scribe(family))
    for split in ("dev", "train"):
        scribes.write_table(data_of(place) / f"{split}.tsv")
    return open_study(str(folder), "sequences", data_of(place), text=["source"], label="target", max_length=24)


def span_study(family: str, place: Path) -> Study:
    """A tiny model of a family that marks answers, asked 6 questions about word salads."""
    folder = marking.save(place / family, family)
    return open_study(str(folder), "squad", marking.folder(data_of(place), 6), max_length=marking.LENGTH)


def tag_study(family: str, place: Path) -> Study:
    """A tiny model of a family that tags words, asked 30 word salads."""
    folder, data = taggers.folders(place, family)
    return open_study(str(folder), "tags", data)


def families_of(kind: str) -> list[str]:
    """The families with models that put this out (`vp_core.model.families.families_for`), in the order of FAMILIES."""
    return [family for family in FAMILIES if family in families_for(kind)]


def data_of(place: Path) -> Path:
    """Where a study's data lie."""
    return place / "data"


STUDIES: Mapping[str, Callable[[str, Path], Study]] = {
    "classes": family_study, "next tokens": writer_study, "images": image_study, "target tokens": sequence_study,
    "spans": span_study, "tags": tag_study,
}  # fmt: skip
"""By what a model puts out (`vp_core.model.families.families_for`), a tiny study of a family."""
