"""The families of two halves: an encoder, and a decoder that attends to itself and to what the encoder made of the text.

Each half is a run of layers of its own, and so is the decoder's cross attention, which has no feed-forward network.
"""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from vp_core.model.family.stack import FIXED_NOTE, Family, Stack

_CROSS = ("query", "attention_output")
"""What sees the decoder's tokens in cross attention; its keys and values are made from the encoder's."""


def _attention(path: str, query: str, key: str, value: str, output: str) -> dict[str, str]:
    names = {"query": query, "key": key, "value": value, "attention_output": output}
    return {type_: f"{path}.{name}" for type_, name in names.items()}


def _decoder(stack: Stack, layers: str, **changes: Any) -> Stack:
    """An encoder's stack as the decoder's, all of which sees the decoder's tokens."""
    return replace(stack, layers=layers, decoder=tuple(stack.modules), **changes)


def _cross(stack: Stack, attention: str, modules: Mapping[str, str], **changes: Any) -> Stack:
    """Cross attention between the sub-layers of a decoder's stack."""
    own = MappingProxyType(modules)
    return replace(stack, attention=attention, modules=own, activation=None, gate=None, decoder=_CROSS, **changes)


_BART_NAMES = ("q_proj", "k_proj", "v_proj", "out_proj")
_BART_ENCODER = Stack(
    "encoder.layers.*",
    MappingProxyType(_attention("self_attn", *_BART_NAMES) | {"ffn_in": "fc1", "ffn_out": "fc2"}),
    attention="self_attn",
    head_size="head_dim",
    activation="activation_fn",
)
_BART_DECODER = _decoder(_BART_ENCODER, "decoder.layers.*")
BART = Family(
    (_BART_ENCODER, _BART_DECODER, _cross(_BART_DECODER, "encoder_attn", _attention("encoder_attn", *_BART_NAMES))),
    reads_end=True,
)


def _pre_normed(stack: Stack, norm: str) -> Stack:
    """mBART's: BART's names, and each sub-layer reads the stream through its own layer norm."""
    return replace(stack, pre_norm=True, stream=(norm, "final_layer_norm"))


_OWN, _OTHER = "self_attn_layer_norm", "encoder_attn_layer_norm"
MBART = replace(BART, stacks=tuple(map(_pre_normed, BART.stacks, (_OWN, _OWN, _OTHER))))


def _t5_half(part: str, ffn: str, gated: bool) -> Stack:
    """Self attention and the feed-forward network of one of T5's halves; the latter is the layer's last sub-layer, `ffn`."""
    dense, inner = f"{ffn}.DenseReluDense", "wi_1" if gated else "wi"
    names = _attention("layer.0.SelfAttention", *"qkvo") | {"ffn_in": f"{dense}.{inner}", "ffn_out": f"{dense}.wo"}
    return Stack(
        f"{part}.block.*",
        MappingProxyType(names),
        attention="layer.0.SelfAttention",
        head_size="key_value_proj_dim",
        activation=None if gated else f"{dense}.act",
        gate=f"{dense}.wi_0" if gated else None,
        pre_norm=True,
        stream=("layer.0", ffn),
        fixed_heads=FIXED_NOTE,
    )


def _t5_stacks(gated: bool) -> tuple[Stack, ...]:
    """T5's, with a gate in its feed-forward networks (since version 1.1) or without."""
    decoder = _decoder(_t5_half("decoder", "layer.2", gated), "decoder.block.*")
    names = _attention("layer.1.EncDecAttention", *"qkvo")
    cross = _cross(decoder, "layer.1.EncDecAttention", names, stream=("layer.1", "layer.2"))
    return _t5_half("encoder", "layer.1", gated), decoder, cross


T5 = Family(_t5_stacks(False), switch="is_gated_act", switched=_t5_stacks(True), bare=True, reads_end=True)
