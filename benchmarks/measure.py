"""Alternating runs and medians, so that a busy machine slows both sides of a ratio alike."""

import resource
import statistics
import time
from collections.abc import Callable


def alternating(
    runs: dict[str, Callable[[], object]], repeats: int = 5, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Median seconds of each run, by `clock`; all runs take turns, after one warm-up each."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(repeats + 1):
        for name, run in runs.items():
            start = clock()
            run()
            if repeat:
                seconds[name].append(clock() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def children() -> float:
    """Processor seconds, of user and system, that processes which this one started and waited for have taken so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def line(what: str, value: float, unit: str, target: str) -> None:
    """One result: what was measured, the value, and what it should be."""
    print(f"{what:<78} {value:8.2f} {unit:<3} target {target}", flush=True)
