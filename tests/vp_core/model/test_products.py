"""Products by the other library: the same numbers up to rounding, wherever a model multiplies, and nothing else changes."""

import bench_models
import pytest
import tiny
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from vp_core.asking.forward import forward
from vp_core.model import products
from vp_core.model.products import Product, fast_products, product, use_plain_products, use_products

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch without oneDNN")


@pytest.fixture(params=[True, False])
def other(request, monkeypatch):
    monkeypatch.setattr(products, "other_library", lambda: request.param)
    monkeypatch.setattr(products, "SMALLEST", 1)
    return request.param


@pytest.fixture
def calls(monkeypatch):
    """How often the other library multiplied."""
    found = []
    own = products._linear
    monkeypatch.setattr(products, "_linear", lambda *given: (found.append(given), own(*given))[1])
    return found


def test_maps_are_those_of_float64(other, calls):
    x, weight, bias = torch.randn(3, 5, 48), torch.randn(40, 48), torch.randn(40)
    wanted = x.double() @ weight.double().T
    with torch.no_grad(), fast_products():
        ways = [
            (functional.linear(x, weight, bias), wanted + bias), (functional.linear(x, weight), wanted),
            (torch.addmm(bias, x[0], weight.T), wanted[0] + bias), (functional.linear(x[:, ::2, ::2], weight[:, ::2]), None),
        ]  # fmt: skip
    ways[3] = ways[3][0], x[:, ::2, ::2].double() @ weight[:, ::2].double().T
    for found, expected in ways:
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-4)
    assert len(calls) == (4 if other else 0)
    for kind in (torch.float32, torch.float64):
        total = torch.ones(48, 48, dtype=kind)
        products.add_product(total, products.by_coordinate(x[0]), products.by_coordinate(x[1]))
        torch.testing.assert_close(total.double(), 1 + x[0].double().T @ x[1].double(), rtol=1e-5, atol=1e-4)


def test_what_it_cannot_take_is_torchs_own(other, calls):
    weight = torch.randn(40, 48)
    with torch.no_grad(), fast_products():
        for x in (torch.randn(48), torch.randn(0, 48)):
            assert torch.equal(functional.linear(x, weight), x @ weight.T)
        x = torch.randn(3, 48, dtype=torch.float64)
        assert torch.equal(functional.linear(x, weight.double()), x @ weight.double().T)
        assert functional.linear(torch.randn(3, 48).bfloat16(), weight.bfloat16()).dtype == torch.bfloat16
        assert torch.equal(torch.addmm(torch.zeros(3, 40), x.float(), weight.T), x.float() @ weight.T)
    with fast_products():
        trained = functional.linear(torch.randn(3, 48), weight.requires_grad_())
    trained.sum().backward()
    assert calls == [] and weight.grad is not None


def test_gradients_reach_what_is_read(other, calls):
    x, weight, bias = torch.randn(7, 48, requires_grad=True), torch.randn(40, 48), torch.randn(40)
    with fast_products():
        found = functional.linear(x, weight, bias)
    found.square().sum().backward()
    wanted = 2 * (x.detach().double() @ weight.double().T + bias) @ weight.double()
    torch.testing.assert_close(x.grad.double(), wanted, rtol=1e-4, atol=1e-3)
    assert len(calls) == (2 if other else 0)


@pytest.fixture
def always(monkeypatch):
    monkeypatch.setattr(products, "other_library", lambda: True)
    monkeypatch.setattr(products, "SMALLEST", 1)


def test_torch_where_the_other_must_not_be_asked(always, calls):
    layer, x = Product(8, 8), torch.randn(4, 8)
    layer(x).sum().backward()
    assert layer.weight.grad is not None and not calls
    with torch.no_grad():
        layer.double()(x.double())
        layer.float()
        with FlopCounterMode(display=False) as counter:
            layer(x)
        assert counter.get_total_flops() == 2 * 4 * 8 * 8
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(x).dtype == torch.bfloat16
        assert not calls
        assert layer(x[:0]).shape == (0, 8) and not calls
        layer(x)
        assert len(calls) == 1
    program = torch.export.export(nn.Sequential(layer), (x,))
    assert "mkldnn" not in str(program.graph) and len(calls) == 1
    assert torch.func.vmap(layer)(x).shape == (4, 8) and len(calls) == 1


def test_small_products_are_not_worth_a_call(always, calls, monkeypatch):
    monkeypatch.setattr(products, "SMALLEST", 4 * 8 * 8 + 1)
    with torch.no_grad():
        product(torch.randn(4, 8), torch.randn(8, 8))
        assert not calls
        product(torch.randn(5, 8), torch.randn(8, 8))
        assert len(calls) == 1


def test_a_model_whose_maps_are_products_and_the_way_back():
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2))
    before = model.state_dict()
    use_products(model)
    assert [type(m) for m in model] == [Product, nn.ReLU, Product]
    use_plain_products(model)
    assert [type(m) for m in model] == [nn.Linear, nn.ReLU, nn.Linear]
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_a_models_passes_go_there(family, other, calls):
    model, batch = bench_models.batch_of(family)
    model = model.float()
    with torch.no_grad():
        plain = model(**batch.inputs)[0]
        assert calls == []
        found = forward(model, batch)[0]
    assert bool(calls) == other
    torch.testing.assert_close(found, plain, rtol=1e-4, atol=1e-4)
    if not other:
        assert torch.equal(found, plain)
    assert tiny.hooks(model) == 0


def test_only_amds_processors_with_avx_512_have_another_library(monkeypatch, tmp_path):
    for about, capability, expected in (
        ("vendor_id : AuthenticAMD", "AVX512", True), ("vendor_id : AuthenticAMD", "AVX2", False),
        ("vendor_id : GenuineIntel", "AVX512", False),
    ):  # fmt: skip
        (tmp_path / "cpuinfo").write_text(about)
        monkeypatch.setattr(products, "Path", lambda _path: tmp_path / "cpuinfo")
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda capability=capability: capability)
        assert products.other_library.__wrapped__() == expected
