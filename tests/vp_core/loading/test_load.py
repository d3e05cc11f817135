"""Loading: what loads, and one sentence for each checkpoint that must not."""

import json
import pickle
import shutil

import pytest
import tiny
import torch
from breaking import refused
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForMaskedLM, XLNetConfig, XLNetForSequenceClassification

from vp_core.asking.batches import encode, make_batches
from vp_core.ground.chosen import check_types
from vp_core.ground.errors import VPError
from vp_core.loading.load import EMBEDDED, load_model
from vp_core.model.projections import weight_of
from vp_core.opening.study import open_study
from vp_core.recipes import Recipe


@pytest.fixture
def broken(folders, tmp_path):
    """A copy of the tiny BERT's folder to break."""
    return shutil.copytree(folders["bert"], tmp_path / "model")


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_loads_as_it_was_saved(loaded, family):
    one, (original, tok) = loaded[family], tiny.make(family)
    assert one.layers == (1 if family == "albert" else tiny.LAYERS) and not one.model.training
    assert {p.dtype for p in one.model.parameters()} == {torch.float32}
    texts = tiny.sentences(4)
    assert torch.equal(tiny.answers(one.model, one.tokenizer, texts), tiny.answers(original, tok, texts))
    assert [p.name for p in one.projections] == tiny.names(family)
    for p in one.projections:
        weight = weight_of(one.model, p)
        assert (p.d_out, p.d_in) == tuple(weight.shape)
        inner = {"ffn_in": (tiny.FFN, tiny.HIDDEN), "ffn_out": (tiny.HIDDEN, tiny.FFN)}
        assert tuple(weight.shape) == inner.get(p.type, (tiny.HIDDEN, tiny.HIDDEN))
        heads = tiny.HIDDEN // tiny.HEADS if p.type in ("query", "key", "value") else None
        assert p.head_width == heads
        assert (p.consumer is not None) == (p.type in ("value", "ffn_in"))


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_weights_are_in_memory_and_tied_as_they_were(loaded, family):
    """Not in the mapped file, where products round otherwise."""
    model, (original, _) = loaded[family].model, tiny.make(family)
    assert tiny.in_memory(model)
    parts = [dict(one.named_parameters(remove_duplicate=False)) for one in (model, original)]
    tied = [{name: min(n for n, p in part.items() if p is part[name]) for name in part} for part in parts]
    assert tied[0] == tied[1] and (family != "bart" or len(set(tied[0].values())) < len(tied[0]))
    if family == "bart":
        places = {p.data_ptr() for name, p in parts[0].items() if "embed_tokens" in name or "shared" in name}
        assert len(places) == 1


@pytest.mark.parametrize("name", EMBEDDED)
def test_weights_of_the_demo_are_in_memory(name):
    assert tiny.in_memory(load_model(name, EMBEDDED[name]).model)


def test_half_precision_checkpoints_load_in_float32(broken):
    weights = load_file(broken / "model.safetensors")
    save_file({k: v.half() for k, v in weights.items()}, broken / "model.safetensors", metadata={"format": "pt"})
    found = load_model(str(broken)).model
    assert {p.dtype for p in found.parameters()} == {torch.float32} and tiny.in_memory(found)


def test_fingerprint_is_of_the_weights(loaded, broken):
    assert load_model(str(broken)).fingerprint == loaded["bert"].fingerprint
    weights = load_file(broken / "model.safetensors")
    weights["classifier.bias"][0] += 1e-3
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    assert load_model(str(broken)).fingerprint != loaded["bert"].fingerprint


@pytest.mark.parametrize("name", ["../../x", "a/../b", "/nowhere/at/all", "a b", "a/b/c", "-x", "x\ny", "https://a.b/c"])
def test_names_that_are_no_ids(name):
    with pytest.raises(VPError, match="There is no model"):
        load_model(name)


@pytest.mark.parametrize("name", ["no-such-model-here", "nobody-at-all/no-such-model"])
def test_unknown_ids(name):
    assert name in refused(name, "could not be loaded|not on this machine")


def test_folder_without_config(broken):
    (broken / "config.json").unlink()
    refused(broken, "no config.json")


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (open, (str(self.target), "w"))


@pytest.mark.parametrize("extra", [False, True])
def test_pickled_weights_are_not_unpickled(broken, tmp_path, extra):
    (broken / "model.safetensors").unlink()
    with (broken / "pytorch_model.bin").open("wb") as file:
        pickle.dump(Bomb(tmp_path / "bang"), file)
    if extra:  # some other safetensors file beside it must not open the door
        save_file({"x": torch.zeros(1)}, broken / "other.safetensors")
    text = refused(broken, "safetensors")
    assert extra or "pickled" in text
    assert not (tmp_path / "bang").exists()
    pickle.loads((broken / "pytorch_model.bin").read_bytes()).close()  # the bomb is live
    assert (tmp_path / "bang").exists()


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99])
def test_truncated_safetensors(broken, share):
    path = broken / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    refused(broken, "could not be loaded.*broken or incomplete")


@pytest.mark.parametrize("lacking", ["classifier.weight", "bert.encoder.layer.1.output.dense.bias"])
def test_missing_layer(broken, lacking):
    weights = load_file(broken / "model.safetensors")
    del weights[lacking]
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    refused(broken, f"lacks 1 of the model's weights.*{lacking}")


def test_an_encoder_without_a_classifier(broken):
    model = BertForMaskedLM(BertConfig(vocab_size=420, hidden_size=32, num_hidden_layers=1, num_attention_heads=4))
    model.save_pretrained(broken)
    refused(broken, "BertForMaskedLM. predicts masked tokens of a text|broken")


def test_a_layer_of_another_size(broken):
    weights = load_file(broken / "model.safetensors")
    weights["classifier.weight"] = torch.zeros(5, 32)
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    refused(broken, "classifier|broken")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_not_finite(broken, value):
    weights = load_file(broken / "model.safetensors")
    weights["bert.encoder.layer.0.intermediate.dense.weight"][3, 1] = value
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    refused(broken, "bert.encoder.layer.0.intermediate.dense.weight.*NaN or infinite")


def test_unsupported_family(tmp_path):
    made = XLNetForSequenceClassification(XLNetConfig(vocab_size=300, d_model=16, n_layer=1, n_head=2, d_inner=8))
    tiny.save(tmp_path, made, tiny.tokenizer("bert"))
    text = refused(tmp_path, "'xlnet' is not supported")
    assert "(its scores have matrices of their own for positions)" in text and all(family in text for family in tiny.FAMILIES)
    assert "vit" not in text.split(", or an image")[0] and "llama" not in text.split(", a language model of one of ")[0]


def test_a_family_without_text_classifiers(tmp_path):
    tiny.save(tmp_path, tiny.transformer("vit", dtype=torch.float32), tiny.tokenizer("bert"))
    assert "ForSequenceClassification" in refused(tmp_path, "classifies images, and is no text classifier")


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_language_model_is_no_classifier(tmp_path, family):
    tiny.save(tmp_path, tiny.transformer(family, dtype=torch.float32), tiny.tokenizer("gpt2"))
    assert "(--task text --data FILE)" in refused(tmp_path, "predicts tokens of a text, and is no text classifier")


@pytest.mark.parametrize("in_config", [None, 0, 7, -1])
@pytest.mark.parametrize("in_tokenizer", [None, "<|endoftext|>", "[PAD]"])
def test_gpt2_agrees_on_padding(tmp_path, in_config, in_tokenizer):
    """Its classifier finds the last word by the configuration's padding token, which checkpoints seldom have."""
    (made, tok), texts = tiny.make("gpt2"), tiny.sentences(12)
    made.config.pad_token_id = in_config
    if in_tokenizer:
        tok.add_special_tokens({"pad_token": in_tokenizer})
    tiny.save(tmp_path, made, tok)
    one = load_model(str(tmp_path))
    assert one.model.config.pad_token_id == one.tokenizer.pad_token_id is not None
    (batch,) = make_batches(encode(one.tokenizer, [(t,) for t in texts], 40), range(12), 10**6)
    with torch.no_grad():
        found = one.model(**batch.inputs).logits
    torch.testing.assert_close(found, tiny.answers(made, tiny.tokenizer("gpt2"), texts)[batch.examples], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_text_without_words(folders, tmp_path, family):
    for split in ("dev", "train"):
        rows = [("a great film", 0), ("", 1), ("dull", 0), ("  ", 1)] * 3
        tiny.write_tsv(tmp_path / "sst2" / f"{split}.tsv", ("sentence", "label"), rows)
    study = open_study(str(folders[family]), "sst2", tmp_path)
    assert study.score(Recipe(), 0.2).n == 12
    outputs, _ = study.predict(study.model, [("",)])
    assert outputs.sum() == pytest.approx(1)


def test_config_of_no_known_kind(broken):
    (broken / "config.json").write_text(json.dumps({"model_type": "flying-circus"}))
    refused(broken, "model type 'flying-circus' is not supported: use a text classifier of one of")
    (broken / "config.json").write_text("{ half a file")
    refused(broken, "could not be loaded")


def test_labels_numbered_from_one_do_not_crash(broken, data):
    config = json.loads((broken / "config.json").read_text())
    config |= {"id2label": {"1": "negative", "2": "positive"}, "label2id": {"negative": 1, "positive": 2}}
    (broken / "config.json").write_text(json.dumps(config))
    with pytest.raises(VPError):
        open_study(str(broken), "sst2", data)


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("own_limit", [True, False])
def test_ten_thousand_words_are_cut_and_counted(folders, tmp_path, family, own_limit):
    """Also where the tokeniser does not say how long a text may be: then the model's positions do."""
    folder = shutil.copytree(folders[family], tmp_path / "model")
    if not own_limit:
        about = json.loads((folder / "tokenizer_config.json").read_text())
        del about["model_max_length"]
        (folder / "tokenizer_config.json").write_text(json.dumps(about))
    long = " ".join(tiny.WORDS[i % len(tiny.WORDS)] for i in range(10_000))
    rows = [(long, 0), ("a great film", 1), ("dull", 0), (long + " end", 1)]
    for split in ("dev", "train"):
        tiny.write_tsv(tmp_path / "sst2" / f"{split}.tsv", ("sentence", "label"), rows)
    study = open_study(str(folder), "sst2", tmp_path)
    assert study.notes and study.notes[0].startswith("2 of 4 texts were longer than ")
    *_, last = study.running_scores(Recipe(), 0.2)
    assert last.n == 4
    _, cut = study.predict(study.model, [(long,)])
    assert cut and not study.predict(study.model, [("a film",)])[1]


def test_types():
    assert check_types(("ffn_out", "query", "query")) == ("query", "ffn_out")
    with pytest.raises(VPError, match=r"'embeddings'.*query, key, value"):
        check_types(("query", "embeddings"))
    with pytest.raises(VPError, match="No projection type"):
        check_types(())
