"""What a pruning Trainer keeps beside its checkpoints, and how these stay plain models that transformers opens."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from vp_core.ground.errors import VPError
from vp_core.ground.store import load_tensors, save_tensors
from vp_core.training.callbacks import Callback, Run
from vp_core.training.groups import OWN
from vp_core.training.held import Held

KIND, FILE = "pruning of a Trainer", "pruning.safetensors"
_RAW = ".parametrizations.weight.original"
"""In the name of a weight as it is trained, where another one, masked, is made of it."""


class PlainNames:
    """Until `close`, the state dict of a model names its weights as ever, masked as they are, and is read back like that.

    Without scores and what masks hide: that is in our own file.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._handles = []
        if any(_RAW in name for name, _ in model.named_parameters()):
            self._handles = [
                model.register_state_dict_post_hook(_plain),
                model.register_load_state_dict_pre_hook(_as_trained),
            ]

    def close(self) -> None:
        """The model is a plain one again."""
        for handle in self._handles:
            handle.remove()


def _plain(model: nn.Module, state: dict[str, Any], prefix: str, _metadata: Any) -> None:
    for name in list(state):
        if name.startswith(f"{prefix}{OWN}."):
            del state[name]
        elif name.endswith(_RAW):
            path = name.removeprefix(prefix).removesuffix(_RAW)
            with torch.no_grad():
                weight = model.get_submodule(path).weight
            assert isinstance(weight, Tensor)
            state[f"{prefix}{path}.weight"] = weight.detach()
            del state[name]


def _as_trained(model: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    for name, _parameter in model.named_parameters():
        if name.endswith(_RAW):
            plain = prefix + name.removesuffix(_RAW) + ".weight"
            if plain in state:
                state[prefix + name] = state.pop(plain)


def hidden(model: nn.Module) -> dict[str, Tensor]:
    """What `PlainNames` leaves out: weights as they are trained, and scores."""
    return {name: p.detach() for name, p in model.named_parameters() if name.endswith(_RAW) or name.startswith(f"{OWN}.")}


def write_state(folder: Path, pruner: Callback, run: Run, own: torch.optim.Optimizer | None, held: Held) -> None:
    """Put everything into the folder of a checkpoint that the Trainer has written; the main process does."""
    tensors, facts = pruner.state()
    if not run.accelerator.is_main_process:
        return
    whole = {f"callback|{name}": tensor for name, tensor in tensors.items()}
    whole |= {f"model|{name}": tensor for name, tensor in hidden(run.model).items()}
    for number, parameter in enumerate(_parameters(own)):
        for key, value in own.state[parameter].items() if own else ():
            whole[f"optimiser|{number}|{key}"] = torch.as_tensor(value)
    about = {"class": type(pruner).__name__, "step": run.step, "steps": run.steps, "held": held.count(), "facts": facts}
    copies = {name: tensor.detach().cpu().clone() for name, tensor in whole.items()}
    save_tensors(folder / FILE, copies, kind=KIND, about={"state": json.dumps(about)})


def read_state(folder: Path, pruner: Callback, run: Run, own: torch.optim.Optimizer | None, held: Held) -> Held:
    """Put the pruner, scores and their optimiser where they were; what is to be held is what was, not what is zero by now.

    Raises VPError for a folder without such a state, a broken one, and one of another training.
    """
    if not (folder / FILE).is_file():
        raise VPError(
            f"There is no {FILE} in {str(folder)!r}, where the training goes on: resume from a checkpoint of a training with "
            "the same pruning callback, and give resumed_from if it is not in output_dir."
        )
    tensors, about = load_tensors(folder / FILE, kind=KIND)
    try:
        facts = json.loads(about["state"])
        same = (facts["class"], facts["step"], facts["steps"]) == (type(pruner).__name__, run.step, run.steps)
        zeros, known = tuple(facts["held"]), facts["facts"]
    except (KeyError, ValueError, TypeError) as error:
        raise VPError(f"{str(folder / FILE)!r} is broken ({error}): resume from an earlier checkpoint.") from error
    if not same:
        raise VPError(
            f"{str(folder / FILE)!r} is of another training ({facts['class']}, step {facts['step']:,} of {facts['steps']:,}): "
            "resume with the callback and the number of steps that it was begun with."
        )
    if any(zeros) and zeros != held.count():
        raise VPError("Make the Trainer with the model that the training began from: what is zero there is held.")
    parts: dict[str, dict[str, Tensor]] = {"callback": {}, "model": {}, "optimiser": {}}
    for name, tensor in tensors.items():
        kind, _, rest = name.partition("|")
        parts[kind][rest] = tensor
    pruner.restore(run, parts["callback"], known)
    _fill(run.model, parts["model"])
    if own is not None:
        _go_on(own, parts["optimiser"])
    return held if any(zeros) else held.none()


def _go_on(own: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put the moments of an optimiser where they were."""
    parameters = _parameters(own)
    for name, tensor in tensors.items():
        number, _, key = name.partition("|")
        parameter = parameters[int(number)]
        own.state[parameter][key] = (tensor if key == "step" else tensor.to(parameter.device)).clone()


def _fill(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    mine = hidden(model)
    if {name: t.shape for name, t in mine.items()} != {name: t.shape for name, t in tensors.items()}:
        raise VPError("The state of this training is one of another model: resume with the model that it was begun with.")
    for name, tensor in mine.items():
        tensor.copy_(tensors[name])


def _parameters(own: torch.optim.Optimizer | None) -> list[Tensor]:
    return [] if own is None else [p for group in own.param_groups for p in group["params"]]
