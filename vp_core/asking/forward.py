"""A model's answer to a batch. Whatever it raises reaches the user as one sentence that names the model and the text."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vp_core.asking.batches import Batch
from vp_core.ground.errors import VPError, harmless, one_line
from vp_core.ground.work import Cancelled, Enough
from vp_core.model.precision import device_of
from vp_core.model.products import fast_products
from vp_core.model.sharing import share

TRIED = 64
"""Texts of a batch that are tried one at a time, to find out which of them the model fails on."""
_SHOWN = 60
"""Characters of a text that a sentence shows."""
_WANTED = re.compile(r"ried to allocate ([\d.]+) ([KMGT]iB|bytes)")
_FREE = re.compile(r"of which ([\d.]+ [KMGT]iB) is free")
"""How torch says that memory has run out, on an accelerator and on the processor."""
_NO_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "bad allocation")


def forward(model: nn.Module, batch: Batch) -> Any:
    """The model's output for a batch; raises as `told` does."""
    with told(model, batch), fast_products():
        return model(**inputs_for(model, batch))


def inputs_for(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """A batch's inputs (examples, tokens) on the model's device, pixel values in the type of its weights."""
    device, kind = device_of(model), next((one.dtype for one in model.parameters() if one.is_floating_point()), None)
    given = batch.inputs.items()
    return {name: value.to(device, kind if value.is_floating_point() else None) for name, value in given}


@contextmanager
def told(model: nn.Module, batch: Batch) -> Iterator[None]:
    """While open, whatever a forward pass of `model` on `batch` raises becomes a VPError of one sentence.

    It names the model, the reason, and the first text on which the model fails by itself as well. VPError and Cancelled, which
    are meant for somebody, pass as they are, and so does what ends a pass early (Enough). Where no gradients are asked for,
    matrices are multiplied as this machine does it faster (`vp_core.model.products`).
    """
    try:
        with fast_products():
            yield
    except (VPError, Cancelled, Enough):
        raise
    except Exception as error:  # models, torch and the processor's kernels share no base class
        raise VPError(_sentence(model, batch, error)) from error


def name_of(model: nn.Module) -> str:
    """What a sentence calls a model: the folder or id that it was loaded from, else its class."""
    return getattr(model, "name_or_path", "") or type(model).__name__


def _sentence(model: nn.Module, batch: Batch, error: Exception) -> str:
    name, texts = name_of(model), len(batch.examples)
    if batch.seen:
        return _of_images(model, batch, error)
    tokens = max((value.shape[1] for value in batch.inputs.values() if value.dim() == 2), default=0)
    if isinstance(error, MemoryError) or any(words in str(error).lower() for words in _NO_MEMORY):
        return (
            f"There was not enough memory to run the model {name!r} on {texts:,} texts of {tokens:,} tokens "
            f"together{needed(error)}: "
            "take shorter texts, a smaller batch where there is a choice, or a smaller model."
        )
    row, reason = _first_failure(model, batch, error)
    where = (
        f"the text {_shown(batch, row)}" if row is not None else f"{texts:,} texts together, of which one is {_shown(batch, 0)}"
    )
    return (
        f"The model {name!r} failed on {where} ({one_line(reason)}): check that its tokeniser and its configuration belong "
        "to its weights."
    )


def _of_images(model: nn.Module, batch: Batch, error: Exception) -> str:
    name, images = name_of(model), len(batch.examples)
    if isinstance(error, MemoryError) or any(words in str(error).lower() for words in _NO_MEMORY):
        return (
            f"There was not enough memory to run the model {name!r} on {images:,} images together{needed(error)}: take a "
            "smaller model."
        )
    return (
        f"The model {name!r} failed on {images:,} images together, of which one is {_shown(batch, 0)} ({one_line(error)}): "
        "check that its image processor and its configuration belong to its weights."
    )


def needed(error: BaseException) -> str:
    """What an error says of how much memory was wanted, and was free: ` (20.00 GiB more were needed, 1.2 GiB were free)`.

    >>> needed(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 3000000000 bytes."))
    ' (3.0 GB more were needed)'
    """
    wanted, free = _WANTED.search(str(error)), _FREE.search(str(error))
    if wanted is None:
        return ""
    amount = f"{int(wanted[1]) / 1e9:.1f} GB" if wanted[2] == "bytes" else f"{wanted[1]} {wanted[2]}"
    return f" ({amount} more were needed{f', {free[1]} were free' if free else ''})"


def _first_failure(model: nn.Module, batch: Batch, error: Exception) -> tuple[int | None, Exception]:
    """(the first of TRIED rows that the model fails on by itself, why); (None, `error`) if it takes each of them."""
    if len(batch.examples) == 1:
        return 0, error
    plain = _unobserved(model)
    with torch.no_grad():
        for row in range(min(len(batch.examples), TRIED)):
            try:
                plain(**{name: value.to(device_of(plain)) for name, value in alone(batch, row).items()})
            except Exception as own:  # see `told`
                return row, own
    return None, error


def _unobserved(model: nn.Module) -> nn.Module:
    """The model without hooks, which are made for the batch that failed, and with its layers' own forward passes."""
    plain = share(model)
    for module in plain.modules():
        module._forward_hooks.clear()
        module._forward_pre_hooks.clear()
        module.__dict__.pop("forward", None)
    return plain


def alone(batch: Batch, row: int) -> dict[str, Tensor]:
    """The inputs of one row, without its padding."""
    own = {name: value[row : row + 1] for name, value in batch.inputs.items()}
    masks = {side: batch.inputs.get(f"{side}attention_mask") for side in ("", "decoder_")}
    real = {side: None if mask is None else mask[row].bool() for side, mask in masks.items()}

    def whole(name: str, value: Tensor) -> Tensor:
        mask = real["decoder_" if name.startswith("decoder_") else ""]
        return value[:, mask] if mask is not None and value.shape[1:] == mask.shape else value

    return {name: whole(name, value) for name, value in own.items()}


def _shown(batch: Batch, row: int) -> str:
    """A row's text in quotes, its beginning if it is long; its place in the data if nobody knows the text."""
    if not batch.texts:
        return f"number {int(np.asarray(batch.examples)[row]) + 1:,}"
    text = " ".join(harmless(" | ".join(batch.texts[row])).split())
    return repr(text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…")
