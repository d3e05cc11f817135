"""Pairs of texts in files and as tokens; whatever does not fit is one sentence."""

import json

import pytest
import scribes
import tiny
import torch
from transformers import MBartTokenizer
from transformers.models.mbart.modeling_mbart import shift_tokens_right

from vp_core.asking.batches import make_batches
from vp_core.asking.forward import alone
from vp_core.asking.reading.pairs import read_pairs
from vp_core.asking.sequences.pairs import encode_pairs
from vp_core.asking.sequences.writing import How
from vp_core.ground.errors import VPError

ROWS = [("a film was dull", "dull film"), ("we liked the plot, and more", "good plot"), ("it left", "gone")]


def refused(match, make, *given, **more):
    with pytest.raises(VPError, match=match) as raised:
        make(*given, **more)
    assert "\n" not in str(raised.value) and str(raised.value).endswith(".")


def read(data, split="dev", text=("source",), label="target", **more):
    return read_pairs(data, split, text, label, **more)


@pytest.fixture
def files(tmp_path):
    """The same rows in every kind of file."""
    import pandas as pd

    table = pd.DataFrame(ROWS, columns=["source", "target"])
    made = {kind: tmp_path / f"pairs.{kind}" for kind in ("tsv", "csv", "jsonl", "json", "parquet")}
    scribes.write_table(made["tsv"], *zip(*ROWS, strict=True))
    table.to_csv(made["csv"], index=False)
    made["jsonl"].write_text("".join(json.dumps(row) + "\n" for row in table.to_dict("records")), encoding="utf-8")
    made["json"].write_text(json.dumps(table.to_dict("records")), encoding="utf-8")
    table.to_parquet(made["parquet"])
    return made


@pytest.mark.parametrize("kind", ["tsv", "csv", "jsonl", "json", "parquet"])
def test_every_kind_of_file_says_the_same(files, kind):
    found = read(files[kind])
    assert list(zip(found.sources, found.targets, strict=True)) == ROWS and found.source == str(files[kind])
    assert found.notes == (f"Read 3 rows of {str(files[kind])!r}.",)


def test_a_folder_has_a_file_to_learn_from_and_one_to_score(tmp_path):
    scribes.write_table(tmp_path / "train.tsv", *zip(*ROWS, strict=True))
    scribes.write_table(tmp_path / "test.csv", [], [])
    (tmp_path / "test.csv").write_text("source,target\na,b\nc,d\n", encoding="utf-8")
    assert list(read(tmp_path).sources) == ["a", "c"] and len(read(tmp_path, "train")) == 3
    (tmp_path / "validation.jsonl").write_text('{"source": "e", "target": "f"}\n' * 2, encoding="utf-8")
    assert list(read(tmp_path).sources) == ["e", "e"]  # before test
    scribes.write_table(tmp_path / "train.csv", [], [])
    refused("train.csv and train.tsv", read, tmp_path, "train")
    refused("no dev or validation", read, tmp_path.parent / tmp_path.name / "empty", "dev") if (
        tmp_path / "empty"
    ).mkdir() is None else None


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("source\ttarget\na\tb\tc\nd\te\n", "Row 1 .* has 3 cells and the header 2"),
        ("source\ttarget\na\nd\te\n", "Row 1 .* has 1 cells"),
        ("source\tsummary\na\tb\nc\td\n", "no column 'target'"),
        ("text\ttarget\na\tb\nc\td\n", "no column 'source'"),
        ("source\ttarget\na\tb\nc\t \n", "'target' in row 2 .* is empty"),
        ("source\ttarget\n\tb\nc\td\n", "'source' in row 1 .* is empty"),
        ("source\ttarget\na\tb\n", "1 pairs of texts: .* at least two"),
        ("source\ttarget\n", "0 pairs of texts"),
        ("", "0 pairs of texts"),
        ("source\ttarget\ttarget\na\tb\tc\nd\te\tf\n", "occurs 2 times"),
    ],
)
def test_what_does_not_fit_in_a_table(tmp_path, text, match):
    (tmp_path / "pairs.tsv").write_text(text, encoding="utf-8")
    refused(match, read, tmp_path / "pairs.tsv")


def test_what_is_not_said_or_is_no_text(files, tmp_path):
    refused("Which texts", read, None)
    refused("Which columns", read, files["tsv"], text=())
    refused("Which columns", read, files["tsv"], text=("source", "target"))
    refused("both what is read", read, files["tsv"], label="source")
    refused("not read", read, tmp_path / "pairs.docx")
    (tmp_path / "numbers.jsonl").write_text('{"source": "a", "target": 3}\n' * 2, encoding="utf-8")
    refused("'target' in row 1 .* is no text", read, tmp_path / "numbers.jsonl")
    (tmp_path / "none.jsonl").write_text('{"source": "a", "target": null}\n' * 2, encoding="utf-8")
    refused("'target' in row 1", read, tmp_path / "none.jsonl")
    refused("at least 2", read(files["tsv"]).sample, 1)


def test_a_sample_is_the_same_each_time_and_in_order(files):
    found = read(files["tsv"])
    some = found.sample(2)
    assert some.sources == found.sample(2).sources and len(some) == 2 and found.sample(9) is found
    rows = list(zip(some.sources, some.targets, strict=True))
    assert rows == [row for row in ROWS if row in rows]


@pytest.mark.parametrize("family", scribes.FAMILIES)
def test_targets_are_shifted_as_the_models_own_class_does(family):
    model, tok = tiny.scribe(family)
    data = scribes.pairs(model, tok)
    (batch,) = make_batches(data, range(len(data)), 10**6)
    labels = tok([scribes.TARGETS[i] for i in batch.examples], padding=True, return_tensors="pt")
    expected = model.prepare_decoder_input_ids_from_labels(labels["input_ids"])
    mask = labels["attention_mask"].bool()
    assert torch.equal(batch.inputs["decoder_input_ids"][mask], expected[mask])
    assert torch.equal(batch.inputs["decoder_attention_mask"].bool(), mask)
    assert torch.equal(batch.real_tokens(decoder=True).bool(), mask.flatten())
    assert batch.real_tokens().sum() == sum(map(len, data.ids)) == data.sources.tokens
    assert data.tokens == data.sources.tokens + data.targets.tokens
    assert data.longest == max(map(len, (*data.ids, *data.given)))


def test_a_row_alone_is_without_its_padding_even_where_both_texts_are_as_long():
    model, tok = tiny.scribe("bart")
    data = encode_pairs(model, tok, ["a film", "a film was dull"], ["a film was dull", "a film"], 20)
    (batch,) = make_batches(data, range(2), 10**6)
    assert batch.inputs["input_ids"].shape == batch.inputs["decoder_input_ids"].shape
    for row, i in enumerate(batch.examples):
        own = alone(batch, row)
        assert own["input_ids"].tolist() == [data.ids[i]] and own["decoder_input_ids"].tolist() == [data.given[i]]
        assert own["decoder_attention_mask"].shape == own["decoder_input_ids"].shape


def test_what_is_cut_is_counted_and_ends_as_it_should():
    model, tok = tiny.scribe("bart")
    data = encode_pairs(model, tok, scribes.SOURCES, scribes.TARGETS, 8, 5)
    assert data.truncated == sum(len(ids) > 8 for ids in scribes.pairs(model, tok).ids) > 0
    assert data.targets_cut == sum(len(ids) > 5 for ids in scribes.pairs(model, tok).wanted) > 0
    assert max(map(len, data.ids)) == 8 and max(map(len, data.wanted)) == 5
    assert {ids[-1] for ids in (*data.ids, *data.wanted)} == {tok.eos_token_id}


def test_targets_without_words_and_models_without_a_beginning():
    model, tok = tiny.scribe("t5")
    refused("Target 2 .* has no word", encode_pairs, model, tok, ["a", "b"], ["a", "<pad> <pad>"], 9)
    model.config.decoder_start_token_id = None
    refused("how its targets begin", encode_pairs, model, tok, ["a"], ["b"], 9)
    refused("no decoder", encode_pairs, tiny.classifier("bert"), tok, ["a"], ["b"], 9)


def test_mbarts_codes_of_languages():
    """Targets end in the code of their language, with which the decoder begins, as the model's own function has it."""
    words = ["<s>", "<pad>", "</s>", "<unk>", "▁a", "▁film", "▁un"]
    tok = MBartTokenizer([(word, -float(i)) for i, word in enumerate(words)], src_lang="en_XX", tgt_lang="ro_RO")
    model, _ = tiny.scribe("mbart", vocab_size=len(tok))
    data = encode_pairs(model, tok, ["a film", "film"], ["un film", "un"], 20)
    english, romanian = tok.convert_tokens_to_ids(["en_XX", "ro_RO"])
    assert [ids[-1] for ids in data.ids] == [english] * 2 and [ids[-1] for ids in data.wanted] == [romanian] * 2
    assert [ids[0] for ids in data.given] == [romanian] * 2
    for given, wanted in zip(data.given, data.wanted, strict=True):
        assert given == shift_tokens_right(torch.tensor([wanted]), 1)[0].tolist()
    assert How.of(model, tok, 9) == How(romanian, 9)
    tok(["a film"])
    assert tok(["a film"])["input_ids"][0][-1] == english  # the tokeniser is left as it was
