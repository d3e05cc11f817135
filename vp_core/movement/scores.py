"""W' = W ⊙ expand(1[S > τ]) in a model that trains, with the gradient of the straight-through estimator (Bengio et al. 2013).

    ∂L/∂W = ∂L/∂W' ⊙ expand(1[S > τ])          ∂L/∂S = Σ over a unit's weights of ∂L/∂W' ⊙ W

What is masked has no gradient; its score has one, so that it may come back. A unit with weights in several matrices sums over
all of them. Scores and masks are float32.

Memory on top of a plain training, bytes a weight: 4 for W', and 4 of its gradient, which is not given back between two steps;
by single weights 20 more (score, its gradient, two moments, mask), by blocks of n weights 20 / n; 4 for a mask that is filled.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.utils import parametrize
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from vp_core.ground.errors import VPError
from vp_core.ground.patterns import Pattern
from vp_core.model.projections import as_rows, linear_map
from vp_core.movement.shapes import Group
from vp_core.training.groups import OWN
from vp_core.weights.matrices import Matrix


@dataclass(eq=False)
class Units:
    """The units of one group: their `score` (n,), and `keep` (n,), 1 for those that stay and 0 for the others.

    `learning` says whether scores get a gradient. `protected` (n,) bool, if there, are those that must not go.
    """

    group: Group
    score: nn.Parameter
    keep: Tensor
    learning: bool = True
    protected: Tensor | None = None
    room: Tensor | None = field(default=None, repr=False)

    def take_room(self, like: Tensor) -> Tensor | None:
        """Memory of the last gradient, for a new one of this shape and kind; nobody else knows it from here on.

        None while that gradient is still there, to be added to.
        """
        room, self.room = self.room, None
        if (
            room is None
            or self.score.grad is not None
            or room.numel() != like.numel()
            or room.dtype != like.dtype
            or not like.is_contiguous()
        ):
            return None
        return room.view(like.shape)


@dataclass(eq=False)
class Place:
    """One matrix in its module and its units there. `mask` (rows, columns), if there, is in force instead of theirs."""

    matrix: Matrix
    pattern: Pattern
    units: Units
    mask: Tensor | None = None

    @property
    def rows(self) -> slice | Tensor:
        """Where it is in its module."""
        return self.matrix.part.index

    def write_masked(self, weight: Tensor, into: Tensor) -> None:
        """Write `weight` (rows, columns) ⊙ mask into a tensor of its shape."""
        if self.mask is not None:
            torch.mul(weight, self.mask.to(weight.dtype), out=into)
            return
        keep = self.units.keep.to(weight.dtype).view(self.pattern.grid(self.matrix.shape))
        (height, width), (up, across) = self.pattern.block(self.matrix.shape), keep.shape
        if (up * height, across * width) != self.matrix.shape:  # blocks that are cut short
            torch.mul(weight, self._expanded(keep), out=into)
        else:  # without a mask as large as the matrix
            parts = [one.unflatten(0, (up, height)).unflatten(2, (across, width)) for one in (weight, into)]
            torch.mul(parts[0], keep[:, None, :, None], out=parts[1])

    def _expanded(self, keep: Tensor) -> Tensor:
        height, width = self.pattern.block(self.matrix.shape)
        tall = keep.repeat_interleave(height, dim=0)[: self.matrix.rows]
        return tall.repeat_interleave(width, dim=1)[:, : self.matrix.columns]

    def sums(self, one: Tensor, other: Tensor) -> Tensor:
        """(n,) float32: the product of two tensors (rows, columns), summed over each unit."""
        (height, width), (up, across) = self.pattern.block(self.matrix.shape), self.pattern.grid(self.matrix.shape)
        if self.pattern.single:
            return torch.mul(one, other, out=self.units.take_room(one)).flatten().float()
        product = one * other
        missing = up * height - self.matrix.rows, across * width - self.matrix.columns
        if any(missing):
            product = F.pad(product, (0, missing[1], 0, missing[0]))
        if height > 1:
            product = product.unflatten(0, (up, height)).sum(dim=1)
        if width > 1:
            product = product.unflatten(1, (across, width)).sum(dim=2)
        return product.flatten().float()

    def kept(self) -> Tensor:
        """The mask (rows, columns) bool on the CPU, True = survives."""
        if self.mask is not None:
            return self.mask.bool().cpu()
        return self._expanded(self.units.keep.view(self.pattern.grid(self.matrix.shape))).bool().cpu()


class Masked(nn.Module):
    """Parametrization W ↦ W' of a module's weight, which holds the matrices of `places`; other rows stay as they are."""

    def __init__(self, places: Sequence[Place], transposed: bool) -> None:
        super().__init__()
        self.places, self.transposed = tuple(places), transposed
        self.room: Tensor | None = None
        self.gradient_room: Tensor | None = None

    def forward(self, weight: Tensor) -> Tensor:
        """W' from `weight`, W: both (d_out, d_in), of a `Conv1D` both (d_in, d_out)."""
        learning = [place.units.score for place in self.places if place.units.learning]
        found: Tensor = _StraightThrough.apply(weight, self, *learning)
        return found

    def rows(self, weight: Tensor) -> Tensor:
        """A view (d_out, d_in) of a weight."""
        return weight.T if self.transposed else weight

    def masked(self, weight: Tensor, into: Tensor | None = None) -> Tensor:
        """`weight` ⊙ mask, of its own shape, written `into` a tensor or a new one."""
        new = torch.empty_like(weight) if into is None else into
        if sum(place.matrix.rows for place in self.places) < len(self.rows(weight)):
            new.copy_(weight)
        for place in self.places:
            own = self.rows(new)[place.rows]
            place.write_masked(self.rows(weight)[place.rows], own)
            place.matrix.part.give(self.rows(new), own)
        return new

    def masked_again(self, weight: Tensor) -> Tensor:
        """The same in the memory of the last time, whose pages need not be fetched anew in every step.

        Passes before the next step of an optimiser write what stands there already; `data`, so that no pass takes this for a
        change of what it has to remember.
        """
        if self.room is None or self.room.shape != weight.shape or self.room.dtype != weight.dtype:
            self.room = torch.empty_like(weight)
        return self.masked(weight, self.room.data).data

    def __getstate__(self) -> dict[str, Any]:
        """A copy has room of its own."""
        return self.__dict__ | {"room": None, "gradient_room": None}


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, mask: Masked, *scores: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.mask, ctx.learning = mask, [place for place in mask.places if place.units.learning]
        return mask.masked_again(weight) if mask.training and weight.requires_grad else mask.masked(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        mask: Masked = ctx.mask
        found = []
        for place, wanted in zip(ctx.learning, ctx.needs_input_grad[2:], strict=True):
            part = mask.rows(gradient)[place.rows], mask.rows(weight)[place.rows]
            found.append(place.sums(*part) if wanted else None)
        if not ctx.needs_input_grad[0]:
            return None, None, *found
        room, mask.gradient_room = mask.gradient_room, None
        usable = room is not None and weight.grad is None and room.shape == gradient.shape and room.dtype == gradient.dtype
        return mask.masked(gradient, room if usable else None), None, *found


@dataclass(eq=False)
class Scores:
    """The scores of a model: all `units`, and the `places` they have in its matrices, by matrix name."""

    units: tuple[Units, ...]
    places: dict[str, Place] = field(default_factory=dict)

    @classmethod
    def put_on(cls, model: PreTrainedModel, groups: Iterable[Group], start: float) -> "Scores":
        """Give every matrix of these groups scores, in place, all with the value `start`; nothing is masked yet.

        Raises VPError for a model that has scores, or a normalised weight, already.
        """
        if hasattr(model, OWN) or any(parametrize.is_parametrized(module) for module in model.modules()):
            raise VPError("The weights of this model are masked or normalised by another training already: load it anew.")
        device = next(model.parameters()).device
        units = []
        for group in groups:
            score = nn.Parameter(torch.full((group.units,), float(start), dtype=torch.float32, device=device))
            units.append(Units(group, score, torch.ones_like(score, requires_grad=False)))
        made = cls(tuple(units))
        by_path: dict[str, list[Place]] = {}
        for one in made.units:
            for matrix, pattern in one.group.members:
                place = made.places[matrix.name] = Place(matrix, pattern, one)
                by_path.setdefault(matrix.path, []).append(place)
        for path, places in by_path.items():
            module = linear_map(model, path)
            # unsafe: the check would compute once more, and what it checks (shape, type) holds by construction
            parametrize.register_parametrization(module, "weight", Masked(places, isinstance(module, Conv1D)), unsafe=True)
        named = {one.group.name.replace(".", "_"): one.score for one in made.units}
        setattr(model, OWN, nn.ParameterDict(named))
        return made

    def keep_rooms(self, model: PreTrainedModel) -> None:
        """Remember the gradients that are there: their memory serves for those of the next step, instead of new pages."""
        for one in self.units:
            one.room = one.score.grad
        for path in dict.fromkeys(place.matrix.path for place in self.places.values()):
            mask, original = _on(model, path)
            mask.gradient_room = original.grad

    @torch.no_grad()
    def take_off(self, model: PreTrainedModel) -> None:
        """Make W' the plain weight, in place: what is masked is zero. The masks are still known here.

        Not by torch's own function, which would take the weights of copies of this model away as well: they share its class.
        """
        for module in list(model.modules()):
            lists = getattr(module, "parametrizations", {})
            if "weight" in lists and isinstance(lists["weight"][0], Masked):
                original = lists["weight"].original
                original.copy_(lists["weight"][0].masked(original) + 0.0)  # −0 becomes 0
                del module.parametrizations
                module.__class__ = type(module).__bases__[0]
                others = dict(module.named_parameters(recurse=False))
                for name in others:
                    delattr(module, name)
                for name, parameter in {"weight": original, **others}.items():  # in the order they had
                    module.register_parameter(name, parameter)
        delattr(model, OWN)
        for one in self.units:
            one.score.grad = None

    def trained(self, model: PreTrainedModel, name: str) -> nn.Parameter:
        """The parameter W that is trained, of the module that holds this matrix."""
        return _on(model, self.places[name].matrix.path)[1]

    def write(self, model: PreTrainedModel, name: str, tensor: Tensor, where: Tensor, values: Tensor) -> None:
        """Write `values` (rows, columns) of a matrix into a tensor of its module's shape, W or one of its moments, `where`."""
        place = self.places[name]
        rows = as_rows(linear_map(model, place.matrix.path), tensor)
        part = rows[place.rows]
        part[where] = values.to(part)[where]
        place.matrix.part.give(rows, part)


def _on(model: PreTrainedModel, path: str) -> tuple[Masked, nn.Parameter]:
    """(the mask on a module's weight, the parameter W that is trained)."""
    lists = linear_map(model, path).parametrizations
    assert isinstance(lists, nn.ModuleDict)
    found = lists["weight"]
    assert isinstance(found, parametrize.ParametrizationList)
    mask, original = found[0], found.original
    assert isinstance(mask, Masked) and isinstance(original, nn.Parameter)
    return mask, original
