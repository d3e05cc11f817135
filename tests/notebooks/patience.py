"""Waiting for what another thread does."""

import time
from collections.abc import Callable

SECONDS = 240.0


def until(true: Callable[[], object]) -> None:
    """Return once it is true; it fails after four minutes, which a slow machine may need."""
    end = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
