"""What the six linear projections are called in each model family; `family` has those of two halves and those that
see.

No other file knows families: to support another one, add its names to FAMILIES.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from types import MappingProxyType

from transformers import PretrainedConfig
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
)

from vp_core.ground.errors import VPError
from vp_core.ground.names import TYPES
from vp_core.model.family.encoder_decoders import BART, MBART, T5
from vp_core.model.family.stack import COUNTED_NOTE, FIXED_NOTE, Family, Stack
from vp_core.model.family.vision import BEIT, CLIP, DEIT, DINOV2, VIT


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
    fills_masks=True,
)
_ROBERTA = replace(_BERT, first_position=2, positions_from_pad=True)
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
    fills_masks=True,
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
    fills_masks=True,
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
    reads_last=True,
    writes_text=True,
)
_QKVO = ("q_proj", "k_proj", "v_proj", "o_proj")
_POSITIONS_NOTE = (
    "Query and key keep the full width of their heads: they also meet embeddings of relative positions, so a removed row saves "
    "its own product only, not its partner's."
)
_MPNET = Family(
    (
        Stack(
            "encoder.layer.*",
            _modules(*_parts("attention.attn", "q", "k", "v", "o"), "intermediate.dense", "output.dense"),
            attention="attention.attn",
            head_size="attention_head_size",
            activation="intermediate.intermediate_act_fn",
            total_size="all_head_size",
            fixed_heads=FIXED_NOTE,
            scales_by_width=True,
        ),
    ),
    attention_norm="attention.LayerNorm",
    first_position=2,
    fills_masks=True,
)
_DEBERTA_V2 = Family(
    (
        replace(
            _BERT.stacks[0],
            modules=_modules(
                *_parts("attention.self", "query_proj", "key_proj", "value_proj"),
                "attention.output.dense",
                "intermediate.dense",
                "output.dense",
            ),
            full_heads=_POSITIONS_NOTE,
            positions_too=True,
        ),
    ),
    fills_masks=True,
)
_MODERNBERT = Family(
    (
        Stack(
            "layers.*",
            _modules(*["attn.Wqkv"] * 3, "attn.Wo", "mlp.Wi", "mlp.Wo"),
            attention="attn",
            head_size="head_dim",
            gate="mlp.Wi",
            pre_norm=True,
            scales_by_width=True,
            frequencies="rotary_emb.{}_inv_freq",
        ),
    ),
    rotary=True,
    bias_flags=("attention_bias", "mlp_bias"),
    fills_masks=True,
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
    writes_text=True,
)
_MISTRAL = replace(_LLAMA, bias_flags=(), bare=True)
_GEMMA = replace(_LLAMA, bias_flags=("attention_bias",), bare=True)
_QWEN3 = replace(_GEMMA, stacks=(replace(_LLAMA.stacks[0], head_norm="q_norm"),))
_GEMMA2 = replace(_GEMMA, stacks=(replace(_LLAMA.stacks[0], normed_writes=True),))
_GEMMA3 = replace(_GEMMA, stacks=(replace(_QWEN3.stacks[0], normed_writes=True, frequencies="rotary_emb.{}_inv_freq"),))
_PHI = replace(
    _LLAMA,
    stacks=(
        replace(
            _LLAMA.stacks[0],
            modules=_modules(*_parts("self_attn", *_QKVO[:3], "dense"), "mlp.fc1", "mlp.fc2"),
            gate=None,
            activation="mlp.activation_fn",
            head_norm="q_layernorm",
        ),
    ),
    bias_flags=(),
)
_PHI3 = replace(
    _MISTRAL,
    stacks=(
        replace(
            _LLAMA.stacks[0],
            modules=_modules(*["self_attn.qkv_proj"] * 3, "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj"),
            gate="mlp.gate_up_proj",
            fixed_heads=COUNTED_NOTE,
        ),
    ),
)
_GPT_NEOX = Family(
    (
        Stack(
            "layers.*",
            _modules(*["attention.query_key_value"] * 3, "attention.dense", *_parts("mlp", "dense_h_to_4h", "dense_4h_to_h")),
            attention="attention",
            head_size="head_size",
            activation="mlp.act",
            pre_norm=True,
            interleaved=True,
        ),
    ),
    rotary=True,
    bias_flags=("attention_bias",),
    classifies_text=False,
    writes_text=True,
)
_OPT_STACK = Stack(
    "decoder.layers.*",
    _modules(*_parts("self_attn", *_QKVO[:3], "out_proj"), "fc1", "fc2"),
    attention="self_attn",
    head_size="head_dim",
    head_count="num_heads",
    activation="activation_fn",
)
_OPT = Family(
    (_OPT_STACK,),
    switch="do_layer_norm_before",
    switched=(replace(_OPT_STACK, pre_norm=True),),
    bias_flags=("enable_bias",),
    classifies_text=False,
    writes_text=True,
)
FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "bert": _BERT,
        "roberta": _ROBERTA,
        "xlm-roberta": _ROBERTA,
        "camembert": _ROBERTA,
        "electra": _BERT,
        "mpnet": _MPNET,
        "deberta-v2": _DEBERTA_V2,
        "modernbert": _MODERNBERT,
        "t5": T5,
        "distilbert": _DISTILBERT,
        "albert": _ALBERT,
        "gpt2": _GPT2,
        "vit": VIT,
        "deit": DEIT,
        "dinov2": DINOV2,
        "beit": BEIT,
        "clip": CLIP,
        "bart": BART,
        "mbart": MBART,
        "llama": _LLAMA,
        "mistral": _MISTRAL,
        "qwen2": _MISTRAL,
        "qwen3": _QWEN3,
        "gemma": _GEMMA,
        "gemma2": _GEMMA2,
        "gemma3_text": _GEMMA3,
        "phi": _PHI,
        "phi3": _PHI3,
        "gpt_neox": _GPT_NEOX,
        "opt": _OPT,
    }
)
"""Keyed by `config.model_type`, compared whole: "distilbert" contains "bert"."""


WHY_NOT: Mapping[str, str] = MappingProxyType(
    {
        "deberta": "query, key and value of each head lie interleaved in one matrix",
        "funnel": "its layers have different lengths",
        "longformer": "it has further query, key and value matrices for global tokens",
        "big_bird": "its attention is sparse",
        "convbert": "convolutions take part in its attention",
        "squeezebert": "its matrices are grouped convolutions",
        "mobilebert": "its layers have several feed-forward networks each",
        "xlnet": "its scores have matrices of their own for positions",
        "reformer": "its attention hashes tokens",
        "gemma3": "it sees images too: its text model alone, gemma3_text, is",
        "mixtral": "its layers have several feed-forward networks each",
        "qwen2_moe": "its layers have several feed-forward networks each",
        "qwen3_moe": "its layers have several feed-forward networks each",
        "bloom": "each of its heads has a slope of its own for positions",
        "mamba": "it has no attention",
    }
)
"""Model types that people ask for and that do not fit in, with what stands in the way."""


_HAVE: Mapping[str, Mapping[str, object]] = MappingProxyType(
    {
        "spans": MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES,
        "tags": MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
        "target tokens": MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    }
)
_FLAGS = {"classes": "classifies_text", "next tokens": "writes_text", "masked tokens": "fills_masks", "images": "sees"}


@cache
def families_for(what: str) -> tuple[str, ...]:
    """The model types of which a study takes a model that puts out this, in the order of the alphabet.

    `what` is one of `vp_core.asking.kinds.heads.HEADS`, `classes` (of texts), `images`, classes of these, or `any`. A model
    that reads from left to right marks no spans and tags no words: what stands before has not seen what comes.
    """
    if what == "any":
        return tuple(sorted(FAMILIES))
    if what in _FLAGS:
        return tuple(sorted(name for name, family in FAMILIES.items() if getattr(family, _FLAGS[what])))
    text = {name for name, family in FAMILIES.items() if family.classifies_text and not family.writes_text}
    return tuple(sorted(text & set(_HAVE[what])))


def family_of(model_type: str) -> Family:
    """The family of a `config.model_type`; VPError says why it is not supported, if that is known, and what is."""
    if model_type not in FAMILIES:
        why = f" ({WHY_NOT[model_type]})" if model_type in WHY_NOT else ""
        texts, words, seeing = (", ".join(families_for(what)) for what in ("classes", "next tokens", "images"))
        raise VPError(
            f"The model type {model_type!r} is not supported{why}: use a text classifier of one of {texts}, a language "
            f"model of one of {words}, or an image classifier of one of {seeing}."
        )
    return FAMILIES[model_type]


def stacks_of(config: PretrainedConfig) -> tuple[Stack, ...]:
    """The runs of layers of a model with this configuration; VPError for a family that is not supported."""
    family = family_of(config.model_type)
    return family.switched if family.switch and getattr(config, family.switch) else family.stacks


_NO_LIMIT = 1_000_000
"""Tokens that a model without a last position takes: more than anybody has."""


def longest_input(config: PretrainedConfig) -> int:
    """The number of tokens the model has positions for; VPError for a family that is not supported, and if there are none."""
    family = family_of(config.model_type)
    if not hasattr(config, "max_position_embeddings"):  # T5's positions are relative: there is no last one
        return _NO_LIMIT
    first = (config.pad_token_id or 0) + 1 if family.positions_from_pad else family.first_position
    if config.max_position_embeddings <= first:
        raise VPError(
            f"The model has {config.max_position_embeddings} positions and counts them from {first}: mend pad_token_id and "
            "max_position_embeddings in its config.json."
        )
    return config.max_position_embeddings - first
