"""Texts that the tokeniser or the model does not know: told above a tenth, refused where nothing is left or nothing fits."""

import shutil

import pytest
import tiny
from breaking import configure, reweigh

from vp_core.asking.batches import encode
from vp_core.ground.errors import VPError
from vp_core.loading.readers.texts import check_known, check_numbers, check_segments, check_texts
from vp_core.opening.study import open_study


def pairs(tok, texts):
    return texts, encode(tok, texts, 30)


@pytest.mark.parametrize(
    ("unknown", "known", "says"),
    [(0, 10, ""), (1, 9, ""), (2, 9, "18% of the words"), (9, 1, "90% of the words"), (19, 1, None)],
)
def test_the_share_of_unknown_words(unknown, known, says):
    """Counted by hand: so many words of each kind, over two texts."""
    tok = tiny.tokenizer("bert")
    texts, data = pairs(tok, [(" ".join(["film"] * known),), (" ".join(["xyzzy"] * unknown),)])
    if says is None:
        with pytest.raises(VPError, match=r"95% of the words in the texts are unknown.*'xyzzy'.*this language"):
            check_known(tok, texts, data)
    else:
        found = check_known(tok, texts, data)
        assert len(found) == bool(says) and all(says in note and "'xyzzy'" in note for note in found)


def test_of_a_pair_the_second_text_is_looked_at_too():
    tok = tiny.tokenizer("bert")
    (note,) = check_known(tok, *pairs(tok, [("the film", "the zorkmid")]))
    assert "25% of the words" in note and "'zorkmid'" in note


@pytest.mark.parametrize("family", ["gpt2", "roberta", "bart"])
def test_bytes_spell_every_word(family):
    tok = tiny.tokenizer(family)
    assert check_known(tok, *pairs(tok, [("全然 xyzzy <|endoftext|>",)])) == ()


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        ([("film",), (" ",), ("",)], "2 of 3 texts are empty."),
        ([("film", ""), ("a", "plot")], "1 of 2 texts have an empty part."),
    ],
)
def test_empty_texts_are_told(loaded, texts, says):
    one = loaded["bert"]
    assert check_texts(one.model, one.tokenizer, *pairs(one.tokenizer, texts)) == (says,)


def test_no_words_at_all():
    tok = tiny.tokenizer("bert")
    assert check_known(tok, *pairs(tok, [("",), (" ",)])) == ()


def test_a_study_tells(folders, tmp_path):
    rows = [("a great film", 0), ("xyzzy film", 1), ("dull", 0), ("great", 1)] * 3
    for split in ("dev", "train"):
        tiny.write_tsv(tmp_path / "sst2" / f"{split}.tsv", ("sentence", "label"), rows)
    study = open_study(str(folders["bert"]), "sst2", tmp_path)
    assert "14% of the words in the texts are unknown to the tokeniser (such as 'xyzzy')." in study.notes


@pytest.mark.parametrize(("side", "lost"), [("left", "beginning"), ("right", "end")])
def test_what_long_texts_lose(loaded, side, lost):
    tok = tiny.tokenizer("bert")
    tok.truncation_side = side
    texts = [("great " + "dull " * 9,), ("a film",)]
    data = encode(tok, texts, 6)
    assert tok.convert_tokens_to_ids("great") in data.ids[0] or side == "left"
    (note,) = check_texts(loaded["bert"].model, tok, texts, data)
    assert note == f"1 of 2 texts were longer than 6 tokens and lost their {lost}."


def test_segments_that_the_model_does_not_have(folders, loaded, tmp_path):
    folder = configure(shutil.copytree(folders["bert"], tmp_path / "model"), type_vocab_size=1)
    reweigh(folder, lambda w: w.update({k: v[:1] for k, v in w.items() if "token_type" in k}))
    rows = [("a great film", "a dull film", i % 2) for i in range(8)]
    for name in ("dev", "train"):
        tiny.write_tsv(tmp_path / f"{name}.tsv", ("one", "two", "label"), rows)
    with pytest.raises(VPError, match=r"segments up to number 1, the model knows 1 .*type_vocab_size"):
        open_study(str(folder), str(tmp_path / "dev.tsv"), text=("one", "two"))
    open_study(str(folder), str(tmp_path / "dev.tsv"), text=("one",))
    one = loaded["bert"]
    check_segments(one.model, encode(one.tokenizer, [("a", "film")], 30))


def test_a_token_without_an_embedding(loaded):
    tok = tiny.tokenizer("bert")
    tok.add_tokens([f"<extra{i}>" for i in range(420)])
    model = loaded["bert"].model
    texts, data = pairs(tok, [("a film",), ("a <extra400> film",)])
    with pytest.raises(VPError, match=r"Text 2 holds '<extra400>'"):
        check_texts(model, tok, texts, data)
    check_numbers(model, tok, encode(tok, [("a film",), ("a <extra360> film",)], 30))
