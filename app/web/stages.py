"""What a computation says it is at, stage by stage, with the seconds of each: as a list that a page shows."""

import html
import time
from collections.abc import Sequence
from dataclasses import dataclass

from vp_core.ground.work import Doing


@dataclass
class Stage:
    """One stage: its name, how far it is, when it began and, once the next one has begun, when it ended (`time.monotonic`)."""

    name: str
    doing: Doing
    began: float
    ended: float | None = None

    @property
    def seconds(self) -> float:
        """Seconds that it has taken so far."""
        return (self.ended or time.monotonic()) - self.began


class Stages:
    """All stages of a computation, in their order. What was not said anything of is in the stage before."""

    def __init__(self) -> None:
        self.all: list[Stage] = []

    def hear(self, doing: Doing) -> None:
        """Take up what is said."""
        last = self.all[-1] if self.all else None
        if last is not None and last.name == doing.stage and last.ended is None:
            last.doing = doing
            return
        self.end()
        self.all.append(Stage(doing.stage, doing, time.monotonic()))

    def end(self) -> None:
        """Nothing is computed any more."""
        if self.all and self.all[-1].ended is None:
            self.all[-1].ended = time.monotonic()

    def over(self) -> tuple[Stage, ...]:
        """The stages that have ended."""
        return tuple(stage for stage in self.all if stage.ended is not None)

    @property
    def stage(self) -> str:
        """The name of the stage that goes on; empty if none does."""
        return self.all[-1].name if self.all and self.all[-1].ended is None else ""

    @property
    def now(self) -> str:
        """What was said last; empty if nothing was, or if all is done."""
        return str(self.all[-1].doing) if self.all and self.all[-1].ended is None else ""


def as_list(stages: Sequence[Stage]) -> str:
    """The HTML of a list: what is done with its seconds, and how far the one that goes on is, with a bar."""
    return f'<ul class="vp-stages">{"".join(_item(stage) for stage in stages)}</ul>' if stages else ""


def _item(stage: Stage) -> str:
    name, doing = (html.escape(capital(text)) for text in (stage.name, stage.doing))
    if stage.ended is not None:
        return f'<li class="vp-stage vp-done"><span>{name}</span> <span>{stage.seconds:.1f} s</span></li>'
    share = 100 * stage.doing.done / stage.doing.of if stage.doing.of else None
    bar = "" if share is None else f'<div class="vp-bar"><div style="width: {min(share, 100):.0f}%"></div></div>'
    return f'<li class="vp-stage vp-now"><span>{doing} …</span>{bar}</li>'


def in_a_line(stages: Sequence[Stage]) -> str:
    """What came before a score: "measuring covariances 2.1 s · scoring 0.4 s"; empty where it took no time to speak of."""
    long = [stage for stage in stages if stage.seconds >= 0.05]
    if sum(stage.seconds for stage in stages) < 1:
        return ""
    return " · ".join(f"{stage.name} {stage.seconds:.1f} s" for stage in long)


def capital(text: str) -> str:
    """A sentence with its first letter as sentences have it."""
    return f"{text[:1].upper()}{text[1:]}"
