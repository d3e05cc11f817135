"""ONNX files of squeezed (or any other) models, checked against torch before they are kept."""

import importlib.util
import logging
import warnings
from pathlib import Path

import torch
from transformers import PreTrainedModel

from vp_core.ground.errors import VPError
from vp_core.ground.store import atomic
from vp_core.squeezing.timing import random_texts

EXTRA = ("onnx", "onnxscript", "onnxruntime")
TOLERANCE = 1e-4


def require_onnx() -> None:
    """VPError if the packages of the extra `onnx` are not installed."""
    missing = [name for name in EXTRA if importlib.util.find_spec(name) is None]
    if missing:
        raise VPError(f"ONNX needs {', '.join(missing)}: install the extra, pip install -r requirements-onnx.txt.")


def export_onnx(model: PreTrainedModel, path: str | Path) -> Path:
    """Write a text model as ONNX with free batch and length; its outputs are compared with torch's on a batch with padding.

    Inputs `input_ids` and `attention_mask` (batch, tokens), output `logits`. Raises VPError if the extra `onnx` is not
    installed, if the export fails, or if onnxruntime answers otherwise; then no file is left.
    """
    require_onnx()
    example = random_texts(model.config, 3, 12)
    example["attention_mask"][1, 7:] = 0
    batch, tokens = torch.export.Dim("batch", min=1, max=4096), torch.export.Dim("tokens", min=2, max=4096)
    with atomic(path) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it tells of operators that no model here has
        try:
            program = torch.onnx.export(
                model.eval(), (), kwargs=example, dynamo=True, verbose=False, output_names=["logits"],
                dynamic_shapes={name: {0: batch, 1: tokens} for name in example},
            )  # fmt: skip
            assert program is not None
            program.save(str(temporary))
        except Exception as error:  # the exporter raises many kinds
            reason = str(error).strip().splitlines()[0][:160]
            raise VPError(
                f"This {model.config.model_type} model cannot be written as ONNX ({reason}): save it with save_pruned."
            ) from error
        difference = _difference(model, temporary)
        if not difference <= TOLERANCE:
            raise VPError(f"onnxruntime's answers differ from torch's by {difference:.1g}: the ONNX file was not kept.")
    return Path(path)


def _difference(model: PreTrainedModel, path: Path) -> float:
    """Largest difference of logits between onnxruntime and torch, relative to the largest logit, at other sizes."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    inputs = random_texts(model.config, 2, 20, seed=1)
    inputs["attention_mask"][0, 15:] = 0
    with torch.inference_mode():
        expected = model(**inputs).logits
    (logits, *_) = session.run(["logits"], {name: value.numpy() for name, value in inputs.items()})
    return float((torch.from_numpy(logits) - expected).abs().max() / expected.abs().max())
