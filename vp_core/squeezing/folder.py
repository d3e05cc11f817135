"""Squeezed models people can keep: `save_pruned`, `load_pruned`.

A pruned folder holds `pruned.json` (the format, the model's class, the shapes, what it was made from, a checksum),
`pruned.safetensors` (every parameter and buffer), `config.json` and, if it was given, the files of its tokeniser or image
processor. No pickle, and nothing of the original checkpoint is needed to load it. Where single weights are gone
(`squeeze.squeeze_masked`), matrices with many zeros are bits and values (`vp_core.weights.compressed`).
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedModel

from vp_core.asking.batches import Reader
from vp_core.ground.bounded import check_file, check_sizes, read_header, read_json
from vp_core.ground.errors import VPError, one_line
from vp_core.ground.names import EMBEDDED_TASKS, PRUNED, PRUNED_WEIGHTS
from vp_core.ground.store import is_pruned, load_tensors, new_folder, save_tensors
from vp_core.model.families import FAMILIES
from vp_core.squeezing.cut.shapes import Squeezed, install
from vp_core.weights.compressed import check_compressed, compress, expand
from vp_core.weights.masks import Shape

FORMAT = "variance-pruning squeezed model 1"
FORMAT_SPARSE = "variance-pruning squeezed model 2"
"""Of a folder with compressed matrices; others are written as ever, so that older versions read them."""
FORMAT_TURNING = "variance-pruning squeezed model 3"
"""Of a folder with heads that turn by frequencies of their own, compressed or not."""
FORMAT_GROUPED = "variance-pruning squeezed model 4"
"""Of a folder with heads of several widths in one layer, compressed or not."""
_FORMATS = (FORMAT, FORMAT_SPARSE, FORMAT_TURNING, FORMAT_GROUPED)


def about_of(folder: str | Path) -> dict[str, Any]:
    """What `save_pruned` was told of where the model of a folder comes from; nothing for another folder."""
    about = _read_facts(Path(folder)).get("about") if is_pruned(folder) else None
    return about if isinstance(about, dict) else {}


def task_of(folder: str | Path) -> str | None:
    """The task a pruned folder was made for, if it is one with data of its own (a demo's)."""
    task = about_of(folder).get("task")
    return task if task in EMBEDDED_TASKS else None


def save_pruned(
    model: PreTrainedModel,
    folder: str | Path,
    tokenizer: Reader | None = None,
    about: Mapping[str, Any] | None = None,
) -> Path:
    """Write a squeezed model; `about` are JSON-able facts about where it comes from. Returns the folder.

    Where single weights are gone (`squeeze_masked`), a matrix is written as bits and values if that is smaller.

    The folder appears whole or not at all. Raises VPError for a model that is not squeezed and for a folder with other
    things in it.
    """
    squeezed: Squeezed | None = getattr(model, "squeezed", None)
    if squeezed is None:
        raise VPError("This model is not squeezed: call squeeze first, or save it with export_transformers.")
    with new_folder(folder) as place:
        tensors, tied = _tensors(model)
        compressed: dict[str, Shape] = {}
        if squeezed.sparse:
            tensors, compressed = compress(tensors)
        save_tensors(place / PRUNED_WEIGHTS, tensors, kind="squeezed model", about={})
        model.config.save_pretrained(place)
        keep_labels(model, place)
        if model.can_generate():
            model.generation_config.save_pretrained(place)
        if tokenizer is not None:
            tokenizer.save_pretrained(place)
        facts = {
            "format": _format_of(squeezed, bool(compressed)),
            "model_type": model.config.model_type,
            "class": type(model).__name__,
            "about": dict(about or {}),
            "sha256": _sha256(place / PRUNED_WEIGHTS),
            "tied": tied,
            "squeezed": squeezed.as_json(),
            **({"compressed": compressed} if compressed else {}),
        }
        (place / PRUNED).write_text(json.dumps(facts, indent=1), encoding="utf-8")
    return Path(folder)


def _format_of(squeezed: Squeezed, compressed: bool) -> str:
    """The oldest format that has room for it."""
    if squeezed.grouped:
        return FORMAT_GROUPED
    return FORMAT_TURNING if squeezed.turning else FORMAT_SPARSE if compressed else FORMAT


def load_pruned(folder: str | Path) -> PreTrainedModel:
    """The squeezed model of a folder that `save_pruned` wrote, in evaluation mode.

    Raises VPError, one sentence each, for a folder that is something else, incomplete, changed, or of a family or format
    that this version does not know.
    """
    folder = Path(folder)
    if not is_pruned(folder):
        raise VPError(f"The folder {str(folder)!r} has no {PRUNED}: give a folder written by save_pruned or `vp prune`.")
    facts = _read_facts(folder)
    model_class = _model_class(folder, facts)
    check_file(folder / PRUNED_WEIGHTS)
    if _sha256(folder / PRUNED_WEIGHTS) != facts["sha256"]:
        raise VPError(f"The weights in {str(folder / PRUNED_WEIGHTS)!r} are not those that were saved: prune and save again.")
    header, compressed = check_compressed(
        read_header(folder / PRUNED_WEIGHTS), facts.get("compressed", {}), str(folder / PRUNED_WEIGHTS)
    )
    check_sizes(str(folder), read_json(folder / "config.json"), header.values())
    tensors, _ = load_tensors(folder / PRUNED_WEIGHTS, kind="squeezed model")
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        if config.model_type != facts["model_type"]:
            raise VPError(
                f"The folder {str(folder)!r} holds a {facts['model_type']} model, but its config.json says "
                f"{config.model_type}: prune and save again."
            )
        with torch.device("meta"):  # no random weights only to overwrite them
            model = model_class(config)
        install(model, Squeezed.from_json(facts["squeezed"]))
        check_shapes(model, compressed)
        tensors = expand(tensors, compressed)
        assign(model, tensors | {alias: tensors[name] for alias, name in facts["tied"].items()})
        if (folder / "generation_config.json").is_file():
            model.generation_config = transformers.GenerationConfig.from_pretrained(folder, local_files_only=True)
    except VPError:
        raise
    except Exception as error:  # json, transformers and torch share no base class
        raise VPError(f"The folder {str(folder)!r} cannot be loaded ({one_line(error)}): prune and save again.") from error
    return model.eval()


def keep_labels(model: PreTrainedModel, place: Path) -> None:
    """Put the names of its outputs into the config.json that transformers wrote for a model, if it left them out.

    It does so where they are two without names, and takes a BART without them for one of three outputs.
    """
    path = place / "config.json"
    about = json.loads(path.read_text(encoding="utf-8"))
    if model.config.id2label and "id2label" not in about:
        about |= {"id2label": model.config.id2label, "label2id": model.config.label2id}
        path.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def named_tensors(model: nn.Module) -> list[tuple[str, Tensor]]:
    """(name, tensor) of every parameter and buffer, tied ones under each of their names."""
    return [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]


def _tensors(model: nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
    """(every parameter and buffer once by name, {further name: first name} of those that share storage)."""
    first: dict[int, str] = {}
    tied: dict[str, str] = {}
    tensors: dict[str, Tensor] = {}
    for name, tensor in named_tensors(model):
        if id(tensor) in first:
            tied[name] = first[id(tensor)]
        else:
            first[id(tensor)] = name
            tensors[name] = tensor.detach().clone()
    return tensors, tied


def check_shapes(model: nn.Module, shapes: Mapping[str, Shape]) -> None:
    """ValueError unless the model has weights of these shapes under these names: before memory is taken for them."""
    there = {name: tuple(tensor.shape) for name, tensor in named_tensors(model)}
    for name, shape in shapes.items():
        if there.get(name) != shape:
            raise ValueError(f"the weight {name} has the shape {shape} instead of {there.get(name)}")


def assign(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put tensors in place of the model's, by name; ValueError unless names and shapes are exactly the model's."""
    expected = dict(named_tensors(model))
    if expected.keys() != tensors.keys():
        raise ValueError(f"the weights {sorted(expected.keys() ^ tensors.keys())[:3]} are missing or not the model's")
    made: dict[int, Tensor] = {}
    for name, old in expected.items():
        new = tensors[name]
        if old.shape != new.shape:
            raise ValueError(f"the weight {name} has the shape {tuple(new.shape)} instead of {tuple(old.shape)}")
        if isinstance(old, nn.Parameter):
            new = made.setdefault(id(new), nn.Parameter(new, requires_grad=new.is_floating_point()))
        path, _, attribute = name.rpartition(".")
        module = model.get_submodule(path)
        place: dict = module._parameters if attribute in module._parameters else module._buffers
        place[attribute] = new


def _read_facts(folder: Path) -> dict[str, Any]:
    try:
        facts = read_json(folder / PRUNED)
        known = facts["format"] in _FORMATS
        facts["model_type"], facts["class"], facts["sha256"], facts["tied"], facts["squeezed"]
    except (ValueError, KeyError, TypeError) as error:
        raise VPError(f"{str(folder / PRUNED)!r} is broken ({one_line(error)}): prune and save again.") from error
    if not known:
        *others, last = map(repr, _FORMATS)
        both = f"{', '.join(others)} and {last}"
        raise VPError(f"{str(folder / PRUNED)!r} has the format {facts['format']!r}: this version reads {both}.")
    return facts


def _model_class(folder: Path, facts: Mapping[str, Any]) -> type[PreTrainedModel]:
    """A model class of transformers, never one of the folder's own."""
    found = getattr(transformers, str(facts["class"]), None)
    if facts["model_type"] not in FAMILIES or not (isinstance(found, type) and issubclass(found, PreTrainedModel)):
        raise VPError(
            f"The folder {str(folder)!r} holds a {facts['class']} of the type {facts['model_type']}, which is not supported: "
            f"the families are {', '.join(sorted(FAMILIES))}."
        )
    return found


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
