"""A tiny Llama as a GGUF file, written with the format's own package."""

import json

import gguf
import numpy as np

PARTS = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
}  # fmt: skip
"""A layer's tensors there and here."""


def turned(weight, heads):
    """Rows of a query or key as the format has them: the two coordinates that turn together beside each other."""
    return weight.reshape(heads, 2, weight.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(weight.shape)


def tensors(model):
    """Name in the format → weights of a Llama, float32."""
    state = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    config = model.config
    found = {
        "token_embd.weight": state["model.embed_tokens.weight"], "output_norm.weight": state["model.norm.weight"],
        "output.weight": state["lm_head.weight"],
    }  # fmt: skip
    for layer in range(config.num_hidden_layers):
        for name, path in PARTS.items():
            weight = state[f"model.layers.{layer}.{path}.weight"]
            heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(name)
            found[f"blk.{layer}.{name}.weight"] = turned(weight, heads) if heads else weight
    return found


def write(path, model, tokenizer, stored=lambda name: gguf.GGMLQuantizationType.F32, architecture="llama", drop=()):
    """A file with this model and its byte pairs; `stored` says the type of each tensor. Returns the path."""
    config, words = model.config, sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    made = gguf.GGUFWriter(path, architecture)
    made.add_block_count(config.num_hidden_layers)
    made.add_context_length(config.max_position_embeddings)
    made.add_embedding_length(config.hidden_size)
    made.add_feed_forward_length(config.intermediate_size)
    made.add_head_count(config.num_attention_heads)
    made.add_head_count_kv(config.num_key_value_heads)
    made.add_layer_norm_rms_eps(config.rms_norm_eps)
    made.add_rope_freq_base(config.rope_parameters["rope_theta"])
    made.add_vocab_size(config.vocab_size)
    made.add_tokenizer_model("gpt2")
    names = [word for word, _ in words] + [f"<unused {i}>" for i in range(config.vocab_size - len(words))]
    if "words" not in drop:
        made.add_token_list(names)
    special = set(tokenizer.all_special_ids)
    made.add_token_types([3 if i in special else 1 for i in range(len(names))])
    made.add_token_merges(merges(tokenizer))
    made.add_bos_token_id(0)
    made.add_eos_token_id(1)
    made.add_pad_token_id(2)
    for name, weight in tensors(model).items():
        kind = stored(name)
        whole = np.ascontiguousarray(weight, dtype=np.float32)
        if kind == gguf.GGMLQuantizationType.F32:
            made.add_tensor(name, whole)
        else:
            made.add_tensor(name, gguf.quants.quantize(whole, kind), raw_dtype=kind)
    made.write_header_to_file()
    made.write_kv_data_to_file()
    made.write_tensors_to_file()
    made.close()
    return path


def merges(tokenizer):
    """The byte pairs that a tokeniser joins, each as a line."""
    found = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    return [pair if isinstance(pair, str) else " ".join(pair) for pair in found]
