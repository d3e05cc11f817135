"""The tokeniser: missing, another model's, with numbers or special tokens that the model does not have."""

import json
import shutil

import pytest
import tiny
import torch
from breaking import configure, refused
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from vp_core.ground.errors import VPError
from vp_core.loading.load import load_model
from vp_core.loading.readers.tokeniser import check_words
from vp_core.opening.study import open_study
from vp_core.recipes import Recipe
from vp_core.squeezing.folder import save_pruned

FILES = ("tokenizer.json", "tokenizer_config.json")


@pytest.fixture
def copy(folders, tmp_path):
    return lambda family="bert": shutil.copytree(folders[family], tmp_path / family)


@pytest.mark.parametrize("gone", [FILES, FILES[:1]])
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_no_tokeniser(copy, family, gone):
    folder = copy(family)
    for file in gone:
        (folder / file).unlink()
    refused(folder, "tokeniser of .* is missing or incomplete .*put its files beside the weights")


@pytest.mark.parametrize("gone", [FILES, FILES[:1]])
def test_no_tokeniser_beside_a_squeezed_model(studies, tmp_path, gone):
    study = studies["bert"]
    folder = save_pruned(study.squeezed(Recipe(), 0.3), tmp_path / "small", study.loaded.tokenizer)
    assert load_model(str(folder)).notes == ()
    for file in gone:
        (folder / file).unlink()
    refused(folder, "tokeniser of .* is missing or incomplete .*put its files beside the weights")


@pytest.mark.parametrize("content", ["{}", "{", "[1]"])
def test_a_broken_tokeniser_is_not_called_a_broken_model(copy, content):
    folder = copy()
    (folder / FILES[0]).write_text(content)
    refused(folder, r"tokeniser of .* is missing or incomplete \(.*\): put its files beside the weights, tokenizer\.json")


@pytest.mark.parametrize("family", ["bert", "distilbert", "gpt2"])
def test_a_tokeniser_from_its_older_files(copy, family):
    """Without tokenizer.json, from vocab.txt or vocab.json and merges.txt: the same tokens as the library makes of those."""
    folder = copy(family)
    about = json.loads((folder / "tokenizer.json").read_text())["model"]
    for file in FILES:
        (folder / file).unlink()
    if family == "gpt2":
        (folder / "vocab.json").write_text(json.dumps(about["vocab"]))
        (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *(" ".join(pair) for pair in about["merges"])]))
    else:
        (folder / "vocab.txt").write_text("\n".join(about["vocab"]))
    one, before = load_model(str(folder)), tiny.tokenizer(family)
    assert one.tokenizer.get_vocab() == before.get_vocab()
    same = one.tokenizer(" film was great", add_special_tokens=False)  # the older files do not say that a space goes first
    assert same["input_ids"] == before("film was great", add_special_tokens=False)["input_ids"]


def made(words, **special):
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=words[0]))
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token=words[0], pad_token=words[1], **special)


def test_far_fewer_words_than_embeddings():
    model = tiny.build("bert", "ForSequenceClassification", vocab_size=6000, **tiny.sizes("bert", 8, 8, 1))
    whole, half, few = (made([f"w{i}" for i in range(size)]) for size in (4500, 3000, 599))
    assert check_words("x", model, whole) == ()
    (note,) = check_words("x", model, half)
    assert note.startswith("The tokeniser knows 3,000 tokens, the model has embeddings for 6,000")
    with pytest.raises(VPError, match="knows 597 words where the model has embeddings for 6,000"):
        check_words("x", model, few)


def test_words_beyond_the_embedding(copy, folders):
    folder = copy("bert")
    for file in FILES:
        shutil.copy(folders["bert"] / file, folder)
    tok = json.loads((folder / "tokenizer.json").read_text())
    tok["model"]["vocab"] |= {"faraway": 9_000}
    (folder / "tokenizer.json").write_text(json.dumps(tok))
    refused(folder, "makes numbers up to 9,000, the model has embeddings for 420")


@pytest.mark.parametrize("in_config", [None, 420, 0])
def test_gpt2_with_an_added_padding_token_and_no_embedding_for_it(tmp_path, data, in_config):
    """Answers are those of each text by itself, without padding."""
    model, tok = tiny.make("gpt2")
    model.config.vocab_size = 394
    model.resize_token_embeddings(394)
    model.config.pad_token_id = in_config if in_config != 420 else 394
    tok.add_special_tokens({"pad_token": "[PAD]"})
    assert tok.pad_token_id == 394
    study = open_study(str(tiny.save(tmp_path / "model", model, tok)), "sst2", data)
    assert any("no embedding for its tokeniser's [PAD]: texts are padded with <|endoftext|>" in note for note in study.notes)
    texts = tiny.sentences(7, seed=3)
    found, _ = study.predict(study.model, [(text,) for text in texts])
    model.config.pad_token_id = None
    expected = tiny.answers(model, tiny.tokenizer("gpt2"), texts).softmax(dim=1)
    torch.testing.assert_close(torch.from_numpy(found).float(), expected, rtol=1e-4, atol=1e-5)


def test_added_tokens_without_an_embedding_are_told(tmp_path):
    model, tok = tiny.make("bert")
    tok.add_tokens([f"<extra{i}>" for i in range(420)])
    (note,) = load_model(str(tiny.save(tmp_path / "model", model, tok))).notes
    assert note.startswith("The model has no embedding for the added tokens of its tokeniser (<extra361>")


def test_a_bart_whose_tokeniser_does_not_end_texts(copy, folders):
    folder = copy("bart")
    for file in FILES:
        shutil.copy(folders["bert"] / file, folder)
    refused(folder, r"answers at the token 2.*ends texts with \['\[SEP\]'\]")


def test_another_first_and_last_token_is_told(copy):
    (note,) = load_model(str(configure(copy("roberta"), bos_token_id=7))).notes
    assert "bos_token_id 7 for 0" in note


@pytest.mark.parametrize("length", ["many", -5, 0, 2, [40]])
def test_a_length_that_is_none(copy, length):
    refused(
        configure(copy(), "tokenizer_config.json", model_max_length=length),
        "cuts texts to .*model_max_length|could not be loaded",
    )


def test_a_length_with_a_point(copy):
    one = load_model(str(configure(copy(), "tokenizer_config.json", model_max_length=20.0)))
    assert (one.max_length, type(one.max_length)) == (20, int)


def test_code_that_a_tokeniser_brings_is_not_run(copy):
    folder = configure(copy(), "tokenizer_config.json", auto_map={"AutoTokenizer": ["code.Tokenizer", None]})
    (folder / "code.py").write_text("raise SystemExit('it was run')")
    refused(folder, "tokeniser of .* brings code of its own")


def test_the_class_of_another_models_tokeniser_is_told(copy):
    one = load_model(str(configure(copy(), "tokenizer_config.json", tokenizer_class="RobertaTokenizer")))
    assert any(
        "does not read texts as its tokenizer.json does, since tokenizer_config.json disagrees" in note for note in one.notes
    )


def test_settings_lost_with_tokenizer_config_are_told(copy):
    folder = copy("roberta")  # its tokenizer.json sets a space before the first word, which the class takes away
    (folder / "tokenizer_config.json").unlink()
    assert any("since tokenizer_config.json is missing" in note for note in load_model(str(folder)).notes)
