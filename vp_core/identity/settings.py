"""The settings of iterative identity pruning, as a run's folder keeps them."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from vp_core.ground.chosen import check_theta
from vp_core.ground.errors import VPError, one_of
from vp_core.ground.names import ITERATIONS, L1, MODES, THETA
from vp_core.identity.readings import Readings
from vp_core.identity.spectral import check_lambda
from vp_core.training.run_folder import LOG, begun_in, read_log
from vp_core.training.schedule import Schedule


@dataclass(frozen=True)
class SnipSettings:
    """How to prune: see `vp_core.ground.names.MODES` for `mode`; `k` are the ranks that give ε, for attention and for FFNs.

    `sn` is λ of spectral normalisation (None: without). If fewer pass `theta`, those that were shut most often leave in each
    iteration, until they are `at_least` blocks and a share `least_share` of the model's projection weights. Both are 0 in the
    paper, whose trainings are long; after a short one there may be none that passes. `readings` say how the paper is read
    (`vp_core.identity.readings`).
    `begin` is the schedule of the fine-tuning before the first iteration, in which spectral normalisation wants more than
    the others (None: as they). What cannot be is refused with a VPError of one sentence.
    """

    mode: str = "joint"
    iterations: int = ITERATIONS
    theta: float = THETA
    k: tuple[int, int] = (1, 1)
    l1: float = L1
    sn: float | None = None
    at_least: int = 0
    least_share: float = 0.0
    schedule: Schedule = field(default_factory=Schedule)
    begin: Schedule | None = None
    readings: Readings = field(default_factory=Readings)

    def __post_init__(self) -> None:
        """Check every field; θ and λ become floats, k a tuple."""
        one_of("mode", self.mode, tuple(MODES))
        sn = None if self.sn is None else check_lambda(self.sn)
        for name, value in {"theta": check_theta(self.theta), "sn": sn, "k": tuple(self.k)}.items():
            object.__setattr__(self, name, value)
        if not 0 <= self.least_share <= 1:
            raise VPError(f"The share {self.least_share!r} that leaves at least is not between 0 and 1: 0.05 is 5 %.")
        if self.iterations < 1 or min(self.k) < 1 or self.at_least < 0 or self.l1 < 0:
            raise VPError("Iterations and k must be at least 1, the L1 factor and the least number of blocks at least 0.")

    def settled(self, folder: Path) -> "SnipSettings":
        """With a precision wherever a schedule says `auto`: the one in which the run in `folder` was begun, on whatever machine
        that was; for a new run this machine's fast one. Raises VPError if the log there is broken, or the run there has other
        readings."""
        if (folder / LOG).is_file():
            there = read_log(folder)["settings"].get("readings", {})
            if (asdict(Readings()) | there) != asdict(self.readings):
                raise VPError(
                    f"The folder {str(folder)!r} holds a run with other readings of the paper: name those, or choose a new "
                    "folder (--out)."
                )
        begin = self.begin and self.begin.settled(begun_in(folder, "begin"))
        return replace(self, schedule=self.schedule.settled(begun_in(folder, "schedule")), begin=begin)

    def as_json(self) -> dict[str, Any]:
        """Everything the weights depend on; more iterations of the same run are the same run.

        Readings, which came later, are left out where all are the old ones, so that older runs go on.
        """
        apart = {"iterations", *(("readings",) if self.readings == Readings() else ())}
        schedules = {"schedule": self.schedule.as_json(), "begin": self.begin and self.begin.as_json()}
        return {key: value for key, value in asdict(self).items() if key not in apart} | {"k": list(self.k)} | schedules
