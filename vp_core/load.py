"""Loading models: `demo`, a directory written by `save_pretrained`, or a Hub id. Safetensors only, float32, no remote code."""

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator
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
from vp_core.model.families import FAMILIES, family_of, longest_input
from vp_core.model.projections import Projection, find_projections
from vp_core.squeezing.folder import is_pruned, load_pruned

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_LENGTH_LIMIT = 512
EMBEDDED = ("demo", "demo-sn")
"""Models that come with the package: the demo, and its twin, trained under spectral normalisation towards the demo's hidden
states and outputs."""


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
    _check_finite(model, name)
    _agree_on_padding(model, tokenizer, name)
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
        _check_classifier(name, model.config.model_type, type(model).__name__)
        if not (Path(name) / "tokenizer_config.json").is_file():
            raise VPError(f"The folder {name!r} has no tokeniser: save it together with the squeezed model.")
        with quiet_transformers(), _as_one_sentence(name, is_folder):
            return model, AutoTokenizer.from_pretrained(name, local_files_only=True, trust_remote_code=False)
    if is_folder:
        _check_folder(Path(name))
    elif not _HUB_ID.fullmatch(name) or ".." in name:
        raise VPError(
            f"There is no model {name!r}: give 'demo', an existing folder written by save_pretrained, or a Hub id such as "
            "'textattack/bert-base-uncased-SST-2'."
        )
    else:
        require_hub(f"The model {name!r}")
    options = {"local_files_only": is_folder, "trust_remote_code": False}
    with quiet_transformers(), _as_one_sentence(name, is_folder):
        config = AutoConfig.from_pretrained(name, **options)
        _check_classifier(name, config.model_type)
        model, info = AutoModelForSequenceClassification.from_pretrained(
            name, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **options
        )
        _own_weights(model)
        tokenizer = AutoTokenizer.from_pretrained(name, **options)
    bad = sorted(info["missing_keys"]) + sorted(str(k[0]) for k in info.get("mismatched_keys", ()))
    if bad:
        raise VPError(
            f"The checkpoint {name!r} lacks {len(bad)} of the model's weights (such as {bad[0]}): choose one that was "
            "fine-tuned for sequence classification."
        )
    return model, tokenizer


def _own_weights(model: PreTrainedModel) -> None:
    """Copy each parameter and buffer once, in place and one at a time; what is tied stays tied.

    Weights from safetensors lie in the mapped file, at addresses that are no multiple of 64 bytes. Matrix products take
    another path there and round otherwise than on the same weights made in memory, so that a model would answer by how it
    came in; and a file that changes would change them. The mapping is let go with the last of them.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.data.clone()


def _check_classifier(name: str, model_type: str, class_name: str = "ForSequenceClassification") -> None:
    """VPError unless texts can be classified with the model."""
    if not family_of(model_type).classifies_text or not class_name.endswith("ForSequenceClassification"):
        families = ", ".join(sorted(family for family, about in FAMILIES.items() if about.classifies_text))
        raise VPError(
            f"The model {name!r} is no text classifier that a study takes (it is of the type {model_type!r}): give a "
            f"...ForSequenceClassification of one of {families}, or call prune and squeeze on it yourself."
        )


def _check_folder(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise VPError(f"The folder {str(folder)!r} has no config.json: give a folder written by save_pretrained.")
    if not any(folder.glob("*.safetensors")):
        pickled = any(folder.glob("*.bin")) or any(folder.glob("*.pt"))
        raise VPError(
            f"The folder {str(folder)!r} has no safetensors weights"
            + (", only pickled ones, which could run code when loaded" if pickled else "")
            + ": save the model again with save_pretrained(..., safe_serialization=True)."
        )


@contextlib.contextmanager
def _as_one_sentence(name: str, is_folder: bool) -> Iterator[None]:
    """Turn whatever the libraries raise on a bad checkpoint into one sentence."""
    try:
        yield
    except VPError:
        raise
    except Exception as error:  # safetensors, json, hub and transformers errors share no base class
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        hint = (
            "the folder is broken or incomplete, save the model again"
            if is_folder
            else "check the id and the network, or give a folder on this machine"
        )
        raise VPError(f"The model {name!r} could not be loaded ({reason.rstrip('.')}): {hint}.") from error


def _check_finite(model: PreTrainedModel, name: str) -> None:
    for key, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise VPError(f"The weight {key} of {name!r} has NaN or infinite values: the checkpoint is broken, get it again.")


def _agree_on_padding(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """GPT-2 comes without a padding token, and its classifier finds the last word by the one in its configuration."""
    for pad in (model.config.pad_token_id, tokenizer.pad_token_id, tokenizer.eos_token_id):
        if pad is not None and 0 <= pad < len(tokenizer):
            model.config.pad_token_id = pad
            if tokenizer.pad_token_id != pad:
                tokenizer.pad_token = tokenizer.convert_ids_to_tokens(pad)
            return
    raise VPError(f"The model {name!r} names no token to pad with: set pad_token_id in its config.json.")
