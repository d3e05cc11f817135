"""Collecting exact statistics of all six types against the same forward passes without."""

import resource

import torch

from benchmarks.measure import alternating, line
from vp_core.asking.batches import make_batches
from vp_core.asking.forward import forward
from vp_core.ground.parallel import in_parallel
from vp_core.measuring.statistics import collect
from vp_core.study import Study


def run(study: Study) -> None:
    batches = make_batches(study.calibration, range(len(study.calibration)))

    def plain(batch) -> None:
        with torch.inference_mode():
            forward(study.model, batch)

    seconds = alternating(
        {
            "plain": lambda: list(in_parallel(plain, batches)),
            "collect": lambda: collect(study.model, batches),
        }
    )
    line("exact statistics of all six types / the same forward passes", seconds["collect"] / seconds["plain"], "x", "<= 1.15")
    held = sum(m.mean.nbytes + m.m2.nbytes for m in collect(study.model, batches).moments.values())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    collect(study.model, batches * 4)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    line("statistics held, KB (16 bytes a neuron)", held / 1024, "KB", "16 bytes a neuron")
    line("peak memory grown by 4 times the tokens", grown, "MB", "about 0")
