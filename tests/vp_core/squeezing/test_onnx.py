"""ONNX files: onnxruntime answers like torch at any size; what is missing or wrong is said in one sentence."""

from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

from vp_core.ground.errors import VPError
from vp_core.replacing.prune import prune
from vp_core.squeezing import onnx
from vp_core.squeezing.onnx import export_onnx
from vp_core.squeezing.squeeze import squeeze

PAIRS = list(zip(tiny.sentences(9, 1, 8), tiny.sentences(9, 2, 8), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("family", [family for family in tiny.FAMILIES if family != "mbart"])
def test_onnxruntime_takes_what_the_tokeniser_makes_and_answers_like_torch(loaded, family, tmp_path):
    """Pairs of sentences, one at a time in torch, in onnxruntime padded as the tokeniser pads, and alone as well."""
    onnxruntime = pytest.importorskip("onnxruntime")
    one = loaded[family]
    plan = tiny.random_plan(one.model, 0.4)
    model = squeeze(prune(one.model, plan, tiny.random_constants(one.model)), plan)
    path = export_onnx(model, tmp_path / "model.onnx", one.tokenizer)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    expected = tiny.answers(model, one.tokenizer, PAIRS).numpy()
    for part in (PAIRS, PAIRS[:1], PAIRS[3:5]):
        inputs = one.tokenizer(*map(list, zip(*part, strict=True)), padding=True, return_tensors="np")
        assert {i.name for i in session.get_inputs()} == set(inputs)
        (found,) = session.run(["logits"], dict(inputs))
        wanted = expected[PAIRS.index(part[0]) :][: len(part)]
        assert np.abs(found - wanted).max() <= 1e-4 * np.abs(expected).max()
    if "token_type_ids" in inputs:  # it is read
        (other,) = session.run(["logits"], dict(inputs) | {"token_type_ids": 0 * inputs["token_type_ids"]})
        assert np.abs(other - found).max() > 1e-3 * np.abs(expected).max()


def test_what_fails_is_said_without_the_exporters_colours(monkeypatch, studies, tmp_path):
    pytest.importorskip("onnxruntime")

    def fails(*_args, **_settings):
        raise RuntimeError("\x1b[96mThis is step 1/3\x1b[0m of exporting") from ValueError("\x1b[1mNo such thing.\x1b[0m")

    monkeypatch.setattr(torch.onnx, "export", fails)
    with pytest.raises(VPError, match=r"^This bert model cannot be written as ONNX \(No such thing\): save it"):
        export_onnx(studies["bert"].model, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_without_the_extra(monkeypatch, studies, tmp_path):
    monkeypatch.setattr(onnx, "EXTRA", ("onnx", "no_such_package"))
    with pytest.raises(VPError, match=r"ONNX needs no_such_package: install the extra"):
        export_onnx(studies["bert"].model, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


class Written:
    """An exported program as far as it is saved."""

    def save(self, path):
        Path(path).write_bytes(b"onnx")


@pytest.mark.parametrize("differences", [(0.0, 1.0, 0.0), (0.0, float("nan")), (float("nan"), 0.0)])
def test_each_answer_must_be_like_torchs(monkeypatch, studies, tmp_path, differences):
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(torch.onnx, "export", lambda *_args, **_settings: Written())
    monkeypatch.setattr(onnx, "_differences", lambda *_args: iter(differences))
    with pytest.raises(VPError, match=r"differ from torch's by (1|nan): the ONNX file was not kept"):
        export_onnx(studies["bert"].model, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_what_onnxruntime_cannot_run_is_one_sentence(monkeypatch, studies, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")

    class Refuses:
        def __init__(self, *_args, **_settings):
            pass

        def run(self, *_args):
            raise RuntimeError("INVALID_ARGUMENT\n  Invalid input name")

    monkeypatch.setattr(torch.onnx, "export", lambda *_args, **_settings: Written())
    monkeypatch.setattr(onnxruntime, "InferenceSession", Refuses)
    with pytest.raises(
        VPError, match=r"^onnxruntime cannot run this model \(INVALID_ARGUMENT.*\): the ONNX file was not kept\.$"
    ):
        export_onnx(studies["bert"].model, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_file_that_answers_otherwise_is_not_kept(monkeypatch, studies, tmp_path):
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(onnx, "TOLERANCE", -1.0)
    with pytest.raises(VPError, match="differ from torch's"):
        export_onnx(studies["bert"].model, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []
