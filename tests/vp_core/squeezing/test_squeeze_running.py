"""Squeezed models where models are run: key/value caches, torch.export, torch.compile, threads, other precisions."""

import copy
import threading

import numpy as np
import pytest
import tiny
import torch

from vp_core.asking.batches import Batch
from vp_core.measuring.covariance import collect_covariances
from vp_core.model.family.vision import tokens_of
from vp_core.model.sharing import share
from vp_core.replacing.principal import principal
from vp_core.replacing.prune import prune
from vp_core.squeezing.cost import counted_flops, flops_per_token
from vp_core.squeezing.dense_form import export_transformers
from vp_core.squeezing.folder import load_pruned, save_pruned
from vp_core.squeezing.squeeze import squeeze


def pair(family, share_gone=0.4, dtype=torch.float32, **by_type):
    """(pruned, squeezed) of a tiny model; the first head of the first layer goes."""
    model = tiny.transformer(family, dtype=dtype)
    plan = tiny.random_plan(model, share_gone, seed=7, **by_type)
    plan.keep["0.value"][:12] = False
    pruned = prune(model, plan, tiny.random_constants(model))
    return pruned, squeeze(pruned, plan)


VARIANTS = [
    ("bert", {"hidden_act": "relu", "num_attention_heads": 1}),
    ("bert", {"num_attention_heads": 48}),  # heads of one coordinate
    ("albert", {"num_hidden_layers": 4, "num_hidden_groups": 2, "inner_group_num": 2, "hidden_act": "silu"}),
    ("gpt2", {"scale_attn_by_inverse_layer_idx": True}),
    ("gpt2", {"scale_attn_weights": False, "activation_function": "tanh"}),
    ("vit", {"qkv_bias": False}),
    ("dinov2", {"use_swiglu_ffn": True, "qkv_bias": False}),
    ("bart", {"encoder_layers": 1, "decoder_layers": 3, "encoder_attention_heads": 2, "decoder_attention_heads": 6}),
    ("llama", {"attention_bias": True, "mlp_bias": True}),
    ("llama", {"num_key_value_heads": 4, "head_dim": 6}),
    ("llama", {"num_key_value_heads": 1, "tie_word_embeddings": True}),
]


@pytest.mark.parametrize(("family", "settings"), VARIANTS)
@pytest.mark.parametrize("share", [0.2, 0.7])
def test_variants_of_the_families(exact_norms, tmp_path, family, settings, share):
    """Equal logits, the formula's FLOPs, and what is on disk."""
    model = tiny.transformer(family, **settings)
    plan, constants, inputs = tiny.random_plan(model, share), tiny.random_constants(model), tiny.inputs(family)
    pruned = prune(model, plan, constants)
    squeezed, expected = squeeze(pruned, plan), tiny.logits(pruned, inputs)
    assert tiny.distance(tiny.logits(squeezed, inputs), expected) <= 1e-10
    assert torch.equal(tiny.logits(load_pruned(save_pruned(squeezed, tmp_path / "m")), inputs), tiny.logits(squeezed, inputs))
    export_transformers(pruned, tmp_path / "t")
    size = sum(p.numel() * p.element_size() for p in pruned.parameters())  # what is tied is written once
    assert size <= (tmp_path / "t" / "model.safetensors").stat().st_size < 1.15 * size + 20_000
    loaded = copy.deepcopy(type(model).from_pretrained(tmp_path / "t"))  # out of the file, to where products take one path
    assert torch.equal(tiny.logits(loaded, inputs), expected)
    inputs.pop("decoder_input_ids", None)
    length = tokens_of(model.config) if family in tiny.SEEING else 11
    assert [counted_flops(m, **inputs) for m in (model, squeezed)] == [
        3 * length * flops_per_token(m, length) for m in (model, squeezed)
    ]
    assert flops_per_token(model, length) == squeezed.squeezed.cost.flops_per_token(length)


POSITIONED = [
    ("mpnet", {"num_attention_heads": 6}),
    ("beit", {"use_relative_position_bias": False, "use_shared_relative_position_bias": True}),
    ("beit", {"use_relative_position_bias": False, "layer_scale_init_value": 0.0, "use_absolute_position_embeddings": True}),
    ("deberta-v2", {"share_att_key": False}),
    ("deberta-v2", {"conv_kernel_size": 3, "pos_att_type": ["c2p"]}),
    ("deberta-v2", {"relative_attention": False, "position_biased_input": True}),
    ("modernbert", {"classifier_pooling": "mean", "attention_bias": True, "mlp_bias": True, "norm_bias": True}),
    ("t5", {"feed_forward_proj": "gated-gelu", "num_decoder_layers": 1, "d_kv": 10}),
]


@pytest.mark.parametrize(("family", "settings"), POSITIONED)
@pytest.mark.parametrize("share", [0.2, 0.7])
def test_variants_with_relative_positions(exact_norms, tmp_path, family, settings, share):
    """Equal logits, what is on disk, and other coordinates for heads only where scores stay the same."""
    model = tiny.transformer(family, **settings)
    plan, constants, inputs = tiny.random_plan(model, share), tiny.random_constants(model), tiny.inputs(family)
    pruned = prune(model, plan, constants)
    squeezed, expected = squeeze(pruned, plan), tiny.logits(pruned, inputs)
    assert tiny.distance(expected, tiny.logits(model, inputs)) > 1e-3
    assert tiny.distance(tiny.logits(squeezed, inputs), expected) <= 1e-10
    assert torch.equal(tiny.logits(load_pruned(save_pruned(squeezed, tmp_path / "m")), inputs), tiny.logits(squeezed, inputs))
    turned, _ = principal(model, collect_covariances(model, [Batch(inputs, np.arange(3))], []))
    assert tiny.distance(tiny.logits(turned, inputs), tiny.logits(model, inputs)) <= 1e-9


@pytest.mark.parametrize("family", ["gpt2", "bart", "llama"])
@pytest.mark.parametrize("cache", [True, False, "static"])
def test_greedy_texts_are_the_same(family, cache):
    pruned, squeezed = pair(family)
    inputs = tiny.inputs(family, torch.float32, "right" if family == "bart" else "left")
    inputs.pop("decoder_input_ids", None)
    how = {"cache_implementation": "static"} if cache == "static" else {"use_cache": cache}
    how |= {"max_new_tokens": 12, "min_new_tokens": 12, "do_sample": False, "no_repeat_ngram_size": 1, "pad_token_id": 0}
    texts = [model.generate(**inputs, **how, output_logits=True, return_dict_in_generate=True) for model in (pruned, squeezed)]
    assert texts[0].sequences.shape[1] >= 12 and torch.equal(texts[0].sequences, texts[1].sequences)
    assert texts[0].sequences[:, -12:].unique().numel() > 5  # not one word again and again
    for a, b in zip(texts[0].logits, texts[1].logits, strict=True):
        assert tiny.distance(b, a) <= 1e-4


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_cached_steps_are_one_forward_pass(family):
    _, squeezed = pair(family, dtype=torch.float64)
    ids = tiny.inputs(family)["input_ids"][:1]
    with torch.no_grad():
        whole = squeezed(input_ids=ids).logits
        past, steps = None, []
        for i in range(ids.shape[1]):
            out = squeezed(input_ids=ids[:, i : i + 1], past_key_values=past, use_cache=True)
            past = out.past_key_values
            steps.append(out.logits)
    # Llama's norms are in float32 inside, where the order of sums shows.
    assert tiny.distance(torch.cat(steps, dim=1), whole) <= (1e-10 if family == "gpt2" else 1e-5)
    narrow = past.layers[0].keys
    assert narrow.shape[1:] == ((3, 11, 8) if family == "gpt2" else (1, 11, 12))  # the cache is smaller too
    assert narrow.shape[-1] == (squeezed.transformer.h[0].attn.head_dim if family == "gpt2" else 12)


@pytest.mark.parametrize("family", ["bert", "gpt2", "vit"])
def test_torch_export(family):
    _, squeezed = pair(family)
    inputs = tiny.inputs(family, torch.float32) | ({"use_cache": False} if family == "gpt2" else {})
    expected = tiny.logits(squeezed, inputs)
    exported = torch.export.export(squeezed, (), kwargs=inputs).module()
    assert tiny.distance(tiny.logits(Like(exported, squeezed), inputs), expected) <= 1e-6


class Like:
    """An exported module that answers as its model does."""

    def __init__(self, module, model):
        self.module, self.config = module, model.config

    def __call__(self, **inputs):
        return self.module(**inputs)


@pytest.mark.slow
def test_torch_compile():
    """Takes some ten seconds: the C++ compiler runs."""
    _, squeezed = pair("bert")
    inputs = tiny.inputs("bert", torch.float32)
    expected = tiny.logits(squeezed, inputs)
    compiled = torch.compile(share(squeezed), backend="inductor")
    assert tiny.distance(tiny.logits(compiled, inputs), expected) <= 1e-5


@pytest.mark.parametrize("family", tiny.TRANSFORMERS)
def test_bfloat16(family):
    """As far from float32 as the pruned model itself is in bfloat16."""
    pruned, squeezed = pair(family, 0.2)
    inputs = tiny.inputs(family, torch.float32)
    exact = tiny.logits(pruned, inputs)
    rough = {"pixel_values": inputs["pixel_values"].bfloat16()} if family in tiny.SEEING else inputs
    far = [tiny.distance(tiny.logits(share(m, cast=torch.bfloat16), rough).float(), exact) for m in (pruned, squeezed)]
    assert 0 < far[1] < 3 * far[0] + 0.02


def test_threads_share_a_squeezed_model():
    _, squeezed = pair("bert")
    inputs, found = tiny.inputs("bert", torch.float32), {}
    expected = tiny.logits(squeezed, inputs)
    threads = [threading.Thread(target=lambda i=i: found.update({i: tiny.logits(squeezed, inputs)})) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and all(torch.equal(logits, expected) for logits in found.values())
