"""What a name or a folder is, and what to give instead: a sentence for each kind that people bring."""

import json
import os
import shutil

import pytest
from breaking import configure, refused
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from vp_core.ground.errors import VPError
from vp_core.ground.store import is_pruned
from vp_core.loading.folder import fetch, read_weights, shards
from vp_core.loading.load import load_model
from vp_core.loading.sentences import as_one_sentence

WEIGHTS = "model.safetensors"
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize 133466304\n"


@pytest.fixture
def folder(folders, tmp_path):
    return shutil.copytree(folders["bert"], tmp_path / "model")


def test_a_trainers_output(folders, tmp_path):
    for step in (5, 500, 1000, 90):
        shutil.copytree(folders["bert"], tmp_path / f"checkpoint-{step}")
    text = refused(tmp_path, "give the model inside")
    assert text.endswith(f"'{tmp_path / 'checkpoint-1000'}'.")
    load_model(str(tmp_path / "checkpoint-1000"))


@pytest.fixture
def cache(folders, tmp_path):
    """A folder in the layout of the Hub's cache: a snapshot of links to blobs."""
    home = tmp_path / "models--some--model"
    snapshot = home / "snapshots" / ("c0ffee" * 6 + "c0ff")
    snapshot.mkdir(parents=True)
    (home / "blobs").mkdir()
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(snapshot.name)
    for number, path in enumerate(sorted(folders["bert"].iterdir())):
        shutil.copy(path, home / "blobs" / str(number))
        (snapshot / path.name).symlink_to(f"../../blobs/{number}")
    return snapshot


def test_the_hubs_cache(cache, loaded):
    assert f"'{cache}'" in refused(cache.parents[1], "give the model inside")
    assert load_model(str(cache)).fingerprint == loaded["bert"].fingerprint


def test_an_id_that_was_downloaded_before(cache, loaded, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache.parents[2]))
    assert fetch("some/model") == cache
    assert load_model("some/model").fingerprint == loaded["bert"].fingerprint
    (cache / "tokenizer.json").unlink()
    (cache / "tokenizer_config.json").unlink()
    refused("some/model", r"tokeniser of 'some/model' is missing.*knows 0 words")


def test_an_adapter(folder):
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": "some/base"}))
    refused(folder, r"adapter \(PEFT, LoRA\).*'some/base'.*merge_and_unload")
    (folder / "config.json").unlink()
    (folder / WEIGHTS).rename(folder / "adapter_model.safetensors")
    refused(folder, r"adapter \(PEFT, LoRA\).*'some/base'.*merge_and_unload")


def test_a_variant_of_the_weights(folder):
    (folder / WEIGHTS).rename(folder / "model.fp16.safetensors")
    refused(folder, r"variant.*copy that file to model\.safetensors")


@pytest.mark.parametrize("file", [WEIGHTS, "config.json", "tokenizer.json"])
def test_a_git_lfs_pointer(folder, file):
    (folder / file).write_text(POINTER)
    refused(folder, f"{file}' is a Git-LFS pointer.*git lfs pull")


@pytest.mark.parametrize(
    ("file", "kind"), [("tf_model.h5", "TensorFlow"), ("model-q4.gguf", "GGUF"), ("pytorch_model.bin", "pickled")]
)
def test_weights_of_another_kind(folder, file, kind):
    (folder / WEIGHTS).rename(folder / file)
    (folder / "training_args.bin").write_bytes(b"the Trainer's, no weights")
    refused(folder, f"no safetensors weights, only {kind}.*save_pretrained")


def test_a_name_no_file_can_have():
    for name in ("a" * 5000, "a/" * 3000, "x\0y", "\ud800"):
        assert len(refused(name, "There is no model")) < 400
        assert not is_pruned(name)


def test_a_file_in_the_folder(folder):
    refused(folder / WEIGHTS, "is a file: give the folder it is in")


def test_what_a_library_raises_is_one_plain_sentence():
    with pytest.raises(VPError) as caught, as_one_sentence("some/model", False):
        raise RuntimeError("\x1b[1m\n\x1b[31mno way.\x1b[0m\nsecond line")
    assert str(caught.value).startswith("The model 'some/model' could not be loaded (no way): check the id")


def shard(folder, names):
    """The folder's weights in two files of these names, with an index."""
    weights = load_file(folder / WEIGHTS)
    keys = sorted(weights)
    parts = {names[0]: keys[::2], names[1]: keys[1::2]}
    for name, part in parts.items():
        save_file({key: weights[key] for key in part}, folder / name, metadata={"format": "pt"})
    (folder / WEIGHTS).unlink()
    index = {"metadata": {}, "weight_map": {key: name for name, part in parts.items() for key in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def test_weights_in_several_files(folder, loaded):
    whole = read_weights(folder)
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    shard(folder, names)
    assert shards(folder) == names and read_weights(folder) == whole
    assert load_model(str(folder)).fingerprint == loaded["bert"].fingerprint
    (folder / names[1]).unlink()
    refused(folder, f"{names[1]}' cannot be read")


@pytest.mark.parametrize("place", ["../b.safetensors", "/tmp/b.safetensors", "b.bin", "..", ""])
def test_an_index_that_leads_elsewhere(folder, place):
    (folder / WEIGHTS).unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": place}}))
    refused(folder, "names no safetensors files beside it")


@pytest.mark.parametrize("index", [{}, {"weight_map": ["a"]}, {"weight_map": {}}])
def test_an_index_of_nothing(folder, index):
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(VPError, match="beside it"):
        shards(folder)


@pytest.mark.parametrize("file", ["config.json", WEIGHTS, "tokenizer.json"])
def test_a_pipe_does_not_block(folder, file):
    (folder / file).unlink()
    os.mkfifo(folder / file)
    refused(folder, "no regular file")


def test_files_of_absurd_size(folder):
    with (folder / "tokenizer.json").open("ab") as file:
        file.truncate(300 * 2**20)
    refused(folder, r"tokenizer\.json' has 300 MiB, where 200 are the most")
    with (folder / "config.json").open("ab") as file:
        file.truncate(2**30)
    refused(folder, r"config\.json' has 1,024 MiB")


def test_a_config_that_describes_a_giant(folder):
    refused(configure(folder, hidden_size=40_000), "hidden_size = 40000|describes a model of")
    refused(configure(folder, hidden_size=10**9), "hidden_size = 1000000000")
    refused(configure(folder, hidden_size=32, num_hidden_layers=10**9), "num_hidden_layers = 1000000000")
    refused(configure(folder, num_hidden_layers=3, intermediate_size=30_000), "describes a model of")
