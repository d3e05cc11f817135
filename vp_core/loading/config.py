"""What config.json asks for: refused where it cannot be had, mended where the arithmetic stays the same."""

import re
from collections.abc import Mapping
from typing import Any

from transformers import PretrainedConfig

from vp_core.ground.errors import VPError
from vp_core.model.attending.dropout import LEAN
from vp_core.model.families import FAMILIES

_DROPPED = {
    "position_embedding_type": ("absolute", None),
    "normalize_before": (False, None),
    "add_final_layer_norm": (False, None),
    "normalize_embedding": (True, None),
    "static_position_embeddings": (False, None),
}
"""Setting that changes the arithmetic → the values under which it does not; transformers 5 has dropped it in some families."""


def check_config(name: str, raw: Mapping[str, Any]) -> None:
    """VPError for a configuration, as it stands in config.json, of a model that would not be computed as it was trained."""
    if not raw.get("model_type"):
        raise VPError(f"The config.json of {name!r} has no model_type: add it, {_likely_type(raw)}.")
    if method := raw.get("quantization_config"):
        kind = method.get("quant_method") if isinstance(method, Mapping) else None
        how = f" ({kind})" if kind else ""
        raise VPError(
            f"The weights of {name!r} are quantised{how}: give the model it was made from, in float32 or half precision, "
            "or dequantise it (model.dequantize()) and save it again."
        )
    if raw.get("auto_map"):
        raise VPError(
            f"The model {name!r} brings code of its own (auto_map in config.json), which is never run here: give a model that "
            "transformers has a class for."
        )
    if raw.get("pruned_heads"):
        raise VPError(
            f"Heads of {name!r} were removed by prune_heads of transformers 4 (pruned_heads in config.json), which "
            "transformers 5 cannot load: give the model from before that."
        )
    if raw.get("transformers_weights"):
        raise VPError(
            f"The config.json of {name!r} names a file for its weights (transformers_weights): save the model again with "
            "save_pretrained."
        )


def check_dropped(name: str, raw: Mapping[str, Any], config: PretrainedConfig) -> None:
    """VPError for a setting that changes the arithmetic but that the library's class does not know, so that it is ignored."""
    known = type(config)().to_dict()
    for key, harmless in _DROPPED.items():
        if key in raw and key not in known and raw[key] not in harmless:
            raise VPError(
                f"The model {name!r} was trained with {key} = {str(raw[key])[:40]!r}, which this version of transformers "
                f"ignores for {config.model_type}, so that its answers would be others: use another model."
            )


def mend(config: PretrainedConfig) -> None:
    """Set, in place, what says only how the same answers are computed and handed over to what is read here."""
    config.return_dict = True
    config.output_hidden_states = False
    config.output_attentions = False
    if getattr(config, "chunk_size_feed_forward", 0):
        config.chunk_size_feed_forward = 0
    if config._attn_implementation not in ("eager", "sdpa", LEAN):
        config._attn_implementation = None  # what the library takes by default


def _likely_type(raw: Mapping[str, Any]) -> str:
    """The model type by the class that saved the model."""
    architectures = raw.get("architectures")
    made = str(architectures[0]) if isinstance(architectures, list) and architectures else ""
    plain = re.sub(r"(For|Model).*", "", made).lower()
    for family in sorted(FAMILIES, key=len, reverse=True):
        if plain == re.sub(r"[^a-z0-9]", "", family):
            return f'"model_type": "{family}"'
    return 'such as "model_type": "bert"'
