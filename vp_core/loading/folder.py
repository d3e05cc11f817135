"""What is this name, or this folder, and what should be given instead?"""

import os
import re
from pathlib import Path

from transformers.utils import cached_file

from vp_core.ground.bounded import TOKENISER_LIMIT, Weight, check_file, read_header, read_json
from vp_core.ground.errors import VPError
from vp_core.ground.names import EMBEDDED_TASKS, PRUNED, PRUNED_WEIGHTS, RESULT, RUN

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
CONFIG, WHOLE, INDEX, ADAPTER = "config.json", "model.safetensors", "model.safetensors.index.json", "adapter_config.json"
_ELSEWHERE = {"*.h5": "TensorFlow's", "*.msgpack": "Flax's", "*.gguf": "GGUF", "*.onnx": "ONNX"}


def result_of(name: str) -> str:
    """The folder of a run's model for that of a run (`vp train`, `vp snip`), any other name as it is.

    Raises VPError for a run that has no model yet.
    """
    if not name or not os.path.isfile(Path(name) / RUN):  # noqa: PTH113 (a Path would raise for names no file can have)
        return name
    if not (Path(name) / RESULT).is_dir():
        raise VPError(f"The run in {name!r} has no model yet: go on with it (vp train … --out {name} --resume), then open it.")
    return str(Path(name) / RESULT)


def task_of_run(name: str) -> str | None:
    """The task a run was begun for, if it is one with data of its own (a demo's); None for another folder."""
    try:
        settings = read_json(Path(name) / RUN)["settings"] if name else {}
    except (OSError, ValueError, KeyError, TypeError):  # whoever opens the model says what is wrong
        return None
    task = settings.get("task") if isinstance(settings, dict) else None
    return task if task in EMBEDDED_TASKS else None


def class_of(folder: Path) -> str:
    """The name of the class that a folder's model was saved by, as its config.json says or what a pruned folder holds.

    Empty where nobody says.
    """
    try:
        if (folder / PRUNED).is_file():
            return str(read_json(folder / PRUNED).get("class") or "")
        found = read_json(folder / CONFIG).get("architectures") if (folder / CONFIG).is_file() else None
    except VPError:  # whoever opens the model says what is wrong
        return ""
    return str(found[0]) if isinstance(found, list) and found else ""


def check_hub_id(name: str) -> None:
    """VPError unless this could be the id of a model on the Hub."""
    if os.path.isfile(name):  # noqa: PTH113 (a Path would raise for names no file can have)
        raise VPError(f"{name!r} is a file: give the folder it is in (or a .gguf file of a language model).")
    if not _HUB_ID.fullmatch(name) or ".." in name or len(name) > 200:
        shown = name if len(name) <= 200 else name[:100] + "…"
        raise VPError(
            f"There is no model {shown!r}: give 'demo', an existing folder written by save_pretrained, or a Hub id such as "
            "'textattack/bert-base-uncased-SST-2'."
        )


def check_folder(folder: Path) -> None:
    """VPError unless the folder has a configuration and safetensors weights; it says what the folder is and what to give."""
    if (folder / ADAPTER).exists():
        base = read_json(folder / ADAPTER).get("base_model_name_or_path")
        raise VPError(
            f"The folder {str(folder)!r} holds an adapter (PEFT, LoRA), not a whole model: load it on its base model"
            f"{f' {str(base)[:100]!r}' if base else ''}, call merge_and_unload() and give the folder where that is saved."
        )
    if not (folder / CONFIG).exists():
        inner = _model_inside(folder)
        raise VPError(
            f"The folder {str(folder)!r} has no config.json: "
            + (f"give the model inside, {str(inner)!r}." if inner else "give a folder written by save_pretrained.")
        )
    if not (folder / WHOLE).exists() and not (folder / INDEX).exists():
        raise VPError(f"The folder {str(folder)!r} has {_other_weights(folder)}.")


def read_weights(folder: Path) -> dict[str, Weight]:
    """Name → type and shape of every weight in the folder, from the files' headers.

    Empty if there is no such file. Raises VPError for a header that cannot be true, and for an index that names files
    elsewhere.
    """
    if (folder / PRUNED_WEIGHTS).exists():
        return read_header(folder / PRUNED_WEIGHTS)
    if (folder / WHOLE).exists():
        return read_header(folder / WHOLE)
    weights: dict[str, Weight] = {}
    for shard in shards(folder) if (folder / INDEX).exists() else ():
        weights |= read_header(folder / shard)
    return weights


def shards(folder: Path) -> list[str]:
    """The files among which an index deals the weights; VPError unless each is beside it."""
    places = read_json(folder / INDEX).get("weight_map")
    names = sorted({str(name) for name in places.values()}) if isinstance(places, dict) else []
    if not names or any(Path(name).name != name or not name.endswith(".safetensors") for name in names):
        raise VPError(f"The index {str(folder / INDEX)!r} names no safetensors files beside it: save the model again.")
    return names


def fetch(name: str) -> Path:
    """The folder of the Hub's cache where the model's files are, downloaded now if they are not.

    It may have no safetensors there: transformers knows of converted ones elsewhere.
    """

    def get(file: str) -> str | None:
        return cached_file(name, file, _raise_exceptions_for_missing_entries=False)

    if get(ADAPTER) is not None:
        raise VPError(
            f"{name!r} on the Hub holds an adapter (PEFT, LoRA), not a whole model: load it on its base model, call "
            "merge_and_unload() and give the folder where that is saved."
        )
    folder = Path(cached_file(name, CONFIG)).parent
    sharded = get(WHOLE) is None and get(INDEX) is not None
    for file in (*(shards(folder) if sharded else ()), "tokenizer.json", "tokenizer_config.json"):
        get(file)
    return folder


_TOKENISER_FILES = ("tokenizer", "vocab", "merges", "special_tokens", "added_tokens", "chat_template")


def has_tokeniser(folder: Path) -> bool:
    """Whether a folder has files of a tokeniser at all."""
    return any(path.name.startswith(("tokenizer", "vocab")) or path.suffix == ".model" for path in folder.iterdir())


def check_tokeniser_files(name: str, folder: Path) -> None:
    """VPError if a file of the tokeniser is no regular file, too large or a Git-LFS pointer, or if it brings its own code."""
    for path in sorted(folder.iterdir()):  # data that lies beside them is nobody's matter here
        if path.name.startswith(_TOKENISER_FILES) or path.suffix == ".model":
            check_file(path, TOKENISER_LIMIT)
    about = folder / "tokenizer_config.json"
    if about.exists() and read_json(about).get("auto_map"):
        raise VPError(
            f"The tokeniser of {name!r} brings code of its own (auto_map in tokenizer_config.json), which is never run here: "
            "give a model whose tokeniser transformers has a class for."
        )


def _model_inside(folder: Path) -> Path | None:
    """The newest model in a Trainer's output (checkpoint-500), in the Hub's cache (snapshots/…), or in a single subfolder."""
    inside = [path.parent for pattern in ("*/", "snapshots/*/") for path in folder.glob(f"{pattern}{CONFIG}")]
    numbered = [path for path in inside if re.fullmatch(r"checkpoint-\d+", path.name)]
    if numbered:
        return max(numbered, key=lambda path: int(path.name.rpartition("-")[2]))
    return max(inside, key=lambda path: path.stat().st_mtime, default=None)


def _other_weights(folder: Path) -> str:
    """What a folder without model.safetensors has instead, and what to do."""
    variants = sorted(path.name for path in folder.glob("model.*.safetensors") if not re.search(r"-\d+-of-", path.name))
    if variants:
        return f"a variant of the weights only, {variants[0]}: copy that file to {WHOLE}, it is read as float32"
    if others := sorted(path.name for path in folder.glob("*.safetensors")):
        return f"no {WHOLE}, only {others[0]}: save the model again with save_pretrained, whose names are looked for"
    if inner := _model_inside(folder):
        return f"no safetensors weights: give the model inside, {str(inner)!r}"
    again = "save the model again with save_pretrained(..., safe_serialization=True)"
    if any(path.name != "training_args.bin" for pattern in ("*.bin", "*.pt") for path in folder.glob(pattern)):
        return f"no safetensors weights, only pickled ones, which could run code when loaded: {again}"
    for pattern, kind in _ELSEWHERE.items():
        if any(folder.glob(pattern)):
            return f"no safetensors weights, only {kind}: load them with the library they are from and {again}"
    return f"no safetensors weights: {again}"
