"""The arithmetic a model is run in: float32 as it came, bfloat16, or int8 (dynamic quantisation of the linear layers)."""

import warnings

import torch
from torch import nn
from torch.ao.nn.quantized.dynamic import Linear as QuantisedLinear
from transformers.pytorch_utils import Conv1D

from vp_core.ground.errors import one_of
from vp_core.ground.names import PRECISIONS
from vp_core.model.scatter import ScatterLinear, refilled
from vp_core.model.sharing import Model, share


def in_precision(model: Model, precision: str) -> Model:
    """The model in another arithmetic; `model` itself is not changed, and is returned as it is for float32.

    int8 is torch's own dynamic quantisation: weights of every `nn.Linear` to 8 bits by row, activations to 8 bits by tensor
    as they come (GPT-2's `Conv1D` as the `nn.Linear` that it is); embeddings, norms and attention products stay float32. It is
    deprecated in favour of torchao, whose int8 layers were slower than float32 on processors without compilation (measured
    in docs/speed.md). Raises VPError for an unknown precision.
    """
    one_of("precision", precision, PRECISIONS)
    if precision == "bfloat16":
        cast = share(model, cast=torch.bfloat16)
        for path, module in list(cast.named_modules()):
            if isinstance(module, ScatterLinear):
                cast.set_submodule(path, refilled(module, torch.bfloat16))
        return cast
    if precision == "int8":
        how = {nn.Linear: torch.ao.quantization.per_channel_dynamic_qconfig}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", (DeprecationWarning, FutureWarning, UserWarning))
            return torch.ao.quantization.quantize_dynamic(_in_linear_maps(share(model)), how, inplace=True)
    return model


def _in_linear_maps(model: Model) -> Model:
    """`model` with an `nn.Linear` in place of each `Conv1D`, which keeps its weight transposed; in place."""
    for path, module in list(model.named_modules()):
        if isinstance(module, Conv1D):
            inputs, outputs = module.weight.shape
            linear = nn.Linear(inputs, outputs, device="meta")
            linear.weight, linear.bias = nn.Parameter(module.weight.detach().T.contiguous(), requires_grad=False), module.bias
            model.set_submodule(path, linear)
    return model


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


def bytes_of(model: nn.Module) -> int:
    """Bytes of all parameters and buffers, shared ones once; of quantised layers 1 for a weight, 8 for the scale and 8 for
    the zero point of a row, 4 for a bias."""
    tensors = {id(t): t for t in [*model.parameters(), *model.buffers()]}
    total = sum(t.numel() * t.element_size() for t in tensors.values())
    for module in model.modules():
        if isinstance(module, QuantisedLinear):
            total += module.in_features * module.out_features + (8 + 8 + 4) * module.out_features
    return total
