"""Weights alone: any family, with a head or without, by the names of `find_matrices`; what does not fit is refused."""

import shutil

import pytest
import tiny
import torch
from breaking import configure, reweigh
from safetensors.torch import load_file, save_file

from vp_core.ground.errors import VPError
from vp_core.ground.names import TYPES, WORD_EMBEDDINGS
from vp_core.loading.weights import load_weights
from vp_core.weights.matrices import find_matrices, view

ALL = (*TYPES, WORD_EMBEDDINGS)


@pytest.fixture
def folder(folders, tmp_path):
    return shutil.copytree(folders["bert"], tmp_path / "model")


def refused(folder, says):
    with pytest.raises(VPError, match=says) as found:
        load_weights(str(folder))
    assert str(found.value).endswith(".") and str(found.value).count(". ") == 0
    return str(found.value)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_classifiers_weights_are_its_matrices(folders, loaded, family):
    found = load_weights(str(folders[family]))
    matrices = find_matrices(loaded[family].model, ALL)
    assert list(found) == [matrix.name for matrix in matrices]
    for matrix in matrices:
        assert torch.equal(found[matrix.name], view(loaded[family].model, matrix)), matrix.name
    assert all(weight.dtype == torch.float32 and not weight.requires_grad for weight in found.values())


@pytest.mark.parametrize("family", ["bert", "gpt2", "bart"])
def test_the_bare_model_has_the_same(folders, loaded, tmp_path, family):
    loaded[family].model.base_model.save_pretrained(tmp_path)
    bare, whole = load_weights(str(tmp_path)), load_weights(str(folders[family]))
    assert bare.keys() == whole.keys() and all(torch.equal(bare[name], whole[name]) for name in bare)


def test_another_head_half_precision_and_no_words(tmp_path):
    masked = tiny.build("bert", "ForMaskedLM", vocab_size=99, **tiny.sizes("bert", 32, 56, 2)).half()
    masked.save_pretrained(tmp_path / "masked")
    found = load_weights(str(tmp_path / "masked"))
    assert torch.equal(found["1.ffn_in"], masked.bert.encoder.layer[1].intermediate.dense.weight.float())
    tiny.transformer("vit", dtype=torch.float32).save_pretrained(tmp_path / "vit")
    assert WORD_EMBEDDINGS not in load_weights(str(tmp_path / "vit")) and "1.key" in load_weights(str(tmp_path / "vit"))


def test_a_language_model_has_gates(tmp_path):
    model = tiny.transformer("llama", dtype=torch.float32)
    model.save_pretrained(tmp_path)
    found = load_weights(str(tmp_path))
    assert torch.equal(found["1.ffn_in.gate"], model.model.layers[1].mlp.gate_proj.weight)
    assert found["0.key"].shape == (24, 48) and found[WORD_EMBEDDINGS].shape == (99, 48)


def test_the_demo():
    assert len(load_weights("demo")) > 6


def test_a_matrix_that_is_missing_would_be_random(folder):
    text = refused(
        reweigh(folder, lambda w: {key: w[key] for key in w if "1.output.dense.weight" not in key}),
        r"lacks 1 of the \d+ weight matrices",
    )
    assert "encoder.layer.1.output.dense.weight" in text


def test_a_matrix_of_another_shape(folder):
    name = "bert.encoder.layer.1.output.dense.weight"
    refused(reweigh(folder, lambda w: w.update({name: torch.ones(32, 60)})), r"shape \(32, 60\).*it would be \(32, 56\)")


def test_a_layer_more_than_the_configuration_says(folder):
    refused(configure(folder, num_hidden_layers=2), "would not be used")


def test_a_wrapper_hides_everything(folder):
    refused(reweigh(folder, lambda w: {f"module.{key}": value for key, value in w.items()}), "DataParallel")


def test_pickles_quantised_weights_and_code_of_ones_own(folder, tmp_path):
    configure(folder, auto_map={"AutoModel": "evil.Model"})
    refused(folder, "code of its own")
    configure(folder, auto_map=None, quantization_config={"quant_method": "gptq"})
    refused(folder, "quantised")
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    shutil.copy(folder / "config.json", pickled)
    torch.save(load_file(folder / "model.safetensors"), pickled / "pytorch_model.bin")
    refused(pickled, "pickled")


def test_weights_of_whole_numbers(folder):
    weights = load_file(folder / "model.safetensors")
    name = "bert.encoder.layer.1.output.dense.weight"
    save_file(weights | {name: weights[name].to(torch.int8)}, folder / "model.safetensors", {"format": "pt"})
    refused(folder, "quantised")


def test_another_family_and_a_file_cut_short(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    refused(folder, "broken or incomplete")
    configure(folder, model_type="xlnet")
    save_file({"a": torch.ones(10**6)}, weights, {"format": "pt"})
    refused(folder, "xlnet")


def test_a_squeezed_model(tmp_path, studies):
    from vp_core.recipes import Recipe
    from vp_core.squeezing.folder import save_pruned

    save_pruned(studies["bert"].squeezed(Recipe("magnitude"), 0.5), tmp_path / "small")
    refused(tmp_path / "small", "squeezed already")


def test_a_name_that_is_none():
    with pytest.raises(VPError, match="There is no model"):
        load_weights("no/such/folder/anywhere")
