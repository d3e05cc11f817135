"""Running one layer at a time: what lies before it is not computed again, its remembered output is handed on.

A layer is a module of the model that holds an attention block and its feed-forward network. `Walk` stands before one of them
with the output of the last one at hand for every batch, runs the model with all earlier layers replaced by that output, and
stops at the last module anybody looks at. So each layer costs its own work only, in every family, with transformers' own code.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from vp_core.asking.batches import Batch
from vp_core.ground.errors import VPError
from vp_core.ground.parallel import in_parallel
from vp_core.model.projections import layer_paths
from vp_core.model.sharing import share

Look = Mapping[str, tuple[str, bool]]
"""What to look at: a name of the caller's → (module path, whether at its input)."""


class _Seen(Exception):
    """Everything that was asked for has been seen."""


def layer_modules(model: PreTrainedModel) -> dict[str, list[int]]:
    """Path of every layer's module → the numbers of the layers (`model.projections.find_layers`) in it, in forward order.

    BART's decoder layers hold two: self attention with the feed-forward network, and cross attention.
    """
    found: dict[str, list[int]] = {}
    for number, (_, path) in enumerate(layer_paths(model)):
        found.setdefault(path, []).append(number)
    return found


def check_once(model: PreTrainedModel, what: str) -> None:
    """VPError for a model whose layers run several times each (ALBERT shares them), where `what` has no meaning."""
    if any(stack.groups for stack, _ in layer_paths(model)):
        raise VPError(f"This model runs the same layer several times, so {what} has no single input to go by: choose another.")


class Walk:
    """A model and batches, and a place in the model: before the layer at `paths[position]`."""

    def __init__(self, model: PreTrainedModel, batches: Sequence[Batch]) -> None:
        self.model = model
        self.batches = batches
        self.paths = list(layer_modules(model))
        self.position = 0
        self._outputs: dict[str, list[Any]] = {}  # by stack: the last layer's output for every batch
        self._here = threading.local()  # which batch a thread is at, and what it has seen of it

    def look(self, what: Look) -> Callable[[int], dict[str, Tensor]]:
        """A function from a batch's number to what is seen of it: name → (examples, tokens, n). Any thread may call it."""
        see = self._see(what)

        def tensors(i: int) -> dict[str, Tensor]:
            return {name: value[0] if isinstance(value, tuple) else value for name, value in see(i).items()}

        return tensors

    def logits(self, model: PreTrainedModel | None = None) -> Iterator[Tensor]:
        """Logits (examples, outputs), batch by batch, of the model or of another one that is equal up to here."""
        ready = self._from_here(model or self.model)
        return in_parallel(lambda i: self._run(ready, i)[1], range(len(self.batches)))

    def step(self) -> None:
        """Go behind the next layer."""
        path = self.paths[self.position]
        see = self._see({"output": (path, False)})
        self._outputs[_stack(path)] = [seen["output"] for seen in in_parallel(see, range(len(self.batches)))]
        self.position += 1

    def _see(self, what: Look) -> Callable[[int], dict[str, Any]]:
        ready = self._from_here(self.model)

        def saw(name: str, value: Any) -> None:
            self._here.seen[name] = value
            if len(self._here.seen) == len(what):
                raise _Seen

        for name, (path, at_input) in what.items():
            module = ready.get_submodule(path)
            if at_input:
                module.register_forward_pre_hook(_on_input(saw, name), with_kwargs=True)
            else:
                module.register_forward_hook(_on_output(saw, name))
        return lambda i: self._run(ready, i)[0]

    def _run(self, ready: PreTrainedModel, i: int) -> tuple[dict[str, Any], Tensor]:
        self._here.batch, self._here.seen = i, {}
        with torch.inference_mode():
            try:
                return self._here.seen, ready(**self.batches[i].inputs).logits.float()
            except _Seen:
                return self._here.seen, torch.empty(0)

    def _from_here(self, model: PreTrainedModel) -> PreTrainedModel:
        """A copy in which every layer before this place hands on the last output of its stack."""
        ready = share(model)
        for path in self.paths[: self.position]:
            outputs = self._outputs[_stack(path)]
            module = ready.get_submodule(path)
            module.forward = lambda *_args, outputs=outputs, **_kwargs: outputs[self._here.batch]
        return ready


def _on_input(saw: Callable[[str, Any], None], name: str):
    return lambda _module, args, kwargs: saw(name, args[0] if args else kwargs["hidden_states"])


def _on_output(saw: Callable[[str, Any], None], name: str):
    return lambda _module, _args, output: saw(name, output)


def _stack(path: str) -> str:
    """The layers that run one after another: everything but the number."""
    return path.rpartition(".")[0]
