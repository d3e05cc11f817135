"""Products by oneDNN: the same numbers where it is asked, torch's own wherever gradients, other types or tracers are about."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from transformers.pytorch_utils import Conv1D

from vp_core.model import products
from vp_core.model.products import Product, fast_products, onednn_pays, product, use_plain_products, use_products

pytestmark = pytest.mark.skipif(
    not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")), reason="there is no oneDNN"
)


@pytest.fixture
def asked(monkeypatch):
    """How often oneDNN was asked; it pays for products of any size."""
    count = []
    real = torch.ops.mkldnn._linear_pointwise

    def counted(*args):
        count.append(args)
        return real(*args)

    monkeypatch.setattr(products, "SMALLEST", 1)
    monkeypatch.setattr(products, "onednn_pays", lambda: True)
    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", counted)
    return count


def some(*shape, **how):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), **how)


@pytest.mark.parametrize("shape", [(7, 33), (2, 5, 33), (33,), (1, 1, 33)])
@pytest.mark.parametrize("bias", [True, False])
def test_the_numbers_are_right(asked, shape, bias):
    x, weight, own = some(*shape), some(21, 33), some(21) if bias else None
    with torch.inference_mode():
        found = product(x, weight, own)
    expected = x.double() @ weight.double().T + (own.double() if bias else 0)
    assert len(asked) == 1 and found.shape == expected.shape
    assert torch.allclose(found.double(), expected, atol=1e-5)


def test_strided_inputs(asked):
    x, weight = some(5, 2, 40).transpose(0, 1)[..., 3:36], some(33, 21).T
    with torch.inference_mode():
        assert torch.allclose(product(x, weight), F.linear(x, weight), atol=1e-5) and len(asked) == 1


def test_torch_where_oneDNN_must_not_be_asked(asked):
    layer, x = Product(8, 8), some(4, 8)
    layer(x).sum().backward()
    assert layer.weight.grad is not None and not asked
    with torch.no_grad():
        layer.double()(x.double())
        layer.float()
        with FlopCounterMode(display=False) as counter:
            layer(x)
        assert counter.get_total_flops() == 2 * 4 * 8 * 8
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(x).dtype == torch.bfloat16
        assert not asked
        assert layer(x[:0]).shape == (0, 8) and not asked
        layer(x)
        assert len(asked) == 1
    program = torch.export.export(nn.Sequential(layer), (x,))
    assert "mkldnn" not in str(program.graph) and len(asked) == 1
    assert torch.func.vmap(layer)(x).shape == (4, 8) and len(asked) == 1


def test_small_products_are_not_worth_a_call(asked, monkeypatch):
    monkeypatch.setattr(products, "SMALLEST", 4 * 8 * 8 + 1)
    with torch.no_grad():
        product(some(4, 8), some(8, 8))
        assert not asked
        product(some(5, 8), some(8, 8))
        assert len(asked) == 1


def test_any_model_while_it_is_open(asked):
    plain, transposed, x = nn.Linear(8, 6), Conv1D(6, 8), some(4, 8)
    with torch.inference_mode():
        expected = plain(x), transposed(x)
        assert not asked
        with fast_products():
            found = plain(x), transposed(x)
        assert len(asked) == 2
        plain(x)
        assert len(asked) == 2
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(found, expected, strict=True))
    with fast_products():  # gradients may be asked for
        plain(x).sum().backward()
    assert len(asked) == 2 and plain.weight.grad is not None


def test_a_model_whose_maps_are_products_and_the_way_back():
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2))
    before = model.state_dict()
    use_products(model)
    assert [type(m) for m in model] == [Product, nn.ReLU, Product]
    use_plain_products(model)
    assert [type(m) for m in model] == [nn.Linear, nn.ReLU, nn.Linear]
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_what_is_measured_is_measured_once():
    assert onednn_pays() in (True, False) and onednn_pays.cache_info().currsize == 1
