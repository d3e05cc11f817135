"""Batches that somebody made: dicts of tensors whose first dimension is that of examples, kept as they are."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vp_core.asking.batches import Batch, Inputs
from vp_core.ground.errors import VPError, one_line

MOST_BYTES = 2**31
"""Of all batches together, which are kept in memory."""
Dicts = Iterable[Mapping[str, Tensor]]
"""What is given: batches, each a dict of tensors (examples, …)."""


@dataclass(frozen=True, eq=False)
class Given(Inputs):
    """Examples in the batches that they came in: dicts of tensors (examples, …) on the processor. A model is given those that
    it `takes`, by name, or all.

    No example shares a batch with one of another batch, so that padding stays what it was.
    """

    batches: Sequence[Mapping[str, Tensor]]
    takes: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    texts: None = None
    truncated: int = 0

    @cached_property
    def places(self) -> np.ndarray:
        """(number of its batch, row in it) of every example (examples, 2)."""
        sizes = [len(next(iter(batch.values()))) for batch in self.batches]
        return np.array([(number, row) for number, size in enumerate(sizes) for row in range(size)])

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of every example (examples,)."""
        return np.concatenate([_lengths(batch) for batch in self.batches])

    @property
    def max_length(self) -> int:  # type: ignore[override]
        """Tokens of the longest example: nothing was cut."""
        return self.longest

    def __len__(self) -> int:
        return len(self.places)

    def length(self, i: int) -> int:
        """Tokens of example i that are no padding; 1 where a batch says nothing of tokens."""
        return int(self.lengths[i])

    def apart(self, i: int) -> int:
        """The number of its batch."""
        return int(self.places[i, 0])

    def together(self, members: Sequence[int]) -> Batch:
        """Some rows of one batch, in the names that the model takes."""
        numbers, rows = self.places[np.array(members)].T
        assert len(set(numbers.tolist())) == 1, "examples of several batches do not come together"
        found, where = self.batches[int(numbers[0])], torch.from_numpy(rows.copy())
        names = [name for name in found if self.takes is None or name in self.takes]
        return Batch({name: found[name][where] for name in names}, np.array(members))

    def whole(self, number: int) -> Batch:
        """Batch number so and so as it was given, with all of its names."""
        return Batch(dict(self.batches[number]), np.flatnonzero(self.places[:, 0] == number))

    def facts(self) -> tuple[object, ...]:
        """Every batch by the bytes of its tensors, and what of it a model is given."""
        return tuple(_fingerprint(batch) for batch in self.batches), self.takes


def read_batches(batches: Dicts | Callable[[], Dicts], most: int | None = None, what: str = "batches") -> Given:
    """Batches of any iterable, or of a function that returns one, gone through once and kept; with `most` so many of them.

    Raises VPError, one sentence that names the batch, for what is no iterable of dicts of tensors, for none, for empty ones,
    for tensors of different first dimensions, for more than MOST_BYTES, and if the iterable raises something.
    """
    found, size = list[dict[str, Tensor]](), 0
    notes: tuple[str, ...] = ()
    for number, batch in enumerate(_each(batches, what), start=1):
        if most is not None and number > most:
            notes = (f"The first {most:,} {what} are used, and there are more.",)
            break
        found.append(_checked(batch, number, what))
        size += sum(tensor.numel() * tensor.element_size() for tensor in found[-1].values())
        if size > MOST_BYTES:
            raise VPError(
                f"The first {number:,} {what} hold {size:,} bytes, where {MOST_BYTES:,} are the most: give fewer of them "
                "(most_batches=…)."
            )
    if not found:
        raise VPError(f"There are no {what}: give an iterable of dicts of tensors that is not used up already.")
    return Given(found, notes=notes)


def _each(batches: Any, what: str) -> Iterable[Any]:
    """The batches one after another; what goes wrong in making them is one sentence."""
    wrong = f"The {what} are no iterable of dicts of tensors, such as [{{'input_ids': …}}], but a {type(batches).__name__}"
    if callable(batches) and not isinstance(batches, Iterable):
        try:
            batches = batches()
        except Exception as error:
            raise VPError(f"The function of the {what} failed ({_said(error)}): mend it.") from error
    if isinstance(batches, Mapping | str | bytes | Tensor):
        raise VPError(f"{wrong}: put it into a list.")
    try:
        walk = iter(batches)
    except TypeError:
        raise VPError(f"{wrong}: give a list, a DataLoader or a generator.") from None
    while True:
        try:
            batch = next(walk)
        except StopIteration:
            return
        except VPError:
            raise
        except Exception as error:
            raise VPError(f"The {what} failed on the way ({_said(error)}): mend what makes them.") from error
        yield batch


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {one_line(error)}"


def _checked(batch: Any, number: int, what: str) -> dict[str, Tensor]:
    """A copy of a batch on the processor: many a loader fills the same tensors again."""
    which = f"Batch {number:,} of the {what}"
    if not isinstance(batch, Mapping):
        raise VPError(f"{which} is a {type(batch).__name__}, no dict of tensors: give dicts such as {{'input_ids': …}}.")
    for name, value in batch.items():
        if not isinstance(name, str) or not isinstance(value, Tensor) or value.dim() == 0:
            is_a = "a tensor without dimensions" if isinstance(value, Tensor) else f"a {type(value).__name__}"
            raise VPError(f"{name!r} in batch {number:,} of the {what} is {is_a}: give tensors (examples, …).")
    sizes = {name: len(value) for name, value in batch.items()}
    if not sizes or not all(sizes.values()):
        raise VPError(f"{which} is empty: leave it out.")
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{name} {size:,}" for name, size in sizes.items())
        raise VPError(f"{which} has tensors of different first dimensions ({told}): the first is that of examples.")
    return {name: value.detach().to("cpu", copy=True) for name, value in batch.items()}


def _lengths(batch: Mapping[str, Tensor]) -> np.ndarray:
    rows = len(next(iter(batch.values())))
    mask = batch.get("attention_mask")
    if mask is not None and mask.dim() == 2:
        return (mask != 0).sum(dim=1).clamp(min=1).numpy()
    tokens = next((batch[name].shape[1] for name in ("input_ids", "inputs_embeds") if name in batch), 1)
    return np.full(rows, tokens)


def _fingerprint(batch: Mapping[str, Tensor]) -> str:
    sha = hashlib.sha256()
    for name, tensor in sorted(batch.items()):
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()[:16]
