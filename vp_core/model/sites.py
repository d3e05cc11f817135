"""Where to look in a model, and the only place where hooks are put on one: `observed` places them and takes them off again.

    sites = [Site("x", "bert.encoder.layer.0.output.dense", inputs=True)]
    with observed(copy, sites, lambda site, values: kept.append(values)):
        copy(**batch.inputs)

`copy` is a structural copy (`vp_core.model.sharing.share`), for hooks belong to the modules: every pass through them meets
them, in whatever thread and for whatever purpose.
"""

import inspect
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from vp_core.ground.work import Enough
from vp_core.model.family.stack import Part
from vp_core.model.products import fast_products
from vp_core.model.projections import Projection

_INPUT = "hidden_states"
"""The first argument's name where a model hands it on by name, as it does to some layers."""


@dataclass(frozen=True)
class Site:
    """Where to look: what goes into (`inputs`) or comes out of the module at `path`, coordinates `start` to `start + width`.

    `width` None means all from `start` on; with `step` they come in runs of `run` (`vp_core.model.family.stack.Part`). `name`
    is the observer's own; `decoder` says that the tokens which pass are those of an encoder-decoder's decoder. With
    `tokens_of`, the path of a module, only what that one's first input passes counts (`vp_core.model.projections.Projection`).
    """

    name: str
    path: str
    inputs: bool
    start: int = 0
    width: int | None = None
    decoder: bool = False
    tokens_of: str | None = None
    run: int = 0
    step: int = 0

    def part(self, value: Any) -> Tensor:
        """This site's coordinates (…, width) in what passed there, (…, n) or a tuple that begins with it: a view, or with a
        `step` a copy.

        >>> Site("key", "c_attn", inputs=False, start=1, width=2).part((Tensor([[5, 6, 7, 8]]), None))
        tensor([[6., 7.]])
        """
        values = value[0] if isinstance(value, tuple) else value
        if self.step and self.width is not None:
            return values[..., Part(self.start, self.width, self.run, self.step).index]
        return values[..., self.start : None if self.width is None else self.start + self.width]


def input_site(p: Projection, name: str | None = None) -> Site:
    """What a projection reads (…, d_in), under its own name or another."""
    return Site(name or p.name, p.path, True, 0, p.d_in, p.decoder, p.tokens_of)


def output_site(p: Projection, name: str | None = None) -> Site:
    """What a projection puts out (…, d_out), its rows only where one module holds several; under its own name or another."""
    return Site(name or p.name, p.path, False, p.start, p.d_out, p.decoder, p.tokens_of, p.part.run, p.step)


def neuron_site(p: Projection) -> Site:
    """A projection's neurons (…, d_out): its output, or under a gate the product, which is what the consumer reads."""
    return Site(p.name, p.consumer, True, 0, p.d_out, p.decoder) if p.gate and p.consumer else output_site(p)


@contextmanager
def observed(model: nn.Module, sites: Iterable[Site], see: Callable[[Site, Any], Any]) -> Iterator[None]:
    """While open, every pass through `model` calls `see(site, value)` at each site, as often as the module there is used.

    `value` is the module's first argument, or what it returns: whole, and a tuple where it is one (see `Site.part`). If
    `see` returns anything but None, that goes on in the value's place. `see` may raise Enough to end the pass. Sites of one
    module are called in the order given. No hook is left afterwards, whatever happened. Raises AttributeError for a path
    that is none.
    """
    handles: list[Any] = []
    try:
        for site in sites:
            tokens = threading.local() if site.tokens_of else None
            if tokens is not None and site.tokens_of:
                handles.append(_remember(model.get_submodule(site.tokens_of), tokens))
            handles.append(_place(model.get_submodule(site.path), site, see, tokens))
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def around(
    model: nn.Module,
    open_: Callable[[dict[str, Any]], AbstractContextManager[Any]],
    change: Callable[[dict[str, Any], Any], Any],
) -> Iterator[None]:
    """While open, every pass through the whole `model` is inside of `open_(inputs)`, its inputs by name.

    What `change(inputs, output)` returns goes on in its output's place. For whoever does not make the passes himself: a
    transformers Trainer does. Not for several threads.
    """
    inside: list[tuple[AbstractContextManager[Any], dict[str, Any]]] = []
    names = inspect.signature(model.forward)

    def before(_module: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        inputs = dict(names.bind_partial(*args).arguments) | named if args else dict(named)
        context = open_(inputs)
        context.__enter__()
        inside.append((context, inputs))

    def after(_module: nn.Module, _args: Any, output: Any) -> Any:
        if not inside:  # opening it has failed
            return None
        context, inputs = inside.pop()
        context.__exit__(None, None, None)
        return None if output is None else change(inputs, output)  # None: the pass failed

    handles = [
        model.register_forward_pre_hook(before, with_kwargs=True), model.register_forward_hook(after, always_call=True)
    ]  # fmt: skip
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def forward(model: nn.Module, inputs: dict[str, Tensor]) -> Any:
    """The model's output for `inputs`, (examples, tokens) each, or None where an observer has said `Enough` before its end."""
    try:
        with fast_products():
            return model(**inputs)
    except Enough:
        return None


def _remember(module: nn.Module, tokens: threading.local) -> Any:
    """The handle of a hook that keeps what goes into `module`, thread by thread."""

    def before(_module: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        tokens.now = args[0] if args else named[_INPUT]

    return module.register_forward_pre_hook(before, with_kwargs=True)


def _place(module: nn.Module, site: Site, see: Callable[[Site, Any], Any], tokens: threading.local | None) -> Any:
    """The handle of the hook that calls `see` for one site, if its input is what `tokens` keeps (None: always)."""

    def before(_module: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, Any] | None:
        given = args[0] if args else named[_INPUT]
        new = see(site, given) if tokens is None or given is tokens.now else None
        if new is None:
            return None
        return ((new, *args[1:]), named) if args else (args, named | {_INPUT: new})

    def after(_module: nn.Module, args: Any, output: Any) -> Any:
        return see(site, output) if tokens is None or args[0] is tokens.now else None

    if site.inputs:
        return module.register_forward_pre_hook(before, with_kwargs=True)
    return module.register_forward_hook(after)
