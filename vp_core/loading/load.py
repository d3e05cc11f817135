"""Loading models: `demo`, a directory written by `save_pretrained`, or a Hub id. Safetensors only, float32, no remote code."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from vp_core.ground.errors import VPError
from vp_core.ground.hub import quiet_transformers, require_hub
from vp_core.loading.checkpoint import check_classifier, check_finite, own_weights
from vp_core.loading.folder import as_one_sentence, check_folder, check_hub_id
from vp_core.loading.tokeniser import agree_on_padding
from vp_core.model.families import longest_input
from vp_core.model.projections import Projection, find_projections
from vp_core.squeezing.folder import is_pruned, load_pruned

_LENGTH_LIMIT = 512
EMBEDDED = ("demo", "demo-sn")
"""Models that come with the package: the demo, and its twin that was trained under spectral normalisation."""


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model in eval mode with its tokeniser. `fingerprint` identifies its weights and configuration.

    `projections` is empty for a model that is squeezed already. `notes` are what its user should know of how it was read.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    fingerprint: str
    projections: tuple[Projection, ...]
    notes: tuple[str, ...] = ()

    @property
    def layers(self) -> int:
        """Number of layers; 0 for a squeezed model, whose projections are not listed."""
        return 1 + max((p.layer for p in self.projections), default=-1)

    @property
    def max_length(self) -> int:
        """The longest input the model takes, in tokens."""
        return min(self.tokenizer.model_max_length, longest_input(self.model.config), _LENGTH_LIMIT)


def load_model(name: str) -> LoadedModel:
    """Load and check a sequence-classification (or regression) model.

    Raises VPError for an unknown or unreachable id, a broken or pickled checkpoint, an unsupported family, missing layers
    and weights that are NaN or infinite.
    """
    if name in EMBEDDED:
        from vp_core.demo.load import load_demo, load_twin

        model, tokenizer = load_demo() if name == "demo" else load_twin()
    else:
        model, tokenizer = _load_pretrained(name)
    model.eval().requires_grad_(False)
    check_finite(model, name)
    agree_on_padding(model, tokenizer, name)
    projections = () if hasattr(model, "squeezed") else find_projections(model)
    return LoadedModel(model, tokenizer, name, fingerprint(model), projections)


def fingerprint(model: PreTrainedModel) -> str:
    """SHA-256 over the configuration and the names and bytes of all weights, shortened to 16 digits."""
    sha = hashlib.sha256(json.dumps(_behaviour(model.config), sort_keys=True, default=str).encode())
    for key, tensor in sorted(model.state_dict().items()):
        sha.update(key.encode())
        sha.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy())
    return sha.hexdigest()[:16]


def _behaviour(config: PretrainedConfig) -> dict[str, object]:
    """The configuration without what says nothing about the model's answers."""
    silent = {"_name_or_path", "transformers_version", "architectures", "dtype", "id2label", "label2id"}
    return {key: value for key, value in config.to_dict().items() if key not in silent}


def _load_pretrained(name: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    is_folder = bool(name) and Path(name).is_dir()
    if is_folder and is_pruned(name):
        model = load_pruned(name).float()
        check_classifier(name, model.config.model_type, type(model).__name__)
        if not (Path(name) / "tokenizer_config.json").is_file():
            raise VPError(f"The folder {name!r} has no tokeniser: save it together with the squeezed model.")
        with quiet_transformers(), as_one_sentence(name, is_folder):
            return model, AutoTokenizer.from_pretrained(name, local_files_only=True, trust_remote_code=False)
    if is_folder:
        check_folder(Path(name))
    else:
        check_hub_id(name)
        require_hub(f"The model {name!r}")
    options = {"local_files_only": is_folder, "trust_remote_code": False}
    with quiet_transformers(), as_one_sentence(name, is_folder):
        config = AutoConfig.from_pretrained(name, **options)
        check_classifier(name, config.model_type)
        model, info = AutoModelForSequenceClassification.from_pretrained(
            name, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **options
        )
        own_weights(model)
        tokenizer = AutoTokenizer.from_pretrained(name, **options)
    bad = sorted(info["missing_keys"]) + sorted(str(k[0]) for k in info.get("mismatched_keys", ()))
    if bad:
        raise VPError(
            f"The checkpoint {name!r} lacks {len(bad)} of the model's weights (such as {bad[0]}): choose one that was "
            "fine-tuned for sequence classification."
        )
    return model, tokenizer
