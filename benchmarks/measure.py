"""Alternating runs and medians, so that a busy machine slows both sides of a ratio alike."""

import statistics
import time
from collections.abc import Callable


def alternating(runs: dict[str, Callable[[], object]], repeats: int = 5) -> dict[str, float]:
    """Median seconds of each run; all runs take turns, after one warm-up each."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(repeats + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if repeat:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def line(what: str, value: float, unit: str, target: str) -> None:
    """One result: what was measured, the value, and what it should be."""
    print(f"{what:<78} {value:8.2f} {unit:<3} target {target}", flush=True)
