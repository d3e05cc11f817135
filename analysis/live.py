"""Figures that follow a slider: the figure, and what changes in it from one slider position to the next.

The changes are data, so that the browser can apply them while the thumb is dragged, and a notebook can apply the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

STEPS = tuple(i / 100 for i in range(101))
"""Sparsities of the slider's positions."""


@dataclass(frozen=True)
class Restyle:
    """At slider position i, attribute `attribute` of trace number `trace` becomes `frames[i]`."""

    trace: int
    attribute: str
    frames: Sequence[Any]


@dataclass(frozen=True)
class Reveal:
    """At slider position i, trace number `trace` shows those points of `y` whose `gone_at` is at most i."""

    trace: int
    y: Sequence[float]
    gone_at: Sequence[int]


@dataclass(frozen=True)
class LiveFigure:
    """A plotly figure with its changes along the slider."""

    figure: go.Figure
    changes: tuple[Restyle | Reveal, ...] = ()

    def update(self, figure: go.Figure, position: int) -> None:
        """Bring `figure` (this one, or a widget made of it) to a slider position 0..100."""
        with figure.batch_update():
            for change in self.changes:
                if isinstance(change, Restyle):
                    figure.data[change.trace].update({change.attribute: change.frames[position]})
                else:
                    shown = [y if g <= position else None for y, g in zip(change.y, change.gone_at, strict=True)]
                    figure.data[change.trace].update({"y": shown})

    def at(self, position: int) -> go.Figure:
        """A figure of its own at a slider position."""
        figure = go.Figure(self.figure)
        self.update(figure, position)
        return figure

    def changes_as_json(self) -> list[dict[str, Any]]:
        """The changes as plain lists and numbers, for the browser."""
        return [change.__dict__ for change in self.changes]
