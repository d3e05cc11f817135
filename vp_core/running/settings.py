"""How a training prunes, in one value."""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from vp_core.gradual.cuts import Cuts
from vp_core.ground.errors import VPError, one_of
from vp_core.ground.names import ALPHA, METHODS, TEMPERATURE
from vp_core.training.objectives import check_teaching
from vp_core.training.schedule import Schedule

ROWS = ("variance", "random")
WEIGHTS = ("magnitude", "deletion")
LEARNED = ("movement", "block", "hybrid", "hybrid filled", "struct")
"""Methods by what they prune, and by learned scores; the rest is `none`."""
SHARES = 5
"""So many cuts there are, unless said otherwise, as in the paper."""
SCORES = 8
"""So often a model is scored while it trains, besides at its beginning and its end."""


@dataclass(frozen=True)
class TrainSettings:
    """`method` is one of `vp_core.ground.names.METHODS`; `until` is the share to be gone at the end.

    Of rows and single weights that is a share of these, which go in cuts: after step `first`, then `every` so many steps
    `share` more (None: five cuts, spread over the first half of the training); `ramp` as in `Cuts`, None for linear cuts of
    rows and cubic ones of single weights. Of learned scores it is a share of the encoder's linear parameters.
    `squeeze` goes on in the smaller model once the last rows are gone; `embeddings` lets weights of the word embeddings go
    too. `alpha`, `temperature` and `hidden` are for a teacher (`vp_core.training.objectives.Distillation`). `scores`: how
    often the model is scored on the way. What cannot be is refused with a VPError of one sentence.
    """

    method: str = "variance"
    schedule: Schedule = field(default_factory=Schedule)
    until: float = 0.5
    first: int | None = None
    every: int | None = None
    share: float | None = None
    ramp: str | None = None
    squeeze: bool = False
    embeddings: bool = False
    alpha: float = ALPHA
    temperature: float = TEMPERATURE
    hidden: float = 0.0
    scores: int = SCORES

    def __post_init__(self) -> None:
        """Check what needs no data."""
        one_of("method", self.method, tuple(METHODS))
        Cuts(until=self.until, share=self.until if self.share is None else self.share, ramp=self.ramp or "linear")
        said = [name for name in ("first", "every", "share", "ramp") if getattr(self, name) is not None]
        if said and self.method not in (*ROWS, *WEIGHTS):
            raise VPError(f"Cuts ({', '.join(said)}) are made by {', '.join((*ROWS, *WEIGHTS))}, not by {self.method!r}.")
        if self.squeeze and self.method not in ROWS:
            raise VPError(f"Rows are squeezed out while a model trains ({', '.join(ROWS)}), not what {self.method!r} removes.")
        if self.embeddings and self.method not in WEIGHTS:
            raise VPError(f"Word embeddings lose single weights ({', '.join(WEIGHTS)}), not what {self.method!r} removes.")
        check_teaching(self.alpha, self.temperature, self.hidden)
        if self.scores < 0:
            raise VPError(f"A model cannot be scored {self.scores} times on the way: 0 scores it at both ends only.")

    def cuts(self, steps: int) -> Cuts:
        """When how much goes in a training of so many steps; VPError for cuts that come after its end."""
        share = self.until / SHARES if self.share is None else self.share
        ramp = self.ramp or ("linear" if self.method in ROWS else "cubic")
        number = Cuts(share=share, until=self.until).number
        every = max(1, steps // (2 * number)) if self.every is None else self.every
        found = Cuts(every if self.first is None else self.first, every, share, self.until, ramp)
        found.check(steps)
        return found

    def settled(self, begun: str | None = None) -> "TrainSettings":
        """With a precision in place of `auto`: the one in which a run was `begun`, for a new one this machine's fast one."""
        return replace(self, schedule=self.schedule.settled(begun))

    def as_json(self) -> dict[str, Any]:
        """Everything that the weights depend on."""
        found = {key: value for key, value in asdict(self).items() if key != "scores"}
        return {"kind": "training"} | found | {"schedule": self.schedule.as_json()}
