"""A training stopped and gone on with, to the bit: weights, optimiser, random state and what callbacks know, in one file."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from vp_core.ground.errors import VPError
from vp_core.ground.store import load_about, load_tensors, save_tensors
from vp_core.training.callbacks import Callback, Run

KIND = "training checkpoint"
FILE = "training.safetensors"


class Saved:
    """Where a training keeps its state: every `every` steps, on one process at most once in `seconds`, and on `now`.

    With `every` 0 nothing is written but on `now`. `settings` are what the training depends on: a file of another training is
    refused. Under several processes the main one writes, with the random states of all.
    """

    def __init__(self, folder: str | Path, settings: Mapping[str, Any], every: int = 50, seconds: float = 20.0) -> None:
        self.path, self.every, self.seconds = Path(folder) / FILE, every, seconds
        self.settings = json.loads(json.dumps(dict(settings)))
        self._last = time.monotonic()
        self.written = 0

    def due(self, run: Run) -> bool:
        """Whether it is time to write: the same answer in all processes, whose clocks differ."""
        if self.every < 1 or run.step % self.every:
            return False
        return run.accelerator.num_processes > 1 or time.monotonic() - self._last >= self.seconds

    def now(self, run: Run, callbacks: Sequence[Callback]) -> None:
        """Write the state after `run.step` steps, in place of an earlier one."""
        tensors, facts = _state(run, callbacks)
        if run.accelerator.is_main_process:
            at = {"step": run.step, "steps": run.steps, "loss": run.loss, "total": run.total}
            about = {**at, "callbacks": facts, "settings": self.settings}
            save_tensors(self.path, tensors, kind=KIND, about={"state": json.dumps(about)})
        self._last, self.written = time.monotonic(), run.step

    def read(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """(tensors, facts) of the last state; None if there is none. VPError for a broken file, and another training's."""
        if not self.path.is_file():
            return None
        tensors, about = load_tensors(self.path, kind=KIND)
        return tensors, self._facts(about)

    def reached(self) -> int:
        """The step of the last state, 0 if there is none; raises as `read` does, and reads no tensor."""
        return int(self._facts(load_about(self.path, kind=KIND))["step"]) if self.path.is_file() else 0

    def _facts(self, about: Mapping[str, str]) -> dict[str, Any]:
        try:
            facts: dict[str, Any] = json.loads(about["state"])
            there, _ = facts["settings"], [facts[key] for key in ("step", "steps", "loss", "total", "callbacks")]
        except (KeyError, ValueError, TypeError) as error:
            raise VPError(f"{str(self.path)!r} is broken ({error}): choose a new folder (--out).") from error
        for key, value in self.settings.items():
            if there.get(key) != value:
                raise VPError(f"{str(self.path)!r} belongs to a training with another {key}: choose a new folder (--out).")
        return facts

    def forget(self) -> None:
        """The training has come to its end: its result is kept elsewhere."""
        self.path.unlink(missing_ok=True)


def _state(run: Run, callbacks: Sequence[Callback]) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    tensors: dict[str, Tensor] = {}
    for name, tensor in _named(run.model):
        tensors[f"model|{name}"] = tensor.detach().cpu()
    names = {id(p): name for name, p in run.model.named_parameters()}
    for parameter, state in run.optimiser.state.items():
        for key, value in state.items():
            tensors[f"optimiser|{names[id(parameter)]}|{key}"] = torch.as_tensor(value).detach().cpu()
    tensors["random"] = run.gather(torch.get_rng_state())
    if run.accelerator.device.type == "cuda":
        tensors["random of the device"] = run.gather(torch.cuda.get_rng_state(run.accelerator.device))
    facts = []
    for number, callback in enumerate(_acting(callbacks)):
        own, about = callback.state()
        tensors |= {f"callback|{number}|{name}": tensor.detach().cpu() for name, tensor in own.items()}
        facts.append({"class": type(callback).__name__, **about})
    return {name: tensor.clone() for name, tensor in tensors.items()}, facts  # tied tensors are not written twice as one


def restore(run: Run, callbacks: Sequence[Callback], tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Put `run`, its model, optimiser, random state and callbacks where a state was taken.

    Raises VPError for the state of another training.
    """
    _check(run, callbacks, tensors, facts)
    run.step, run.loss, run.total = facts["step"], float(facts["loss"]), float(facts["total"])
    for number, callback in enumerate(_acting(callbacks)):
        start = f"callback|{number}|"
        own = {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
        callback.restore(run, own, facts["callbacks"][number])
    there = {name.removeprefix("model|"): tensor for name, tensor in tensors.items() if name.startswith("model|")}
    mine = dict(_named(run.model))
    if _kinds(mine) != _kinds(there):
        raise VPError("The checkpoint belongs to another model: choose a new folder (--out).")
    with torch.no_grad():
        for name, tensor in mine.items():
            tensor.copy_(there[name])
    parameters = dict(run.model.named_parameters())
    for name, tensor in tensors.items():
        if name.startswith("optimiser|"):
            _, owner, key = name.split("|")
            parameter = parameters[owner]
            # AdamW counts its steps where it began to, in float32
            value = tensor if key == "step" and parameter.device.type == "cpu" else tensor.to(parameter.device)
            run.optimiser.state[parameter][key] = value.clone()
    torch.set_rng_state(tensors["random"][run.accelerator.process_index])
    if "random of the device" in tensors and run.accelerator.device.type == "cuda":
        torch.cuda.set_rng_state(tensors["random of the device"][run.accelerator.process_index], run.accelerator.device)


def _check(run: Run, callbacks: Sequence[Callback], tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """VPError for a state of other callbacks, of a longer or shorter training, of more or fewer processes."""
    if [type(callback).__name__ for callback in _acting(callbacks)] != [about["class"] for about in facts["callbacks"]]:
        raise VPError("The checkpoint was made by other methods than these: choose a new folder (--out).")
    if facts["steps"] != run.steps or not 0 <= facts["step"] <= run.steps:
        raise VPError(
            f"The checkpoint is of a training of {facts['steps']:,} steps, not of {run.steps:,}: choose a new folder (--out)."
        )
    processes = len(tensors["random"]) if "random" in tensors else 0
    if processes != run.accelerator.num_processes:
        raise VPError(
            f"The checkpoint was made by {processes} processes, not by {run.accelerator.num_processes}: start as many, or "
            "choose a new folder (--out)."
        )
    known = {name.split("|")[1] for name in tensors if name.startswith("model|")}
    if any(name.split("|")[1] not in known for name in tensors if name.startswith("optimiser|")):
        raise VPError("The checkpoint belongs to another model: choose a new folder (--out).")


def _acting(callbacks: Sequence[Callback]) -> list[Callback]:
    return [callback for callback in callbacks if not callback.passive]


def _kinds(tensors: Mapping[str, Tensor]) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}


def _named(model: PreTrainedModel) -> list[tuple[str, Tensor]]:
    """Parameters and buffers by name, each once."""
    return [*model.named_parameters(), *model.named_buffers()]
