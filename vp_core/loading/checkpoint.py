"""Are these the weights of the model?"""

import torch
from transformers import PreTrainedModel

from vp_core.ground.errors import VPError
from vp_core.model.families import FAMILIES, family_of


def check_classifier(name: str, model_type: str, class_name: str = "ForSequenceClassification") -> None:
    """VPError unless texts can be classified with the model."""
    if not family_of(model_type).classifies_text or not class_name.endswith("ForSequenceClassification"):
        families = ", ".join(sorted(family for family, about in FAMILIES.items() if about.classifies_text))
        raise VPError(
            f"The model {name!r} is no text classifier that a study takes (it is of the type {model_type!r}): give a "
            f"...ForSequenceClassification of one of {families}, or call prune and squeeze on it yourself."
        )


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
