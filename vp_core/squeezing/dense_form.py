"""The masked dense form of a pruned model, which plain transformers loads: old shapes, constants in the biases."""

from collections.abc import Collection
from pathlib import Path

import torch
from transformers import PreTrainedModel

from vp_core.asking.batches import Reader
from vp_core.ground.errors import VPError
from vp_core.ground.store import new_folder
from vp_core.model.families import family_of
from vp_core.model.family.stack import Family
from vp_core.model.projections import find_projections
from vp_core.squeezing.folder import assign, keep_labels, named_tensors


def export_transformers(pruned: PreTrainedModel, folder: str | Path, tokenizer: Reader | None = None) -> Path:
    """Write the masked dense form, constants in the biases, which `AutoModel….from_pretrained` loads. Returns the folder.

    `pruned` is what `replacing.prune.prune` returned. Raises VPError for a squeezed model, whose shapes transformers does not
    know.
    """
    _check_shapes(pruned)
    pruned = _with_all_biases(pruned, family_of(pruned.config.model_type))
    with new_folder(folder) as place:
        pruned.save_pretrained(place)
        keep_labels(pruned, place)
        if tokenizer is not None:
            tokenizer.save_pretrained(place)
    return Path(folder)


def check_dense_form(model: PreTrainedModel) -> None:
    """VPError if `export_transformers` would have no place for the constants of a pruned model: before it is pruned."""
    _check_shapes(model)
    _check_names({f"{p.path}.bias" for p in find_projections(model)}, _with_biases_on(model), model.config.model_type)


def _check_shapes(model: PreTrainedModel) -> None:
    if hasattr(model, "squeezed"):
        raise VPError("A squeezed model has shapes that transformers does not know: export the pruned model before squeezing.")


def _with_all_biases(pruned: PreTrainedModel, family: Family) -> PreTrainedModel:
    """The same model with the biases its configuration can switch on, zeros where it had none; VPError if it has others."""
    wider = _with_biases_on(pruned)
    have = dict(named_tensors(pruned))
    _check_names(have.keys(), wider, pruned.config.model_type)
    if not family.bias_flags:
        return pruned
    zero = {n: torch.zeros(t.shape, dtype=pruned.dtype, device=pruned.device) for n, t in named_tensors(wider) if n not in have}
    assign(wider, have | zero)
    if pruned.can_generate():
        wider.generation_config = pruned.generation_config
    return wider.eval()


def _with_biases_on(model: PreTrainedModel) -> PreTrainedModel:
    """A model of the same class on the meta device, with every bias that its configuration can switch on."""
    flags = dict.fromkeys(family_of(model.config.model_type).bias_flags, True)
    with torch.device("meta"):
        return type(model)(type(model.config).from_dict(model.config.to_dict() | flags))


def _check_names(names: Collection[str], wider: PreTrainedModel, model_type: str) -> None:
    """VPError if a model of transformers has no place for one of these weights."""
    if lost := set(names) - dict(named_tensors(wider)).keys():
        name = "constants go into biases, and a" if family_of(model_type).bare else "a"
        raise VPError(
            f"This model cannot be written in the format of transformers: {name} {model_type} model there has no "
            f"{min(lost)}: save it squeezed instead."
        )
