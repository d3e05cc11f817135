"""The arithmetic a model is run in: float32 as it came, bfloat16, or int8 (dynamic quantisation of the linear layers).

And the device it is run on. What passes through a model stays on its device, where it is summed up; sums of a batch, scores and
plans are on the processor, and so is what is solved from them, in float64 on every machine.
"""

import os
import time
import warnings
from functools import cache
from statistics import median

import torch
from torch import nn
from torch.ao.nn.quantized.dynamic import Linear as QuantisedLinear
from transformers.pytorch_utils import Conv1D

from vp_core.ground.errors import VPError, one_of
from vp_core.ground.names import AUTO, DEVICES, PRECISIONS
from vp_core.model.products import use_plain_products
from vp_core.model.scatter import ScatterLinear, refilled
from vp_core.model.sharing import Model, share

_ROUNDS = 5


def in_precision(model: Model, precision: str) -> Model:
    """The model in another arithmetic; `model` itself is not changed, and is returned as it is if it has it already.

    float32 is also said of models in float64. float16 is for models that are kept in it (`vp_core.loading.load`).

    int8 is torch's own dynamic quantisation: weights of every `nn.Linear` to 8 bits by row, activations to 8 bits by tensor
    as they come (GPT-2's `Conv1D` as the `nn.Linear` that it is); embeddings, norms and attention products stay float32. It is
    deprecated in favour of torchao, whose int8 layers were slower than float32 on processors without compilation (measured
    in docs/speed.md). Raises VPError for an unknown precision, and for int8 on an accelerator.
    """
    kept = next((one.dtype for one in model.parameters() if one.is_floating_point()), torch.float32)
    own = "float16" if kept == torch.float16 else PRECISIONS[0]
    one_of("precision", precision, tuple(dict.fromkeys((*PRECISIONS, own))))
    if precision == "bfloat16" or (precision == "float32" and kept in (torch.bfloat16, torch.float16)):
        return model if kept == getattr(torch, precision) else _cast(model, getattr(torch, precision))
    if precision == "int8":
        if device_of(model).type != "cpu":
            raise VPError("int8 is arithmetic of the processor: choose float32 or bfloat16 here, or the device cpu.")
        how = {nn.Linear: torch.ao.quantization.per_channel_dynamic_qconfig}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", (DeprecationWarning, FutureWarning, UserWarning))
            whole = share(model) if kept in (torch.float32, torch.float64) else _cast(model, torch.float32)
            use_plain_products(whole)
            return torch.ao.quantization.quantize_dynamic(_in_linear_maps(whole), how, inplace=True)
    return model


def _cast(model: Model, dtype: torch.dtype) -> Model:
    """A copy with its weights in another floating type; squeezed maps multiply zero rows, or not, as pays there."""
    cast = share(model, cast=dtype)
    for path, module in list(cast.named_modules()):
        if isinstance(module, ScatterLinear):
            cast.set_submodule(path, refilled(module, dtype))
    return cast


def _in_linear_maps(model: Model) -> Model:
    """`model` with an `nn.Linear` in place of each `Conv1D`, which keeps its weight transposed; in place."""
    for path, module in list(model.named_modules()):
        if isinstance(module, Conv1D):
            inputs, outputs = module.weight.shape
            linear = nn.Linear(inputs, outputs, device="meta")
            linear.weight, linear.bias = nn.Parameter(module.weight.detach().T.contiguous(), requires_grad=False), module.bias
            model.set_submodule(path, linear)
    return model


def find_device(name: str = AUTO) -> torch.device:
    """The device of that name; `auto` is the first accelerator there is (cuda, then mps), else the processor.

    Raises VPError for an unknown name, and for a device that is not there.
    """
    there = {"cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0}
    there["mps"] = int(torch.backends.mps.is_available())
    if name == AUTO:
        name = next((kind for kind, number in there.items() if number), "cpu")
    if name == "cuda" and there["cuda"] > 1 and "LOCAL_RANK" in os.environ:  # each process has an accelerator of its own
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]) % there["cuda"])
    kind, colon, number = name.partition(":")
    if kind not in DEVICES[1:] or (colon and not (kind == "cuda" and number.isdecimal())):
        raise VPError(f"Unknown device {name!r}: choose one of {', '.join(DEVICES)}, or cuda:1 for the second of several.")
    if kind != "cpu" and int(number or 0) >= there[kind]:
        found = ", ".join(["cpu", *(f"{one}:{i}" if one == "cuda" else one for one, n in there.items() for i in range(n))])
        raise VPError(f"The device {name!r} is not there: choose auto, or one of those that are, {found}.")
    return torch.device(name)


def device_of(model: nn.Module) -> torch.device:
    """Where a model's weights are; the processor for one without any."""
    return next((one.device for one in model.parameters()), torch.device("cpu"))


def sums_at(device: torch.device) -> torch.device:
    """Where what passes on a device is summed up in float64: there, or on the processor where it has none (mps)."""
    return torch.device("cpu") if device.type == "mps" else device


def fast_precision() -> str:
    """The precision in which this machine trains fastest: bfloat16 where its processor, or its accelerator, is made for it.

    On processors with AMX, bfloat16 products are several times as fast as those of float32; without instructions for them
    they were six times slower (measured on AVX2, 1536 × 384).
    """
    if torch.cuda.is_available():
        made_for_it = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        made_for_it = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return "bfloat16" if made_for_it else "float32"


@cache
def bfloat16_time(device: torch.device) -> float:
    """Seconds of a product of matrices in bfloat16 on this device, as a share of those in float32: measured, once a process.

    (256, 768) × (768, 768), as a BERT-base has them; the medians of rounds in which both take turns, after a warm-up.
    """
    pairs = {
        dtype: [torch.ones(*size, device=device, dtype=dtype) for size in ((256, 768), (768, 768))]
        for dtype in (torch.float32, torch.bfloat16)
    }
    seconds: dict[torch.dtype, list[float]] = {dtype: [] for dtype in pairs}
    for _ in range(_ROUNDS + 1):
        for dtype, (left, right) in pairs.items():
            start = time.perf_counter()
            (left @ right)[0, 0].item()  # an accelerator is waited for
            seconds[dtype].append(time.perf_counter() - start)
    exact, half = (median(found[1:]) for found in seconds.values())
    return half / exact


def bytes_of(model: nn.Module) -> int:
    """Bytes of all parameters and buffers, shared ones once; of quantised layers 1 for a weight, 8 for the scale and 8 for
    the zero point of a row, 4 for a bias."""
    tensors = {id(t): t for t in [*model.parameters(), *model.buffers()]}
    total = sum(t.numel() * t.element_size() for t in tensors.values())
    for module in model.modules():
        if isinstance(module, QuantisedLinear):
            total += module.in_features * module.out_features + (8 + 8 + 4) * module.out_features
    return total
