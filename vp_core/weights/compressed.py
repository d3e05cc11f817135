"""Matrices with many zeros, written small: a bit a weight says where it is not zero, and then come those weights as they are.

What counts as zero is +0.0, all of whose bits are 0: −0.0 is written as any other number, so that what is read is to the bit
what was written. Only safetensors are written, and how large a matrix becomes is known before it is made.
"""

import zlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vp_core.ground.bounded import Weight
from vp_core.ground.errors import VPError
from vp_core.weights.masks import Shape, pack, unpack

BITS, VALUES = ":bits", ":values"
"""What follows a matrix's name in the file, where it is compressed."""
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_FLOATS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
"""The types of the format that matrices with zeros have, in bytes."""


def compress(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Shape]]:
    """(tensors with bits and values in place of each matrix that is smaller so, the shapes of those matrices by name)."""
    found: dict[str, Tensor] = {}
    shapes: dict[str, Shape] = {}
    for name, tensor in tensors.items():
        there = _there(tensor) if tensor.dim() == 2 and tensor.is_floating_point() and tensor.element_size() > 1 else None
        if there is None or compressed_bytes(tensor, int(there.sum())) >= tensor.numel() * tensor.element_size():
            found[name] = tensor
            continue
        shapes[name] = (tensor.shape[0], tensor.shape[1])
        found |= {name + BITS: pack(there), name + VALUES: tensor[there]}
    return found, shapes


def compressed_bytes(matrix: Tensor, kept: int) -> int:
    """Bytes of a matrix (any shape) of which `kept` weights are not zero, as `compress` writes it."""
    return -(-matrix.numel() // 8) + kept * matrix.element_size()


def check_compressed(header: Mapping[str, Weight], shapes: object, file: str) -> tuple[dict[str, Weight], dict[str, Shape]]:
    """(what a file's header would say with the matrices of these shapes in place of their parts, the shapes), nothing read.

    A matrix has 8 weights for each byte of its bits, so none is larger than the file allows. Raises VPError, naming the
    `file`, where parts are missing, of other types, or too short or too long for their matrix.
    """
    whole, known = dict(header), dict[str, Shape]()
    try:
        for name, (rows, columns) in dict(shapes).items():  # type: ignore[call-overload]
            bits, values = whole.pop(name + BITS), whole.pop(name + VALUES)
            if (type(rows), type(columns)) != (int, int) or min(rows, columns) < 1:
                raise ValueError(f"{name} has no size")
            weights = rows * columns
            if (bits.dtype, bits.shape) != ("U8", (-(-weights // 8),)):
                raise ValueError(f"{name} is said to have {weights:,} weights, and has {bits.elements:,} bytes of bits")
            if values.dtype not in _FLOATS or len(values.shape) != 1 or values.elements > weights or name in whole:
                raise ValueError(f"the values of {name} cannot be those of {weights:,} weights")
            known[name] = (rows, columns)
            whole[name] = Weight(values.dtype, known[name])
    except (KeyError, TypeError, ValueError) as error:
        reason = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
        raise VPError(f"The weights in {file!r} are broken ({reason[:200]}): prune and save again.") from error
    return whole, known


def expand(tensors: Mapping[str, Tensor], shapes: Mapping[str, Shape]) -> dict[str, Tensor]:
    """The tensors that `compress` was given, to the bit; ValueError where a matrix has more or fewer values than bits."""
    whole = dict(tensors)
    for name, shape in shapes.items():
        there, values = unpack(whole.pop(name + BITS), shape), whole.pop(name + VALUES)
        count = int(there.sum())
        if count != len(values):
            raise ValueError(f"{name} has {len(values):,} values for {count:,} bits")
        whole[name] = torch.zeros(shape, dtype=values.dtype)
        whole[name][there] = values
    return whole


def bytes_dense(model: nn.Module) -> int:
    """Bytes of all parameters and buffers as they are, shared ones once."""
    return sum(t.numel() * t.element_size() for t in _own(model))


def bytes_compressed(model: nn.Module) -> int:
    """Bytes of all parameters and buffers with those matrices compressed that are smaller so."""
    return sum(t.numel() * t.element_size() for t in compress({str(i): t for i, t in enumerate(_own(model))})[0].values())


def bytes_gzip(model: nn.Module, compressed: bool = False, level: int = 6) -> int:
    """Bytes of all parameters and buffers as gzip packs them at its usual level, measured: seconds for each 100 MB.

    With `compressed`, of what `compress` leaves of them.
    """
    packer, total, tensors = zlib.compressobj(level, wbits=31), 0, {str(i): t for i, t in enumerate(_own(model))}
    for tensor in (compress(tensors)[0] if compressed else tensors).values():
        total += len(packer.compress(tensor.reshape(-1).view(torch.uint8).numpy().data))
    return total + len(packer.flush())


def _own(model: nn.Module) -> list[Tensor]:
    return [t.detach() for t in {id(t): t for t in [*model.parameters(), *model.buffers()]}.values() if t.dim()]


def _there(tensor: Tensor) -> Tensor:
    """Where a tensor is not +0.0, by its bits."""
    return tensor.contiguous().view(_INTEGERS[tensor.element_size()]) != 0
