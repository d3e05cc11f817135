"""Which models the sidebar offers: the shipped ones, folders that were opened before, and what the Hub's cache holds.

Nothing is asked of the network. Any other folder or id can be typed.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from huggingface_hub import CacheNotFound, HFCacheInfo, scan_cache_dir, try_to_load_from_cache

from app.web.offered import kind_of_task
from vp_core.ground.errors import VPError
from vp_core.ground.store import atomic, cache_dir
from vp_core.loading.asked import asked_of
from vp_core.loading.folder import CONFIG
from vp_core.loading.gguf import is_gguf
from vp_core.loading.load import EMBEDDED
from vp_core.model.families import FAMILIES
from vp_core.opening.study import task_of_model

SHIPPED: Mapping[str, str] = MappingProxyType(
    {
        "demo": "good or bad? a small BERT",
        "demo-sn": "its normalised twin",
        "demo-text": "stories, Llama-style",
        "demo-images": "digits, a small ViT",
    }
)
"""The models of the package, with one short line each: the sidebar is narrow."""
_DOES = {
    "classes": "classifier", "tokens": "language model", "spans": "answers questions", "images": "classifies images",
    "sequences": "writes about a text", "tags": "tags words",
}  # fmt: skip
"""By what a model is asked, what it is called in the list."""
_TASKS = {
    "classes": "demo", "tokens": "demo-text", "spans": "squad", "images": "images", "sequences": "sequences", "tags": "tags",
}  # fmt: skip
"""By what a model is asked, the task that is chosen with it where the one before does not fit."""
MOST = 20
"""Folders that are remembered."""
_FILE = "opened.json"
_LOOK_AGAIN = 60.0
"""Seconds for which the list of the Hub's cache is taken as it was."""


def offered() -> dict[str, str]:
    """Names of models, each with one line about it: shipped ones, folders opened before (the last first), the Hub's cache."""
    found = dict(SHIPPED)
    for folder in opened_before():
        found[folder] = _about(Path(folder), "opened before")
    for name, about in in_hub_cache().items():
        found.setdefault(name, about)
    return found


def opened_before() -> list[str]:
    """Folders that were opened here and are still there, the last first."""
    return [name for name in _read() if _there(name)]


def remember_opened(model: str) -> None:
    """A folder, or a GGUF file, was opened: it is offered from now on, here and after a restart. Other names are not kept."""
    if model in EMBEDDED or not _there(model):
        return
    name, before = str(Path(model).absolute()), _read()
    if before[:1] == [name]:
        return
    names = [name, *(one for one in before if one != name)][:MOST]
    try:
        with atomic(cache_dir() / _FILE) as file:
            file.write_text(json.dumps(names), encoding="utf-8")
    except (VPError, OSError):  # a full disk is no reason to show no model
        return


def _there(name: str) -> bool:
    return bool(name) and (os.path.isdir(name) or is_gguf(name))  # noqa: PTH112 (a Path would raise for some names)


def _read() -> list[str]:
    try:
        found = json.loads((cache_dir() / _FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not there yet, or broken: it begins anew
        return []
    return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []


def in_hub_cache() -> dict[str, str]:
    """Ids of models in the Hub's cache on this machine whose family is supported and whose weights are safetensors, with one
    line each."""
    return _scanned(int(time.monotonic() / _LOOK_AGAIN))


@lru_cache(maxsize=1)
def _scanned(_when: int) -> dict[str, str]:
    try:
        return dict(_usable(scan_cache_dir()))
    except (CacheNotFound, OSError, ValueError):
        return {}


def _usable(cache: HFCacheInfo) -> Iterator[tuple[str, str]]:
    for repo in sorted(cache.repos, key=lambda repo: -(repo.last_accessed or 0)):
        for revision in repo.revisions if repo.repo_type == "model" else ():
            files = {file.file_name: file.file_path for file in revision.files}
            if (
                any(name.endswith(".safetensors") for name in files)
                and _config(revision.snapshot_path).get("model_type") in FAMILIES
            ):
                yield repo.repo_id, _about(revision.snapshot_path, "from the Hub")
                break


def _config(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _about(folder: Path, where: str) -> str:
    """A line about a folder or a GGUF file: its family and what it puts out, from its configuration."""
    if is_gguf(str(folder)):
        return f"GGUF, {where}"
    config = _config(folder)
    name = _class(config)
    does = "masked language model" if name.endswith("ForMaskedLM") else _DOES.get(asked_of(name) or "", "")
    return ", ".join(part for part in (str(config.get("model_type", "")), does, where) if part)


def _class(config: Mapping[str, Any]) -> str:
    """The class of the model of a configuration, as far as it says; else empty."""
    classes = config.get("architectures")
    return str(classes[0]) if isinstance(classes, list) and classes else ""


def fitting_task(model: str, task: str) -> str:
    """The task that goes with a model: its own if it has one, else `task`, unless the model cannot be asked that.

    Those without data of their own here stand for their kind: the page says what they need.

    >>> fitting_task("demo-text", "sst2"), fitting_task("demo", "demo-text"), fitting_task("my/model", "sst2")
    ('demo-text', 'demo', 'sst2')
    """
    try:
        own = task_of_model(model)
    except VPError:
        own = None
    if own:
        return own
    folder = Path(model) if model and "\0" not in model else Path()
    asked = "tokens" if is_gguf(model) else asked_of(_class(_config(folder if folder.is_dir() else _snapshot(model))))
    return _TASKS[asked] if asked and kind_of_task(task) != asked else task


def _snapshot(model: str) -> Path:
    """The folder of an id in the Hub's cache; one that is not there if it is not in it."""
    try:
        found = try_to_load_from_cache(model, CONFIG)
    except ValueError:  # no id
        found = None
    return Path(found).parent if isinstance(found, str) else Path("nowhere")
