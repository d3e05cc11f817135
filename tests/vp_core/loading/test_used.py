"""Weights that are left over: refused by name inside the model, told outside of it, and heads of other tasks stay quiet."""

import shutil

import pytest
import torch
from breaking import configure, refused, reweigh
from safetensors.torch import load_file

from vp_core.loading.load import load_model


@pytest.fixture
def folder(folders, tmp_path):
    return shutil.copytree(folders["bert"], tmp_path / "model")


@pytest.mark.parametrize(
    ("prefix", "says"),
    [
        ("module.", "DataParallel"),
        ("_orig_mod.", r"torch\.compile"),
        ("module._orig_mod.", "DataParallel"),
        ("base_model.model.", "PEFT"),
        ("net.", "wrapper"),
        ("roberta.", "those of a roberta model, not of a bert"),
    ],
)
def test_a_prefix_that_hides_everything(folder, prefix, says):
    reweigh(folder, lambda w: {prefix + key.removeprefix("bert."): value for key, value in w.items()})
    text = refused(folder, says)
    assert f"'{prefix}'" in text or prefix == "roberta."


@pytest.mark.parametrize("prefix", ["module.", "model."])
def test_a_prefix_before_the_models_own(folder, prefix):
    refused(reweigh(folder, lambda w: {prefix + key: value for key, value in w.items()}), f"all begin with '{prefix}'")


INSIDE = {
    "relative positions": {"bert.encoder.layer.0.attention.self.distance_embedding.weight": (79, 8)},
    "a fourth layer": {"bert.encoder.layer.3.output.dense.weight": (32, 56)},
    "named from the base on": {"encoder.layer.3.output.dense.weight": (32, 56)},
    "a scale": {"bert.encoder.layer.0.output.dense.weight_scale": (1,)},
    "unheard of": {"bert.projector.weight": (3, 3)},
}


@pytest.mark.parametrize("case", INSIDE)
def test_weights_inside_the_model(folder, case):
    (key, shape), *_ = INSIDE[case].items()
    text = refused(reweigh(folder, lambda w: w.update({key: torch.ones(shape)})), "One weight inside the checkpoint")
    assert key in text and "config.json that belongs to it" in text


def test_an_adapter_inside_the_model(folder):
    key = "bert.encoder.layer.0.attention.self.query.lora_A.weight"
    refused(reweigh(folder, lambda w: w.update({key: torch.ones(2, 32)})), "merge the adapter")


def test_fewer_layers_in_the_config_than_in_the_file(folder):
    refused(configure(folder, num_hidden_layers=2), r"16 weights inside the checkpoint.*bert\.encoder\.layer\.2\.")


HARMLESS = {
    "bert": [
        "cls.predictions.bias",
        "cls.seq_relationship.weight",
        "bert.embeddings.position_ids",
        "lm_head.weight",
        "qa_outputs.bias",
    ],
    "roberta": ["roberta.pooler.dense.weight", "pooler.dense.bias", "lm_head.bias", "roberta.embeddings.token_type_ids"],
    "distilbert": ["vocab_transform.weight", "vocab_layer_norm.bias", "vocab_projector.weight", "qa_outputs.weight"],
    "electra": ["discriminator_predictions.dense.weight", "generator_lm_head.weight", "electra.embeddings.position_ids"],
    "albert": ["predictions.bias", "sop_classifier.classifier.weight", "albert.embeddings.position_ids"],
    "gpt2": ["transformer.h.0.attn.bias", "transformer.h.1.attn.masked_bias", "lm_head.weight", "h.0.attn.bias"],
    "bart": ["final_logits_bias", "lm_head.weight", "model.encoder.version"],
    "mpnet": ["mpnet.pooler.dense.weight", "mpnet.embeddings.position_ids", "lm_head.bias"],
    "deberta-v2": [
        "mask_predictions.dense.weight",
        "lm_predictions.lm_head.bias",
        "deberta.embeddings.position_embeddings.weight",
    ],
    "t5": ["lm_head.weight"],
}


@pytest.mark.parametrize("family", HARMLESS)
def test_harmless_leftovers_stay_quiet(folders, loaded, tmp_path, family):
    folder = shutil.copytree(folders[family], tmp_path / "model")
    reweigh(folder, lambda w: w.update({key: torch.ones(3) for key in HARMLESS[family]}))
    one = load_model(str(folder))
    assert one.notes == () and one.fingerprint == loaded[family].fingerprint


OLD_NAMES = {
    "bert": lambda key: key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"),
    "gpt2": lambda key: key.removeprefix("transformer."),
    "bart": lambda key: key.replace("model.shared", "model.decoder.embed_tokens"),
    "t5": lambda key: key.replace("shared", "encoder.embed_tokens"),
}


@pytest.mark.parametrize("family", OLD_NAMES)
def test_names_of_old_checkpoints_and_of_tied_weights(folders, loaded, tmp_path, family):
    """As transformers 3 wrote them, and as converters kept one of several names."""
    folder = shutil.copytree(folders[family], tmp_path / "model")
    before = set(load_file(folder / "model.safetensors"))
    reweigh(folder, lambda w: {OLD_NAMES[family](key): value for key, value in w.items()})
    assert before != set(load_file(folder / "model.safetensors"))
    one = load_model(str(folder))
    assert one.notes == () and one.fingerprint == loaded[family].fingerprint


def test_other_leftovers_are_told(folder, loaded):
    one = load_model(str(reweigh(folder, lambda w: w.update({"second_head.weight": torch.ones(3), "extra": torch.ones(1)}))))
    assert one.notes == ("The checkpoint has 2 weights that the model does not use (such as extra).",)
    assert one.fingerprint == loaded["bert"].fingerprint


@pytest.mark.parametrize("family", ["bert", "roberta", "gpt2", "bart"])
def test_another_number_of_labels(folders, tmp_path, family):
    folder = shutil.copytree(folders[family], tmp_path / "model")
    names = dict(enumerate("abc"))
    configure(folder, id2label=names, label2id={name: i for i, name in names.items()})
    refused(folder, "has 2 outputs.*config.json names 3 labels.*id2label")


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.float8_e4m3fn])
def test_quantised_weights_without_a_word_in_the_config(folder, dtype):
    reweigh(folder, lambda w: {k: v.to(dtype) if k.endswith("query.weight") else v for k, v in w.items()})
    refused(folder, r"bert\.encoder\.layer\.0\.attention\.self\.query\.weight of .* is quantised \(stored as ")


def test_another_size(folder):
    reweigh(folder, lambda w: w.update({"bert.encoder.layer.1.output.dense.weight": torch.ones(32, 40)}))
    refused(folder, r"bert\.encoder\.layer\.1\.output\.dense\.weight.*\(32, 40\).*\(32, 56\)")
