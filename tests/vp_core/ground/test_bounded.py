"""Files that lie about their size: one sentence, at once, and nothing is made by what they say."""

import json
import os
import tracemalloc

import pytest
import torch
from safetensors.torch import load_file, save_file

from vp_core.ground.bounded import CONFIG_LIMIT, Weight, check_file, check_sizes, read_header, read_json
from vp_core.ground.errors import VPError


def refused(call, *given, match=""):
    tracemalloc.start()
    with pytest.raises(VPError, match=match) as caught:
        call(*given)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 2**20
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


@pytest.fixture
def whole(tmp_path):
    path = tmp_path / "model.safetensors"
    tensors = {
        "a": torch.ones(3, 4),
        "b": torch.zeros(5, dtype=torch.int64),
        "none": torch.zeros(0, 7),
        "one": torch.tensor(2.0),
    }
    save_file(tensors | {"half": torch.ones(2, dtype=torch.bfloat16)}, path, metadata={"format": "pt"})
    return path


def test_a_header_as_the_library_reads_it(whole):
    found = read_header(whole)
    assert {name: weight.shape for name, weight in found.items()} == {n: tuple(t.shape) for n, t in load_file(whole).items()}
    assert found["half"] == Weight("BF16", (2,)) and found["none"].elements == 0 and found["one"].elements == 1


def rewrite(path, change, tail=None):
    """The file with its header changed, and its weights, or `tail` in their place."""
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    text = json.dumps(change(header) or header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + (raw[8 + length :] if tail is None else tail))


LIES = {
    "a shape too large": lambda h: h["a"].update(shape=[10**9, 10**9]),
    "a type of other width": lambda h: h["a"].update(dtype="F64"),
    "an unknown type": lambda h: h["a"].update(dtype="F1"),
    "a type that is none": lambda h: h["a"].update(dtype=["F32"]),
    "a negative side": lambda h: h["a"].update(shape=[-3, -4]),
    "a side that is no number": lambda h: h["a"].update(shape=["3", 4]),
    "a thousand sides": lambda h: h["a"].update(shape=[2**40] * 1000),
    "beyond the end": lambda h: h["a"].update(data_offsets=[10**12, 10**12 + 48]),
    "overlapping": lambda h: h["a"].update(data_offsets=h["b"]["data_offsets"]),
    "three offsets": lambda h: h["a"].update(data_offsets=[0, 24, 48]),
    "no offsets": lambda h: h["a"].pop("data_offsets") and None,
    "a gap": lambda h: h.pop("a") and None,
    "a list": lambda _: ["a"],
    "a text": lambda h: h | {"a": "F32"},
}


@pytest.mark.parametrize("lie", LIES)
def test_headers_that_lie(whole, lie):
    rewrite(whole, LIES[lie])
    refused(read_header, whole, match="could not be loaded.*broken or incomplete")


@pytest.mark.parametrize("length", [2**63, 2**40, 10**8])
def test_a_header_longer_than_the_file(whole, length):
    whole.write_bytes(length.to_bytes(8, "little") + whole.read_bytes()[8:])
    refused(read_header, whole, match="its header says")


def test_a_header_as_long_as_the_file_says_but_too_long(whole):
    with whole.open("wb") as file:
        file.write((50 * 2**20).to_bytes(8, "little"))
        file.truncate(60 * 2**20)  # nothing is written: a hole
    refused(read_header, whole, match="its header has")


@pytest.mark.parametrize("tail", [b"", b"x" * 10_000])
def test_weights_cut_off_or_with_more_behind_them(whole, tail):
    rewrite(whole, lambda _: None, tail)
    refused(read_header, whole, match="bytes of weights")


def test_json_too_large_is_not_read(tmp_path):
    path = tmp_path / "config.json"
    with path.open("wb") as file:
        file.write(b"{")
        file.truncate(2**30)
    refused(read_json, path, match="1,024 MiB")
    path.write_text(json.dumps({"a": " " * (CONFIG_LIMIT - 100)}))
    assert len(read_json(path)["a"]) == CONFIG_LIMIT - 100


@pytest.mark.parametrize("text", ["", "[1]", "{", "[" * 100_000, '{"a": ' * 100_000, "\udcff", '{"a": ' + "9" * 5000 + "}"])
def test_what_is_no_json_object(tmp_path, text):
    path = tmp_path / "config.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(VPError, match="no JSON"):
        read_json(path)


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "nowhere").symlink_to(tmp_path / "not there")
    (tmp_path / "folder").mkdir()
    for name, says in (("pipe", "regular"), ("zero", "regular"), ("folder", "regular"), ("nowhere", "No such file")):
        for read in (check_file, read_json, read_header):
            refused(read, tmp_path / name, match=says)


def test_a_link_is_followed(whole, tmp_path):
    (tmp_path / "link.safetensors").symlink_to(whole)
    assert read_header(tmp_path / "link.safetensors") == read_header(whole)


def test_a_git_lfs_pointer(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize 133466304\n")
    for read in (read_header, read_json, check_file):
        refused(read, path, match="git lfs pull")


ABSURD = [
    *({key: 10**10} for key in ("hidden_size", "num_hidden_layers", "num_labels", "n_layer", "vocab_size", "decoder_layers")),
    *({"d_model": 2**62}, {"max_position_embeddings": 10**4000}, {"num_hidden_layers": 1001}),
    {"num_attention_heads": 0},
    {"num_hidden_groups": 5, "inner_group_num": 5},
]


@pytest.mark.parametrize("lie", ABSURD, ids="".join)
def test_sizes_that_no_weight_has(lie):
    weights = [Weight("F32", (100, 50)), Weight("F32", (50,))]
    check_sizes("x", {"hidden_size": 50, "vocab_size": 100, "num_hidden_layers": 12, "initializer_range": 0.02}, weights)
    refused(check_sizes, "x", lie, weights, match=next(iter(lie)) if len(lie) == 1 else "groups")
