"""Work that is cancelled in its middle."""

from collections.abc import Callable, Iterable

import pytest

from vp_core.ground.work import Cancelled


def until_cancelled(items: Iterable) -> list:
    """What came before `Cancelled` ended it, as it must."""
    found = []
    with pytest.raises(Cancelled):
        for item in items:
            found.append(item)  # noqa: PERF402 (a list would lose what came before)
    return found


def after(checkpoints: int) -> Callable[[], bool]:
    """For `work(cancelled=...)`: false at so many checkpoints, then true."""
    asked: list[None] = []

    def cancelled() -> bool:
        asked.append(None)
        return len(asked) > checkpoints

    return cancelled
