"""Eight-bit weights: symmetric integers with one scale a row, so that the stored model is a quarter of its size."""

import torch
from torch import Tensor

LEVELS = 127  # symmetric: -127..127, so that zero is exact and a sign flip changes nothing
SMALLEST = 1e-30  # a row whose scale would be below this is stored as zeros: its products vanish in float32
SCALE = ".scale"


def round_up(scale: Tensor) -> Tensor:
    """The float32 scale (any shape) with its last eight bits rounded up and away.

    Sixteen significant bits times 127 fit in float32 without rounding, so that quantising restored weights again
    finds the very same scale.
    """
    return ((scale.view(torch.int32) + 0xFF) & ~0xFF).view(torch.float32)


def quantise_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """int8 rows (rows, columns) and float32 scales (rows,) of `weight` (rows, columns).

    Each row's largest entry becomes 127 steps; |error| <= scale / 2.
    """
    scale = round_up(weight.abs().amax(dim=1) / LEVELS)
    scale = torch.where(scale < SMALLEST, 0.0, scale)
    steps = torch.where(scale[:, None] > 0, weight / scale.clamp_min(SMALLEST)[:, None], 0.0)
    return steps.round().clamp(-LEVELS, LEVELS).to(torch.int8), scale


def pack(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors to store: matrices (rows, columns) as int8, a `.scale` (rows,) beside each, everything else as float32."""
    packed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        value = tensor.detach().to(torch.float32).contiguous()
        if value.ndim == 2:
            packed[name], packed[name + SCALE] = quantise_rows(value)
        else:
            packed[name] = value.clone()
    return packed


def unpack(packed: dict[str, Tensor]) -> dict[str, Tensor]:
    """The float32 state dict that `pack` stored, each tensor of its old shape (any).

    Every tensor is a new one: those read from a file lie where it is mapped.
    """
    state: dict[str, Tensor] = {}
    for name, tensor in packed.items():
        if name.endswith(SCALE) and name.removesuffix(SCALE) in packed:
            continue
        state[name] = tensor.to(torch.float32, copy=True)
        if tensor.dtype == torch.int8:
            state[name] *= packed[name + SCALE].to(torch.float32)[:, None]
    return state
