"""Which single weights survive: one bit a weight, a mask a matrix."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vp_core.ground.errors import VPError
from vp_core.ground.store import load_tensors, save_tensors

Shape = tuple[int, int]


def pack(keep: Tensor) -> Tensor:
    """The bits of a mask, row by row, eight a byte, the first the highest: any shape of bool → (⌈n/8⌉,) uint8.

    >>> pack(torch.tensor([[True, False], [False, True]])).tolist()
    [144]
    """
    return torch.from_numpy(np.packbits(keep.contiguous().numpy()))


def unpack(bits: Tensor, shape: Shape) -> Tensor:
    """The mask (rows, columns) bool of these bits.

    >>> unpack(torch.tensor([144], dtype=torch.uint8), (2, 2)).tolist()
    [[True, False], [False, True]]
    """
    found = np.unpackbits(bits.numpy(), count=shape[0] * shape[1])
    return torch.from_numpy(found.view(np.bool_).reshape(shape))


@dataclass(frozen=True, eq=False)
class Masks:
    """Which weights survive: matrix name → bits (`pack`), with the (rows, columns) of each in `shapes`.

    `sparsity` is the share of the `units` that was asked for; `criterion`, `scope`, `units` and `model` say how they were made.
    """

    bits: Mapping[str, Tensor]
    shapes: Mapping[str, Shape]
    criterion: str = ""
    scope: str = ""
    sparsity: float = 0.0
    units: str = "weights"
    model: str = ""
    _counts: dict[str, int] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def of(cls, keep: Mapping[str, Tensor], **about: str | float) -> "Masks":
        """Masks from matrix name → keep (rows, columns) bool, True = survives; `about` are the other fields."""
        shapes = {name: (mask.shape[0], mask.shape[1]) for name, mask in keep.items()}
        return cls({name: pack(mask) for name, mask in keep.items()}, shapes, **about)  # type: ignore[arg-type]

    def keep(self, name: str) -> Tensor:
        """The mask (rows, columns) of a matrix, True = survives."""
        return unpack(self.bits[name], self.shapes[name])

    def kept(self, name: str) -> int:
        """Weights of a matrix that survive."""
        if name not in self._counts:
            self._counts[name] = int(np.bitwise_count(self.bits[name].numpy()).sum(dtype=np.int64))
        return self._counts[name]

    def size(self, name: str) -> int:
        """Weights of a matrix."""
        rows, columns = self.shapes[name]
        return rows * columns

    def share_removed(self, name: str) -> float:
        """Share of a matrix's weights that goes."""
        return 1 - self.kept(name) / self.size(name)

    @cached_property
    def weights(self) -> int:
        """Weights of all matrices that the masks speak of."""
        return sum(self.size(name) for name in self.bits)

    @property
    def weights_removed(self) -> int:
        """Weights that go."""
        return self.weights - sum(self.kept(name) for name in self.bits)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Masks)
            and self._about() == other._about()
            and self.bits.keys() == other.bits.keys()
            and all(torch.equal(bits, other.bits[name]) for name, bits in self.bits.items())
        )

    def __repr__(self) -> str:
        return (
            f"Masks({self.units}, {self.criterion}, {self.scope}, sparsity {self.sparsity:g}: {self.weights_removed:,} of "
            f"{self.weights:,} weights go)"
        )

    def _about(self) -> dict[str, str]:
        words = {name: getattr(self, name) for name in ("criterion", "scope", "units", "model")}
        return words | {"sparsity": json.dumps(self.sparsity), "shapes": json.dumps(dict(self.shapes), sort_keys=True)}

    def save(self, path: str | Path) -> None:
        """Write to a safetensors file, atomically."""
        save_tensors(path, dict(self.bits), kind="weight masks", about=self._about())

    @classmethod
    def load(cls, path: str | Path) -> "Masks":
        """Read what `save` wrote; VPError if the file is broken or something else."""
        bits, about = load_tensors(path, kind="weight masks")
        try:
            shapes = {name: (int(rows), int(columns)) for name, (rows, columns) in json.loads(about["shapes"]).items()}
            if shapes.keys() != bits.keys() or any(len(bits[n]) != -(-r * c // 8) for n, (r, c) in shapes.items()):
                raise ValueError("its shapes are not those of its bits")
            sparsity = float(json.loads(about["sparsity"]))
            return cls(bits, shapes, about["criterion"], about["scope"], sparsity, about["units"], about["model"])
        except (KeyError, ValueError, TypeError) as error:
            raise VPError(f"{str(path)!r} is broken ({error}): make the masks again.") from error


def overlap(one: Masks, other: Masks) -> dict[str, tuple[float, float]]:
    """By matrix, (share of the weights in which two masks agree, what chance would give for masks that remove as much).

    With shares p and q removed, independent masks agree in p·q + (1 − p)(1 − q) of the weights. Raises VPError for masks of
    matrices of other names or shapes.
    """
    if dict(one.shapes) != dict(other.shapes):
        raise VPError("These masks are of different matrices: lay masks over each other that are of the same model's shape.")
    found = {}
    for name in one.bits:
        differ = int(np.bitwise_count(one.bits[name].numpy() ^ other.bits[name].numpy()).sum(dtype=np.int64))
        p, q = one.share_removed(name), other.share_removed(name)
        found[name] = 1 - differ / one.size(name), p * q + (1 - p) * (1 - q)
    return found
