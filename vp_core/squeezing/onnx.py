"""ONNX files of squeezed (or any other) classifiers and language models, checked against torch before they are kept."""

import importlib.util
import inspect
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.image_processing_utils import BaseImageProcessor

from vp_core.asking.batches import Batch, Reader
from vp_core.asking.forward import told
from vp_core.asking.kinds.heads import head_of
from vp_core.ground.errors import VPError, one_line
from vp_core.ground.store import atomic
from vp_core.model.families import family_of, longest_input
from vp_core.model.sharing import share
from vp_core.squeezing.timing import random_texts

EXTRA = ("onnx", "onnxscript", "onnxruntime")
_PIXELS = "pixel_values"
TOLERANCE = 1e-4
LONGEST = 512
"""Tokens of the longest text that a file is checked with."""


def require_onnx() -> None:
    """VPError if the packages of the extra `onnx` are not installed."""
    missing = [name for name in EXTRA if importlib.util.find_spec(name) is None]
    if missing:
        raise VPError(f"ONNX needs {', '.join(missing)}: install the extra, pip install -r requirements-onnx.txt.")


def check_onnx(model: PreTrainedModel) -> None:
    """VPError for a model that writes about a text (two programs, one of which runs again for every token), for one that
    marks answers (its outputs are two), and for an mBART."""
    if head_of(model) == "target tokens":
        raise VPError(f"A {type(model).__name__} writes token by token, which is not one ONNX file: save it with save_pruned.")
    if head_of(model) == "spans":
        raise VPError(
            f"A {type(model).__name__} has two outputs, and what is written as ONNX has one: save it with save_pruned."
        )
    if model.config.model_type == "mbart":  # how it finds the last token of a target, onnxruntime cannot run
        raise VPError("onnxruntime cannot run the ONNX form of an mBART: save it with save_pruned.")


def export_onnx(model: PreTrainedModel, path: str | Path, tokenizer: Reader | None = None) -> Path:
    """Write a classifier or language model as ONNX, free in batch and length, once onnxruntime answers as torch at other sizes.

    Its inputs, (batch, tokens) each, are all that `tokenizer` makes: `input_ids`, `attention_mask` and, of a model that has
    segments, `token_type_ids`, which pairs need (without a tokeniser: what the model takes). Its output is `logits`, (batch,
    outputs), of a language model (batch, tokens, vocabulary) without a cache. A model that sees takes `pixel_values` (batch,
    channels, height, width), free in batch only. Raises VPError if the extra `onnx` is not
    installed, if the export fails, or if onnxruntime answers otherwise; then no file is left.
    """
    require_onnx()
    check_onnx(model)
    tokenizer = None if isinstance(tokenizer, BaseImageProcessor) else tokenizer
    names = input_names(model, tokenizer)
    example = _texts(model.config, names, 3, 12, tokenizer, seed=0)
    batch, tokens = torch.export.Dim("batch", min=1, max=4096), torch.export.Dim("tokens", min=2, max=4096)
    with atomic(path) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it tells of operators that no model here has
        logging.getLogger("onnxscript").setLevel(logging.ERROR)
        try:
            program = torch.onnx.export(
                _Logits(model).eval(), (), kwargs={"inputs": example}, dynamo=True, verbose=False, output_names=["logits"],
                input_names=names,
                dynamic_shapes={"inputs": {n: {0: batch} if n == _PIXELS else {0: batch, 1: tokens} for n in example}},
            )  # fmt: skip
            assert program is not None
            program.save(str(temporary))
        except Exception as error:  # the exporter raises many kinds, the reason is in what caused it
            reason = one_line(error.__cause__ or error, 160)
            raise VPError(
                f"This {model.config.model_type} model cannot be written as ONNX ({reason}): save it with save_pruned."
            ) from error
        for difference in _differences(model, temporary, names, tokenizer):
            if not difference <= TOLERANCE:  # each by itself: a largest one would hide what is no number
                raise VPError(f"onnxruntime's answers differ from torch's by {difference:.1g}: the ONNX file was not kept.")
    return Path(path)


def input_names(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None = None) -> list[str]:
    """What an ONNX file of the model takes: what its tokeniser makes and its forward pass knows."""
    if family_of(model.config.model_type).sees:
        return [_PIXELS]
    segments = getattr(model.config, "type_vocab_size", 0) > 1
    made = tokenizer.model_input_names if tokenizer else ["token_type_ids"] if segments else []
    takes = inspect.signature(model.forward).parameters
    known = [name for name in ("token_type_ids",) if name in made and name in takes]
    return ["input_ids", "attention_mask", *known]


class _Logits(nn.Module):
    """The model as a function from inputs to logits: no caches, no checks that only some batches pass."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.family = family_of(model.config.model_type)
        self.model = share(model)
        if any(stack.fixed_heads for stack in self.family.stacks) and model._supports_sdpa:
            self.model.set_attn_implementation("eager")  # the exporter knows no SDPA with a position bias

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        model: Any = self.model
        if self.family.reads_end:
            return self._at_the_end(model, inputs)
        return model(
            **inputs, **({"use_cache": False} if self.family.reads_last or head_of(model) == "next tokens" else {})
        ).logits

    def _at_the_end(self, model: Any, inputs: dict[str, Tensor]) -> Tensor:
        """What the model's own code does with a check of the batch in between: the state of each text's last end token."""
        ids = inputs["input_ids"]
        shifted = {"decoder_input_ids": model._shift_right(ids)} if hasattr(model, "_shift_right") else {}
        states = getattr(model, model.base_model_prefix)(**inputs, **shifted, use_cache=False)[0]
        places = torch.arange(ids.shape[1], device=ids.device) * ids.eq(model.config.eos_token_id)
        return model.classification_head(states[torch.arange(ids.shape[0], device=ids.device), places.argmax(dim=1)])


def _texts(
    config: PretrainedConfig, names: list[str], batch: int, length: int, tokenizer: PreTrainedTokenizerBase | None, seed: int
) -> dict[str, Tensor]:
    """Random texts (batch, length), all but the first with padding where the tokeniser puts it, in two segments."""
    found = random_texts(config, batch, length, seed)
    if _PIXELS in found:
        return found
    left = tokenizer is not None and tokenizer.padding_side == "left"
    pad = next((i for i in (config.pad_token_id, tokenizer.pad_token_id if tokenizer else None) if i is not None), 0)
    for row in range(1, batch):
        own = max(length - 1 - length * row // (2 * batch), 1)
        rest = slice(0, length - own) if left else slice(own, length)
        if family_of(config.model_type).reads_end and not left:
            found["input_ids"][row, own - 1] = config.eos_token_id
        found["input_ids"][row, rest], found["attention_mask"][row, rest] = pad, 0
    if "token_type_ids" in names:
        second = torch.arange(length) >= length // 2
        found["token_type_ids"] = (second & found["attention_mask"].bool()).long() * (getattr(config, "type_vocab_size", 1) > 1)
    return {name: found[name] for name in names}


def _differences(
    model: PreTrainedModel, path: Path, names: list[str], tokenizer: PreTrainedTokenizerBase | None
) -> Iterator[float]:
    """Largest difference of logits between onnxruntime and torch, relative to the largest logit, at several other sizes."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    longest = min(longest_input(model.config), LONGEST, tokenizer.model_max_length if tokenizer else LONGEST)
    for number, (batch, length) in enumerate([(1, 2), (1, longest), (2, 20), (5, 9)], 1):
        inputs = _texts(model.config, names, batch, min(length, longest), tokenizer, seed=number)
        with torch.inference_mode(), told(model, Batch(inputs, np.arange(batch))):
            expected = model(**inputs).logits
        try:
            (logits,) = session.run(["logits"], {name: value.numpy() for name, value in inputs.items()})
        except Exception as error:  # onnxruntime's own kinds share no base class
            reason = one_line(error, 160)
            raise VPError(f"onnxruntime cannot run this model ({reason}): the ONNX file was not kept.") from error
        found = torch.from_numpy(logits)
        if expected.dim() == 3:  # a token for padding has no answer
            real = inputs["attention_mask"].bool()
            found, expected = found[real], expected[real]
        yield float((found - expected).abs().max() / expected.abs().max())
