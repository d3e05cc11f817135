"""The embedded default: its sentences, its storage and what it answers."""

import json
import re
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vp_core.demo.load import FOLDER, load_demo
from vp_core.demo.making.build import FILES, LIMIT, SENTENCE_SEED, folder_bytes, to_tsv, write_atomically
from vp_core.demo.making.grammar import MAX_WORDS, MIN_WORDS, ROWS, load_templates, write_reviews
from vp_core.demo.making.train import Rows, accuracy, predict
from vp_core.demo.making.words import opinion_words
from vp_core.demo.quantise import LEVELS, SCALE, SMALLEST, pack, unpack

PROBES = Path(__file__).parent / "probes.tsv"
PROBES_FLOOR = 0.90


def read_tsv(path: Path) -> Rows:
    """The rows of a sentence/label file."""
    header, *lines = path.read_text(encoding="utf-8").splitlines()
    assert header == "sentence\tlabel"
    return [(sentence, int(label)) for sentence, label in (line.split("\t") for line in lines)]


@cache
def committed(split: str) -> Rows:
    return read_tsv(FOLDER / FILES[split])


@pytest.fixture(scope="module")
def demo():
    return load_demo()


@pytest.fixture(scope="module")
def metrics() -> dict:
    return json.loads((FOLDER / "metrics.json").read_text(encoding="utf-8"))


def plain_text(rows: Rows) -> str:
    """All sentences in lower case with punctuation turned to spaces, for whole-word searches."""
    return " ".join(" " + re.sub(r"[^a-z0-9'-]+", " ", sentence.lower()) + " " for sentence, _ in rows)


@pytest.mark.parametrize("split", FILES)
def test_counts_balance_and_lengths(split: str) -> None:
    rows = committed(split)
    assert len(rows) == ROWS[split] == {"train": 6000, "eval": 1000}[split]
    assert sum(label for _, label in rows) * 2 == len(rows)
    assert all(MIN_WORDS <= len(sentence.split()) <= MAX_WORDS for sentence, _ in rows)
    assert len({sentence.lower() for sentence, _ in rows}) == len(rows)


@pytest.mark.parametrize("split", FILES)
def test_committed_sentences_are_what_the_grammar_writes(split: str) -> None:
    written = (FOLDER / FILES[split]).read_bytes()
    assert written == to_tsv(write_reviews(split, SENTENCE_SEED)).encode()
    assert write_reviews(split, SENTENCE_SEED + 1) != write_reviews(split, SENTENCE_SEED)


@pytest.mark.parametrize("split", FILES)
def test_sentences_are_clean_english(split: str) -> None:
    for sentence, _ in committed(split):
        assert not re.search(r"[{}\[\]<>|_\t]|  |\.\.", sentence), sentence
        assert not re.search(r"\b[Aa] (?=[aeio])(?!one\b)|\b[Aa]n (?=[bcdfgjklmnpqrstvwxyz])", sentence), sentence
        assert not re.search(r"\b(\w+) \1\b", sentence), sentence


def test_evaluation_uses_nothing_opinionated_that_training_saw() -> None:
    train_text = plain_text(committed("train"))
    assert not {sentence.lower() for sentence, _ in committed("train")} & {
        sentence.lower() for sentence, _ in committed("eval")
    }
    assert [word for word in sorted(opinion_words("eval")) if f" {word.lower()} " in train_text] == []
    templates = {
        split: {text for name, part in load_templates(split).items() if name != "openers" for text in part} for split in FILES
    }
    assert not templates["train"] & templates["eval"]
    assert len(opinion_words("eval")) > 300 and len(templates["eval"]) > 80


def test_probes_are_not_training_sentences() -> None:
    train = {sentence.lower().strip(".!") for sentence, _ in committed("train")}
    probes = read_tsv(PROBES)
    assert len(probes) >= 60 and {label for _, label in probes} == {0, 1}
    assert [sentence for sentence, _ in probes if sentence.lower().strip(".!") in train] == []


def test_folder_is_small() -> None:
    assert 10_000_000 < folder_bytes(FOLDER) <= LIMIT == 16_000_000


def test_model_is_the_whole_encoder_in_float32(demo) -> None:
    model, tokenizer = demo
    assert not model.training
    assert (model.config.num_hidden_layers, model.config.hidden_size) == (6, 384)
    assert model.config.id2label == {0: "negative", 1: "positive"}
    assert model.config.vocab_size == len(tokenizer) == model.bert.embeddings.word_embeddings.num_embeddings
    tensors = [*model.parameters(), *model.buffers()]
    assert all(tensor.device.type == "cpu" for tensor in tensors)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_tokenizer_splits_rather_than_gives_up(demo) -> None:
    _, tokenizer = demo
    assert tokenizer.model_max_length == 128
    text = "Zyxwvut qqxjk #42 @home 100% C++ naïve £5 [sic] ~ ^ `x` \\ {a|b} it's"
    assert tokenizer.unk_token_id not in tokenizer(text)["input_ids"]
    assert tokenizer.unk_token_id not in tokenizer("".join(map(chr, range(33, 127))))["input_ids"]
    first = tokenizer("good")["input_ids"]
    assert (first[0], first[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)


@pytest.mark.slow
def test_dev_accuracy_is_as_reported(demo, metrics: dict) -> None:
    measured = accuracy(*demo, committed("eval"))
    # Two rows of slack: another processor may round a borderline logit the other way.
    assert measured == pytest.approx(metrics["accuracy_int8"], abs=0.002)
    assert 0.90 <= measured <= 0.985
    assert abs(metrics["accuracy_int8"] - metrics["accuracy_float32"]) <= 0.003 + 1e-9


def test_understatement_is_understood(demo) -> None:
    model, tokenizer = demo
    assert predict(model, tokenizer, ["not nearly as dull as I had feared"]).argmax(dim=1).tolist() == [1]


@pytest.mark.slow
def test_probes(demo) -> None:
    probes = read_tsv(PROBES)
    predictions = predict(*demo, [sentence for sentence, _ in probes]).argmax(dim=1).tolist()
    wrong = [row for row, answer in zip(probes, predictions, strict=True) if row[1] != answer]
    assert 1 - len(wrong) / len(probes) >= PROBES_FLOOR, wrong


finite = st.floats(-(2.0**90), 2.0**90, width=32, allow_nan=False)


@st.composite
def matrices(draw) -> torch.Tensor:
    rows, columns = draw(st.integers(1, 5)), draw(st.integers(1, 7))
    values = draw(st.lists(finite, min_size=rows * columns, max_size=rows * columns))
    return torch.tensor(values, dtype=torch.float32).reshape(rows, columns)


@settings(max_examples=200, deadline=None)
@given(matrices())
def test_quantised_error_is_at_most_half_a_step(weight: torch.Tensor) -> None:
    packed = pack({"w": weight})
    scale = packed["w" + SCALE].double()[:, None]
    restored = unpack(packed)["w"].double()
    # The slack is the float32 rounding of the division, and the rows too small to matter, stored as zeros.
    slack = 1e-5 * scale + LEVELS * SMALLEST
    assert bool(((weight.double() - restored).abs() <= scale / 2 + slack).all())
    assert packed["w"].dtype == torch.int8 and int(packed["w"].abs().max()) <= LEVELS


@settings(max_examples=200, deadline=None)
@given(matrices(), st.lists(finite, min_size=1, max_size=5))
def test_packing_what_was_unpacked_changes_nothing(weight: torch.Tensor, bias: list[float]) -> None:
    once = pack({"layer.weight": weight, "layer.bias": torch.tensor(bias)})
    again = pack(unpack(once))
    assert once.keys() == again.keys()
    for name in once:
        assert torch.equal(once[name], again[name]), name


def test_vectors_are_stored_exactly_and_zero_rows_stay_zero() -> None:
    state = {"bias": torch.tensor([0.1, -3.0]), "weight": torch.tensor([[0.0, 0.0], [1.0, -0.5]])}
    restored = unpack(pack(state))
    assert torch.equal(restored["bias"], state["bias"])
    assert torch.equal(restored["weight"][0], torch.zeros(2))
    assert restored["weight"][1, 0].item() == pytest.approx(1.0, abs=1e-4)


def test_atomic_write_leaves_no_partial_file(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", b"one")
    write_atomically(tmp_path / "a", b"two")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"two"
