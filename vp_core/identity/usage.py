"""How often each block was the identity: over mini-batches of texts, or over those of a training as it goes (section 3.4)."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vp_core.ground.names import MODES
from vp_core.identity.gate import Epsilon, Gated
from vp_core.measuring.function_norms import FunctionNorms
from vp_core.model.blocks import Block, Sublayers
from vp_core.training.callbacks import Callback, Run, State

Unit = tuple[Block, ...]
"""What leaves together: a block, or both of a layer."""


def leaving_together(mode: str, blocks: Collection[Block]) -> list[Unit]:
    """What leaves together in a mode, out of these blocks: single blocks, or both of a layer."""
    if mode != "layers":
        return [(block,) for block in blocks if block.kind in MODES[mode]]
    layers = sorted({b.layer for b in blocks})
    return [found for n in layers if (found := tuple(b for b in blocks if b.layer == n and b.kind in MODES[mode]))]


@dataclass(frozen=True)
class Usage:
    """`identity`: reading (`max`, `mean`) → share of the `batches` mini-batches in which each unit was the identity, all its
    blocks at once; `alone` the same of single blocks; `closed` is the share of tokens at which a unit's gates are shut."""

    units: tuple[Unit, ...]
    identity: Mapping[str, Mapping[Unit, float]]
    alone: Mapping[str, Mapping[Block, float]]
    closed: Mapping[Unit, float]
    batches: int

    @classmethod
    def of_texts(cls, norms: FunctionNorms, epsilon: Epsilon, mode: str) -> "Usage":
        """Over random mini-batches of the texts that these norms were measured on."""
        limits = torch.tensor([epsilon.get(block.kind, -1.0) for block in norms.blocks])
        shut = {"max": norms.batch_maxima() <= limits}
        if norms.sums is not None:
            shut["mean"] = norms.batch_means() <= limits
        return cls.of_flags(norms.blocks, mode, shut, norms.closed_share(epsilon))

    @classmethod
    def of_flags(cls, blocks: Sequence[Block], mode: str, shut: Mapping[str, Tensor], closed: Tensor) -> "Usage":
        """From (mini-batches, blocks) bool by reading, and the share (blocks,) of tokens."""
        units, place = leaving_together(mode, blocks), {block: i for i, block in enumerate(blocks)}
        where = {unit: [place[block] for block in unit] for unit in units}
        return cls(
            tuple(units),
            {by: {u: float(found[:, where[u]].all(dim=1).double().mean()) for u in units} for by, found in shut.items()},
            {by: dict(zip(blocks, found.double().mean(dim=0).tolist(), strict=True)) for by, found in shut.items()},
            {u: float(closed[where[u]].mean()) for u in units},
            len(next(iter(shut.values()))),
        )

    def as_json(self) -> dict[str, Any]:
        """For a checkpoint; `from_json` reads it."""
        unit_names = [[block.name for block in unit] for unit in self.units]
        return {
            "units": unit_names,
            "identity": {by: list(found.values()) for by, found in self.identity.items()},
            "alone": {by: {block.name: share for block, share in found.items()} for by, found in self.alone.items()},
            "closed": list(self.closed.values()),
            "batches": self.batches,
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> "Usage":
        """What `as_json` gave."""
        units = tuple(tuple(map(Block.named, names)) for names in found["units"])
        alone = {by: {Block.named(name): share for name, share in of.items()} for by, of in found["alone"].items()}
        identity = {by: dict(zip(units, shares, strict=True)) for by, shares in found["identity"].items()}
        return cls(units, identity, alone, dict(zip(units, found["closed"], strict=True)), found["batches"])


class Counting(Callback):
    """Counts over the last `steps` mini-batches of a training with gates, each as it was when its step was taken.

    Norms are those before the gates. Under several processes a mini-batch is that of all of them.
    """

    def __init__(self, sublayers: Sequence[Sublayers], epsilon: Epsilon, mode: str, steps: int) -> None:
        self.places = [
            (one.attention if kind != "ffn" else one.ffn, kind, _of_kind(one, kind))
            for one in sublayers for kind in ("head", "attention", "ffn") if kind in epsilon
        ]  # fmt: skip
        self.places = [(path, kind, blocks) for path, kind, blocks in self.places if path and blocks]
        self.blocks = [block for *_, blocks in self.places for block in blocks]
        self.limits = torch.tensor([epsilon[block.kind] for block in self.blocks])
        self.epsilon, self.mode, self.last = epsilon, mode, steps
        self.shut: dict[str, list[Tensor]] = {"max": [], "mean": []}
        self.closed, self.tokens = torch.zeros(len(self.blocks)), torch.zeros(len(self.blocks))
        self._forget()

    def _forget(self) -> None:
        self.top, self.total, self.shut_tokens, self.number = (torch.zeros(len(self.blocks)) for _ in range(4))

    def penalty(self, run: Run, inputs: Mapping[str, Tensor]) -> None:
        """Nothing is added to the loss; the pass that was just made is looked at."""
        if run.step < run.steps - self.last:
            return
        mask, at = inputs.get("attention_mask"), 0
        for norms in self._seen(run, None if mask is None else mask.flatten().bool()):
            these = slice(at, at := at + len(norms))
            self.top[these] = torch.maximum(self.top[these], norms.amax(dim=1))
            self.total[these] += norms.sum(dim=1)
            self.shut_tokens[these] += (norms <= self.limits[these][:, None]).sum(dim=1)
            self.number[these] += norms.shape[1]

    def _seen(self, run: Run, mask: Tensor | None) -> Iterator[Tensor]:
        """(blocks, uses·tokens) at each place, of real tokens."""
        for path, kind, blocks in self.places:
            module = run.model.get_submodule(path)
            assert isinstance(module, Gated)
            uses = [norms if mask is None else norms[:, mask] for norms in module.seen[kind]]
            norms = torch.cat(uses, dim=1).detach().cpu()
            yield norms if len(norms) == len(blocks) else norms[[block.head or 0 for block in blocks]]

    def after_step(self, run: Run) -> None:
        """The mini-batch is over."""
        if run.step <= run.steps - self.last:
            return
        total, number = run.gather(self.total).sum(dim=0), run.gather(self.number).sum(dim=0)
        self.shut["max"].append(run.gather(self.top).amax(dim=0) <= self.limits)
        self.shut["mean"].append(total / number <= self.limits)
        self.closed, self.tokens = self.closed + run.gather(self.shut_tokens).sum(dim=0), self.tokens + number
        self._forget()

    def state(self) -> State:
        """What was counted so far."""
        shut = {by: torch.stack(found).byte() for by, found in self.shut.items() if found}
        return shut | {"closed": self.closed, "tokens": self.tokens}, {}

    def restore(self, run: Run, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Count on from there."""
        self.shut = {by: list(tensors[by].bool()) if by in tensors else [] for by in self.shut}
        self.closed, self.tokens = tensors["closed"].clone(), tensors["tokens"].clone()

    def usage(self) -> Usage:
        """What was counted, once the training is over."""
        shut = {by: torch.stack(found) for by, found in self.shut.items()}
        return Usage.of_flags(self.blocks, self.mode, shut, self.closed / self.tokens)


def _of_kind(one: Sublayers, kind: str) -> list[Block]:
    return [block for block in one.blocks if block.kind == kind]
