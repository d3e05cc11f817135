"""Norms of the demo and of its twin, stored beside their weights: the app draws one beside the other without waiting.

`python -m vp_core.demo.making.measured` measures them again, after one of the models was built anew.
"""

from collections.abc import Mapping
from pathlib import Path

import torch

from vp_core.demo.load import FOLDER, TWIN
from vp_core.ground.store import load_tensors, save_tensors
from vp_core.measuring.function_norms import FunctionNorms
from vp_core.measuring.histogram import BINS, Histogram
from vp_core.model.blocks import Block

FOLDERS = {"demo": FOLDER, "demo-sn": TWIN}
_FILE, _KIND = "norms.safetensors", "norms of the demo"


def write(name: str, norms: FunctionNorms, sigmas: Mapping[str, float], path: Path | None = None) -> None:
    """Store function norms, and spectral norms by projection, of the model of that name."""
    histogram = norms.histogram
    seen = torch.nonzero(histogram.counts.sum(dim=0))[:, 0]
    counts = histogram.counts[:, seen].to(torch.int32)
    sigma = torch.tensor(list(sigmas.values()), dtype=torch.float64)
    about = {"blocks": " ".join(block.name for block in norms.blocks), "projections": " ".join(sigmas)}
    save_tensors(
        path or FOLDERS[name] / _FILE,
        {"counts": counts, "bins": seen.to(torch.int32), "total": histogram.total, "low": histogram.low, "high": histogram.high,
         "sigma": sigma},
        kind=_KIND, about=about | {"model": norms.model, "data": norms.data},
    )  # fmt: skip


def read(name: str, data: str, path: Path | None = None) -> tuple[FunctionNorms, dict[str, float]] | None:
    """Function norms over the texts with the fingerprint `data`, and σ by projection; None if other texts were measured.

    The norms come without the largest of each text: they can be drawn, and tell no share of mini-batches.
    Raises VPError if the file is missing or broken.
    """
    tensors, about = load_tensors(path or FOLDERS[name] / _FILE, kind=_KIND)
    if about["data"] != data:
        return None
    counts = torch.zeros(len(tensors["counts"]), BINS, dtype=torch.long)
    counts[:, tensors["bins"].long()] = tensors["counts"].long()
    blocks = tuple(Block.named(one) for one in about["blocks"].split())
    histogram = Histogram(counts, tensors["total"], tensors["low"], tensors["high"])
    norms = FunctionNorms(blocks, histogram, torch.zeros(0, len(blocks)), about["model"], data)
    return norms, dict(zip(about["projections"].split(), tensors["sigma"].tolist(), strict=True))
