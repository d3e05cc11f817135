"""ONNX files: onnxruntime answers like torch at any size; what is missing or wrong is said in one sentence."""

import numpy as np
import pytest
import torch

from vp_core.ground.errors import VPError
from vp_core.recipes import Recipe
from vp_core.squeezing import onnx
from vp_core.squeezing.onnx import export_onnx


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta"])
def test_onnxruntime_answers_like_torch(studies, family, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    model = studies[family].squeezed(Recipe(), 0.5)
    path = export_onnx(model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for batch in studies[family].question.chunks()[0][1][:3]:
        inputs = {name: batch.inputs[name] for name in ("input_ids", "attention_mask")}
        with torch.inference_mode():
            expected = model(**inputs).logits.numpy()
        (found,) = session.run(["logits"], {name: value.numpy() for name, value in inputs.items()})
        assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


def test_without_the_extra(monkeypatch, studies, tmp_path):
    monkeypatch.setattr(onnx, "EXTRA", ("onnx", "no_such_package"))
    with pytest.raises(VPError, match=r"ONNX needs no_such_package: install the extra"):
        export_onnx(studies["bert"].model, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_file_that_answers_otherwise_is_not_kept(monkeypatch, studies, tmp_path):
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(onnx, "TOLERANCE", -1.0)
    with pytest.raises(VPError, match="differ from torch's"):
        export_onnx(studies["bert"].model, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []
