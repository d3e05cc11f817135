"""The folder of an iterative run: its log, its checkpoint, its models. Whatever is in it is whole, or not there."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from vp_core.asking.batches import Reader
from vp_core.ground.errors import VPError
from vp_core.ground.names import RUN as LOG
from vp_core.ground.store import atomic, load_tensors, save_tensors
from vp_core.squeezing.folder import save_pruned

FORMAT = "variance-pruning run 1"
WEIGHTS = "checkpoint.safetensors"


class Log:
    """`rows`, one an iteration, on disk as `run.json` with the settings they came from."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], write: bool = True) -> None:
        self.folder, self.settings, self.write = folder, json.loads(json.dumps(settings)), write
        self.rows: list[dict[str, Any]] = check_run_folder(folder, self.settings)
        if write:
            try:
                folder.mkdir(exist_ok=True)
            except OSError as error:
                raise VPError(f"The folder {str(folder)!r} could not be made ({error.strerror}): choose another.") from error

    def add(self, row: dict[str, Any]) -> None:
        """Keep a row; it is on disk when this returns."""
        self.rows.append(row)
        if self.write:
            with atomic(self.folder / LOG) as temporary:
                text = json.dumps({"format": FORMAT, "settings": self.settings, "rows": self.rows}, indent=1)
                temporary.write_text(text, encoding="utf-8")

    def keep(self, name: str, model: PreTrainedModel, tokenizer: Reader | None, about: Mapping[str, Any]) -> None:
        """Save a squeezed model beside the log, in place of an earlier one of that name."""
        save_pruned(model, self.folder / name, tokenizer, about)


class Checkpoint:
    """The weights between two trainings, and a few JSON-able facts about them, in one file."""

    def __init__(self, folder: Path, write: bool = True) -> None:
        self.path, self.write = folder / WEIGHTS, write

    def save(self, model: nn.Module, state: Mapping[str, Any]) -> None:
        """Write the weights of `model` and a `state`, in place of the last checkpoint."""
        if self.write:
            tensors = {name: p.detach() for name, p in model.named_parameters()}
            save_tensors(self.path, tensors, kind="checkpoint", about={"state": json.dumps(dict(state))})

    def load(self, model: nn.Module) -> dict[str, Any] | None:
        """Put the weights into `model` and return the state; None if there is no checkpoint.

        Raises VPError for a broken file, and for one of a model of another shape.
        """
        if not self.path.is_file():
            return None
        tensors, about = load_tensors(self.path, kind="checkpoint")
        parameters = dict(model.named_parameters())
        if {n: p.shape for n, p in parameters.items()} != {n: t.shape for n, t in tensors.items()}:
            raise VPError(f"{str(self.path)!r} belongs to another model: choose a new folder (--out).")
        with torch.no_grad():
            for name, p in parameters.items():
                p.copy_(tensors[name])
        return json.loads(about["state"])


def read_log(path: str | Path) -> dict[str, Any]:
    """{"settings": …, "rows": […]} of a run's folder, or of a `run.json` itself; VPError if it is none."""
    path = Path(path)
    path = path / LOG if path.is_dir() else path
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["format"] != FORMAT:
            raise VPError(f"{str(path)!r} has the format {found['format']!r}: this version reads {FORMAT!r}.")
        return {"settings": found["settings"], "rows": found["rows"]}
    except FileNotFoundError:
        raise VPError(f"There is no run in {str(path.parent)!r}: give a folder that `vp snip --out` wrote.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, VPError):
            raise
        raise VPError(f"{str(path)!r} is broken ({error}): run again in a new folder.") from error


def begun_in(folder: Path, schedule: str) -> str | None:
    """The precision of a schedule (`schedule` or `begin`) of the run that is in a folder; None if there is none.

    Raises VPError if the log there is broken.
    """
    if not (folder / LOG).is_file():
        return None
    found = read_log(folder)["settings"].get(schedule)
    return found.get("precision") if isinstance(found, dict) else None


def check_run_folder(folder: Path, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of the run with these settings that is in a folder, none for a new one.

    VPError for a place that cannot be one, a folder with other things in it, and one of another run. Settings that are not
    given (the model, before it is loaded) are not compared.
    """
    if folder.exists() and not folder.is_dir():
        raise VPError(f"{str(folder)!r} is a file: choose a folder (--out).")
    if not folder.absolute().parent.is_dir():
        raise VPError(f"The folder {str(folder.parent)!r} is not there: make it first, or choose another place.")
    if not (folder / LOG).is_file():
        # a process that was killed while it wrote its first log leaves a hidden part of it
        if folder.is_dir() and any(not path.name.startswith(f".{LOG}.") for path in folder.iterdir()):
            raise VPError(f"The folder {str(folder)!r} is not empty and holds no run: choose a new one (--out).")
        return []
    there = read_log(folder)
    for key, value in json.loads(json.dumps(dict(settings))).items():
        if key not in there["settings"] or there["settings"][key] != value:
            raise VPError(f"The folder {str(folder)!r} holds a run with another {key}: choose a new folder (--out).")
    return there["rows"]
