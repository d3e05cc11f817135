"""Function norms against the same forward passes without, spectral norms against torch's, and what removed blocks save."""

import torch

from benchmarks.measure import alternating, line
from vp_core.asking.batches import make_batches
from vp_core.ground.parallel import in_parallel
from vp_core.measuring.function_norms import collect_norms
from vp_core.measuring.spectral_norms import SpectralNorms
from vp_core.model.blocks import find_blocks
from vp_core.model.projections import find_projections, weight_of
from vp_core.squeezing.blocks_off import without
from vp_core.study import Study


def run(study: Study) -> None:
    batches = make_batches(study.calibration, range(len(study.calibration)))

    def forward(model) -> None:
        def one(batch) -> None:
            with torch.inference_mode():
                model(**batch.inputs)

        list(in_parallel(one, batches))

    blocks = find_blocks(study.model)
    half = without(
        study.model, [b for b in blocks if b.kind == "ffn" and b.layer % 2] + [b for b in blocks if (b.head or 0) % 2]
    )
    again = SpectralNorms()
    again(study.model)
    matrices = [weight_of(study.model, p) for p in find_projections(study.model)]
    seconds = alternating(
        {
            "plain": lambda: forward(study.model),
            "norms": lambda: collect_norms(study.model, batches),
            "half": lambda: forward(half),
            "sigma": lambda: SpectralNorms()(study.model),
            "warm": lambda: again(study.model),
            "torch": lambda: [torch.linalg.matrix_norm(matrix, 2) for matrix in matrices],
        }
    )
    line(
        "function norms of every head, attention block and FFN / the same forward passes",
        seconds["norms"] / seconds["plain"],
        "x",
        "<= 1.5",
    )
    line("spectral norms of all projections, cold / torch.linalg.matrix_norm", seconds["sigma"] / seconds["torch"], "x", "< 1")
    line("the same from the last vectors / torch.linalg.matrix_norm", seconds["warm"] / seconds["torch"], "x", "< 1")
    line("dense / every other head and FFN gone, forward passes", seconds["plain"] / seconds["half"], "x", "2 at most")
