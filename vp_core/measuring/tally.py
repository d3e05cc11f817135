"""One pass over batches: what the models of this package are measured by.

`tally(model, sites, batches, make)` gives every site a statistic of all real tokens that came by; `each_batch`, which it stands
on, is for what is made of a batch as a whole. Axis convention: (tokens, n), the tokens of a batch's examples one after another.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Protocol, Self, TypeVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from vp_core.asking.batches import Batch
from vp_core.asking.forward import forward
from vp_core.ground.errors import VPError
from vp_core.ground.parallel import Share, in_parallel, per_thread, share_now
from vp_core.ground.work import Enough, say
from vp_core.model.precision import device_of, sums_at
from vp_core.model.sharing import share
from vp_core.model.sites import Site, observed


class Statistic(Protocol):
    """What `tally` adds up, site by site: anything of `count` tokens that can be merged."""

    count: int

    def merge(self, other: Self, /) -> None:
        """Add what another one has seen at the same site."""


Model = TypeVar("Model", bound=nn.Module)
Result = TypeVar("Result")
Given = TypeVar("Given")
"""A batch, or what holds one."""
Stat = TypeVar("Stat", bound=Statistic)
Make = Callable[[Site, Tensor, Tensor | None], Stat]
"""From a site, what passed there (tokens, n), and 1 for each real token and 0 for padding (tokens,), None without padding. Both
are on the model's device, what is made of them is on the processor."""


def each_batch(
    model: Model, batches: Iterable[Given], one: Callable[[Model, Given], Result], doing: str = ""
) -> Iterator[Result]:
    """`one(copy, batch)` for every batch, in their order, several at a time. If it is named, `doing`, each of them is said.

    Each thread has a structural copy of `model` for itself: its hooks meet nobody else's, and the model stays as it came.
    """
    private = per_thread(lambda: share(model))
    given = list(batches)
    if doing:
        say(f"{doing}: batch", 0, len(given))
    for done, found in enumerate(in_parallel(lambda batch: one(private(), batch), given, device_of(model)), 1):
        if doing:
            say(f"{doing}: batch", done, len(given))
        yield found


def tally(
    model: nn.Module,
    sites: Iterable[Site],
    batches: Iterable[Batch],
    make: Make[Stat],
    *,
    each: Callable[[str, Stat], None] = lambda name, new: None,
    nothing: str | None = None,
    least: int = 0,
    ordered: bool = False,
    doing: str = "",
) -> dict[str, Stat]:
    """Site name → the statistic of all batches, merged in their order; a module used several times (ALBERT) adds up its uses.

    What passes is used up as it comes by and never kept: memory grows with the number of coordinates, not of tokens.
    Several processes share the batches out (`vp_core.ground.parallel.shared_out`), unless they must come in order (`ordered`).
    `each(name, statistic)` hears every batch's statistic before it is merged, in order: the place to refuse what is not finite.
    What is measured is said with every batch, if `doing` names it.
    Raises VPError with the sentence `nothing` if nothing was seen, or fewer than `least` tokens; without one, {} is the answer.
    """
    how: Any = {"each": each, "nothing": nothing, "least": least, "ordered": ordered, "doing": doing}
    return tally_parts(model, sites, [batches], make, **how)[0]


def tally_parts(
    model: nn.Module,
    sites: Iterable[Site],
    parts: Sequence[Iterable[Batch]],
    make: Make[Stat],
    *,
    each: Callable[[str, Stat], None] = lambda name, new: None,
    nothing: str | None = None,
    least: int = 0,
    ordered: bool = False,
    doing: str = "",
) -> list[dict[str, Stat]]:
    """`tally` of several parts of the texts by themselves, in one pass; `nothing` and `least` are about the first of them."""
    sites, end = tuple(sites), the_end(model)

    def one(copy: nn.Module, batch: Batch) -> dict[str, Stat]:
        device = sums_at(device_of(copy))
        masks = {decoder: batch.real_tokens(decoder) for decoder in (False, True)}
        real = {decoder: None if mask is None else mask.to(device) for decoder, mask in masks.items()}
        seen: dict[str, Stat] = {}

        def see(site: Site, value: Tensor) -> None:
            if site is end:
                raise Enough
            _add(seen, site.name, make(site, site.part(value).flatten(0, -2).to(device), real[site.decoder]))

        with torch.inference_mode(), observed(copy, (*sites, end) if end else sites, see), suppress(Enough):
            forward(copy, batch)
        return seen

    def of(share: Share) -> list[dict[str, Stat]]:
        found: list[dict[str, Stat]] = [{} for _ in parts]
        numbered = ((i, batch) for i, part in enumerate(parts) for batch in (part if share.number == 1 else share.of(part)))
        for i, seen in each_batch(model, numbered, lambda copy, pair: (pair[0], one(copy, pair[1])), doing):
            for name, new in seen.items():
                each(name, new)
                _add(found[i], name, new)
        return found

    share = Share() if ordered else share_now()
    total, *others = share.together(lambda: of(share))
    for other in others:  # of the same sites
        for own, new in zip(total, other, strict=True):
            for name, statistic in new.items():
                _add(own, name, statistic)
    if nothing is not None and (not total[0] or next(iter(total[0].values())).count < least):
        raise VPError(nothing)
    return total


def the_end(model: nn.Module) -> Site | None:
    """What the map from states to words reads, behind which nothing is measured; None for a model without one.

    A vocabulary is wide: of SmolLM2 that map is a fifth of a pass, and its logits are far more than all else that passes.
    """
    head = model.get_output_embeddings() if isinstance(model, PreTrainedModel) else None
    path = next((path for path, module in model.named_modules() if module is head), None) if head is not None else None
    return None if path is None else Site("the end", path, inputs=True)


def _add(total: dict[str, Stat], name: str, new: Stat) -> None:
    if name in total:
        total[name].merge(new)
    else:
        total[name] = new
