"""Tagged sentences as people bring them, and one sentence for everything that is none."""

import gzip
import json

import pytest
import taggers

from vp_core.asking.reading import columns
from vp_core.asking.reading.columns import open_sentences, read_sentences
from vp_core.ground.errors import VPError


def put(path, text):
    path.write_text(text, encoding="utf-8", newline="")
    return path


@pytest.mark.parametrize("between", [" ", "\t", "  "])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_columns_word_first_tag_last(between, end, tmp_path):
    rows = ["EU NNP B-ORG", "rejects VBZ O", "", "", "-DOCSTART- -X- O", "", "Peter\u00a0B. NNP B-PER", "Blackburn NNP I-PER"]
    text = "\ufeff" + end.join(row.replace(" ", between) for row in rows)
    found = read_sentences(put(tmp_path / "a.conll", text))
    assert found.words == [("EU", "rejects"), ("Peter\u00a0B.", "Blackburn")]  # no file ends in a blank line by duty
    assert found.tags == [("B-ORG", "O"), ("B-PER", "I-PER")]
    assert found.kinds() == ("B-ORG", "O", "B-PER", "I-PER") and not found.numbered
    assert found.notes == (f"1 lines of {str(tmp_path / 'a.conll')!r} that begin documents (-DOCSTART-) were left out.",)


def test_words_with_spaces_between_tabs(tmp_path):
    found = read_sentences(put(tmp_path / "a.tsv", "New York\tB-LOC\nis\tO\n"))
    assert found.words == [("New York", "is")]


def test_a_packed_file(tmp_path):
    with gzip.open(tmp_path / "train.conll.gz", "wt", encoding="utf-8") as file:
        file.write("a O\n\nb O\n")
    assert len(open_sentences(tmp_path, "train")) == 2


@pytest.mark.parametrize(("keys", "named"), [(("tokens", "ner_tags"), False), (("words", "tags"), False), (("w", "t"), True)])
def test_json_lines(keys, named, tmp_path):
    rows = [(["Ann", "sees", "Rome"], ["B-PER", "O", "B-LOC"]), (["Bob"], ["B-PER"])]
    text = "\n".join(json.dumps({"id": 1, **dict(zip(keys, row, strict=True))}) for row in rows)
    found = read_sentences(put(tmp_path / "a.jsonl", text), *(keys if named else ()))
    assert found.words == [("Ann", "sees", "Rome"), ("Bob",)] and found.tags[0] == ("B-PER", "O", "B-LOC")


def test_numbers(tmp_path):
    found = read_sentences(put(tmp_path / "a.jsonl", '{"tokens": ["a", "b"], "tags": [0, 3]}\n'))
    assert found.numbered and found.tags == [(0, 3)]


def test_the_files_of_a_folder(tmp_path):
    for name, words in (("eng.train", "a"), ("valid.txt", "b")):
        put(tmp_path / name, f"{words} O\n")
    assert open_sentences(tmp_path, "train").words == [("a",)]
    assert open_sentences(tmp_path, "dev").words == [("b",)]
    put(tmp_path / "test.conll", "c O\n")
    assert open_sentences(tmp_path, "dev").words == [("c",)]
    assert open_sentences(tmp_path / "eng.train", "dev").words == [("a",)]  # a single file is both


def test_a_sample_is_a_part_in_the_old_order(tmp_path):
    found = read_sentences(taggers.write(tmp_path / "a.txt", taggers.tagged(50)))
    some = found.sample(7)
    places = [found.words.index(words) for words in some.words]
    assert len(some) == 7 and places == sorted(places) and some.words == found.sample(7).words
    assert all(some.tags[i] == found.tags[at] for i, at in enumerate(places)) and found.sample(50) is found


WRONG = {
    "": "no sentences",
    "\n\n \n": "no sentences",
    "-DOCSTART- O\n\n": "no sentences",
    "a O\nb X O\n": "Line 2 of .* has 3 columns and the lines before it 2",
    "a\nb\n": "Line 1 of .* single column",
    "a O\n\nb\n": "Line 3 of .* single column",
    "a\tO\n\tO\n": "Line 2 of .* no word",
    "a\tO\nb\t\n": "Line 2 of .* single column|Line 2 of .* no tag",
    "1 The DET\n2 dog NOUN\n\n1 It PRON\n": "numbers its words",
    "a O\n\0 O\n": "NUL",
}


@pytest.mark.parametrize("text", WRONG)
def test_columns_that_are_none(text, tmp_path):
    with pytest.raises(VPError, match=WRONG[text]) as told:
        read_sentences(put(tmp_path / "a.txt", text))
    assert "\n" not in str(told.value) and str(told.value).endswith(".")


WRONG_JSON = {
    '{"tokens": ["a"], "tags": ["O", "O"]}': "1 words and 2 tags",
    '{"tokens": [], "tags": []}': "no words",
    '{"tokens": ["a"]}': "no tags or ner_tags",
    '{"text": "a", "tags": ["O"]}': "no tokens or words: its keys are text, tags",
    '{"tokens": "a", "tags": ["O"]}': "no list",
    '{"tokens": [1], "tags": ["O"]}': "word that is no text",
    '{"tokens": [""], "tags": ["O"]}': "word that is no text",
    '{"tokens": ["a"], "tags": [null]}': "neither a name nor a whole number",
    '{"tokens": ["a"], "tags": [true]}': "neither a name nor a whole number",
    '{"tokens": ["a"], "tags": [0.5]}': "neither a name nor a whole number",
    '{"tokens": ["a", "b"], "tags": ["O", 1]}': "names in some places and numbers in others",
    '{"tokens": ["a"], "tokens": ["b"], "tags": ["O"]}': "occurs twice",
    "[1]": "no object",
    "{": "cannot be read",
}


@pytest.mark.parametrize("text", WRONG_JSON)
def test_records_that_are_none(text, tmp_path):
    with pytest.raises(VPError, match=WRONG_JSON[text]) as told:
        read_sentences(put(tmp_path / "a.jsonl", text + "\n"))
    assert "\n" not in str(told.value) and str(told.value).endswith(".")


def test_a_file_without_blank_lines(tmp_path, monkeypatch):
    monkeypatch.setattr(columns, "MOST_WORDS", 5)
    with pytest.raises(VPError, match=r"line 6 .* more than 5 words: put a blank line"):
        read_sentences(put(tmp_path / "a.txt", "a O\n" * 6))
    with pytest.raises(VPError, match=r"Sentence 1 .* 6 words"):
        read_sentences(put(tmp_path / "a.jsonl", json.dumps({"tokens": ["a"] * 6, "tags": ["O"] * 6})))


def test_what_there_is_no_file_for(tmp_path):
    for place, what in ((None, "Which tagged words"), (tmp_path, "no train.txt"), (tmp_path / "x.txt", "There is no file")):
        with pytest.raises(VPError, match=what):
            open_sentences(place, "train")
    with pytest.raises(VPError, match="Parquet"):
        read_sentences(put(tmp_path / "a.parquet", "x"))
    with pytest.raises(VPError, match="have no names"):
        read_sentences(put(tmp_path / "a.txt", "a O\n"), "tokens")
