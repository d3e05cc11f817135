"""The page docs/results.md, from what `benchmarks.results` found: tables and the sentences that their numbers bear."""

from collections.abc import Sequence

TASKS = ("sst2", "mrpc", "stsb")
SPARSITIES = tuple(i / 10 for i in range(1, 10))
SHOWN = (0.3, 0.5, 0.7)
"""Sparsities of the table of recipes."""
HERE = (0.5, 0.8)
"""Sparsities at which candidates and calibration sizes are compared."""
SEEDS = (0, 1, 2)
DRAWS = ("by length", "plain")
HELD_OUT = 512


def page(found: dict, recipes: Sequence[str], candidates: Sequence[str]) -> str:
    return "TODO\n"
