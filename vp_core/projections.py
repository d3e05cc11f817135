"""Where the six linear projections of every Transformer layer are: the only file that knows model families.

A projection computes y = x Wᵀ + b with W of shape (d_out, d_in). A *neuron* is one coordinate of y, that is one row of W.
To support another family, add one line to FAMILIES.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from vp_core.errors import VPError

TYPES = ("query", "key", "value", "attention_output", "ffn_in", "ffn_out")
"""W_Q, W_K, W_V, W_O, W_FF1, W_FF2 of the paper, in forward order."""

CONSUMERS = {"value": "attention_output", "ffn_in": "ffn_out"}
"""Whose matrix reads a type's output (value: mixed over tokens by attention; ffn_in: after the activation)."""


@dataclass(frozen=True)
class Projection:
    """One linear map of one layer.

    `path` is the module's name in the model, `consumer` the path of the projection that reads its output (None where the
    output meets another one in a dot product, query and key, or goes to the residual stream), `head_width` the number of
    coordinates of a head (None outside query, key and value).
    """

    layer: int
    type: str
    path: str
    d_in: int
    d_out: int
    consumer: str | None
    head_width: int | None

    @property
    def name(self) -> str:
        """Layer and type, counted from 0: `3.ffn_in`."""
        return f"{self.layer}.{self.type}"


@dataclass(frozen=True)
class Family:
    """Module names of one model family, relative to the base model and to one of its layers.

    `attention_norm` is the layer norm right after the residual sum of the attention block, `first_position` the number of
    the first token's position (RoBERTa counts from pad_token_id + 1 = 2). The classification head of
    every family here reads the first token only, which `vp_core.evaluate` makes use of.
    """

    layers: str
    modules: Mapping[str, str]
    attention_norm: str
    first_position: int = 0


_BERT = Family(
    layers="encoder.layer",
    modules=MappingProxyType(
        {
            "query": "attention.self.query",
            "key": "attention.self.key",
            "value": "attention.self.value",
            "attention_output": "attention.output.dense",
            "ffn_in": "intermediate.dense",
            "ffn_out": "output.dense",
        }
    ),
    attention_norm="attention.output.LayerNorm",
)
_DISTILBERT = Family(
    layers="transformer.layer",
    modules=MappingProxyType(
        {
            "query": "attention.q_lin",
            "key": "attention.k_lin",
            "value": "attention.v_lin",
            "attention_output": "attention.out_lin",
            "ffn_in": "ffn.lin1",
            "ffn_out": "ffn.lin2",
        }
    ),
    attention_norm="sa_layer_norm",
)
FAMILIES: Mapping[str, Family] = MappingProxyType(
    {"bert": _BERT, "roberta": replace(_BERT, first_position=2), "electra": _BERT, "distilbert": _DISTILBERT}
)
"""Keyed by `config.model_type`, compared whole: "distilbert" contains "bert"."""


def family_of(model_type: str) -> Family:
    """The family of a `config.model_type`; VPError names what is supported."""
    if model_type not in FAMILIES:
        raise VPError(
            f"The model type {model_type!r} is not supported: use a sequence-classification model of one of "
            f"{', '.join(sorted(FAMILIES))}."
        )
    return FAMILIES[model_type]


def find_projections(model: PreTrainedModel) -> tuple[Projection, ...]:
    """Every projection of a Hugging Face model, layer by layer in the order of TYPES.

    Raises VPError for a family that is not supported.
    """
    config = model.config
    family = family_of(config.model_type)
    heads = config.num_attention_heads
    prefix = f"{model.base_model_prefix}.{family.layers}" if hasattr(model, model.base_model_prefix) else family.layers
    found = []
    for layer in range(len(model.get_submodule(prefix))):
        for type_ in TYPES:
            path = f"{prefix}.{layer}.{family.modules[type_]}"
            weight = model.get_submodule(path).weight
            consumer = CONSUMERS.get(type_)
            found.append(
                Projection(
                    layer=layer,
                    type=type_,
                    path=path,
                    d_in=weight.shape[1],
                    d_out=weight.shape[0],
                    consumer=f"{prefix}.{layer}.{family.modules[consumer]}" if consumer else None,
                    head_width=weight.shape[0] // heads if type_ in ("query", "key", "value") else None,
                )
            )
    return tuple(found)


def longest_input(config: PretrainedConfig) -> int:
    """The number of tokens the model has positions for."""
    return config.max_position_embeddings - family_of(config.model_type).first_position


def last_attention_norm(model: PreTrainedModel) -> nn.Module:
    """The layer norm after the last layer's attention: from here on only the first token matters to the classifier."""
    family = family_of(model.config.model_type)
    return model.base_model.get_submodule(family.layers)[-1].get_submodule(family.attention_norm)


def check_types(types: tuple[str, ...]) -> tuple[str, ...]:
    """The chosen types in the order of TYPES, each once; VPError for an unknown or an empty choice.

    >>> check_types(("ffn_in", "query"))
    ('query', 'ffn_in')
    """
    unknown = [t for t in types if t not in TYPES]
    if unknown or not types:
        what = f"Unknown projection type {unknown[0]!r}" if unknown else "No projection type is chosen"
        raise VPError(f"{what}: choose one or more of {', '.join(TYPES)}.")
    return tuple(t for t in TYPES if t in types)
