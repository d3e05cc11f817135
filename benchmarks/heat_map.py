"""A new sparsity to new heat map data, for 24 layers of BERT-large size."""

import torch

from analysis import masks
from benchmarks.measure import alternating, line
from vp_core.ground.names import TYPES
from vp_core.model.projections import Projection
from vp_core.ranking.plan import rank

LAYERS, HIDDEN, FFN = 24, 1024, 4096


def run() -> None:
    projections = [
        Projection(layer, t, "", FFN if t == "ffn_out" else HIDDEN, FFN if t == "ffn_in" else HIDDEN, None, None)
        for layer in range(LAYERS)
        for t in TYPES
    ]
    generator = torch.Generator().manual_seed(0)
    scores = {p.name: torch.rand(p.d_out, generator=generator, dtype=torch.float64) for p in projections}
    ranking = rank(scores, projections)
    seconds = alternating(
        {
            "table": lambda: masks.table(ranking, 0.37),
            "frames": lambda: masks.frames(ranking),
            "rank": lambda: rank(scores, projections),
        }
    )
    line("BERT-large, 24 layers: a new sparsity to heat map data", seconds["table"] * 1000, "ms", "< 50")
    line("BERT-large, 24 layers: all 101 slider positions at once", seconds["frames"] * 1000, "ms", "-")
    line("BERT-large, 24 layers: ranking 221,184 neurons (once a recipe)", seconds["rank"] * 1000, "ms", "-")
