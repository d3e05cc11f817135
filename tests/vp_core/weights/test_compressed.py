"""Matrices as bits and values: to the bit what they were, and only where that is smaller."""

import gzip
import io

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from vp_core.ground.bounded import Weight
from vp_core.ground.errors import VPError
from vp_core.weights.compressed import (
    bytes_compressed,
    bytes_dense,
    bytes_gzip,
    check_compressed,
    compress,
    compressed_bytes,
    expand,
)

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def bits(tensor):
    return tensor.reshape(-1).view(torch.uint8).numpy().tobytes()


@given(seed=st.integers(0, 10**6), rows=st.integers(1, 9), columns=st.integers(1, 21), dtype=st.sampled_from(DTYPES))
def test_to_the_bit(seed, rows, columns, dtype):
    draw = torch.Generator().manual_seed(seed)
    matrix = torch.randn(rows, columns, generator=draw).to(dtype)
    matrix[torch.rand(rows, columns, generator=draw) < 0.7] = 0.0
    special = torch.tensor([-0.0, float("nan"), float("inf"), 1e-40]).to(dtype)
    matrix.view(-1)[:4] = special[: matrix.numel()]
    given_ = {"a": matrix, "b": matrix.T, "other": torch.zeros(3), "ids": torch.zeros(4, 4, dtype=torch.long)}
    made, shapes = compress(given_)
    for name in ("a", "b"):
        kept = sum(
            b != 0 for b in matrix.contiguous().view({2: torch.int16, 4: torch.int32, 8: torch.int64}[dtype.itemsize]).view(-1)
        )
        small = -(-rows * columns // 8) + int(kept) * dtype.itemsize
        assert small == compressed_bytes(matrix, int(kept))
        assert (name in shapes) == (small < rows * columns * dtype.itemsize)
    assert {"other", "ids"} & shapes.keys() == set() and made["ids"] is given_["ids"]
    found = expand(made, shapes)
    assert found.keys() == given_.keys()
    for name, tensor in given_.items():
        assert found[name].shape == tensor.shape and found[name].dtype == tensor.dtype and bits(found[name]) == bits(tensor)
        assert name == "ids" or found[name].is_contiguous() or name not in shapes


def test_bytes_are_those_that_are_there():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 40), nn.Linear(40, 8))
    model[0].weight.data[torch.rand(40, 64) < 0.7] = 0
    everything = [*model.parameters()]
    assert bytes_dense(model) == 4 * (64 * 40 + 40 + 40 * 8 + 8)
    kept = int((model[0].weight != 0).sum())
    assert bytes_compressed(model) == 64 * 40 // 8 + 4 * kept + 4 * (40 + 40 * 8 + 8)
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=6, mtime=0) as file:
        for tensor in everything:
            file.write(tensor.detach().numpy().tobytes())
    assert abs(bytes_gzip(model) - len(packed.getvalue())) <= 20
    assert bytes_compressed(model) < bytes_gzip(model) < bytes_dense(model) > bytes_gzip(model, compressed=True)


GOOD = {"w:bits": Weight("U8", (8,)), "w:values": Weight("F32", (7,)), "b": Weight("F32", (3,))}


def test_a_header_with_matrices_in_place_of_their_parts():
    whole, shapes = check_compressed(GOOD, {"w": [8, 8]}, "f")
    assert whole == {"w": Weight("F32", (8, 8)), "b": Weight("F32", (3,))} and shapes == {"w": (8, 8)}
    assert check_compressed(GOOD, {}, "f") == (GOOD, {})


@pytest.mark.parametrize(
    ("shapes", "changes"),
    [
        ({"w": [8, 9]}, {}),
        ({"w": [10**9, 10**9]}, {}),
        ({"w": [2**62, 2**62]}, {}),
        ({"w": [-8, -8]}, {}),
        ({"w": [True, 64]}, {}),
        ({"w": [8.0, 8]}, {}),
        ({"w": ["8", "8"]}, {}),
        ({"w": [64]}, {}),
        ({"w": 7}, {}),
        ({"v": [8, 8]}, {}),
        (["w"], {}),
        (7, {}),
        (None, {}),
        ({"w": [8, 8]}, {"w:bits": Weight("I8", (8,))}),
        ({"w": [8, 8]}, {"w:bits": Weight("U8", (8, 1))}),
        ({"w": [8, 8]}, {"w:values": Weight("F32", (65,))}),
        ({"w": [8, 8]}, {"w:values": Weight("I64", (7,))}),
        ({"w": [8, 8]}, {"w": Weight("F32", (8, 8))}),
    ],
)
def test_what_cannot_be_is_refused_before_it_is_made(shapes, changes):
    with pytest.raises(VPError, match="are broken") as caught:
        check_compressed(GOOD | changes, shapes, "f")
    assert str(caught.value).endswith(": prune and save again.") and "\n" not in str(caught.value)


def test_bits_that_are_not_those_of_the_values():
    made, shapes = compress({"w": torch.eye(8)})
    made["w:values"] = made["w:values"][:7]
    with pytest.raises(ValueError, match="w has 7 values for 8 bits"):
        expand(made, shapes)
