"""The families that see: a picture is cut into patches, which are their tokens, behind one or two of their own.

All of them read the residual stream through a layer norm (pre-norm), and all tokens of a picture count.
"""

from dataclasses import replace
from types import MappingProxyType
from typing import Any

from transformers import PretrainedConfig

from vp_core.model.family.stack import FIXED_NOTE, Family, Stack


def _names(attention: str, output: str, ffn_in: str, ffn_out: str) -> MappingProxyType[str, str]:
    own = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "attention_output": output}
    return MappingProxyType({t: f"{attention}.{name}" for t, name in own.items()} | {"ffn_in": ffn_in, "ffn_out": ffn_out})


_STACK = Stack(
    "layers.*",
    _names("attention", "o_proj", "mlp.fc1", "mlp.fc2"),
    attention="attention",
    head_size="head_dim",
    activation="mlp.activation_fn",
    pre_norm=True,
)
VIT = Family((_STACK,), bias_flags=("qkv_bias",), classifies_text=False, sees=True)
DEIT = VIT
"""With a second token of its own, which a second head reads in ...ForImageClassificationWithTeacher: the answer is the mean."""
_SCALED = replace(_STACK, layers="encoder.layer.*", normed_writes=True, scales=("layer_scale1.lambda1", "layer_scale2.lambda1"))
DINOV2 = replace(
    VIT,
    stacks=(_SCALED,),
    switch="use_swiglu_ffn",
    switched=(
        replace(
            _SCALED,
            modules=_names("attention", "o_proj", "mlp.up_proj", "mlp.down_proj"),
            activation=None,
            gate="mlp.gate_proj",
        ),
    ),
)
BEIT = Family(
    (replace(_SCALED, layers="layers.*", scales=("lambda_1", "lambda_2"), fixed_heads=FIXED_NOTE),),
    bare=True,
    classifies_text=False,
    sees=True,
)
"""Its keys have no bias, and its heads may have a position bias each."""
CLIP = Family(
    (
        replace(
            _STACK,
            layers="vision_model.encoder.layers.*",
            modules=_names("self_attn", "out_proj", "mlp.fc1", "mlp.fc2"),
            attention="self_attn",
        ),
    ),
    classifies_text=False,
    sees=True,
)
"""Its vision tower alone, as ...ForImageClassification has it."""


def picture_of(config: PretrainedConfig) -> tuple[int, int, int]:
    """(channels, height, width) of the pictures that a model with this configuration was made for."""
    own = getattr(config, "vision_config", config)
    return (own.num_channels, *_pair(own.image_size))


def tokens_of(config: PretrainedConfig, height: int | None = None, width: int | None = None) -> int:
    """How many tokens a picture of this size is, or of the one the model was made for: its patches, and what stands before."""
    own = getattr(config, "vision_config", config)
    (_, high, wide), patch = picture_of(config), _pair(own.patch_size)
    return ((height or high) // patch[0]) * ((width or wide) // patch[1]) + 1 + (config.model_type == "deit")


def _pair(size: Any) -> tuple[int, int]:
    return (int(size[0]), int(size[1])) if isinstance(size, list | tuple) else (int(size), int(size))
