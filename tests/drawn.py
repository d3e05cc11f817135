"""Matrices for tests of spectral norms, and torch's exact answer."""

import torch


def exact(matrix):
    return float(torch.linalg.matrix_norm(matrix.detach().double(), 2))


def draw(rows, columns, seed=0, dtype=torch.float64):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=dtype)
