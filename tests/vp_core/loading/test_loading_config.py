"""config.json: what cannot be computed as it was trained is refused, what only says how is mended."""

import json
import shutil

import pytest
import tiny
import torch
from breaking import configure, refused, reweigh
from transformers import AutoConfig, BertConfig

from vp_core.asking.batches import encode
from vp_core.loading.config import check_dropped, mend
from vp_core.loading.load import load_model
from vp_core.model.families import longest_input
from vp_core.opening.study import open_study
from vp_core.recipes import Recipe
from vp_core.squeezing.folder import save_pruned


@pytest.fixture
def folder(folders, tmp_path):
    return shutil.copytree(folders["bert"], tmp_path / "model")


REFUSED = {
    "bitsandbytes": (
        {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}},
        r"quantised \(bitsandbytes\)",
    ),
    "GPTQ": ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, r"quantised \(gptq\)"),
    "AWQ": ({"quantization_config": {"quant_method": "awq"}}, r"quantised \(awq\)"),
    "compressed": ({"quantization_config": {"quant_method": "compressed-tensors"}}, r"quantised \(compressed-tensors\)"),
    "fp8, which loads": ({"quantization_config": {"quant_method": "fp8"}}, r"quantised \(fp8\)"),
    "quantised, nobody says how": ({"quantization_config": {"load_in_4bit": True}}, "are quantised: give the model"),
    "a type nobody knows": ({"model_type": "mine"}, "model type 'mine' is not supported: use a text classifier of one of"),
    "a type that is no word": ({"model_type": 3}, "model type '3' is not supported: use"),
    "no such function": ({"hidden_act": "foo"}, r"config\.json of .* cannot be used \(no 'foo'\): take the config"),
    "heads that do not divide": ({"num_attention_heads": 5}, r"cannot be used \(.*\): take the config\.json that belongs"),
    "a size in letters": ({"num_hidden_layers": "two"}, r"cannot be used \(.*num_hidden_layers.*\): take the config\.json"),
    "no size": ({"hidden_size": -4}, r"cannot be used \(.*negative.*\): take the config\.json"),
    "more layers": ({"num_hidden_layers": 4}, r"lacks 16 of.*layer\.3\..*: take the config\.json that belongs"),
    "no type": ({"model_type": None}, r'no model_type: add it, "model_type": "bert"'),
    "no type nor class": ({"model_type": None, "architectures": None}, 'no model_type: add it, such as "model_type": "bert"'),
    "remote code": ({"auto_map": {"AutoModelForSequenceClassification": "code.Model"}}, "code of its own"),
    "a type of its own": ({"model_type": "mine", "auto_map": {"AutoConfig": "code.Config"}}, "code of its own"),
    "pruned heads": ({"pruned_heads": {"0": [0, 1]}}, "prune_heads of transformers 4"),
    "weights elsewhere": ({"transformers_weights": "../x.safetensors"}, "transformers_weights"),
    "relative positions": ({"position_embedding_type": "relative_key"}, "position_embedding_type = 'relative_key'.*ignores"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(folder, case):
    settings, says = REFUSED[case]
    refused(configure(folder, **settings), says)


def test_a_setting_that_the_class_knows_is_not_dropped():
    raw = {"position_embedding_type": "relative_key", "normalize_before": False}

    class Knows(BertConfig):
        def to_dict(self):
            return super().to_dict() | {"position_embedding_type": "absolute"}

    check_dropped("x", raw, Knows())


MENDED = {
    "flash": {"_attn_implementation": "flash_attention_2"},
    "flash, other name": {"attn_implementation": "flash_attention_2"},
    "flex": {"attn_implementation": "flex_attention"},
    "tuples": {"return_dict": False},
    "chunks": {"chunk_size_feed_forward": 2},
    "absolute": {"position_embedding_type": "absolute"},
    "all states": {"output_hidden_states": True, "output_attentions": True},
    "half": {"torch_dtype": "float16"},
}


@pytest.mark.parametrize("case", MENDED)
def test_what_says_only_how_has_the_same_answers(folder, loaded, case):
    one, texts = load_model(str(configure(folder, **MENDED[case]))), tiny.sentences(3)
    expected = tiny.answers(loaded["bert"].model, loaded["bert"].tokenizer, texts)
    assert torch.equal(tiny.answers(one.model, one.tokenizer, texts), expected) and one.notes == ()
    assert one.model.config._attn_implementation == "sdpa"


def test_tuples_and_chunks_score_as_without(folder, data):
    expected = open_study(str(folder), "sst2", data).score(Recipe(), 0.3)
    study = open_study(str(configure(folder, return_dict=False, chunk_size_feed_forward=3)), "sst2", data)
    assert study.score(Recipe(), 0.3).value == expected.value


def test_a_squeezed_model_in_chunks_answers_as_without(studies, tmp_path):
    one, texts = studies["bert"].loaded, tiny.sentences(5)
    small = studies["bert"].squeezed(Recipe(), 0.3)
    folder = configure(save_pruned(small, tmp_path / "small", one.tokenizer), chunk_size_feed_forward=2, return_dict=False)
    found = load_model(str(folder))
    assert torch.equal(tiny.answers(found.model, found.tokenizer, texts), tiny.answers(small, one.tokenizer, texts))


def test_mending_leaves_eager_alone():
    config = BertConfig(attn_implementation="eager", return_dict=False)
    mend(config)
    assert config._attn_implementation == "eager" and config.return_dict


@pytest.mark.parametrize("pad", [0, 1, 5])
def test_the_longest_input_where_positions_are_counted_from_padding(folders, tmp_path, pad):
    """The plain model is the oracle: so many tokens go in, one more does not."""
    folder = configure(shutil.copytree(folders["roberta"], tmp_path / "model"), pad_token_id=pad)
    config = AutoConfig.from_pretrained(folder)
    most = longest_input(config)
    assert most == tiny.POSITIONS - pad - 1
    model = tiny.build("roberta", "ForSequenceClassification", **config.to_dict())
    with torch.no_grad():
        model(torch.full((1, most), 9))
        with pytest.raises((IndexError, RuntimeError), match="out of"):
            model(torch.full((1, most + 1), 9))


def test_a_roberta_that_pads_with_another_number(folders, tmp_path):
    folder = configure(shutil.copytree(folders["roberta"], tmp_path / "model"), pad_token_id=5)
    refused(folder, r"pad_token_id = 5, from which the model counts positions, but its tokeniser pads with 1 \(<pad>\)")
    names = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    other = next(token for token, i in names.items() if i == 5)
    one = load_model(str(configure(folder, "tokenizer_config.json", pad_token=other, model_max_length=None)))
    assert one.max_length == tiny.POSITIONS - 6
    long = encode(one.tokenizer, [(" ".join(tiny.WORDS * 3),)], one.max_length)
    with torch.no_grad():
        one.model(torch.tensor(long.ids))


def test_no_positions_left(folders, tmp_path):
    folder = configure(shutil.copytree(folders["roberta"], tmp_path / "model"), max_position_embeddings=2)
    reweigh(folder, lambda w: w.update({k: v[:2] for k, v in w.items() if "position_embeddings" in k}))
    one = load_model(str(folder))
    with pytest.raises(ValueError, match="counts them from 2"):
        _ = one.max_length
