"""A run's folder: whatever is in it is whole; a full disk and foreign things are one sentence each."""

import errno
import json

import pytest
import tiny
import torch
from safetensors import SafetensorError

from vp_core.ground import store
from vp_core.ground.errors import VPError
from vp_core.model.blocks import Block
from vp_core.squeezing.blocks_off import without
from vp_core.squeezing.folder import load_pruned
from vp_core.training.run_folder import FORMAT, LOG, WEIGHTS, Checkpoint, Log, read_log

SETTINGS = {"mode": "joint", "k": (1, 1), "sn": None, "model": "m"}


def one_sentence(raised):
    text = str(raised.value)
    assert text.endswith(".") and "\n" not in text
    return text


def test_rows_come_back(tmp_path):
    log = Log(tmp_path / "run", SETTINGS)
    assert log.rows == [] and (tmp_path / "run").is_dir()
    log.add({"iteration": 0, "value": 0.1 + 0.2, "went": []})
    log.add({"iteration": 1, "value": 1 / 3, "went": ["0.head.1"]})
    again = Log(tmp_path / "run", {**SETTINGS, "k": [1, 1]})
    assert again.rows == log.rows == read_log(tmp_path / "run")["rows"] == read_log(tmp_path / "run" / LOG)["rows"]
    assert json.loads((tmp_path / "run" / LOG).read_text())["format"] == FORMAT


def test_who_does_not_write_writes_nothing(tmp_path):
    log = Log(tmp_path / "run", SETTINGS, write=False)
    log.add({"iteration": 0})
    Checkpoint(tmp_path / "run", write=False).save(torch.nn.Linear(2, 2), {})
    assert not (tmp_path / "run").exists() and log.rows == [{"iteration": 0}]


def test_folders_that_are_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "diary.txt").write_text("x")
    Log(tmp_path / "run", SETTINGS).add({"iteration": 0})
    for folder, settings, says in (
        (tmp_path / "file", SETTINGS, "is a file"),
        (tmp_path / "foreign", SETTINGS, "not empty"),
        (tmp_path / "none" / "run", SETTINGS, "is not there"),
        (tmp_path / "run", SETTINGS | {"sn": 5.0}, "another sn"),
        (tmp_path / "run", SETTINGS | {"model": "n"}, "another model"),
    ):
        with pytest.raises(VPError, match=says) as raised:
            Log(folder, settings)
        one_sentence(raised)
    assert {p.name for p in tmp_path.iterdir()} == {"file", "foreign", "run"}


def test_what_a_killed_writer_left_is_no_obstacle(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / f".{LOG}.abc123").write_text("{")
    assert Log(tmp_path / "run", SETTINGS).rows == []


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"format": "another 7", "settings": {}, "rows": []}', "\x00"])
def test_a_broken_log(tmp_path, content):
    (tmp_path / LOG).write_text(content)
    with pytest.raises(VPError) as raised:
        read_log(tmp_path)
    one_sentence(raised)


def test_no_log(tmp_path):
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(VPError, match="no run") as raised:
            read_log(path)
        one_sentence(raised)


@pytest.mark.parametrize("family", ["bert", "gpt2", "albert", "bart"])
def test_checkpoints_have_every_bit(tmp_path, family):
    model, other = tiny.transformer(family), tiny.transformer(family, seed=1)
    checkpoint = Checkpoint(tmp_path)
    assert checkpoint.load(other) is None
    state = {"gone": ["0.head.1"], "epsilon": {"head": 0.1 + 0.2}, "rows": 3}
    checkpoint.save(model, state)
    assert tiny.sha(other) != tiny.sha(model)
    places = {n: p.data_ptr() for n, p in other.named_parameters()}
    assert checkpoint.load(other) == state and tiny.sha(other) == tiny.sha(model)
    assert {n: p.data_ptr() for n, p in other.named_parameters()} == places
    checkpoint.save(other, {"rows": 4})
    assert checkpoint.load(model) == {"rows": 4} and [p.name for p in tmp_path.iterdir()] == [WEIGHTS]


def test_a_checkpoint_of_another_model(tmp_path):
    Checkpoint(tmp_path).save(tiny.transformer("bert"), {})
    other = tiny.transformer("bert", ffn=60)
    before = tiny.sha(other)
    with pytest.raises(VPError, match="another model") as raised:
        Checkpoint(tmp_path).load(other)
    assert one_sentence(raised) and tiny.sha(other) == before
    (tmp_path / WEIGHTS).write_bytes((tmp_path / WEIGHTS).read_bytes()[:1000])
    with pytest.raises(VPError, match="cannot be read") as raised:
        Checkpoint(tmp_path).load(other)
    one_sentence(raised)


FULL = (OSError(errno.ENOSPC, "No space left on device"), SafetensorError("I/O error: No space left on device (os error 28)"))


@pytest.mark.parametrize("error", FULL, ids=["python", "safetensors"])
def test_a_full_disk(tmp_path, monkeypatch, error):
    """One sentence, and what was there before stays whole: checkpoint, model, log."""
    model = tiny.transformer("bert", dtype=torch.float32)
    log, checkpoint = Log(tmp_path / "run", SETTINGS), Checkpoint(tmp_path / "run")
    log.add({"iteration": 0})
    checkpoint.save(model, {"rows": 1})
    log.keep("model", without(model, [Block(0, "ffn")]), None, {})
    before = {p.relative_to(tmp_path): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}

    def full(_tensors, path, **_others):
        with open(path, "wb") as file:  # noqa: PTH123 (half of it is written)
            file.write(b"half")
        raise error

    monkeypatch.setattr(store, "save_file", full)
    for refused in (
        lambda: checkpoint.save(tiny.transformer("bert", seed=1, dtype=torch.float32), {"rows": 2}),
        lambda: log.keep("model", without(model, [Block(1, "ffn")]), None, {}),
    ):
        with pytest.raises(VPError, match="could not be written") as raised:
            refused()
        assert "No space left" in one_sentence(raised)
    monkeypatch.undo()
    assert {p.relative_to(tmp_path): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    assert Checkpoint(tmp_path / "run").load(model) == {"rows": 1}
    assert load_pruned(tmp_path / "run" / "model").squeezed.cost.share_removed > 0
