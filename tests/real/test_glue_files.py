"""GLUE's files as they are: every text is what stands between two tabs, quotes and all."""

import os
from pathlib import Path

import pytest

from vp_core.asking.examples import open_examples

pytestmark = pytest.mark.slow
SHARED = Path(os.environ.get("VP_SHARED") or Path(__file__).parents[3] / "shared")
ROWS = {"sst2": (67349, 872), "mrpc": (3668, 408), "stsb": (5749, 1500)}


@pytest.mark.parametrize("task", ROWS)
@pytest.mark.parametrize("split", ["train", "dev"])
def test_texts_are_a_plain_split(task, split):
    path = SHARED / "data" / task / f"{split}.tsv"
    if not path.is_file():
        pytest.skip(f"VP_SHARED={str(SHARED)!r} holds no data/{task}/{split}.tsv")
    header, *rows = (line.split(b"\t") for line in path.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines())
    found = open_examples(task, split, SHARED / "data")
    places = [header.index(column.encode()) for column in found.task.text]
    assert found.texts == [tuple(row[at].decode() for at in places) for row in rows]
    assert len(found) == ROWS[task][split == "dev"] and found.notes == ()
    own = open_examples(str(path), split, None, found.task.text, found.task.label)
    assert own.texts == found.texts and own.labels.tolist() == found.labels.tolist()
