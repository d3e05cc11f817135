"""GGUF files: the same logits as the model that was written, kept for the next time, and files that are not what they say."""

import importlib.util
import struct
from dataclasses import replace

import gguf
import ggufs
import language
import numpy as np
import pytest
import torch

from vp_core.asking.evaluate import score
from vp_core.asking.tasks import TASKS
from vp_core.asking.words.next_tokens import NextTokens
from vp_core.ground.errors import VPError
from vp_core.loading import gguf as reading
from vp_core.loading.gguf_header import read_header
from vp_core.loading.load import load_any, load_model, what_is_asked

F32, Q8 = gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.Q8_0
TOKENIZER = language.tokenizer()


@pytest.fixture(scope="module")
def model():
    return language.writer("llama", ffn=64)


@pytest.fixture(scope="module")
def file(model, tmp_path_factory):
    return ggufs.write(tmp_path_factory.mktemp("gguf") / "tiny.gguf", model, TOKENIZER)


@pytest.fixture(scope="module")
def loaded(file):
    return load_model(str(file), asked="tokens")


def refused(match, path, asked="tokens"):
    with pytest.raises(VPError, match=match) as raised:
        load_model(str(path), asked)
    assert "\n" not in str(raised.value) and str(raised.value).endswith(".")
    return str(raised.value)


def test_the_logits_are_those_of_the_model_that_was_written(loaded, model):
    ids = torch.randint(5, 390, (3, 11), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found, expected = (one(input_ids=ids).logits for one in (loaded.model, model))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert loaded.layers == 2 and {p.dtype for p in loaded.model.parameters()} == {torch.float32}
    assert not hasattr(loaded.model.config, "quantization_config")


def test_the_tokeniser_is_the_files_own(loaded, model):
    text = language.text(80)
    assert loaded.tokenizer.decode(loaded.tokenizer(text, add_special_tokens=False)["input_ids"]) == text
    assert loaded.tokenizer(text, add_special_tokens=False)["input_ids"] == TOKENIZER(text)["input_ids"]
    questions = [NextTokens.make(one, language.text(200), TASKS["text"], 24) for one in (loaded.tokenizer, TOKENIZER)]
    bits = [score(one, q).others["bits_per_byte"] for one, q in zip((loaded.model, model), questions, strict=True)]
    assert bits[0] == pytest.approx(bits[1], rel=0.05)  # one begins with <s>, the other does not


def test_what_is_quantised_is_what_the_format_says(model, tmp_path):
    stored = {"blk.0.ffn_down.weight": Q8, "blk.1.ffn_down.weight": Q8}
    file = ggufs.write(tmp_path / "some.gguf", model, TOKENIZER, lambda name: stored.get(name, F32))
    found = load_model(str(file), asked="tokens")
    for layer in range(2):
        weight = model.model.layers[layer].mlp.down_proj.weight.detach().numpy()
        expected = gguf.dequantize(gguf.quants.quantize(weight, Q8), Q8)
        read = found.model.model.layers[layer].mlp.down_proj.weight.numpy()
        assert np.array_equal(read, expected) and not np.array_equal(read, weight)
    assert found.notes[0].startswith("The weights of this GGUF file are of") and "read as float32" in found.notes[0]


def test_it_is_kept_by_what_is_in_it(file, loaded, tmp_path, monkeypatch):
    def never(path, folder):
        raise AssertionError(f"{path} is read again")

    monkeypatch.setattr(reading, "_convert", never)
    again = load_model(str(file), asked="tokens")
    assert again.fingerprint == loaded.fingerprint and again.name == str(file) and again.notes == loaded.notes
    other = tmp_path / "renamed.GGUF"
    other.write_bytes(file.read_bytes())
    assert load_model(str(other), asked="tokens").fingerprint == loaded.fingerprint
    changed = bytearray(file.read_bytes())
    changed[-1] ^= 1
    other.write_bytes(changed)
    with pytest.raises(AssertionError, match="read again"):
        load_model(str(other), asked="tokens")


def test_it_is_a_language_model(file):
    assert what_is_asked(str(file)) == "tokens" and load_any(str(file)).layers == 2
    refused("predicts tokens of a text", file, asked="classes")


def test_without_the_package(file, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "gguf" else find(name, *more))
    refused("pip install -r requirements-gguf.txt", file)


def test_other_architectures(model, tmp_path):
    said = refused("of the architecture 'mamba'", ggufs.write(tmp_path / "m.gguf", model, TOKENIZER, architecture="mamba"))
    assert "give one of gemma2, " in said


def test_no_vocabulary(model, tmp_path):
    refused("has no vocabulary of its own", ggufs.write(tmp_path / "m.gguf", model, TOKENIZER, drop=("words",)))


def test_more_than_the_memory(file, monkeypatch):
    monkeypatch.setattr(reading.os, "sysconf", lambda name: 100)
    refused("this machine has", file)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda raw: b"GGML" + raw[4:], "does not begin as one"),
        (lambda raw: b"", "does not begin as one"),
        (lambda raw: raw[:4] + struct.pack("<I", 9) + raw[8:], "version 9"),
        (lambda raw: raw[:8] + struct.pack("<Q", 2**60) + raw[16:], "speaks of 1,152,921,504,606,846,976 tensors"),
        (lambda raw: raw[:16] + struct.pack("<Q", 2**60) + raw[24:], "facts"),
        (lambda raw: raw[:24] + struct.pack("<Q", 2**40) + raw[32:], "a text of 1,099,511,627,776 bytes"),
        (lambda raw: raw[:60], "facts|ends in its header"),
        (lambda raw: raw[:-4000], "lies about"),
        (lambda raw: raw.replace(b"blk.1.attn_q.weight", b"blk.0.attn_q.weight"), "have one name"),
    ],
)
def test_files_that_are_not_what_they_say(file, tmp_path, change, says):
    (tmp_path / "x.gguf").write_bytes(change(file.read_bytes()))
    refused(says, tmp_path / "x.gguf")


def test_sizes_that_the_weights_cannot_have(file, tmp_path):
    raw = file.read_bytes()
    place = raw.index(b"llama.block_count") + len(b"llama.block_count") + 4
    (tmp_path / "x.gguf").write_bytes(raw[:place] + struct.pack("<I", 10**9) + raw[place + 4 :])
    refused("says block_count = 1000000000", tmp_path / "x.gguf")


def test_any_byte_of_the_header_may_be_wrong(file, tmp_path):
    """Never anything but a sentence, and never long: each count is held against the file."""
    raw, rng = file.read_bytes(), np.random.default_rng(0)
    types = reading._types()
    header = read_header(file, types)
    assert header.elements == sum(weight.elements for weight in header.tensors.values()) > 10_000
    end = raw.index(b"blk.1.ffn_norm.weight")
    for place in rng.choice(end, 150, replace=False):
        broken = bytearray(raw)
        broken[place] ^= int(rng.integers(1, 256))
        (tmp_path / "x.gguf").write_bytes(broken)
        try:
            read_header(tmp_path / "x.gguf", types)
        except VPError as error:
            assert "\n" not in str(error)


def test_a_type_that_nobody_knows(file):
    types = {kind: size for kind, size in reading._types().items() if size[0] != "F32"}
    with pytest.raises(VPError, match="of the type 0, which the package gguf does not know"):
        read_header(file, types)


def test_a_header_says_its_facts(file):
    header = read_header(file, reading._types())
    assert header.of_architecture("block_count") == 2 and header.of_architecture("nothing") is None
    assert header.facts["tokenizer.ggml.tokens"] == language.VOCABULARY
    assert header.tensors["blk.0.ffn_down.weight"].shape == (48, 64) and header.bytes == 4 * header.elements
    assert replace(header, tensors={}).elements == 0
