"""Are these the weights of the model: all there, of its sizes, and all of them used?"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from vp_core.ground.bounded import Weight
from vp_core.ground.errors import VPError
from vp_core.model.families import FAMILIES

_WRAPPERS = {
    "module.": "DataParallel; save model.module instead",
    "_orig_mod.": "torch.compile; save model._orig_mod instead",
    "base_model.model.": "PEFT; save what merge_and_unload() returns instead",
}
_HARMLESS = re.compile(
    r"(^|\.)(position_ids|token_type_ids|inv_freq|masked_bias|attn\.bias|version|final_logits_bias)$"
    r"|^(\w+\.)?(cls|lm_head|qa_outputs|mlm|vocab_\w+|discriminator_predictions|generator_\w+|predictions|sop_classifier|summary"
    r"|sequence_summary|pooler|logits_proj|mask_predictions|qa_classifier|nsp\w*|classification_head|seq_relationship)\."
)
"""Buffers that are computed, and heads of other tasks."""
_SLACK = 10**6


def check_amount(name: str, empty: PreTrainedModel, weights: Mapping[str, Weight]) -> None:
    """VPError if a model, on the meta device, has far more parameters than the file: it would be made only to be refused."""
    wanted = sum(parameter.numel() for parameter in empty.parameters())
    found = sum(weight.elements for weight in weights.values())
    if wanted > 4 * found + _SLACK:
        raise VPError(
            f"The config.json of {name!r} describes a model of {wanted:,} parameters, the weights are {found:,}: take the "
            "config.json that belongs to them."
        )


def check_numbers(name: str, weights: Mapping[str, Weight]) -> None:
    """VPError for a matrix of whole numbers or of 8 bits, which means something only with scales."""
    for key, weight in weights.items():
        if key.endswith("weight") and len(weight.shape) > 1 and weight.dtype not in ("F64", "F32", "F16", "BF16"):
            raise VPError(
                f"The weight {key} of {name!r} is quantised (stored as {weight.dtype}): give the model it was made from, in "
                "float32 or half precision."
            )


def check_weights(
    name: str, model: PreTrainedModel, info: Mapping[str, Any], trained_for: str = "sequence classification"
) -> tuple[str, ...]:
    """Notes on weights that are left over; `info` is what `from_pretrained` says with output_loading_info.

    Raises VPError for weights that are hidden behind a wrapper's prefix, of other sizes, missing, or left over though they
    belong inside the model, whose answers would then be others.
    """
    missing, unexpected = sorted(info["missing_keys"]), sorted(info["unexpected_keys"])
    check_prefix(name, model.base_model_prefix, missing, unexpected)
    for key, in_file, in_model in sorted(info.get("mismatched_keys", ())):
        raise _other_size(name, key, tuple(in_file), tuple(in_model))
    if missing:
        head = any(not _is_inside(model, key) for key in missing)
        raise VPError(
            f"The checkpoint {name!r} lacks {len(missing)} of the model's weights (such as {missing[0]}): "
            + (f"choose one that was trained for {trained_for}." if head else "take the config.json that belongs to it.")
        )
    left = check_left_over(name, model, unexpected)
    if left:
        return (f"The checkpoint has {_several(left).lower()} that the model does not use (such as {left[0]}).",)
    return ()


def check_left_over(name: str, model: PreTrainedModel, unexpected: Sequence[str]) -> list[str]:
    """Those of the weights in the file, but not in the model, that are not known to be harmless.

    Raises VPError for one that belongs inside the model.
    """
    left = [key for key in unexpected if not _HARMLESS.search(key)]
    inside = [key for key in left if _is_inside(model, key)]
    if inside:
        adapter = any("lora_" in key or "adapter" in key for key in inside)
        raise VPError(
            f"{_several(inside)} inside the checkpoint {name!r} would not be used (such as {inside[0]}), so that its "
            "answers would be others: "
            + ("merge the adapter into the model and save it again." if adapter else "take the config.json that belongs to it.")
        )
    return left


def _several(keys: Sequence[str]) -> str:
    return "One weight" if len(keys) == 1 else f"{len(keys)} weights"


def check_finite(model: PreTrainedModel, name: str) -> None:
    """VPError if a weight is NaN or infinite."""
    for key, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise VPError(f"The weight {key} of {name!r} has NaN or infinite values: the checkpoint is broken, get it again.")


def own_weights(model: PreTrainedModel) -> None:
    """Copy each parameter and buffer once, in place and one at a time; what is tied stays tied.

    Weights from safetensors lie in the mapped file, at addresses that are no multiple of 64 bytes. Matrix products take
    another path there and round otherwise than on the same weights made in memory, so that a model would answer by how it
    came in; and a file that changes would change them. The mapping is let go with the last of them.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.data.clone()


def check_prefix(name: str, base: str, missing: Sequence[str], unexpected: Sequence[str]) -> None:
    """VPError if most missing weights are in the file, each with the same few letters before it."""
    wanted = {*missing, *(key.removeprefix(f"{base}.") for key in missing)}
    prefixes: Counter[str] = Counter()
    for key in unexpected:
        parts = key.split(".")
        for i in range(1, len(parts)):
            if ".".join(parts[i:]) in wanted:
                prefixes[".".join(parts[:i]) + "."] += 1
                break
    prefix, count = max(prefixes.items(), key=lambda item: item[1], default=("", 0))
    if 2 * count <= len(missing):
        return
    if prefix[:-1] in FAMILIES:
        raise VPError(
            f"The weights of {name!r} are those of a {prefix[:-1]} model, not of a {base}: mend model_type in config.json."
        )
    if count:
        maker = next((text for known, text in _WRAPPERS.items() if prefix.startswith(known)), "a wrapper; save the model in it")
        raise VPError(
            f"The weights of {name!r} all begin with {prefix!r} (it was saved inside {maker}): save the inner model with "
            f"save_pretrained, or take {prefix!r} off the names in the file."
        )


def _other_size(name: str, key: str, in_file: tuple[int, ...], in_model: tuple[int, ...]) -> VPError:
    last = key.rpartition(".")[0].rpartition(".")[2]
    if in_file[1:] == in_model[1:] and last in ("classifier", "out_proj", "score"):
        return VPError(
            f"The classifier of {name!r} has {in_file[0]} outputs (weight {key}), but its config.json names {in_model[0]} "
            f"labels: set id2label and label2id in config.json to the {in_file[0]} it was trained with."
        )
    return VPError(
        f"The weight {key} of {name!r} has the shape {in_file}, by its config.json it would be {in_model}: take the "
        "config.json that belongs to these weights."
    )


def missing_head(model: PreTrainedModel, info: Mapping[str, Any]) -> list[str]:
    """Weights that the file lacks and that belong to a head on the model; `info` as in `check_weights`."""
    return sorted(key for key in info["missing_keys"] if not _is_inside(model, key))


def _is_inside(model: PreTrainedModel, key: str) -> bool:
    """Whether a weight belongs inside the model, not to a head on it; it may be named from the base model on."""
    inner = dict(model.base_model.named_children())
    first, _, rest = key.partition(".")
    return first in inner or (first == model.base_model_prefix and bool(rest))
