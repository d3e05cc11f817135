"""Other arithmetics: what is cast, what is quantised, how many bytes that makes, and that the model stays as it was."""

import pytest
import tiny
import torch

from vp_core.ground.errors import VPError
from vp_core.ground.names import PRECISIONS
from vp_core.model.precision import QuantisedLinear, bytes_of, fast_precision, in_precision
from vp_core.model.scatter import SCATTER_COST, ScatterLinear
from vp_core.recipes import Recipe


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_squeezed_model_answers_nearly_the_same(studies, precision):
    study = studies["bert"]
    model, batch = study.squeezed(Recipe(), 0.4), study.question.chunks()[0][1][0]
    before = tiny.sha(model)
    with torch.inference_mode():
        exact, found = (m.base_model(**batch.inputs).last_hidden_state.float() for m in (model, in_precision(model, precision)))
    # bfloat16 has 8 bits for the mantissa, int8 7 bits for a whole tensor: a few layers of that
    assert (exact - found).norm() <= {"float32": 0, "bfloat16": 0.02, "int8": 0.05}[precision] * exact.norm()
    assert tiny.sha(model) == before and tiny.hooks(model) == 0


def test_bytes_by_hand(studies):
    model = studies["bert"].model
    tensors = {id(t): t for t in [*model.parameters(), *model.buffers()]}.values()
    floats = sum(t.numel() for t in tensors if t.is_floating_point())
    others = sum(t.numel() * t.element_size() for t in tensors if not t.is_floating_point())
    assert bytes_of(model) == 4 * floats + others
    assert bytes_of(in_precision(model, "bfloat16")) == 2 * floats + others
    linear = [m for m in model.modules() if isinstance(m, torch.nn.Linear)]
    saved = sum(3 * m.weight.numel() - (8 + 8) * m.out_features for m in linear)  # a scale and a zero point for each row
    assert bytes_of(in_precision(model, "int8")) == 4 * floats + others - saved


def test_bfloat16_chooses_anew_where_zero_rows_pay(monkeypatch, studies):
    study = studies["bert"]
    monkeypatch.setitem(SCATTER_COST, torch.float32, 0)
    model = study.squeezed(Recipe(), 0.4)
    cast = in_precision(model, "bfloat16")
    wide = {p: m.shape.wide for p, m in cast.named_modules() if isinstance(m, ScatterLinear) and m.linear is not None}
    narrow = {p: m.shape.wide for p, m in model.named_modules() if isinstance(m, ScatterLinear) and m.linear is not None}
    assert any(wide[p] and not narrow[p] for p in wide.keys() & narrow.keys())


def test_unknown_precision(studies):
    with pytest.raises(VPError, match=r"int4.*choose one of"):
        in_precision(studies["bert"].model, "int4")


@pytest.mark.parametrize(
    ("tiles", "avx512", "accelerator", "fast"),
    [
        (False, False, None, "float32"),
        (True, False, None, "bfloat16"),
        (False, True, None, "bfloat16"),
        (True, True, False, "float32"),
        (False, False, True, "bfloat16"),
    ],
)
def test_bfloat16_only_where_it_is_fast(monkeypatch, tiles, avx512, accelerator, fast):
    """By what torch says of the processor (AMX, AVX-512), or of the accelerator if there is one."""
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: tiles)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: accelerator is not None)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation or accelerator)
    assert fast_precision() == fast


def test_torch_still_tells_what_the_processor_can():
    """These two are not of torch's public interface."""
    assert {torch.cpu._is_amx_tile_supported(), torch.cpu._is_avx512_bf16_supported()} <= {True, False}


def test_int8_reaches_gpt2s_transposed_maps(loaded):
    """Not one of its maps stays float32, and the answers are nearly the same."""
    one = loaded["gpt2"]
    before, texts = tiny.sha(one.model), [(t,) for t in tiny.sentences(20)]
    small = in_precision(one.model, "int8")
    assert not [path for path, m in small.named_modules() if isinstance(m, torch.nn.Linear | tiny.Conv1D)]
    assert sum(isinstance(m, QuantisedLinear) for m in small.modules()) == 4 * tiny.LAYERS + 1
    exact, found = (tiny.answers(m, one.tokenizer, texts) for m in (one.model, small))
    assert (exact - found).norm() <= 0.1 * exact.norm()
    assert tiny.sha(one.model) == before
