"""Running one layer at a time: what lies before it is not computed again, its cached output is handed on.

A layer is a module of the model that holds an attention block and its feed-forward network. `Walk` stands before one of them
with the output of the last one at hand for every batch, runs the model with all earlier layers replaced by that output, and
stops at the last module anybody looks at. So each layer costs its own work only, in every family, with transformers' own code.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor
from transformers import PreTrainedModel

from vp_core.asking.batches import Batch, by_text
from vp_core.asking.forward import inputs_for, told
from vp_core.asking.kinds.answered import of_classes
from vp_core.asking.kinds.heads import path_of_head
from vp_core.ground.errors import VPError
from vp_core.ground.parallel import in_parallel
from vp_core.ground.work import Enough, say
from vp_core.measuring.covariance import CoMoments, Covariances, Packed, check_finite, co_moments, sites_of
from vp_core.model.precision import device_of, sums_at
from vp_core.model.projections import Layer, layer_paths
from vp_core.model.sharing import share
from vp_core.model.sites import Site, forward, observed

Made = TypeVar("Made")


def layer_modules(model: PreTrainedModel) -> dict[str, list[int]]:
    """Path of every layer's module → the indices of the layers (`model.projections.find_layers`) in it, in forward order.

    BART's decoder layers hold two: self attention with the feed-forward network, and cross attention.
    """
    found: dict[str, list[int]] = {}
    for number, (_, path) in enumerate(layer_paths(model)):
        found.setdefault(path, []).append(number)
    return found


MEASURED, REFIT = "the measured allocation", "refit"
"""What goes through a model layer by layer, each once."""


def check_once(model: PreTrainedModel, what: str) -> None:
    """VPError for a model whose layers run several times each (ALBERT shares them), where `what` has no meaning."""
    if any(stack.groups for stack, _ in layer_paths(model)):
        instead = "another, such as global" if what == MEASURED else "least squares"
        raise VPError(
            f"This model runs the same layer several times, so {what} has no single input to go by: choose {instead}."
        )


class Walk:
    """A model and batches, and a place in the model: before the layer at `paths[position]`.

    `model` may be replaced by one that is equal up to this place.
    """

    def __init__(self, model: PreTrainedModel, batches: Sequence[Batch]) -> None:
        self.model = model
        self.batches = batches
        self.paths = list(layer_modules(model))
        self.position = 0
        self._outputs: dict[str, list[Any]] = {}  # by stack: the last layer's output for every batch
        self._known: dict[str, dict[int, Any]] = {}  # by path of a module that changes no more: its output by batch
        self._here = threading.local()  # which batch a thread is at, and what it has seen of it

    @contextmanager
    def look(self, sites: Sequence[Site]) -> Iterator[Callable[[int], dict[str, Tensor]]]:
        """While open, a function from a batch's number to what is seen of it: site name → (examples, tokens, n).

        Any thread may call it. Every site must lie at this place or behind it, and be used once in a pass.
        """
        by_name = {site.name: site for site in sites}
        with self._seen(sites) as seen:
            yield lambda i: {name: by_text(by_name[name].part(value), self.batches[i]) for name, value in seen(i).items()}

    def logits(self, model: PreTrainedModel | None = None) -> Iterator[Tensor]:
        """Logits (examples, outputs), float32, batch by batch, of the model or of another one that is equal up to here.

        Raises VPError for a model whose outputs are not classes.
        """
        return self.answers(lambda found, batch: of_classes(model or self.model, found.logits.float()), model)

    def answers(self, take: Callable[[Any, Batch], Tensor], model: PreTrainedModel | None = None) -> Iterator[Tensor]:
        """What `take(output, batch)` makes of a model's output, batch by batch, of the model or of another one that is equal up
        to here."""
        ready = self._from_here(model or self.model)

        def of_batch(i: int) -> Tensor:
            with torch.inference_mode():
                return take(self._run(ready, i), self.batches[i]).cpu()

        return in_parallel(of_batch, range(len(self.batches)), device_of(self.model))

    def keep(self, paths: Iterable[str]) -> None:
        """From now on compute what these modules of the next layer put out once only: neither they nor what they read change
        any more while the walk is here. Each is used once in a pass. It costs the memory of their outputs."""
        for path in paths:
            self._known.setdefault(path, {})

    def step(self) -> None:
        """Go one layer on: behind the next one, whose outputs are cached."""
        for _ in self.along((), lambda number, seen: None):
            pass

    def along(self, sites: Sequence[Site], make: Callable[[int, dict[str, Tensor]], Made]) -> Iterator[Made]:
        """`make(number, seen)` of every batch in order, from what passes the sites (…, n); at its end the walk is one layer on.

        `make` is called by any thread. The sites lie in the next layer, and each is used once in a pass.
        """
        path, outputs = self.paths[self.position], list[Any]()
        parts = {site.name: site.part for site in sites}

        with self._seen([*sites, Site("output", path, inputs=False)]) as seen:

            def of_batch(i: int) -> tuple[Any, Made]:
                found = seen(i)
                output = found.pop("output")
                with torch.inference_mode():
                    return output, make(i, {name: parts[name](value) for name, value in found.items()})

            for output, made in in_parallel(of_batch, range(len(self.batches)), device_of(self.model)):
                outputs.append(output)
                yield made
        self._outputs[_stack(path)] = outputs
        self._known.clear()
        self.position += 1

    def states(self, places: Sequence[Tensor], model: PreTrainedModel | None = None) -> Iterator[Tensor]:
        """What the head of a model of tokens reads (positions, width), batch by batch, of the model or of another one that is
        equal up to here, at the `places` of each batch, (examples, tokens) bool. The head does not run."""
        with self._seen([Site("head", path_of_head(self.model), inputs=True)], model) as seen:
            yield from in_parallel(lambda i: seen(i)["head"][places[i]], range(len(self.batches)))

    @contextmanager
    def _seen(self, sites: Sequence[Site], model: PreTrainedModel | None = None) -> Iterator[Callable[[int], dict[str, Any]]]:
        """A function from a batch's number to what passes the sites, whole; no layer behind the last of them runs."""
        ready = self._from_here(model or self.model)

        def see(site: Site, value: Any) -> None:
            self._here.seen[site.name] = value
            if len(self._here.seen) == len(sites):
                raise Enough

        def of_batch(i: int) -> dict[str, Any]:
            self._here.seen = {}
            with torch.inference_mode():
                self._run(ready, i)
            return self._here.seen

        with observed(ready, sites, see):
            yield of_batch

    def _run(self, ready: PreTrainedModel, i: int) -> Any:
        self._here.batch = i
        with told(ready, self.batches[i]):
            return forward(ready, inputs_for(ready, self.batches[i]))

    def _from_here(self, model: PreTrainedModel) -> PreTrainedModel:
        """A copy in which every layer before this place hands on the last output of its stack, and a module that is kept its
        own."""
        ready = share(model)
        for path, known in self._known.items():
            module = ready.get_submodule(path)
            module.forward = partial(self._once, known, module.forward)
        for path in self.paths[: self.position]:
            outputs = self._outputs[_stack(path)]
            module = ready.get_submodule(path)
            module.forward = lambda *_args, outputs=outputs, **_kwargs: outputs[self._here.batch]
        return ready

    def _once(self, known: dict[int, Any], compute: Callable[..., Any], *given: Any, **named: Any) -> Any:
        """What a module puts out for the batch at hand, computed if it is not known."""
        if self._here.batch not in known:
            known[self._here.batch] = compute(*given, **named)
        return known[self._here.batch]


def collect_by_layer(
    model: PreTrainedModel, batches: Sequence[Batch], held_out: Sequence[Batch], layers: Sequence[Layer]
) -> Covariances:
    """What `vp_core.measuring.covariance.collect_covariances` finds, rounded to float32, in the memory of one layer's.

    Besides them there are the layer's inputs, of all tokens. Raises VPError as that does, and for a model that runs a layer
    several times.
    """
    check_once(model, "taking covariances a layer at a time")
    if not batches:
        raise VPError("There are no tokens to collect covariances from: give at least one sentence.")
    walks = Walk(model, batches), Walk(model, held_out)
    together, apart = Packed(), Packed()
    sites = sites_of(layers)
    for number, numbers in enumerate(layer_modules(model).values()):
        names = tuple(f"{one}." for one in numbers)
        here = {site: blocks for site, blocks in sites.items() if site.name.startswith(names)}
        found, some = (_moments_of_layer(walk, here) for walk in walks)
        for name, moments in found.items():
            if name in some:
                apart[name] = some[name]
                moments.merge(some[name])
            check_finite(name, moments.m2)
            together[name] = moments
        say("measuring covariances: layer", number + 1, len(walks[0].paths))
    return Covariances(together, apart)


def _moments_of_layer(walk: Walk, sites: Mapping[Site, int]) -> dict[str, CoMoments]:
    """Co-moments at sites of the next layer, over the real tokens of all batches."""
    by_name = {site.name: site for site in sites}

    def make(number: int, seen: dict[str, Tensor]) -> dict[str, CoMoments]:
        found = {}
        for name, values in seen.items():
            mask = walk.batches[number].real_tokens(by_name[name].decoder)
            x = values.flatten(0, -2).to(sums_at(values.device))
            found[name] = co_moments(x if mask is None else x[mask.bool().to(x.device)], sites[by_name[name]])
        return found

    total: dict[str, CoMoments] = {}
    for seen in walk.along(list(sites), make):
        for name, new in seen.items():
            if name in total:
                total[name].merge(new)
            else:
                total[name] = new
    return total


def _stack(path: str) -> str:
    """The layers that run one after another: everything but the number."""
    return path.rpartition(".")[0]
