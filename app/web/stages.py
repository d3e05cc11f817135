"""What a computation says it is at, stage by stage, with the seconds of each: as a list that a page shows."""

import html
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from vp_core.ground.work import Doing


@dataclass
class Stage:
    """One stage: its name, how far it is, the seconds it took until it was left last, and, while it goes on, since when."""

    name: str
    doing: Doing
    before: float = 0.0
    since: float | None = None

    @property
    def seconds(self) -> float:
        """Seconds that it has taken so far."""
        return self.before + (0.0 if self.since is None else time.monotonic() - self.since)


class Stages:
    """All stages of a computation, in the order in which they began; one may go on after another that it needed.

    What was not said anything of is in the stage before.
    """

    def __init__(self) -> None:
        self.all: list[Stage] = []
        self._now: Stage | None = None

    def hear(self, doing: Doing) -> None:
        """Take up what is said."""
        if self.stage != doing.stage:
            self.end()
            if doing.stage not in (one.name for one in self.all):
                self.all.append(Stage(doing.stage, doing))
            self._now = next(one for one in self.all if one.name == doing.stage)
            self._now.since = time.monotonic()
        assert self._now is not None
        self._now.doing = doing

    def end(self) -> None:
        """Nothing is computed any more."""
        if self._now is not None:
            self._now.before, self._now.since, self._now = self._now.seconds, None, None

    def over(self) -> tuple[Stage, ...]:
        """The stages that do not go on, as they are now."""
        return tuple(replace(stage) for stage in self.all if stage is not self._now)

    @property
    def stage(self) -> str:
        """The name of the stage that goes on; empty if none does."""
        return self._now.name if self._now is not None else ""

    @property
    def now(self) -> str:
        """What was said last; empty if nothing was, or if all is done."""
        return str(self._now.doing) if self._now is not None else ""


def as_list(stages: Sequence[Stage]) -> str:
    """The HTML of a list: what is done with its seconds, and how far the one that goes on is, with a bar."""
    return f'<div class="vp-stages" role="status">{"".join(_item(stage) for stage in stages)}</div>' if stages else ""


def _item(stage: Stage) -> str:
    name, doing = (html.escape(capital(text)) for text in (stage.name, stage.doing))
    if stage.since is None:
        return f'<div class="vp-stage vp-done"><span>{name}</span> <span>{stage.seconds:.1f} s</span></div>'
    share = 100 * stage.doing.done / stage.doing.of if stage.doing.of else None
    bar = "" if share is None else f'<div class="vp-bar"><div style="width: {min(share, 100):.0f}%"></div></div>'
    return f'<div class="vp-stage vp-now"><span>{doing} …</span>{bar}</div>'


def in_a_line(stages: Sequence[Stage]) -> str:
    """What came before a score: "measuring covariances 2.1 s · scoring 0.4 s"; empty where it took no time to speak of."""
    long = [stage for stage in stages if stage.seconds >= 0.05]
    if sum(stage.seconds for stage in stages) < 1:
        return ""
    return " · ".join(f"{stage.name} {stage.seconds:.1f} s" for stage in long)


def capital(text: str) -> str:
    """A sentence with its first letter as sentences have it."""
    return f"{text[:1].upper()}{text[1:]}"
