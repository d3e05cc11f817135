"""What the six linear projections are called in each model family: the only file that knows families.

To support another one, add its names to FAMILIES.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from transformers import PretrainedConfig

from vp_core.ground.errors import VPError
from vp_core.ground.names import TYPES


@dataclass(frozen=True)
class Stack:
    """One run of layers: `layers` is its path in the base model, with a * for each number; the rest are names in a layer.

    See `model.projections.Layer` for what they are. `groups` is the setting that says among how many groups of weights the
    layers are shared (None: every layer has its own). `decoder` are the types that see the tokens of a decoder. `pre_norm`
    says that a sub-layer reads the residual stream through its layer norm, not the stream itself.
    """

    layers: str
    modules: Mapping[str, str]
    attention: str
    head_size: str
    activation: str | None = None
    gate: str | None = None
    split_size: str | None = None
    groups: str | None = None
    decoder: tuple[str, ...] = ()
    pre_norm: bool = False


@dataclass(frozen=True)
class Family:
    """One model family.

    `attention_norm` is the layer norm right after the residual sum of the attention block where the classification head
    reads the first token only, which `asking.evaluate` makes use of (None: it reads another), `first_position` the number
    of the first token's position; with `positions_from_pad` it is pad_token_id + 1, whatever that is (RoBERTa's is 1).
    `bias_flags` are the switches of the configuration that give the projections their biases, where a family may have none.
    `classifies_text` says whether `vp_core.loading.load.load_model` takes its sequence classifiers; the others are for those
    who bring their own batches.
    """

    stacks: tuple[Stack, ...]
    attention_norm: str | None = None
    first_position: int = 0
    positions_from_pad: bool = False
    rotary: bool = False
    bias_flags: tuple[str, ...] = ()
    classifies_text: bool = True


def _modules(*names: str) -> Mapping[str, str]:
    """Module names in the order of TYPES; cross attention has the first four only."""
    return MappingProxyType(dict(zip(TYPES, names, strict=False)))


def _parts(prefix: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{prefix}.{name}" for name in names)


_BERT = Family(
    (
        Stack(
            "encoder.layer.*",
            _modules(
                *_parts("attention.self", "query", "key", "value"),
                "attention.output.dense",
                "intermediate.dense",
                "output.dense",
            ),
            attention="attention.self",
            head_size="attention_head_size",
            activation="intermediate.intermediate_act_fn",
        ),
    ),
    attention_norm="attention.output.LayerNorm",
)
_DISTILBERT = Family(
    (
        Stack(
            "transformer.layer.*",
            _modules(*_parts("attention", "q_lin", "k_lin", "v_lin", "out_lin"), "ffn.lin1", "ffn.lin2"),
            attention="attention",
            head_size="attention_head_size",
            activation="ffn.activation",
        ),
    ),
    attention_norm="sa_layer_norm",
)
_ALBERT = Family(
    (
        Stack(
            "encoder.albert_layer_groups.*.albert_layers.*",
            _modules(*_parts("attention", "query", "key", "value", "dense"), "ffn", "ffn_output"),
            attention="attention",
            head_size="attention_head_size",
            activation="activation",
            groups="num_hidden_groups",
        ),
    ),
)
_GPT2 = Family(
    (
        Stack(
            "h.*",
            _modules(*["attn.c_attn"] * 3, "attn.c_proj", "mlp.c_fc", "mlp.c_proj"),
            attention="attn",
            head_size="head_dim",
            activation="mlp.act",
            split_size="split_size",
            pre_norm=True,
        ),
    ),
)
_QKVO = ("q_proj", "k_proj", "v_proj", "o_proj")
_VIT = Family(
    (
        Stack(
            "layers.*",
            _modules(*_parts("attention", *_QKVO), "mlp.fc1", "mlp.fc2"),
            attention="attention",
            head_size="head_dim",
            activation="mlp.activation_fn",
            pre_norm=True,
        ),
    ),
    bias_flags=("qkv_bias",),
    classifies_text=False,
)
_BART_QKVO = ("q_proj", "k_proj", "v_proj", "out_proj")
_BART_SELF = Stack(
    "encoder.layers.*",
    _modules(*_parts("self_attn", *_BART_QKVO), "fc1", "fc2"),
    attention="self_attn",
    head_size="head_dim",
    activation="activation_fn",
)
_BART = Family(
    (
        _BART_SELF,
        replace(_BART_SELF, layers="decoder.layers.*", decoder=TYPES),
        Stack(
            "decoder.layers.*",
            _modules(*_parts("encoder_attn", *_BART_QKVO)),
            attention="encoder_attn",
            head_size="head_dim",
            decoder=("query", "attention_output"),
        ),
    ),
)
_LLAMA = Family(
    (
        Stack(
            "layers.*",
            _modules(*_parts("self_attn", *_QKVO), "mlp.up_proj", "mlp.down_proj"),
            attention="self_attn",
            head_size="head_dim",
            gate="mlp.gate_proj",
            pre_norm=True,
        ),
    ),
    rotary=True,
    bias_flags=("attention_bias", "mlp_bias"),
    classifies_text=False,
)
FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "bert": _BERT,
        "roberta": replace(_BERT, first_position=2, positions_from_pad=True),
        "electra": _BERT,
        "distilbert": _DISTILBERT,
        "albert": _ALBERT,
        "gpt2": _GPT2,
        "vit": _VIT,
        "bart": _BART,
        "llama": _LLAMA,
    }
)
"""Keyed by `config.model_type`, compared whole: "distilbert" contains "bert"."""


def family_of(model_type: str) -> Family:
    """The family of a `config.model_type`; VPError names what is supported."""
    if model_type not in FAMILIES:
        raise VPError(f"The model type {model_type!r} is not supported: use a model of one of {', '.join(sorted(FAMILIES))}.")
    return FAMILIES[model_type]


def longest_input(config: PretrainedConfig) -> int:
    """The number of tokens the model has positions for; VPError for a family that is not supported, and if there are none."""
    family = family_of(config.model_type)
    first = (config.pad_token_id or 0) + 1 if family.positions_from_pad else family.first_position
    if config.max_position_embeddings <= first:
        raise VPError(
            f"The model has {config.max_position_embeddings} positions and counts them from {first}: mend pad_token_id and "
            "max_position_embeddings in its config.json."
        )
    return config.max_position_embeddings - first
