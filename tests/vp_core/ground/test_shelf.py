"""What was measured, on disk: read to the bit, and never a wrong number."""

import os

import pytest
import torch

from vp_core.ground import kept
from vp_core.ground.kept import NOWHERE, Shelf
from vp_core.ground.work import work

KEY = ("the order of units", "model", {"criterion": "surgeon", "types": ("query",)})


def numbers(value=1 / 3):
    return {"a": torch.tensor([value, -0.0], dtype=torch.float64), "b": torch.arange(6).view(2, 3), "c": torch.tensor(7)}


def same(found, made):
    return set(found) == set(made) and all(
        torch.equal(found[name], made[name]) and found[name].dtype == made[name].dtype for name in made
    )


def fail():
    raise AssertionError("measured again")


def test_to_the_bit_also_by_another_who_asks(tmp_path):
    assert same(Shelf(tmp_path / "new").once(KEY, numbers), numbers())
    found = Shelf(tmp_path / "new").once(KEY, fail)
    assert same(found, numbers()) and found["a"].signbit().tolist() == [False, True]
    assert Shelf(tmp_path / "new").get((*KEY, "more")) is None


def test_nothing_is_kept_unless_a_place_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    NOWHERE.put(KEY, numbers())
    assert NOWHERE.get(KEY) is None and same(NOWHERE.once(KEY, numbers), numbers()) and not list(tmp_path.iterdir())


def broken(path):
    path.write_bytes(path.read_bytes()[:-3])


def one_bit(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def foreign(path):
    path.write_text("no safetensors")


def of_another_key(path):
    shelf = Shelf(path.parent)
    shelf.put(("something else",), numbers(0.5))
    shelf._path(("something else",)).replace(path)


@pytest.mark.parametrize("harm", [broken, one_bit, foreign, of_another_key])
def test_what_is_not_what_was_written_is_told_and_made_anew(tmp_path, harm):
    heard, shelf = [], Shelf(tmp_path)
    shelf.put(KEY, numbers())
    harm(shelf._path(KEY))
    with work(hear=heard.append):
        assert same(shelf.once(KEY, lambda: numbers(0.25)), numbers(0.25))
    assert heard == ["what was kept of the order of units cannot be read, so it is measured again"]
    assert same(Shelf(tmp_path).once(KEY, fail), numbers(0.25))


def test_another_version_of_the_method_reads_nothing_of_the_last(tmp_path, monkeypatch):
    Shelf(tmp_path).put(KEY, numbers())
    monkeypatch.setattr(kept, "KEPT", "measurements of another version")
    assert Shelf(tmp_path).get(KEY) is None


def test_a_disk_that_cannot_be_written_to_is_told_and_nothing_fails(tmp_path):
    (tmp_path / "file").write_text("no folder")
    heard = []
    with work(hear=heard.append):
        assert same(Shelf(tmp_path / "file").once(KEY, numbers), numbers())
    assert heard == ["the order of units could not be kept on disk, so it is measured again the next time"]


def test_what_was_not_used_for_longest_goes_first(tmp_path):
    shelf = Shelf(tmp_path)
    for age, name in enumerate("210"):
        shelf.put((name,), numbers())
        os.utime(shelf._path((name,)), (age, age))
    shelf.most = 3 * shelf._path(("0",)).stat().st_size + 100
    assert shelf.get(("2",)) is not None  # used now, and oldest before
    shelf.put(("3",), numbers())
    assert [name for name in "0123" if shelf.get((name,)) is not None] == ["0", "2", "3"]
