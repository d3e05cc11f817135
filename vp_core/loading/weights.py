"""The weights of a checkpoint and nothing else: a model under any head or none, to look at and to lay beside another.

What it answers is nobody's matter here, so a head that is missing or left over is none either; its matrices must all be there.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import AutoModel, PreTrainedModel, PreTrainedTokenizerBase

from vp_core.ground.errors import VPError
from vp_core.ground.hub import quiet_transformers
from vp_core.ground.names import TYPES, WORD_EMBEDDINGS
from vp_core.ground.store import is_pruned
from vp_core.loading.checkpoint import check_left_over, check_prefix, own_weights
from vp_core.loading.folder import check_tokeniser_files
from vp_core.loading.load import EMBEDDED, load_model, on_the_hub, read_checked, read_tokeniser
from vp_core.loading.sentences import as_one_sentence
from vp_core.model.families import family_of
from vp_core.weights.matrices import find_matrices, view


def load_weights(name: str, types: Sequence[str] = (*TYPES, WORD_EMBEDDINGS)) -> dict[str, Tensor]:
    """Matrix name (as in `vp_core.weights.matrices.Matrix`) → its weights (rows, columns) in float32.

    `name` is `demo`, a folder written by `save_pretrained`, or a Hub id: an encoder by itself, or a model with whatever head.
    A model that reads no text has no `word_embeddings`. Raises VPError as `load_bare` does.
    """
    model = load_bare(name)
    return {matrix.name: view(model, matrix) for matrix in find_matrices(model, types_of(model, types))}


def load_bare(name: str) -> PreTrainedModel:
    """The model of a checkpoint without its head, in eval mode, of any supported family.

    Safetensors only, sizes checked before anything is made by them, no code of the checkpoint's own. Raises VPError, one
    sentence, for what `vp_core.loading.load.load_model` refuses of a folder and its weights, for a squeezed model, and for a
    checkpoint that lacks one of the matrices or has it in another shape than its configuration says.
    """
    if name in EMBEDDED:
        return load_model(name).model
    is_folder = bool(name) and os.path.isdir(name)  # noqa: PTH112 (a Path would raise for names no folder can have)
    if is_folder and is_pruned(name):
        raise VPError(f"The model {name!r} is squeezed already: give the model that it was made from.")
    with quiet_transformers(), as_one_sentence(name, is_folder):
        return _load(name, Path(name) if is_folder else on_the_hub(name), is_folder)


def load_tokeniser(name: str) -> PreTrainedTokenizerBase:
    """The tokeniser of a checkpoint of which the weights are looked at; VPError if there is none, or not a safe one."""
    if name in EMBEDDED:
        return load_model(name).tokenizer
    is_folder = bool(name) and os.path.isdir(name)  # noqa: PTH112 (a Path would raise for names no folder can have)
    with quiet_transformers(), as_one_sentence(name, is_folder):
        check_tokeniser_files(name, Path(name) if is_folder else on_the_hub(name))
        return read_tokeniser(name, is_folder)


def types_of(model: PreTrainedModel, types: Sequence[str]) -> tuple[str, ...]:
    """Those of the types that a model has: the word embeddings only if it reads words."""
    words = getattr(model.get_input_embeddings(), "weight", None)
    has_words = isinstance(words, Tensor) and words.dim() == 2
    return tuple(type_ for type_ in types if type_ != WORD_EMBEDDINGS or has_words)


def _load(name: str, folder: Path, is_folder: bool) -> PreTrainedModel:
    model, info = read_checked(name, folder, is_folder, AutoModel, lambda _, model_type: family_of(model_type))
    _check_matrices(name, model, info)
    own_weights(model)
    return model.eval().requires_grad_(False)


def _check_matrices(name: str, model: PreTrainedModel, info: dict[str, Any]) -> None:
    """VPError if a matrix was not in the file or in another shape, for it would be random, and if some of the file is lost."""
    matrices = find_matrices(model, types_of(model, (*TYPES, WORD_EMBEDDINGS)))
    ours = {f"{matrix.path}.weight" for matrix in matrices}
    missing = sorted(ours & set(info["missing_keys"]))
    check_prefix(name, model.base_model_prefix, missing, sorted(info["unexpected_keys"]))
    if missing:
        raise VPError(
            f"The checkpoint {name!r} lacks {len(missing)} of the {len(ours)} weight matrices of a {model.config.model_type} "
            f"(such as {missing[0]}): take the config.json that belongs to it."
        )
    for key, there, here in sorted(info.get("mismatched_keys", ())):
        if key in ours:
            raise VPError(
                f"The weight {key} of {name!r} has the shape {tuple(there)}, by its config.json it would be {tuple(here)}: "
                "take the config.json that belongs to these weights."
            )
    check_left_over(name, model, sorted(info["unexpected_keys"]))
