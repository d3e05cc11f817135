"""What a model puts out: one answer to a whole example, or one for every token; and the map that makes it from states.

A vocabulary is wide. `head_states` stops before that map, so that it runs on the states that count only (`logits_of`).
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
)

from vp_core.ground.errors import VPError
from vp_core.ground.work import Enough
from vp_core.model.products import fast_products
from vp_core.model.sharing import share
from vp_core.model.sites import Site, observed

HEADS: Mapping[str, Mapping[str, Any]] = {
    "target tokens": MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,  # BART's class stands among the masked ones as well
    "next tokens": MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    "masked tokens": MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    "spans": MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES,
    "tags": MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
}
"""What a model may put out for tokens → the class that does, by model type. Every other one answers with "classes" to whole
examples, or, a bare ...Model, with "states" alone. `spans` are the beginning and the end of an answer in a text, `tags` a class
of each word, `target tokens` the words that a decoder writes about a text."""
_MAPS = ("classifier", "score")
"""What the map from states to tags is called where a model has no words to put out."""


def head_of(model: PreTrainedModel) -> str:
    """What a model puts out by its class: one of HEADS, "classes", or "states" of one without a head."""
    type_, name = model.config.model_type, type(model).__name__
    without = "states" if name.endswith("Model") else "classes"
    return next((head for head, classes in HEADS.items() if classes.get(type_) == name), without)


def check_answers(model: PreTrainedModel) -> None:
    """VPError for a model without a head, which says nothing that two answers could be compared by."""
    if head_of(model) == "states":
        raise VPError(
            f"A {type(model).__name__} has no head, so there is no effect on its answers to measure: choose a criterion "
            "without gradients, a scope other than measured, and a replacement other than refit."
        )


def tells_words(model: PreTrainedModel) -> bool:
    """Whether a model puts out words of a vocabulary."""
    return head_of(model) in ("next tokens", "masked tokens", "target tokens")


def head_states(model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> Tensor:
    """The states (examples, tokens, width) that the model's last map, from states to words, reads. That map does not run.

    Of one that writes about a text they are its decoder's, at its own tokens.
    """
    seen: list[Tensor] = []

    def see(_site: Site, states: Tensor) -> None:
        seen.append(states)
        raise Enough

    more: dict[str, Any] = {"use_cache": False} if head_of(model) in ("next tokens", "target tokens") else {}
    own = share(model)  # hooks of one thread must not meet those of another
    with observed(own, [Site("head", path_of_head(own), inputs=True)], see), suppress(Enough), fast_products():
        own(**inputs, **more)
    return seen[0]


def path_of_head(model: PreTrainedModel) -> str:
    """The path of the map from states to words, or to tags; VPError for a model without one."""
    check_answers(model)
    if head_of(model) == "tags":
        return next(name for name in _MAPS if isinstance(getattr(model, name, None), torch.nn.Module))
    head = model.get_output_embeddings()
    path = next((path for path, module in model.named_modules() if module is head), None)
    if path is None or head is None:
        raise VPError(f"A {type(model).__name__} predicts no tokens: give a language model, or a masked one.")
    return path


def logits_of(model: PreTrainedModel, states: Tensor) -> Tensor:
    """Logits (…, vocabulary), float32, of states (…, width) as `head_states` gives them."""
    head: Any = model.get_submodule(path_of_head(model)) if head_of(model) == "tags" else model.get_output_embeddings()
    logits: Tensor = head(states).float()
    if (bias := getattr(model, "final_logits_bias", None)) is not None:  # BART
        logits = logits + bias[0]
    cap = getattr(model.config, "final_logit_softcapping", None)  # Gemma 2
    return logits if not cap else torch.tanh(logits / cap) * cap
