"""Loading models: `demo`, a directory written by `save_pretrained`, a GGUF file, or a Hub id. Float32, nothing pickled, no
remote code.

A classifier of texts, unless tokens are to be predicted: then a causal or a masked language model, as config.json says.
"""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from vp_core.asking.kinds.tokens import head_of
from vp_core.ground.bounded import check_sizes, read_json
from vp_core.ground.errors import VPError, one_line
from vp_core.ground.hub import quiet_transformers, require_hub
from vp_core.loading.checkpoint import (
    check_amount,
    check_classifier,
    check_finite,
    check_language_model,
    check_numbers,
    check_weights,
    own_weights,
)
from vp_core.loading.config import check_config, check_dropped, mend
from vp_core.loading.folder import (
    CONFIG,
    check_asked,
    check_folder,
    check_hub_id,
    check_tokeniser_files,
    class_of,
    fetch,
    is_language_model,
    read_weights,
    result_of,
)
from vp_core.loading.gguf import as_folder, is_gguf
from vp_core.loading.sentences import as_one_sentence
from vp_core.loading.tokeniser import check_file, check_tokeniser, incomplete
from vp_core.model.families import family_of, longest_input
from vp_core.model.projections import Projection, find_projections
from vp_core.squeezing.folder import is_pruned, load_pruned

_LENGTH_LIMIT = 512
"""More tokens than that cost minutes a score on a processor, whatever the model has positions for."""
_WINDOW_LIMIT = 4096
"""The same of a window of a long text, of which few are enough."""
_NO_NOTES: tuple[str, ...] = ()
EMBEDDED = ("demo", "demo-sn", "demo-text")
"""Models that come with the package: the demo, its twin, trained under spectral normalisation towards the demo's hidden
states and outputs, and a small language model."""


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
        """The longest input that the model is given, in tokens."""
        most = _LENGTH_LIMIT if head_of(self.model) == "classes" else _WINDOW_LIMIT
        return int(min(self.tokenizer.model_max_length, longest_input(self.model.config), most))


def load_model(name: str, tokens: bool = False) -> LoadedModel:
    """Load and check a sequence-classification (or regression) model, or one that predicts `tokens`, and its tokeniser.

    Raises VPError, one sentence that says what to give or mend, for an unknown or unreachable id, for a folder that is
    something else, for a checkpoint that is broken, pickled, quantised or of an unsupported family, for weights that are
    missing, left over inside the model, of other sizes, NaN or infinite, and for a tokeniser that is missing or another's.
    """
    notes = _NO_NOTES
    name = result_of(name)
    if name in EMBEDDED:
        model, tokenizer = _embedded(name, tokens)
    elif is_gguf(name):
        check_asked(name, "ForCausalLM", tokens)
        folder, notes = as_folder(name)
        model, tokenizer, more = _load_pretrained(str(folder), tokens)
        notes = (*notes, *more)
    else:
        model, tokenizer, notes = _load_pretrained(name, tokens)
    model.eval().requires_grad_(False)
    check_finite(model, name)
    notes = (*notes, *check_tokeniser(name, model, tokenizer))
    projections = () if hasattr(model, "squeezed") else find_projections(model)
    return LoadedModel(model, tokenizer, name, fingerprint(model), projections, notes)


def load_any(name: str) -> LoadedModel:
    """A model as what it was saved as: one that predicts tokens, else a classifier; raises as `load_model` does."""
    name = result_of(name)
    return load_model(name, predicts_tokens(name))


def predicts_tokens(name: str) -> bool:
    """Whether a model says of itself that it predicts tokens, the next ones or masked ones."""
    if name in EMBEDDED or is_gguf(name):
        return name == "demo-text" or name not in EMBEDDED
    is_folder = bool(name) and os.path.isdir(name)  # noqa: PTH112 (a Path would raise for names no folder can have)
    with quiet_transformers(), as_one_sentence(name, is_folder):
        return is_language_model(class_of(Path(name) if is_folder else on_the_hub(name)))


def _embedded(name: str, tokens: bool) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    from vp_core.demo.load import load_demo, load_demo_text, load_twin

    if tokens != (name == "demo-text"):
        asked = "predicts no tokens: give demo-text" if tokens else "is a language model: give it a text (--task demo-text)"
        raise VPError(f"The model {name!r} {asked}, or a model of your own.")
    if tokens:
        return load_demo_text()
    return load_demo() if name == "demo" else load_twin()


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


def _load_pretrained(name: str, tokens: bool) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, tuple[str, ...]]:
    """(model, tokeniser, notes) of a folder, dense or squeezed, or of an id on the Hub."""
    is_folder = bool(name) and os.path.isdir(name)  # noqa: PTH112 (a Path would raise for names no folder can have)
    with quiet_transformers(), as_one_sentence(name, is_folder):
        folder, notes = Path(name) if is_folder else on_the_hub(name), _NO_NOTES
        check_asked(name, class_of(folder), tokens)
        if is_folder and is_pruned(name):
            model = _squeezed(name, tokens)
        else:
            model, notes = _dense(name, folder, is_folder, tokens)
        check_tokeniser_files(name, folder)
        tokenizer = read_tokeniser(name, is_folder)
        return model, tokenizer, (*notes, *check_file(tokenizer, folder))


def read_tokeniser(name: str, is_folder: bool) -> PreTrainedTokenizerBase:
    """The tokeniser of a folder or an id, whose files were checked; VPError for one that is incomplete."""
    try:
        return AutoTokenizer.from_pretrained(name, local_files_only=is_folder, trust_remote_code=False)
    except Exception as error:  # transformers and tokenizers share no base class
        if not is_folder:
            raise
        reason = one_line(error)
        if "backend tokenizer" in reason:  # what follows is a list of what could be converted, were it there
            raise incomplete(name, "there is nothing to make it from") from error
        raise incomplete(name, reason) from error


def on_the_hub(name: str) -> Path:
    """The folder with the files of an id, fetched if need be."""
    check_hub_id(name)
    require_hub(f"The model {name!r}")
    return fetch(name)


def _squeezed(name: str, tokens: bool) -> PreTrainedModel:
    model = load_pruned(name).float()
    (check_language_model if tokens else check_classifier)(name, model.config.model_type, type(model).__name__)
    mend(model.config)
    for module in model.modules():  # they were made by the configuration as it stands in the file
        if getattr(module, "chunk_size_feed_forward", 0):
            module.chunk_size_feed_forward = 0
    return model


def _dense(name: str, folder: Path, is_folder: bool, tokens: bool) -> tuple[PreTrainedModel, tuple[str, ...]]:
    """(model, notes) of a classifier, or of a model that predicts tokens."""
    if tokens:
        made_by, ending, trained_for = _language_class(name, folder)
        model, info = read_checked(name, folder, is_folder, made_by, partial(check_language_model, class_name=ending))
        found = check_weights(name, model, info, trained_for)
    else:
        model, info = read_checked(name, folder, is_folder, AutoModelForSequenceClassification, check_classifier)
        found = check_weights(name, model, info)
    own_weights(model)
    return model, found


def _language_class(name: str, folder: Path) -> tuple[type, str, str]:
    """(auto class, the ending of its classes, what they are trained for) for a folder whose model is to predict tokens.

    As the class that saved it says, where it does; VPError for one that says it does something else.
    """
    if (folder / CONFIG).exists():
        saved_by, family = class_of(folder), family_of(str(read_json(folder / CONFIG).get("model_type")))
        if saved_by.endswith("ForMaskedLM") or (family.fills_masks and not family.writes_text):
            return AutoModelForMaskedLM, "ForMaskedLM", "predicting masked words"
    return AutoModelForCausalLM, "ForCausalLM", "predicting the next token"


def read_checked(
    name: str, folder: Path, is_folder: bool, made_by: type, check_type: Callable[[str, str], object]
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """(the float32 model that transformers' auto class `made_by` makes, what it says of keys missing or left over).

    The configuration and the headers are checked before there are weights. `check_type(name, model type)` raises VPError for
    one that is not wanted.
    """
    if is_folder:
        check_folder(folder)
    raw, weights = read_json(folder / CONFIG), read_weights(folder)
    check_config(name, raw)
    check_numbers(name, weights)
    if weights:  # none are in the folder of an id whose weights transformers finds elsewhere
        check_sizes(name, raw, weights.values())
    check_type(name, str(raw["model_type"]))
    options: dict[str, Any] = {"local_files_only": is_folder, "trust_remote_code": False}
    auto: Any = made_by
    with as_one_sentence(name, is_folder, of_config=True):
        config = AutoConfig.from_pretrained(name, **options)
        check_dropped(name, raw, config)
        mend(config)
        if weights:
            with torch.device("meta"):
                check_amount(name, auto.from_config(config), weights)
    model, info = auto.from_pretrained(
        name, config=config, dtype=torch.float32, use_safetensors=True, output_loading_info=True,
        ignore_mismatched_sizes=True, **options,
    )  # fmt: skip
    return model, info
