"""A linear map of a layer cut to the rows and columns that are left, and put in place."""

from collections.abc import Collection, Mapping, Sequence
from itertools import accumulate

import torch
from torch import Tensor
from transformers import PreTrainedModel

from vp_core.model.projections import Layer, bias_of, weight_of
from vp_core.model.scatter import filled, gather_pays
from vp_core.squeezing.cut.shapes import Squeezed
from vp_core.squeezing.survivors import Survivors

NO_ROWS = torch.empty(0, dtype=torch.long)


class Pieces:
    """What cuts one layer of `model` piece by piece and notes the new shapes in `result`."""

    def __init__(
        self, model: PreTrainedModel, layer: Layer, left: Survivors, result: Squeezed, columns: Mapping[str, Tensor]
    ) -> None:
        self.model, self.layer, self.left, self.result, self.columns = model, layer, left, result, columns

    def weight(self, type_: str) -> Tensor:
        return weight_of(self.model, self.layer.projections[type_])

    def bias(self, type_: str) -> Tensor:
        return bias_of(self.model, self.layer.projections[type_])

    def put(self, path: str, weight: Tensor, bias: Tensor, like: Tensor, **indices: Tensor | None) -> None:
        weight, bias = weight.detach().requires_grad_(like.requires_grad), bias.to(like.dtype)
        module, shape = filled(weight, bias, **indices)
        self.model.set_submodule(path, module)
        self.result.modules[path] = shape

    def put_reading(
        self, types: Collection[str], path: str, weight: Tensor, bias: Tensor, like: Tensor, **indices: Tensor | None
    ) -> None:
        """`put` for a module that holds these types: it picks the inputs that they still read, where that is faster."""
        read = self.read_by(types)
        if read is not None and gather_pays(weight, len(read)):
            weight, indices = weight[:, read], indices | {"in_index": read}
        self.put(path, weight, bias, like, **indices)

    def read_by(self, types: Collection[str]) -> Tensor | None:
        """The input columns (n,) that any of these types reads; None if all of them are."""
        names = [self.layer.projections[type_].name for type_ in types]
        if not all(name in self.columns for name in names):
            return None
        return torch.stack([self.columns[name] for name in names]).any(dim=0).nonzero().squeeze(1)

    def by_path(self, types: Collection[str]) -> dict[str, list[str]]:
        """Which of these types each module holds, gates included: several in one module, or each in its own."""
        found: dict[str, list[str]] = {}
        for type_ in types:
            p = self.layer.projections[type_]
            for path in dict.fromkeys((p.path, p.gate or p.path)):
                found.setdefault(path, []).append(type_)
        return found

    def note(self, reason: str | None) -> None:
        """What could not be squeezed, once a model."""
        if reason and reason not in self.result.notes:
            self.result.notes += (reason,)

    def keeps_all(self, type_: str) -> bool:
        return len(self.left.rows[type_]) == self.layer.projections[type_].d_out

    def reader(
        self,
        type_: str,
        columns: Tensor,
        constants: Tensor,
        places: Tensor | None = None,
        room: int = 0,
        in_index: Tensor | None = None,
    ) -> None:
        """The matrix that reads what was cut: `columns` survive, what the others made of their `constants` joins the bias.

        The columns go to `places` among `room` columns, the rest of them zero, or read their input by `in_index`.
        """
        rows, weight, bias = self.left.rows[type_], self.weight(type_), self.bias(type_)
        gone = torch.ones(weight.shape[1], dtype=torch.bool).index_fill(0, columns, False)
        total = (bias.cpu().double() + weight[:, gone].cpu().double() @ constants[gone]).to(weight)
        matrix = weight[rows][:, columns]
        if places is not None:
            matrix = matrix.new_zeros(len(rows), room).index_copy(1, places.to(matrix.device), matrix)
        put_in_place = {"base": total, "out_index": rows} if len(rows) < len(total) else {}
        self.put(self.layer.projections[type_].path, matrix, total[rows], weight, in_index=in_index, **put_in_place)


def starts(widths: Sequence[int]) -> list[int]:
    """Where heads of these widths begin, beside each other.

    >>> starts([4, 8, 8])
    [0, 4, 12]
    """
    return [end - width for end, width in zip(accumulate(widths), widths, strict=True)]


def positions(counts: Sequence[int], widths: Sequence[int]) -> Tensor:
    """Where the coordinates of heads with `counts` coordinates are when each head has room for its width.

    >>> positions([2, 1], [4, 4])
    tensor([0, 1, 4])
    """
    return torch.cat([NO_ROWS, *(i + torch.arange(c) for i, c in zip(starts(widths), counts, strict=False))])
